"""Two revisions of hydraflow side by side: the work tree, and an older commit in a tree of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import BenchmarkError
from benchmarks.peers import ROOT, WORK, Client, hydraflow

__all__ = ["BASELINE", "clients", "worktree"]

BASELINE = "old"


@contextmanager
def worktree(revision: str, root: Path = ROOT, work: Path = WORK) -> Iterator[Path]:
    """Check out `revision` of the repository `root` below `work`, for as long as the context lasts.

    Raises:
        BenchmarkError: there is no such revision.
    """
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise BenchmarkError(f"git knows no revision {revision!r}") from None
    tree = work / f"old-{commit[:12]}"
    shutil.rmtree(tree, ignore_errors=True)  # of a run that was killed
    _git(root, "worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)
    try:
        yield tree
    finally:
        _git(root, "worktree", "remove", "--force", str(tree))


def clients(old: Path) -> list[Client]:
    """Both, with the same interpreter and libraries."""
    return [hydraflow(BASELINE, tree=old), hydraflow("new")]


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
