"""How a run went: bytes and connections over time, in a bounded number of points."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["History", "Point"]

_MOST = 600


@dataclass(frozen=True, slots=True)
class Point:
    """So many bytes had come by then, in seconds from the beginning, and so many requests were in flight."""

    at: float
    received: int
    connections: int


class History:
    """Points of one run. When there are too many, every second one is given up, and they come half as often."""

    def __init__(self, begun: float) -> None:
        self.points: list[Point] = [Point(0.0, 0, 0)]
        self._begun = begun
        self._step = 0.1

    def add(self, now: float, received: int, connections: int) -> None:
        """What is so now; it counts if the last point is long enough ago."""
        at = now - self._begun
        if at - self.points[-1].at >= self._step - 1e-6:
            self.points.append(Point(at, received, connections))
        if len(self.points) > _MOST:
            self.points = self.points[::2]
            self._step *= 2

    def end(self, now: float, received: int) -> None:
        """It is over."""
        at = now - self._begun
        if at > self.points[-1].at:
            self.points.append(Point(at, max(received, self.points[-1].received), 0))

    def rates(self, least: float) -> list[tuple[float, float]]:
        """Bytes per second, each up to its moment, over at least so many seconds, if there are so many."""
        marks = self.points[:1]
        for point in self.points[1:]:
            if point.at - marks[-1].at >= least - 1e-6:
                marks.append(point)
        if self.points[-1] is not marks[-1]:
            # What comes in the last milliseconds says nothing by itself.
            marks[max(1, len(marks) - 1) :] = self.points[-1:]
        return [(end.at, (end.received - start.received) / (end.at - start.at)) for start, end in pairwise(marks)]
