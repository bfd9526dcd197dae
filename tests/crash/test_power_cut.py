"""A power cut after any operation: what the journal claims is there, and what it ever claimed stays claimed."""

from __future__ import annotations

import collections
import errno
import os
import random

import pytest

from hydraflow.adapters import ownership
from hydraflow.adapters import store as store_module
from hydraflow.adapters.store import Store
from hydraflow.core.ranges import RangeSet
from hydraflow.models import Validator
from tests.crash.disk import MODULES, Recorder, Sync, rebuild
from tests.crash.world import World

#: Seeded runs of the last test; every one takes some 10 ms.
RUNS = int(os.environ.get("HYDRAFLOW_TEST_RUNS", "300"))
SIZE, PIECE = 16_000, 1_000
DATA = random.Random(5).randbytes(SIZE)
URL = "http://h/x"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


def session(store: Store, claims: list[tuple[int, RangeSet]], recorder: Recorder, seed: int) -> None:
    """A transfer, in pieces of any order, with a checkpoint now and then; `claims` tells when what was promised."""
    rng = random.Random(seed)
    store.claim()
    _, durable = store.replay()
    store.prepare(SIZE, Validator('"v1"'), ())
    received = durable.copy()
    pieces = [(start, min(start + PIECE, SIZE)) for start in range(0, SIZE, PIECE)]
    rng.shuffle(pieces)
    for start, stop in pieces:
        store.write(start, memoryview(DATA)[start:stop])
        received.add(start, stop)
        if rng.random() < 0.4:
            store.sync(received)
            claims.append((len(recorder.log), received.copy()))
    store.commit(SIZE, DATE)
    claims.append((len(recorder.log), RangeSet([(0, SIZE)])))
    store.close()


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    for module in MODULES:
        monkeypatch.setattr(module, "os", recorder)
    monkeypatch.setattr(os, "mkdir", recorder.mkdir)  # pathlib's
    return recorder


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """The files of these tests are as good as large ones, which have a journal from the beginning."""
    monkeypatch.setattr(store_module, "_LARGE", SIZE)


@pytest.fixture(autouse=True)
def boots(monkeypatch):
    """Whoever looks at a record finds that it was written before the power cut."""
    running = iter(range(10**9))
    monkeypatch.setattr(ownership, "_kernel", lambda: f"boot {next(running)}")
    ownership._process.cache_clear()
    yield
    ownership._process.cache_clear()


def check(directory, path, claimed: RangeSet) -> None:
    """After the cut: the file is whole or absent, claims are true, and the next run completes it."""
    if path.exists():
        assert path.read_bytes() == DATA
        store = Store(path, URL)
        store.sweep()
    else:
        store = Store(path, URL)
        store.claim()
        _, durable = store.replay()
        part = next(iter(directory.rglob("part-*")), None)
        for piece in durable:
            assert part is not None
            assert part.read_bytes()[piece.start : piece.stop] == DATA[piece.start : piece.stop]
        assert not claimed.minus(durable), f"promised {claimed}, found {durable}"
        store.prepare(SIZE, Validator('"v1"'), ())
        for gap in durable.gaps(0, SIZE):
            store.write(gap.start, memoryview(DATA)[gap.start : gap.stop])
        store.commit(SIZE, DATE)
        store.close()
    assert path.read_bytes() == DATA
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def no_links(_self, *_args, **_options):
    raise OSError(errno.ENOTSUP, "no hard links here")


@pytest.mark.parametrize("way", ["link", "overwrite", "no links"])
@pytest.mark.parametrize("seed", range(6))
def test_after_every_operation(tmp_path, recorder, monkeypatch, seed, way):
    source = tmp_path / "source"
    source.mkdir()
    recorder.log.clear()
    claims: list[tuple[int, RangeSet]] = []
    if way == "no links":
        monkeypatch.setattr(Recorder, "link", no_links)
    session(Store(source / "new" / "x", URL, overwrite=way == "overwrite"), claims, recorder, seed)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)
    assert sum(isinstance(operation, Sync) for operation in recorder.log) > 8
    assert len(claims) > 3
    rng = random.Random(seed)
    for cut in range(len(recorder.log) + 1):
        claimed = max((ranges for at, ranges in claims if at <= cut), key=lambda r: r.total, default=RangeSet())
        target = tmp_path / f"cut{cut}"
        rebuild(recorder.log[:cut], source, target, rng)
        (target / "new").mkdir(exist_ok=True)
        check(target, target / "new" / "x", claimed)


def test_a_second_run_is_cut_too(tmp_path, recorder, monkeypatch):
    """The same for a run that goes on from a checkpoint."""
    source = tmp_path / "source"
    source.mkdir()
    first = Store(source / "x", URL)
    first.claim()
    first.replay()
    first.prepare(SIZE, Validator('"v1"'), ())
    first.write(0, memoryview(DATA)[: SIZE // 2])
    first.sync(RangeSet([(0, SIZE // 2)]))
    first.close()
    claims = [(len(recorder.log), RangeSet([(0, SIZE // 2)]))]
    session(Store(source / "x", URL), claims, recorder, 1)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)
    rng = random.Random(7)
    for cut in range(claims[0][0], len(recorder.log) + 1):
        claimed = max((ranges for at, ranges in claims if at <= cut), key=lambda r: r.total)
        target = tmp_path / f"cut{cut}"
        rebuild(recorder.log[:cut], source, target, rng)
        check(target, target / "x", claimed)


@pytest.mark.parametrize("batch", range(10))
def test_any_schedule(tmp_path, recorder, monkeypatch, batch):
    """Up to five runs in a row, each cut or killed at any operation; the remote file is replaced at times."""
    ends = collections.Counter()
    for seed in range(batch, RUNS, 10):
        rng = random.Random(seed)
        with monkeypatch.context() as patch:
            if rng.random() < 0.3:
                patch.setattr(Recorder, "link", no_links)
            world = World(tmp_path / str(seed), rng, overwrite=rng.random() < 0.3)
            for _ in range(rng.randint(1, 4)):
                if world.may_run():
                    ends[world.run(recorder)] += 1
            ends[world.finish(recorder)] += 1
    assert sum(ends.values()) > RUNS // 10
    if RUNS >= 300:
        assert set(ends) >= {"committed", "torn", "resumed and torn", "resumed and committed", "present"}, ends


def test_the_disk_itself_can_lose(tmp_path, recorder, monkeypatch):
    """The test of the test: a store that does not sync is found out."""
    monkeypatch.setattr(recorder.__class__, "fdatasync", lambda _self, _fd: None)
    source = tmp_path / "source"
    source.mkdir()
    recorder.log.clear()
    claims: list[tuple[int, RangeSet]] = []
    session(Store(source / "x", URL), claims, recorder, 0)
    monkeypatch.undo()
    rng, caught = random.Random(0), 0
    for cut in range(len(recorder.log)):
        target = tmp_path / f"cut{cut}"
        rebuild(recorder.log[:cut], source, target, rng)
        claimed = max((ranges for at, ranges in claims if at <= cut), key=lambda r: r.total, default=RangeSet())
        try:
            check(target, target / "x", claimed)
        except AssertionError:
            caught += 1
    assert caught > 10
