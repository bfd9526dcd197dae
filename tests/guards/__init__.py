"""Is each guard of the product worth something? `mutations.toml` takes them away one by one; a test has to fail.

::

    [[guard]]
    name = "tls-cut"                            as docs/failure-modes.md names it
    file = "hydraflow/adapters/network.py"
    old = 'suppress_ragged_eofs=False'          occurs exactly once in the file
    new = 'suppress_ragged_eofs=True'           the same without the guard
    tests = ["network/test_transport.py::…"]    under tests/; at least one of them must fail

`python -m tests.guards [NAME…]`, or `make guards`, does it on copies of the tree.  `test_guards.py`, which is part of
the ordinary tests, only sees to it that the list and the document still fit the code.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Guard", "guards"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard, and how to take it away; see the module."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


def guards() -> list[Guard]:
    """All of them, in the order of the document."""
    listed = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text())["guard"]
    return [Guard(**each) for each in listed]
