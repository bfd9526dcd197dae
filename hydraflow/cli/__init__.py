"""The command line: options in, exit code out. All work is done by `api` and its neighbours.

`session` takes a command line apart and ends the process as signals want it; each command has a module of its own,
which is imported when it is asked for.  Standard output carries bytes (`--stream`) or JSON (`--json`) and nothing else,
unless it was asked for a text; people read standard error.
"""

from __future__ import annotations

from hydraflow.cli.session import run

__all__ = ["run"]
