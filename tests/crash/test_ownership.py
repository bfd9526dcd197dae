"""One process transfers, the others wait: whatever the locks say, however the owner ends, nothing wrong gets a name."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.adapters import ownership
from hydraflow.adapters.ownership import Ownership, evict, look
from hydraflow.adapters.store import Store
from hydraflow.api import afetch, fetch
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DestinationBusyError, DestinationExistsError, DiskFullError, StorageError
from hydraflow.models import Outcome, Phase, Validator

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
SIZE = 6 * MIB
DATA = random.Random(11).randbytes(SIZE)
URL = "http://h/x"
TEXT = random.Random(12).randbytes(10_000)

LYING = "import fcntl; fcntl.flock = lambda *_: None\n"
MISSING = "import errno, fcntl\ndef flock(*_): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock\n"
#: No lock of any kind: everybody who comes takes itself for the owner, and finds out later.
NOTHING = LYING + "from hydraflow.adapters import ownership\nownership.os.O_EXCL = 0\n"
LOCKS = {"working": "", "lying": LYING, "missing": MISSING, "nothing": NOTHING}


# Records.


def record(**changes) -> bytes:
    fields = {
        "token": "0" * 16,
        "host": "node7",
        "kernel": ownership._kernel(),
        "pid": 4711,
        "start": "123",
        "url": ownership._hash(URL),
    }
    return json.dumps({**fields, **changes}).encode()


@pytest.fixture
def state(tmp_path):
    """A state directory with the record of somebody: `state(content, age in seconds)`."""
    path = tmp_path / ".x.hydra"
    path.mkdir(mode=0o700)

    def write(content: bytes, age: float = 0) -> Path:
        (path / "lock").write_bytes(content)
        os.utime(path / "lock", (time.time() - age,) * 2)
        return path

    return write


def claimed(tmp_path, *, close: bool = True) -> bool:
    """Somebody who comes now becomes the owner."""
    store = Store(tmp_path / "x", URL)
    try:
        store.claim()
    except DestinationBusyError:
        return False
    if close:
        store.close()
    return True


ENDED = subprocess.Popen(["true"])
ENDED.wait()


@pytest.mark.parametrize(
    ("fields", "age", "free"),
    [
        ({"pid": ENDED.pid}, 0, True),
        ({"pid": os.getppid(), "start": ownership._start(os.getppid())}, 10**6, False),
        ({"pid": os.getppid(), "start": "1"}, 0, True),  # its number was given out again
        ({"pid": os.getpid(), "start": ownership._start(os.getpid())}, 0, True),  # not by this process's own records
        ({"pid": 1, "start": ""}, 0, False),  # where there is no /proc
        ({"kernel": "another boot"}, 0, False),
        ({"kernel": "another boot"}, 9 * ownership.SILENCE, False),
        ({"kernel": "another boot"}, 11 * ownership.SILENCE, True),
        ({"kernel": "another boot"}, -11 * ownership.SILENCE, True),  # a clock that is wrong
    ],
)
def test_who_is_alive(tmp_path, state, fields, age, free):
    state(record(**fields), age)
    assert claimed(tmp_path) is free


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"3", b"\xff" * 100, bytes(4096), b"[" * 4096, record()[:-5], record(pid="1"),
        record(pid=0), record(pid=-1), record(pid=True), record(pid=1 << 40), record(host=None), record(kernel=[]),
    ],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_a_record_that_is_none(tmp_path, state, content):
    """Just made, it may be somebody's who is about to write it; later it is nobody's."""
    state(content)
    assert not claimed(tmp_path)
    state(content, age=6)
    assert claimed(tmp_path)


@pytest.mark.parametrize("content", [b"", record(kernel="another boot")])
def test_a_held_lock_is_believed(tmp_path, state, content):
    """Where flock says that somebody holds it, somebody does."""
    lock = state(content, age=10**6) / "lock"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not claimed(tmp_path)
        owner = Store(tmp_path / "x", URL).owner()
        assert owner is not None
        assert owner.certain
    assert claimed(tmp_path)


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink"])
def test_a_lock_that_is_no_file(tmp_path, state, kind):
    lock = state(b"") / "lock"
    lock.unlink()
    if kind == "fifo":
        os.mkfifo(lock)
        os.utime(lock, (0, 0))
        assert claimed(tmp_path)
        return
    lock.mkdir() if kind == "directory" else lock.symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        claimed(tmp_path)
    assert not (tmp_path / "victim").exists()


def test_the_record_says_who(tmp_path):
    store = Store(tmp_path / "x", "http://h/x?signature")
    store.claim()
    owner = Store(tmp_path / "x", URL).owner()
    assert owner is not None
    assert str(owner) == f"another process ({os.getpid()} on {os.uname().nodename})"
    assert owner.wants("http://h/x?signature")
    assert not owner.wants(URL)
    assert b"signature" not in owner.record
    assert (store.state / "lock").stat().st_mode & 0o777 == 0o600
    store.close()
    assert Store(tmp_path / "x", URL).owner() is None
    assert list(tmp_path.iterdir()) == []


def test_moving_a_record_aside_spares_a_living_one(state, monkeypatch):
    """Two find the same dead owner; the slower one must not take the faster one's record for it."""
    dead = record(pid=ENDED.pid)
    path = state(dead)
    directory = os.open(path, os.O_RDONLY)
    found = look(directory)
    assert found == (None, dead)
    first = Ownership(URL)
    assert first.acquire(directory) is None
    evict(directory, dead)
    assert first.confirm()
    assert [each.name for each in path.iterdir()] == ["lock"]
    # Slower still: the record was the dead one's a moment ago.
    real = ownership._content
    monkeypatch.setattr(ownership, "_content", lambda at, name: dead if name == "lock" else real(at, name))
    evict(directory, dead)
    monkeypatch.undo()
    assert first.confirm()
    assert [each.name for each in path.iterdir()] == ["lock"]
    first.release()
    evict(directory, dead)
    assert [*path.iterdir()] == []
    os.close(directory)


def test_a_record_that_is_a_living_one_s_in_that_very_moment_is_put_back(tmp_path, state, monkeypatch):
    """The dead owner's record was there when it was looked at, and the new owner's when it was moved."""
    dead = record(pid=ENDED.pid)
    path = state(dead)
    directory = os.open(path, os.O_RDONLY)
    first, looked = Ownership(URL), ownership._content
    assert first.acquire(directory) is None
    answers = iter([dead])
    monkeypatch.setattr(ownership, "_content", lambda *place: next(answers, None) or looked(*place))
    evict(directory, dead)
    assert first.confirm()
    assert [each.name for each in path.iterdir()] == ["lock"]
    first.release()
    os.close(directory)


def test_of_many_threads_one_wins(tmp_path, state, monkeypatch):
    """With locks that lie: never two at a time."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    path, barrier = state(b""), threading.Barrier(8)
    (path / "lock").unlink()
    directory = os.open(path, os.O_RDONLY)
    inside, most, wins = [], [], []

    def work() -> None:
        for _ in range(30):
            barrier.wait()
            mine = Ownership(URL)
            if mine.acquire(directory) is None:
                inside.append(1)
                most.append(len(inside))
                wins.append(mine.confirm())
                inside.pop()
                mine.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(directory)
    assert len(wins) >= 30
    assert all(wins)
    assert max(most) == 1


def test_of_many_who_find_a_dead_owner_one_stays(tmp_path, state, monkeypatch):
    """Two may move the record aside at the same instant; whoever then looks again knows, and all but one go."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    path, barrier, stayed = state(b""), threading.Barrier(8), []
    directory = os.open(path, os.O_RDONLY)

    def work() -> None:
        for turn in range(50):
            if barrier.wait() == 0:
                (path / "lock").write_bytes(record(pid=ENDED.pid))
                stayed.append(0)
            barrier.wait()
            mine = Ownership(URL)
            acquired = mine.acquire(directory) is None
            barrier.wait()
            if acquired and mine.confirm():
                stayed[turn] += 1
            barrier.wait()
            mine.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(directory)
    assert stayed == [1] * 50
    assert [*path.iterdir()] == []


def test_a_full_disk_leaves_no_record(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Os:
        write = staticmethod(full)

        def __getattr__(self, name):
            return getattr(os, name)

    monkeypatch.setattr(ownership, "os", Os())
    with pytest.raises(DiskFullError):
        Store(tmp_path / "x", URL).claim()
    monkeypatch.undo()
    assert claimed(tmp_path)


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """It shares the descriptor, and so the lock, after the owner has ended."""
    reading, writing = os.pipe()
    owner = os.fork()
    if owner == 0:
        os.close(writing)
        Store(tmp_path / "x", URL).claim()
        if os.fork() == 0:
            os.read(reading, 1)  # stays
        os._exit(0)
    try:
        os.waitpid(owner, 0)
        lock = (tmp_path / ".x.hydra" / "lock").open("rb")
        with lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert claimed(tmp_path)
    finally:
        os.close(writing)
        os.close(reading)


# An owner that is one no longer.


def begun(tmp_path, upto: int) -> tuple[Store, RangeSet]:
    """A transfer with a checkpoint."""
    store = Store(tmp_path / "x", URL)
    store.claim()
    _, durable = store.replay()
    store.prepare(len(TEXT), Validator('"v1"'), ())
    store.write(0, memoryview(TEXT)[:upto])
    durable.add(0, upto)
    store.sync(durable)
    return store, durable


@pytest.fixture
def usurped(tmp_path):
    """A transfer whose owner was thought dead, and the one that goes on from its checkpoint."""
    first, had = begun(tmp_path, 4000)
    owner = Store(tmp_path / "x", URL).owner()
    assert owner is not None
    Store(tmp_path / "x", URL).evict(owner)
    second, found = begun(tmp_path, 6000)
    assert list(found) == list(RangeSet([(0, 6000)]))
    yield first, had, second
    first.close()
    second.close()


class TestUsurped:
    def test_it_can_do_nothing_more(self, tmp_path, usurped):
        first, had, second = usurped
        had.add(4000, 5000)
        for step in (lambda: first.sync(had), lambda: first.commit(len(TEXT), None), first.reset):
            first._broken = None  # that alone would stop it
            with pytest.raises(DestinationBusyError):
                step()
        first.discard()
        first.close()
        assert not (tmp_path / "x").exists()
        second.write(6000, memoryview(TEXT)[6000:])
        second.commit(len(TEXT), None)
        assert (tmp_path / "x").read_bytes() == TEXT
        assert [each.name for each in tmp_path.iterdir()] == ["x"]

    def test_it_writes_no_more(self, usurped, monkeypatch):
        """It has slept: by its own clock it can no longer be sure."""
        first, _, _ = usurped
        first.write(5000, memoryview(TEXT)[5000:6000])  # the same bytes of the same version
        real = ownership._now
        monkeypatch.setattr(ownership, "_now", lambda: real() + ownership._LEASE + 1)
        with pytest.raises(DestinationBusyError):
            first.write(6000, memoryview(bytes(1000)))

    def test_what_it_notes_does_not_count(self, tmp_path, usurped):
        """Stopped between its last look and its last write: that goes to a journal that nobody reads."""
        from hydraflow.core import journal

        first, _, second = usurped
        os.write(first._journal, journal.encode_durable([*RangeSet([(0, 10_000)])]))
        second.close()
        again = Store(tmp_path / "x", URL)
        again.claim()
        assert list(again.replay()[1]) == list(RangeSet([(0, 6000)]))
        again.close()

    def test_a_part_that_is_thrown_away_is_not_published(self, tmp_path, usurped, monkeypatch):
        """The new owner has begun anew, since the remote file is another one now."""
        first, _, second = usurped
        second.reset()
        second.prepare(len(TEXT), Validator('"v2"'), ())
        monkeypatch.setattr(Ownership, "confirm", lambda _self: True)
        first._broken = None
        with pytest.raises(StorageError):
            first.commit(len(TEXT), None)
        assert not (tmp_path / "x").exists()


def test_a_beat_is_seen_and_keeps_the_lease(tmp_path, monkeypatch):
    store = Store(tmp_path / "x", URL)
    store.claim()
    before = Store(tmp_path / "x", URL).owner()
    real = ownership._now
    monkeypatch.setattr(ownership, "_now", lambda: real() + ownership._LEASE - 1)
    time.sleep(0.02)
    store.beat()
    after = Store(tmp_path / "x", URL).owner()
    assert before is not None
    assert after is not None
    assert before.touched < after.touched
    monkeypatch.setattr(ownership, "_now", lambda: real() + ownership._LEASE + 1)
    monkeypatch.setattr(ownership, "_content", lambda *_: pytest.fail("sure, and looked all the same"))
    assert store._ownership.holds()
    monkeypatch.undo()
    store.close()


# In one process.


@pytest.fixture
def settings():
    return hydraflow_settings.load(threads=4, retry_delay=0.05, sync_interval=0.1)


@pytest.fixture
def url(origin):
    origin.when().slow(4 * MIB)
    return origin.add("/x.bin", DATA)


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.005)


class TestWaiting:
    @pytest.fixture
    def fetching(self, origin, url, tmp_path, settings):
        """Somebody who is fetching; gives the list that the result will be in."""
        done: list[object] = []
        thread = threading.Thread(target=lambda: done.append(fetch(url, tmp_path / "x", settings=settings)))
        thread.start()
        until(lambda: origin.bytes_served() > MIB)
        yield done
        thread.join()
        assert [each.outcome for each in done] == [Outcome.FETCHED]
        assert (tmp_path / "x").read_bytes() == DATA
        assert [each.name for each in tmp_path.iterdir()] == ["x"]

    def test_it_takes_the_result(self, origin, url, tmp_path, settings, fetching):
        seen = []
        result = fetch(url, tmp_path / "x", settings=settings, on_progress=seen.append)
        assert result.outcome is Outcome.ALREADY_PRESENT
        assert result.elapsed > 0.1
        assert origin.bytes_served() <= 1.1 * SIZE
        assert [each.phase for each in seen] == [Phase.WAITING]
        assert seen[0].message.startswith(f"waiting for another process ({os.getpid()} on ")

    def test_it_checks_the_result(self, url, tmp_path, settings, fetching):
        with pytest.raises(DestinationExistsError, match="sha256"):
            fetch(url, tmp_path / "x", digest="sha256:" + 64 * "0", settings=settings)

    def test_overwriting_takes_it_too(self, origin, url, tmp_path, settings, fetching):
        result = fetch(url, tmp_path / "x", overwrite=True, settings=settings)
        assert result.outcome is Outcome.ALREADY_PRESENT
        assert origin.bytes_served() <= 1.1 * SIZE

    def test_another_url(self, origin, tmp_path, settings, fetching):
        other = origin.add("/y.bin", DATA)
        with pytest.raises(DestinationBusyError, match="another URL") as caught:
            fetch(other, tmp_path / "x", settings=settings)
        assert caught.value.exit_code == 8

    @pytest.mark.parametrize("limit", [0, 0.2])
    def test_it_does_not_wait_longer_than_asked(self, url, tmp_path, settings, fetching, limit):
        begun = time.monotonic()
        with pytest.raises(DestinationBusyError, match="still fetching"):
            fetch(url, tmp_path / "x", settings=replace(settings, busy_timeout=limit))
        assert limit <= time.monotonic() - begun < limit + 3
        assert not fetching

    def test_cancelling_is_heard(self, url, tmp_path, settings, fetching):
        async def impatient() -> float:
            task = asyncio.ensure_future(afetch(url, tmp_path / "x", settings=settings))
            await asyncio.sleep(0.2)
            task.cancel()
            begun = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - begun

        assert asyncio.run(impatient()) < 0.5
        assert not fetching

    def test_waiting_costs_little(self, url, tmp_path, settings, fetching, monkeypatch):
        looks = []
        real = Store.owner
        monkeypatch.setattr(Store, "owner", lambda self: (looks.append(1), real(self))[1])
        fetch(url, tmp_path / "x", settings=settings)
        assert len(looks) < 20

    def test_overwrite_of_an_old_file(self, origin, url, tmp_path, settings):
        """Neither of two that may replace it takes the old one for the result."""
        (tmp_path / "x").write_bytes(b"old")
        done = []
        threads = [
            threading.Thread(target=lambda: done.append(fetch(url, tmp_path / "x", overwrite=True, settings=settings)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(each.outcome for each in done) == [Outcome.ALREADY_PRESENT, Outcome.FETCHED]
        assert (tmp_path / "x").read_bytes() == DATA
        assert origin.bytes_served() <= 1.1 * SIZE


def test_a_file_that_appears_in_time_is_taken(origin, tmp_path, settings, monkeypatch):
    """Between the look and the claim another process has done it all."""
    url = origin.add("/x.bin", TEXT)
    real = Store.claim

    def late(self) -> None:
        monkeypatch.setattr(Store, "claim", real)
        (tmp_path / "x").write_bytes(TEXT)
        real(self)

    monkeypatch.setattr(Store, "claim", late)
    assert fetch(url, tmp_path / "x", settings=settings).outcome is Outcome.ALREADY_PRESENT
    assert origin.bytes_served() <= 1  # the probe's
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_an_owner_elsewhere_that_is_silent_is_replaced(origin, tmp_path, state, settings, monkeypatch):
    monkeypatch.setattr(ownership, "SILENCE", 1.0)
    url = origin.add("/x.bin", TEXT)
    state(record(kernel="elsewhere", url=ownership._hash(url)))
    begun, seen = time.monotonic(), []
    assert fetch(url, tmp_path / "x", settings=settings, on_progress=seen.append).outcome is Outcome.FETCHED
    assert 1 < time.monotonic() - begun < 3
    assert seen[0].message == "waiting for another process (4711 on node7), which is fetching the same file"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_an_owner_elsewhere_that_beats_is_not(origin, tmp_path, state, settings, monkeypatch):
    monkeypatch.setattr(ownership, "SILENCE", 0.6)
    url = origin.add("/x.bin", TEXT)
    lock = state(record(kernel="elsewhere", url=ownership._hash(url))) / "lock"
    waiting = threading.Thread(target=lambda: fetch(url, tmp_path / "x", settings=settings))
    waiting.start()
    for _ in range(10):
        time.sleep(0.2)
        os.utime(lock)
    assert origin.ledger == []
    lock.unlink()
    waiting.join()
    assert (tmp_path / "x").read_bytes() == TEXT


def test_an_owner_that_hangs_is_reported(origin, tmp_path, state, settings, monkeypatch):
    """It is alive for sure, so nobody takes its place; but nobody waits for it for ever."""
    monkeypatch.setattr(ownership, "SILENCE", 0.5)
    url = origin.add("/x.bin", TEXT)
    parent = os.getppid()
    state(record(pid=parent, start=ownership._start(parent), url=ownership._hash(url)))
    with pytest.raises(DestinationBusyError, match=rf"another process \({parent} on node7\) .* no sign of life for"):
        fetch(url, tmp_path / "x", settings=replace(settings, max_wait=1.0))


def test_the_owner_beats(origin, url, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(ownership, "BEAT", 0.05)
    beats = []
    monkeypatch.setattr(Store, "beat", lambda _self: beats.append(1))
    fetch(url, tmp_path / "x", settings=settings)
    count = len(beats)
    assert count > 3
    time.sleep(0.2)
    assert len(beats) <= count + 1


# Real processes.


def start(url: str, directory: Path, *options: str, prelude: str = "", **environment: str) -> subprocess.Popen[bytes]:
    code = f"{prelude}\nfrom hydraflow.__main__ import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, url, "-o", str(directory), "-t", "4", *options],
        cwd=ROOT,
        env={**os.environ, "HYDRAFLOW_SYNC_INTERVAL": "0.1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes], code: int = 0) -> str:
    """The outcome, with --json; what was said otherwise."""
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    return json.loads(stdout)["outcome"] if stdout else stderr.decode()


@pytest.mark.parametrize(
    ("count", "lock"),
    [(2, "working"), (2, "lying"), (2, "missing"), (8, "working"), (8, "lying"), (8, "nothing")],
)
def test_one_destination(origin, tmp_path, count, lock):
    """All are content, one has fetched; and together they have cost the server little more than one."""
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    processes = [start(url, tmp_path, "--json", "-q", prelude=LOCKS[lock]) for _ in range(count)]
    until(lambda: origin.bytes_served() > MIB)
    origin.rules.clear()
    outcomes = [finish(process) for process in processes]
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]
    if lock != "nothing":
        assert sorted(outcomes) == ["already present"] * (count - 1) + ["fetched"]
        assert origin.bytes_served() <= 1.1 * SIZE
    else:
        print(f"without any lock, {count} processes: {origin.bytes_served() / SIZE:.2f} x the file")  # noqa: T201


@pytest.mark.parametrize("lock", ["working", "lying"])
def test_a_killed_owner_is_replaced_at_once(origin, tmp_path, lock):
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB // 4)
    first = start(url, tmp_path, "-q", prelude=LOCKS[lock])
    until(lambda: origin.bytes_served() > 2 * MIB)
    second = start(url, tmp_path, "--json", "-nu", prelude=LOCKS[lock])
    assert second.stderr is not None
    assert b"waiting for another process" in second.stderr.readline()
    asked = len(origin.ledger)
    origin.rules.clear()
    first.kill()
    killed = time.monotonic()
    until(lambda: len(origin.ledger) > asked)
    assert time.monotonic() - killed < 3
    first.communicate()
    assert finish(second) == "resumed"
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert origin.bytes_served() <= 1.3 * SIZE  # what came after its last checkpoint, and lay in buffers
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]


def test_an_owner_that_is_ended_is_replaced(origin, tmp_path):
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB // 4)
    first = start(url, tmp_path, "-q")
    until(lambda: origin.bytes_served() > 2 * MIB)
    second = start(url, tmp_path, "--json", "-nu")
    assert second.stderr is not None
    assert b"waiting for another process" in second.stderr.readline()
    origin.rules.clear()
    first.terminate()
    finish(first, 143)
    assert finish(second) == "resumed"
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert origin.bytes_served() <= 1.1 * SIZE + 2 * MIB  # what lay in buffers


def test_an_owner_that_fails_is_replaced(origin, tmp_path):
    """Its digest is wrong, so what it has fetched is of no use; the other's is right."""
    url = origin.add("/x.bin", DATA)
    rule = origin.when().slow(4 * MIB)
    first = start(url, tmp_path, "-q", "--md5", 32 * "0")
    until(lambda: origin.bytes_served() > MIB)
    second = start(url, tmp_path, "--json", "-q")
    finish(first, 5)
    assert finish(second) == "fetched"
    assert rule.fired
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_an_interrupted_waiter_harms_nobody(origin, tmp_path):
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    first = start(url, tmp_path, "--json", "-q")
    until(lambda: origin.bytes_served() > MIB)
    second = start(url, tmp_path, "-nu")
    assert second.stderr is not None
    assert b"waiting for another process" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    sent = time.monotonic()
    finish(second, 130)
    assert time.monotonic() - sent < 5
    assert first.poll() is None
    origin.rules.clear()
    assert finish(first) == "fetched"


SLEEPER = """
from hydraflow.adapters import ownership
ownership._kernel = lambda: "elsewhere"
ownership._LEASE, ownership.BEAT = 0.6, 0.2
"""


@pytest.mark.parametrize("replaced", [False, True])
def test_an_owner_that_slept(origin, tmp_path, settings, monkeypatch, replaced):
    """A machine that slept wakes up, while another one has gone on from its checkpoint, or begun anew."""
    new = DATA[::-1] if replaced else DATA
    url = origin.add("/x.bin", DATA)
    origin.when().slow(2 * MIB)
    sleeper = start(url, tmp_path, "--json", "-q", prelude=LYING + SLEEPER)
    until(lambda: origin.bytes_served() > 3 * MIB)
    sleeper.send_signal(signal.SIGSTOP)
    if replaced:
        origin.add("/x.bin", new, etag='"v2"')
    monkeypatch.setattr(ownership, "SILENCE", 0.8)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    result = []
    other = threading.Thread(target=lambda: result.append(fetch(url, tmp_path / "x.bin", settings=settings)))
    asked = len(origin.ledger)
    other.start()
    until(lambda: len(origin.ledger) > asked)
    time.sleep(0.3)
    sleeper.send_signal(signal.SIGCONT)
    assert finish(sleeper) == "already present"
    other.join()
    assert (tmp_path / "x.bin").read_bytes() == new
    assert result[0].outcome is (Outcome.FETCHED if replaced else Outcome.RESUMED)
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]
    assert replaced or origin.bytes_served() <= 1.5 * SIZE


def test_another_url_in_the_command(origin, tmp_path):
    origin.when().slow(MIB)
    first = start(origin.add("/a/x.bin", DATA), tmp_path, "--json", "-q")
    until(lambda: origin.bytes_served() > MIB)
    said = finish(start(origin.add("/b/x.bin", DATA[::-1]), tmp_path, "-q"), 8)
    assert f"another process ({first.pid} on " in said
    assert "is fetching another URL to" in said
    origin.rules.clear()
    assert finish(first) == "fetched"
    assert (tmp_path / "x.bin").read_bytes() == DATA


def test_the_name_of_a_host_does_not_reach_the_terminal_raw():
    record = ownership._encode("0123456789abcdef", "http://h/x").replace(b'"host": "', b'"host": "\\u001b[31m\\u202e')
    shown = str(ownership.Owner(record, 0, certain=False))
    assert shown.isprintable()
    assert "on _[31m_" in shown
