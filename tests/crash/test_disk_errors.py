"""Every system call of the store fails in turn: a clear error, never a wrong file, and the next run succeeds."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.adapters import files, ownership, store
from hydraflow.adapters.store import Store
from hydraflow.api import fetch
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DiskFullError, StorageError
from hydraflow.models import Bound, Outcome, Validator
from tests.crash.disk import MODULES

ROOT = Path(__file__).parents[2]
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
        for module in MODULES:
            monkeypatch.setattr(module, "os", failing)
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


@pytest.fixture(autouse=True)
def small():
    """The journal is made before the first byte, as for large files; and whoever comes next comes later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_LARGE", SIZE)
        patch.setattr(ownership, "_TORN", 0.0)
        yield


SITUATIONS = ("fresh", "small", "resumed", "overwritten")


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
    if situation == "small":
        store._LARGE = SIZE + 1
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
    for module in MODULES:
        monkeypatch.setattr(module, "os", failing)
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

        for module in MODULES:
            monkeypatch.setattr(module, "os", Patched())
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

    def test_a_slow_one_is_named_as_what_limits_it(self, origin, url, settings, tmp_path, monkeypatch):
        origin.rules.clear()

        class Slow:
            def __getattr__(self, wanted: str) -> Any:
                return pwrite if wanted == "pwrite" else getattr(os, wanted)

        def pwrite(part: int, data: memoryview, offset: int) -> int:
            time.sleep(len(data) / (6 << 20))
            return os.pwrite(part, data, offset)

        monkeypatch.setattr(store, "os", Slow())
        assert fetch(url, tmp_path / "x", settings=settings).limited_by is Bound.DISK

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

        for module in MODULES:
            monkeypatch.setattr(module, "os", Full())
        with pytest.raises(DiskFullError, match="9,437,184 bytes needed, 20,480 free"):
            fetch(url, tmp_path / "x", settings=settings)
        assert list(tmp_path.iterdir()) == []
        assert origin.bytes_served() < len(self.data) / 2


# Real limits.

MIB = 1 << 20
BIG = random.Random(2).randbytes(6 * MIB)


def run(url: str, directory: Path, *options: str, wrapper: tuple[str, ...] = (), prelude: str = "") -> Any:
    """The command, as a process, and its JSON line."""
    code = f"{prelude}\nfrom hydraflow.__main__ import main\nmain()"
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", code, url, "-o", str(directory), "--json", "-q", *options],
        cwd=ROOT,
        env={**os.environ, "HYDRAFLOW_SYNC_INTERVAL": "0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_a_limit_on_file_sizes(origin, tmp_path):
    """`ulimit -f`, and file systems that have no larger files: EFBIG, and what fitted is kept."""
    url = origin.add("/x.bin", BIG)
    origin.when().slow(8 * MIB)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({4 * MIB},) * 2)"
    failed = run(url, tmp_path, "-t", "2", prelude=limit)
    assert (failed["exit_code"], failed["error"]) == (6, "StorageError")
    assert failed["message"].endswith("File too large")
    origin.rules.clear()
    done = run(url, tmp_path)
    assert done["outcome"] == "resumed"
    assert (tmp_path / "x.bin").read_bytes() == BIG
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]


@pytest.fixture
def disk(tmp_path):
    """A file system of 8 MiB in a namespace of its own: its root as others see it, and what enters it."""
    target = tmp_path / "disk"
    target.mkdir()
    inside = f"mount -t tmpfs -o size=8m tmpfs {target} && echo ready && exec sleep 600"
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != b"ready\n":
        why = holder.communicate()[1].decode().strip()
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no file system can be mounted here: {why}")
    enter = ("nsenter", "--user", "--mount", "--preserve-credentials", f"--target={holder.pid}")
    yield Path(f"/proc/{holder.pid}/root{target}"), target, enter
    holder.kill()
    holder.communicate()


class TestSmallDisk:
    def test_it_fills_up(self, origin, disk):
        """By somebody else, in the midst of a transfer; then there is room again."""
        seen, target, enter = disk
        url = origin.add("/x.bin", BIG)
        origin.when().slow(MIB)
        outcome: list[Any] = []
        running = threading.Thread(target=lambda: outcome.append(run(url, target / "d", "-t", "4", wrapper=enter)))
        running.start()
        while origin.bytes_served() < 3 * MIB:
            time.sleep(0.01)
        (seen / "filler").write_bytes(bytes(3 * MIB))
        running.join()
        assert (outcome[0]["exit_code"], outcome[0]["error"]) == (6, "DiskFullError")
        assert "No space left on device" in outcome[0]["message"]
        assert "Free some space" in outcome[0]["hint"]
        assert not (seen / "d" / "x.bin").exists()
        origin.rules.clear()
        again = run(url, target / "d", wrapper=enter)
        assert "not enough space" in again["message"]
        (seen / "filler").unlink()
        served = origin.bytes_served()
        done = run(url, target / "d", wrapper=enter)
        assert done["outcome"] == "resumed"
        assert done["bytes_from_checkpoint"] > MIB
        assert origin.bytes_served() - served + done["bytes_from_checkpoint"] <= 1.1 * len(BIG)
        assert (seen / "d" / "x.bin").read_bytes() == BIG
        assert [each.name for each in (seen / "d").iterdir()] == ["x.bin"]

    def test_it_is_too_small(self, origin, disk):
        seen, target, enter = disk
        failed = run(origin.add("/y.bin", BIG + BIG), target / "d", wrapper=enter)
        assert failed["error"] == "DiskFullError"
        assert "12,582,912 bytes needed" in failed["message"]
        assert list((seen / "d").iterdir()) == []

    def test_it_is_full(self, origin, disk):
        seen, target, enter = disk
        with contextlib.suppress(OSError), (seen / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        failed = run(origin.add("/y.bin", BIG), target / "d", wrapper=enter)
        assert failed["error"] == "DiskFullError"
        assert [each.name for each in seen.rglob("*")] in (["filler"], ["filler", "d"], ["d", "filler"])

    def test_it_may_not_be_written(self, origin, disk):
        _, target, enter = disk
        subprocess.run([*enter, "mount", "-o", "remount,ro", target], check=True)
        failed = run(origin.add("/y.bin", BIG), target / "d", wrapper=enter)
        assert (failed["exit_code"], failed["error"]) == (6, "StorageError")
        assert failed["message"].endswith("Read-only file system")


class TestReserve:
    """Blocks are set aside ahead of what comes: in moderation, and only by file systems that can."""

    @pytest.fixture
    def grown(self, tmp_path, monkeypatch):
        """A transfer of a size, with checkpoints of so many bytes: the blocks of its part, in bytes, after each."""
        monkeypatch.setattr(store, "_AHEAD", 1 << 20)
        monkeypatch.setattr(store, "_MOST_AHEAD", 2 << 20)

        def grown(size: int, *checkpoints: int) -> list[int]:
            mine, found = Store(tmp_path / "x", URL), []
            mine.claim()
            mine.prepare(size, Validator('"v1"'), ())
            for upto in checkpoints:
                mine.write(upto - 4096, memoryview(bytes(4096)))
                mine.sync(RangeSet([(upto - 4096, upto)]))
                facts = os.fstat(mine._part)
                assert facts.st_size == upto
                found.append(facts.st_blocks * 512)
            mine.discard()
            return found

        return grown

    def test_as_many_again_as_have_come(self, grown):
        a, b, c = grown(64 << 20, 8192, 3 << 20, 20 << 20)
        slack = 16 << 10  # what was written, and to whole blocks
        assert a <= (1 << 20) + slack
        assert b <= (3 << 20) + slack
        assert c <= (5 << 20) + slack
        assert (c > b > a >= 1 << 20) or (a, b, c) == (4096, 8192, 12288), "all, or this file system has no fallocate"

    def test_not_beyond_the_end(self, grown):
        assert grown(4 << 20, (4 << 20) - 8192)[0] <= 12288 + 4096

    def test_small_files_do_without(self, grown, monkeypatch):
        monkeypatch.setattr(store, "reserve", lambda *_: pytest.fail("it is small"))
        grown(1 << 20, 8192, 65536)

    def test_where_it_fails_it_is_not_tried_again(self, grown, monkeypatch):
        calls = []
        monkeypatch.setattr(store, "reserve", lambda *_: bool(calls.append(1)))
        assert grown(64 << 20, 8192, 3 << 20, 20 << 20)[-1] <= 5 * 4096
        assert calls == [1]

    def test_it_never_writes(self, tmp_path):
        """Where fallocate is not supported (a pipe, here), that is all that happens."""
        reading, writing = os.pipe()
        assert not files.reserve(writing, 0, 1 << 20)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("size", [2**63 - 1, 2**63 - 2, 2**62])
@pytest.mark.parametrize("way", ["206", "200"])
def test_a_size_that_nobody_has(origin, tmp_path, size, way):
    """It is known beforehand that there is no room; nothing is allocated, in memory or on disk."""
    url = origin.add("/x.bin", BIG)
    if way == "206":
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4194303/{size}\r\nContent-Length: 4194304\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"
    rule = origin.when().raw(f'{head}ETag: "v"\r\n\r\n'.encode() + BIG[: 100 << 10])
    tracemalloc.start()
    with pytest.raises(StorageError) as caught:
        fetch(url, tmp_path / "x", settings=hydraflow_settings.load(threads=4, retry_delay=0.05, first_wait=0.5))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rule.fired
    assert isinstance(caught.value, DiskFullError)
    assert f"{size:,} bytes needed" in str(caught.value)
    assert most < 20 * MIB
    assert list(tmp_path.iterdir()) == []
