"""One in-process origin that can lie in every way, with a ledger of requests, and the tests that use it."""
