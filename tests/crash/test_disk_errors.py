"""Every system call of the store fails in turn: a clear error, never a wrong file, and the next run succeeds."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.adapters import store as store_module
from hydraflow.adapters.store import Store
from hydraflow.api import fetch
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DiskFullError, StorageError
from hydraflow.models import Outcome, Validator

SIZE = 6_000
DATA = random.Random(5).randbytes(SIZE)
URL = "http://h/x"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"

CALLS = (
    "open", "close", "fstat", "stat", "read", "pwrite", "write", "preadv", "fsync", "fdatasync", "ftruncate", "lseek",
    "link", "rename", "unlink", "listdir", "fstatvfs", "utime", "mkdir", "rmdir",
)  # fmt: skip


class Failing:
    """Stands in for the module `os`: the n-th of its calls fails, once or from then on."""

    def __init__(self, nth: int, code: int, *, lasting: bool) -> None:
        self.count, self.nth, self.code, self.lasting, self.fired = 0, nth, code, lasting, ""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self.guard(name, real) if name in CALLS else real

    def guard(self, name: str, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.nth or (self.lasting and self.count > self.nth > 0):
                self.fired = self.fired or name
                if name == "close":
                    real(*arguments)  # as Linux has it: the descriptor is gone whatever close(2) says
                raise OSError(self.code, os.strerror(self.code))
            # What a real sync costs is of no interest here.
            return None if name in ("fsync", "fdatasync") else real(*arguments, **options)

        return call


@pytest.fixture
def fail(monkeypatch):
    def fail(nth: int, code: int, *, lasting: bool = False) -> Failing:
        failing = Failing(nth, code, lasting=lasting)
        monkeypatch.setattr(store_module, "os", failing)
        for name, real in (("mkdir", os.mkdir), ("rmdir", os.rmdir)):  # pathlib's
            monkeypatch.setattr(os, name, failing.guard(name, real))
        monkeypatch.setattr(fcntl, "flock", failing.guard("flock", fcntl.flock))
        return failing

    return fail


def session(path: Path, upto: int = SIZE, *, overwrite: bool = False) -> None:
    """A transfer with three checkpoints; not committed if it is to end earlier."""
    store = Store(path, URL, overwrite=overwrite)
    try:
        store.claim()
        _, durable = store.replay()
        store.prepare(SIZE, Validator('"v1"'), ())
        received = durable.copy()
        for gap in durable.gaps(0, upto):
            for start in range(gap.start, gap.stop, 2000):
                store.write(start, memoryview(DATA)[start : start + 2000])
                received.add(start, start + 2000)
                store.sync(received)
        if upto == SIZE:
            store.commit(SIZE, DATE)
    finally:
        store.close()


def checkpoint(path: Path) -> int:
    """Bytes that a later run could go on from."""
    store = Store(path, URL)
    store.claim()
    durable = store.replay()[1]
    store.close()
    return durable.total


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


SITUATIONS = ("fresh", "resumed", "overwritten")


def arrange(path: Path, situation: str) -> None:
    path.parent.mkdir()
    if situation == "resumed":
        session(path, upto=2000)
    if situation == "overwritten":
        path.write_bytes(b"old")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_call_in_turn(tmp_path, fail, monkeypatch, situation, lasting, code):
    arrange(tmp_path / "count" / "x", situation)
    overwrite = situation == "overwritten"
    counter = fail(0, code)
    session(tmp_path / "count" / "x", overwrite=overwrite)
    monkeypatch.undo()
    assert counter.count > 30
    seen, before = set(), descriptors()
    for nth in range(1, counter.count + 1):
        path = tmp_path / str(nth) / "x"
        arrange(path, situation)
        failing = fail(nth, code, lasting=lasting)
        error = None
        try:
            session(path, overwrite=overwrite)
        except StorageError as caught:
            error = caught
        monkeypatch.undo()
        seen.add(failing.fired)
        assert failing.fired
        assert descriptors() == before, f"a descriptor is left after {failing.fired} ({nth})"
        if error is not None:
            assert error.errno == code
            assert isinstance(error, DiskFullError) == (code == errno.ENOSPC)
        # Done, or as it was.
        content = path.read_bytes() if path.exists() else None
        assert content in ((DATA,) if error is None else (DATA, b"old" if overwrite else None))
        if content == DATA:
            Store(path, URL).sweep()
        else:
            assert situation != "resumed" or checkpoint(path) >= 2000, f"lost by {failing.fired} ({nth})"
            session(path, overwrite=overwrite)
        assert path.read_bytes() == DATA
        assert [each.name for each in path.parent.iterdir()] == ["x"], f"after {failing.fired} ({nth})"
    assert seen >= {"open", "mkdir", "flock", "pwrite", "write", "fdatasync", "fsync", "ftruncate", "fstatvfs"}


def test_after_a_failed_sync_nothing_more_is_claimed(tmp_path, monkeypatch):
    """Linux reports lost pages once, and the next sync succeeds: it must not be believed, nor the file called done."""
    store = Store(tmp_path / "x", URL)
    store.claim()
    store.replay()
    store.prepare(SIZE, Validator('"v1"'), ())
    store.write(0, memoryview(DATA))
    store.sync(RangeSet([(0, 1000)]))
    failing = Failing(1, errno.EIO, lasting=False)
    monkeypatch.setattr(store_module, "os", failing)
    with pytest.raises(StorageError):
        store.sync(RangeSet([(0, SIZE)]))
    assert failing.fired == "fdatasync"
    monkeypatch.undo()
    with pytest.raises(StorageError):
        store.sync(RangeSet([(0, SIZE)]))
    with pytest.raises(StorageError):
        store.commit(SIZE, DATE)
    store.close()
    assert not (tmp_path / "x").exists()
    again = Store(tmp_path / "x", URL)
    again.claim()
    assert list(again.replay()[1]) == list(RangeSet([(0, 1000)]))
    again.close()


class TestTransfer:
    """The same from above: the error reaches the caller, and another run goes on."""

    @pytest.fixture
    def settings(self):
        return hydraflow_settings.load(threads=4, retry_delay=0.05, read_timeout=1, sync_interval=0.1)

    @pytest.fixture
    def url(self, origin):
        self.data = random.Random(1).randbytes(9 << 20)
        origin.when().slow(8 << 20)
        return origin.add("/x.bin", self.data)

    def one_call(self, monkeypatch, name: str, nth: int, code: int) -> dict[str, int]:
        real, state = getattr(os, name), {"calls": 0}

        class Patched:
            def __getattr__(self, wanted: str) -> Any:
                return call if wanted == name else getattr(os, wanted)

        def call(*arguments: Any, **options: Any) -> Any:
            state["calls"] += 1
            if state["calls"] >= nth:
                raise OSError(code, os.strerror(code))
            return real(*arguments, **options)

        monkeypatch.setattr(store_module, "os", Patched())
        return state

    @pytest.mark.parametrize(
        ("name", "nth", "code", "kind"),
        [
            ("pwrite", 1, errno.ENOSPC, DiskFullError),
            ("pwrite", 20, errno.ENOSPC, DiskFullError),
            ("pwrite", 20, errno.EDQUOT, DiskFullError),
            ("pwrite", 20, errno.EIO, StorageError),
            ("fdatasync", 1, errno.EIO, StorageError),
            ("fdatasync", 3, errno.ENOSPC, DiskFullError),
            ("write", 2, errno.ENOSPC, DiskFullError),
            ("fsync", 1, errno.EIO, StorageError),
            ("fsync", 3, errno.EIO, StorageError),
            ("link", 1, errno.EIO, None),
            ("utime", 1, errno.EPERM, None),
            ("preadv", 2, errno.EIO, StorageError),
        ],
    )
    def test_one_call(self, origin, url, settings, tmp_path, monkeypatch, name, nth, code, kind):
        origin.add("/x.bin", self.data, last_modified=DATE)
        digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
        state = self.one_call(monkeypatch, name, nth, code)
        if kind is None:
            assert fetch(url, tmp_path / "x", digest=digest, settings=settings).outcome is Outcome.FETCHED
        else:
            with pytest.raises(kind) as caught:
                fetch(url, tmp_path / "x", digest=digest, settings=settings)
            assert (caught.value.errno, caught.value.exit_code) == (code, 6)
        assert state["calls"] >= nth
        monkeypatch.undo()
        origin.rules.clear()
        assert fetch(url, tmp_path / "x", digest=digest, settings=settings).size == len(self.data)
        assert (tmp_path / "x").read_bytes() == self.data
        assert [each.name for each in tmp_path.iterdir()] == ["x"]

    def test_a_full_disk_keeps_what_was_written(self, origin, url, settings, tmp_path, monkeypatch):
        state = self.one_call(monkeypatch, "pwrite", 15, errno.ENOSPC)
        with pytest.raises(DiskFullError) as caught:
            fetch(url, tmp_path / "x", settings=settings)
        assert "checkpoint" in caught.value.hint
        assert state["calls"] >= 15
        monkeypatch.undo()
        origin.rules.clear()
        result = fetch(url, tmp_path / "x", settings=settings)
        assert result.bytes_from_checkpoint > 0
        assert (tmp_path / "x").read_bytes() == self.data

    def test_not_enough_space_is_known_beforehand(self, origin, url, settings, tmp_path, monkeypatch):
        class Full:
            def __getattr__(self, wanted: str) -> Any:
                return almost_full if wanted == "fstatvfs" else getattr(os, wanted)

        def almost_full(_fd: int) -> os.statvfs_result:
            return os.statvfs_result((4096, 4096, 9, 9, 5, 9, 9, 9, 0, 255))

        monkeypatch.setattr(store_module, "os", Full())
        with pytest.raises(DiskFullError, match="9,437,184 bytes needed, 20,480 free"):
            fetch(url, tmp_path / "x", settings=settings)
        assert list(tmp_path.iterdir()) == []
        assert origin.bytes_served() < len(self.data) / 2
