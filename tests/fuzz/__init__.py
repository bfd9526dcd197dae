"""Parsers of strangers' bytes, fed with samples of what they understand, spoilt in every way.

Each target says what must hold whatever comes in.  `make test` gives each a moment; `make fuzz` ten minutes, or as many
as `MINUTES` says.  What was found is kept as an `@example`, or as a row of a table in the parser's own tests.
"""
