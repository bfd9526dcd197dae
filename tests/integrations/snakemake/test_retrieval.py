"""Moves are whole or did not happen; the mark of a failure cannot be opened."""

from __future__ import annotations

import errno
import stat
import tempfile
from pathlib import Path

import pytest

from hydraflow.errors import StorageError
from hydraflow.snakemake.retrieval import leave_unreadable, move


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "state" / "hash" / "x"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"data")
    return path


@pytest.fixture
def elsewhere(tmp_path):
    """A directory on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


def test_move(source, tmp_path):
    target = tmp_path / "a" / "b" / "x"
    move(source, target, mtime=2000.5)
    assert target.read_bytes() == b"data"
    assert target.stat().st_mtime == 2000.5
    assert not source.parent.exists()
    assert source.parent.parent.exists()


def test_move_replaces_a_file_and_the_mark_of_a_failure(source, tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    leave_unreadable(target)
    move(source, target, mtime=1.0)
    assert target.read_bytes() == b"data"


def test_move_to_another_file_system(source, elsewhere):
    target = elsewhere / "a" / "x"
    move(source, target, mtime=2000.5)
    assert target.read_bytes() == b"data"
    assert target.stat().st_mtime == 2000.5
    assert [*target.parent.iterdir()] == [target]
    assert not source.parent.exists()


@pytest.mark.parametrize("other", [False, True])
def test_move_onto_a_directory(source, tmp_path, other, request):
    target = (request.getfixturevalue("elsewhere") if other else tmp_path) / "x"
    target.mkdir()
    with pytest.raises(StorageError, match="cannot move"):
        move(source, target, mtime=1.0)
    assert source.read_bytes() == b"data"
    assert [*target.iterdir()] == []
    assert not [path for path in target.parent.iterdir() if path.name.endswith(".hydra")]


def test_unreadable(tmp_path):
    path = tmp_path / "a" / "x"
    leave_unreadable(path)
    assert path.exists()
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_mtime == 0
    assert [*path.parent.iterdir()] == [path]
    with pytest.raises(OSError, match="No such device") as caught:
        path.open("rb")
    assert caught.value.errno == errno.ENXIO


def test_unreadable_cannot_be_left(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot mark"):
        leave_unreadable(tmp_path / "file" / "x")
