"""Small files are kept in memory until they are whole; one that is slow or cut off loses no more by it than before."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest

from hydraflow.adapters import sinks, threads
from hydraflow.api import fetch, fetch_all
from hydraflow.errors import DigestMismatchError, HydraError
from hydraflow.models import Outcome
from tests.faults.fronts import noise

KIB = 1 << 10
DATA = noise(200 * KIB)
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def visits(monkeypatch):
    """What was done in other threads."""
    done, begin = [], threads.begin

    def note(do, *arguments):
        done.append(getattr(do, "__name__", str(do)))
        return begin(do, *arguments)

    monkeypatch.setattr(threads, "begin", note)
    return done


@pytest.mark.parametrize("digest", [None, SHA256])
@pytest.mark.parametrize("size", [0, 1, 200 * KIB, sinks._SMALL])
def test_two_visits_to_the_disk(origin, settings, tmp_path, visits, size, digest):
    data = noise(size)
    url = origin.add("/x", data)
    claim = digest and "sha256:" + hashlib.sha256(data).hexdigest()
    fetch(url, tmp_path / "x", settings=settings, digest=claim)
    assert visits == ["_enter", "_commit"]
    assert (tmp_path / "x").read_bytes() == data


def test_a_file_that_is_not_small_is_on_the_disk_as_it_comes(origin, settings, tmp_path, visits):
    url = origin.add("/x", noise(sinks._SMALL + 1))
    fetch(url, tmp_path / "x", settings=settings)
    assert visits[:2] == ["_enter", "_prepare"]


def test_a_wrong_digest_leaves_nothing(origin, settings, tmp_path):
    url = origin.add("/x", DATA)
    with pytest.raises(DigestMismatchError):
        fetch(url, tmp_path / "x", settings=settings, digest="md5:" + "0" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("digest", [None, SHA256])
def test_one_that_takes_long_is_spilled(origin, settings, tmp_path, visits, digest):
    url = origin.add("/x", DATA)
    slow = origin.when().slow(150 * KIB)
    fetch(url, tmp_path / "x", settings=replace(settings, sync_interval=0.2), digest=digest)
    assert slow.fired
    assert visits[:3] == ["_enter", "_prepare", "_sync"]
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("digest", [None, SHA256])
def test_one_that_is_cut_off_goes_on(origin, settings, tmp_path, digest):
    """Also what came since the last checkpoint is kept when the call ends in order."""
    url = origin.add("/x", DATA)
    origin.when(request=1).drop(after=120 * KIB)
    origin.when().status(500)
    with pytest.raises(HydraError):
        fetch(url, tmp_path / "x", settings=replace(settings, max_wait=0.2), digest=digest)
    origin.rules.clear()
    result = fetch(url, tmp_path / "x", settings=settings, digest=digest)
    assert result.outcome is Outcome.RESUMED
    assert result.bytes_from_checkpoint == 120 * KIB
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("size", [180 * KIB, 400 * KIB])
@pytest.mark.parametrize("spilled", [True, False])
def test_one_that_changes(origin, settings, tmp_path, size, spilled):
    url = origin.add("/x", DATA, etag='"old"')
    origin.when(request=1).slow(100 * KIB).drop(after=100 * KIB)
    new = noise(size, 7)
    timer = threading.Timer(0.5, lambda: origin.add("/x", new, etag='"new"'))
    timer.start()
    try:
        result = fetch(url, tmp_path / "x", settings=replace(settings, sync_interval=0.1 if spilled else 100))
    finally:
        timer.join()
    assert result.restarts == 1
    assert (tmp_path / "x").read_bytes() == new
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_told_and_nothing_is_left(origin, settings, tmp_path, monkeypatch):
    url = origin.add("/x", DATA)
    real = sinks.Store.write

    def full(self, offset, data):
        raise sinks.StorageError.wrap(OSError(28, "No space left on device"), f"cannot write {self.path}")

    monkeypatch.setattr(sinks.Store, "write", full)
    with pytest.raises(sinks.StorageError, match="No space left"):
        fetch(url, tmp_path / "x", settings=settings)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sinks.Store, "write", real)
    assert fetch(url, tmp_path / "x", settings=settings).outcome is Outcome.FETCHED


def test_many_at_once_with_failures_among_them(origin, settings, tmp_path):
    urls = [origin.add(f"/{number}.bin", noise(20 * KIB, number)) for number in range(60)]
    for number in range(0, 60, 7):
        origin.when(path=f"/{number}.bin").status(404)
    for number in range(1, 60, 7):
        origin.when(path=f"/{number}.bin", request=1).drop(after=5000)
    results = fetch_all(urls, tmp_path, settings=settings)
    for number, result in enumerate(results):
        if number % 7 == 0:
            assert isinstance(result, HydraError)
            assert not (tmp_path / f"{number}.bin").exists()
        else:
            assert (tmp_path / f"{number}.bin").read_bytes() == noise(20 * KIB, number)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
