"""A destination through runs that are killed, power cuts, and replacements of the remote file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hydraflow.adapters.store import Store
from hydraflow.core.ranges import RangeSet
from hydraflow.models import Validator
from tests.crash.disk import Recorder, rebuild

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["World"]

SIZE, PIECE = 16_000, 1_000
VERSIONS = [random.Random(version).randbytes(SIZE) for version in range(12)]
URL = "http://h/x"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


class World:
    """One destination. Every run checks what it finds against what was promised before the last cut."""

    def __init__(self, directory: Path, rng: random.Random, *, overwrite: bool) -> None:
        self._directory, self._rng, self._overwrite = directory, rng, overwrite
        self._version = self._turn = 0
        self._promised = RangeSet()  # bytes of the current version
        self._possible: set[bytes | None] = {None}  # what may lie at the final name
        self._history: list[tuple[int, int, RangeSet, set[bytes | None]]] = []
        directory.mkdir()
        self._root = directory / "0"
        self._root.mkdir()

    @property
    def _path(self) -> Path:
        return self._root / "new" / "x"

    @property
    def _truth(self) -> bytes:
        return VERSIONS[self._version]

    def may_run(self) -> bool:
        """A fetch would not just find the file."""
        return self._overwrite or not self._path.exists()

    def run(self, recorder: Recorder) -> str:
        """Fetch, or begin to; then the power goes, at any operation. Afterwards the remote file may be another."""
        recorder.load(self._root)
        self._history = []
        self._note(recorder)
        store, received = self._start()
        resumed = bool(received)
        self._note(recorder)
        self._receive(store, received, recorder)
        if self._rng.random() < 0.2:
            self._replace()
            self._note(recorder)
            store.reset()
            received = RangeSet()
            self._receive(store, received, recorder)
        complete = received.total == SIZE
        if complete:
            self._possible = {*self._possible, self._truth}
            self._note(recorder)
            store.commit(SIZE, DATE)
            self._promised, self._possible = RangeSet(), {self._truth}
            self._note(recorder)
        elif self._rng.random() < 0.5:
            store.close()
        store._release()  # by now at the latest the process is gone
        self._cut(recorder)
        return ("resumed and " if resumed else "") + ("committed" if complete else "torn")

    def finish(self, recorder: Recorder) -> str:
        """A last run, that nothing disturbs."""
        recorder.load(self._root)
        if not self.may_run():
            Store(self._path, URL).sweep()
            assert self._path.read_bytes() in self._possible
            return "present"
        store, received = self._start()
        store.prepare(SIZE, Validator(f'"{self._version}"'), ())
        for gap in received.gaps(0, SIZE):
            store.write(gap.start, memoryview(self._truth)[gap.start : gap.stop])
        store.commit(SIZE, DATE)
        store.close()
        assert self._path.read_bytes() == self._truth
        assert [each.name for each in self._path.parent.iterdir()] == ["x"]
        return "finished"

    def _receive(self, store: Store, received: RangeSet, recorder: Recorder) -> None:
        """Some or all of what is missing, in any order, with a checkpoint now and then."""
        store.prepare(SIZE, Validator(f'"{self._version}"'), ())
        missing = [at for at in range(0, SIZE, PIECE) if RangeSet([(at, at + PIECE)]).minus(received)]
        self._rng.shuffle(missing)
        for at in missing[: self._rng.randrange(2 * len(missing) + 1)]:
            store.write(at, memoryview(self._truth)[at : at + PIECE])
            received.add(at, at + PIECE)
            if self._rng.random() < 0.4:
                store.sync(received)
                self._promised = received.copy()
                self._note(recorder)

    def _replace(self) -> None:
        """The remote file is another one now."""
        self._version += 1
        self._promised = RangeSet()

    def _note(self, recorder: Recorder) -> None:
        """From here on, a cut must leave this."""
        self._history.append((len(recorder.log), self._version, self._promised.copy(), self._possible))

    def _start(self) -> tuple[Store, RangeSet]:
        """As a transfer starts: what is there of another version is thrown away."""
        store = Store(self._path, URL, overwrite=self._overwrite)
        store.claim()
        identity, durable = store.replay()
        if identity is None:
            assert not self._promised, f"promised {self._promised}, found nothing"
            return store, durable
        version = int((identity.validator.etag or "").strip('"'))
        part = (store.state / identity.part).read_bytes()
        for piece in durable:
            assert part[piece.start : piece.stop] == VERSIONS[version][piece.start : piece.stop], "a mixture"
        if version == self._version:
            assert not self._promised.minus(durable), f"promised {self._promised}, found {durable}"
            return store, durable
        assert not self._promised, f"promised {self._promised}, found another version"
        store.reset()
        return store, RangeSet()

    def _cut(self, recorder: Recorder) -> None:
        begun, end = self._history[0][0], len(recorder.log)
        cut = end if self._rng.random() < 0.1 else self._rng.randint(begun, end)
        # The rest has not happened, replacements included.
        _, self._version, self._promised, self._possible = [each for each in self._history if each[0] <= cut][-1]
        self._turn += 1
        target = self._directory / str(self._turn)
        rebuild(recorder.log[:cut], self._root, target, self._rng)
        (target / "new").mkdir(exist_ok=True)
        self._root = target
        found = self._path.read_bytes() if self._path.exists() else None
        assert found in self._possible, "lost, or not whole"
        self._possible = {found}
        if found == self._truth:
            self._promised = RangeSet()  # what was on its way is there
        if self._rng.random() < 0.3:
            self._replace()
