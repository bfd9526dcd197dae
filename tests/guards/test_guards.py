"""The list of guards and docs/failure-modes.md fit the code, and each other. What they are worth: `make guards`."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.guards import ROOT, guards

PAGE = (ROOT / "docs/failure-modes.md").read_text()
GUARDS = guards()


def rows() -> list[list[str]]:
    """Cells of all rows of all tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what goes wrong")]
    return [re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]


@functools.cache
def names_in(file: Path) -> set[str]:
    """`test` and `Class::test` in a file."""
    functions, found = (ast.FunctionDef, ast.AsyncFunctionDef), set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, functions):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, functions)}
    return found


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / "tests" / file).is_file() and name in names_in(ROOT / "tests" / file)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_where_it_was(guard):
    assert (ROOT / guard.file).read_text().count(guard.old) == 1, "tests/guards/mutations.toml does not fit any more"
    assert guard.new != guard.old
    assert [test for test in guard.tests if not exists(test)] == []


def test_every_row_has_its_guard_and_every_guard_its_row():
    assert {len(row) for row in rows()} == {5}
    told = {row[4].strip("`"): re.findall(r"`([^`]+)`", row[3]) for row in rows()}
    assert told == {guard.name: guard.tests for guard in GUARDS}
    assert len(GUARDS) == len(told)


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`((?:\w+/)*test_\w+\.py::[\w:]+)`", PAGE)
    assert len(named) > len(GUARDS)
    assert [test for test in named if not exists(test)] == []


def test_every_test_that_the_page_on_security_names_exists():
    named = re.findall(r"`((?:\w+/)*test_\w+\.py::[\w:]+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 30
    assert [test for test in named if not exists(test)] == []


def test_every_page_can_be_reached():
    """From the README, by links."""
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", page.read_text())
        todo += [(page.parent / link).resolve() for link in links if not link.startswith("http")]
    pages = set((ROOT / "docs").rglob("*.md"))
    assert sorted(pages - reached) == []
