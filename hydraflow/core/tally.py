"""How far it is: of each file and of all of them, with rates and the time that is left. Time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydraflow.models import FetchResult, Phase, Progress

if TYPE_CHECKING:
    from hydraflow.errors import HydraError

__all__ = ["Meter", "Running", "Tally"]

#: Seconds that a rate is taken over, and between two points of it.
_WINDOW, _STEP = 6.0, 0.25
#: Files that have to have ended before others are judged by them.
_ENOUGH = 20


class Meter:
    """Bytes per second, over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, total: int, now: float) -> None:
        """So many bytes have come in all by now."""
        points = self._points
        if not points or now - points[-1][0] >= _STEP:
            points.append((now, total))
        while len(points) > 2 and now - points[0][0] > _WINDOW:
            points.popleft()

    def rate(self, total: int, now: float) -> float | None:
        """None while it is too early to tell."""
        if not self._points or now - self._points[0][0] < _STEP:
            return None
        at, before = self._points[0]
        return (total - before) / (now - at)


@dataclass(slots=True)
class Running:
    """A file in work: its last news, when it began, what came over the network, and what was last said of it."""

    progress: Progress
    since: float
    received: int = 0
    notice: str = ""
    meter: Meter = field(default_factory=Meter)

    def rate(self, now: float) -> float | None:
        """Bytes per second."""
        return self.meter.rate(self.received, now)

    def left(self, now: float) -> float | None:
        """Seconds, if it goes on like this; None while nobody can tell."""
        return _left(self.progress.done, self.progress.size, self.rate(now))


class Tally:
    """All files of a run.

    Args:
        files: how many are wanted; 0 if that is not known.
        size: bytes of all of them, None while that is not known.
    """

    def __init__(self, files: int = 0, size: int | None = None) -> None:
        self.files, self.size = files, size
        self.running: dict[str, Running] = {}
        self.finished = self.failed = 0
        self.received = 0
        self._ended = 0
        self._meter, self._pace = Meter(), Meter()

    def update(self, progress: Progress, now: float) -> None:
        """News of a file."""
        if progress.phase in (Phase.DONE, Phase.FAILED):
            return  # how it ended is told by `finish` and `fail`
        one = self.running.get(progress.name)
        before = 0 if one is None else one.progress.done
        if one is None:
            one = self.running[progress.name] = Running(progress, now)
        # What an earlier run had left has not come over the network in this one.
        came = max(0, progress.done - max(before, progress.from_checkpoint))
        one.progress, one.notice = progress, progress.message or one.notice
        one.received += came
        self.received += came
        one.meter.add(one.received, now)
        self._meter.add(self.received, now)

    def finish(self, name: str, result: FetchResult, now: float) -> None:
        """A file is there."""
        one = self.running.pop(name, None)
        self.finished += 1
        self._ended += result.size
        self.received += max(0, result.bytes_from_network - (one.received if one is not None else 0))
        self._meter.add(self.received, now)
        self._pace.add(self.ended, now)

    def fail(self, name: str, error: HydraError, now: float) -> None:
        """A file cannot be had."""
        del error
        self.running.pop(name, None)
        self.failed += 1
        self._meter.add(self.received, now)
        self._pace.add(self.ended, now)

    @property
    def ended(self) -> int:
        """Files of which nothing more will be heard."""
        return self.finished + self.failed

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return self._ended + sum(one.progress.done for one in self.running.values())

    @property
    def connections(self) -> int:
        """Requests in flight."""
        return sum(one.progress.connections for one in self.running.values())

    @property
    def known_size(self) -> int | None:
        """Bytes of all files; None if one of them is not known."""
        if self.size is not None or self.ended + len(self.running) < self.files:
            return self.size
        sizes = [one.progress.size for one in self.running.values()]
        return None if None in sizes else self._ended + sum(filter(None, sizes))

    def rate(self, now: float) -> float | None:
        """Bytes per second of all files together."""
        return self._meter.rate(self.received, now)

    def left(self, now: float) -> float | None:
        """Seconds, if it goes on like this: by bytes, or by files if those are many; None while nobody can tell."""
        if self.known_size is None and self.ended >= _ENOUGH:
            return _left(self.ended, self.files, self._pace.rate(self.ended, now))
        return _left(self.done, self.known_size, self.rate(now))


def _left(done: int, size: int | None, rate: float | None) -> float | None:
    return None if size is None or not rate else max(0.0, (size - done) / rate)
