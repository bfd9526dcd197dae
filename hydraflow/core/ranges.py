"""A set of byte offsets, kept as sorted intervals that neither overlap nor touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from hydraflow.models import ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """A mutable set of byte offsets, made of half-open intervals.

    Intervals that overlap or touch become one.  An operation costs O(log n) comparisons, and a move of the list's tail
    where intervals appear or vanish.  `len` counts intervals, `total` counts bytes.

    Args:
        ranges: intervals to begin with, as `ByteRange` or `(start, stop)`, in any order.

    Raises:
        ValueError: one of them is negative or backwards; so say all methods that take `start` and `stop`.
    """

    # Two lists of numbers rather than one of objects: this is on the path of every chunk of a stream.
    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[ByteRange | tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for each in ranges:
            start, stop = (each.start, each.stop) if isinstance(each, ByteRange) else each
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Put the offsets `[start, stop)` in."""
        _check(start, stop)
        if start == stop:
            return
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:  # these overlap or touch
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def subtract(self, start: int, stop: int) -> None:
        """Take the offsets `[start, stop)` out, as far as they are in."""
        _check(start, stop)
        first, last = self._overlapping(start, stop)
        if start == stop or first == last:
            return
        left, right = self._starts[first], self._stops[last - 1]
        self._starts[first:last] = ([left] if left < start else []) + ([stop] if right > stop else [])
        self._stops[first:last] = ([start] if left < start else []) + ([right] if right > stop else [])

    def gaps(self, start: int, stop: int) -> list[ByteRange]:
        """What is missing of `[start, stop)`, in order."""
        _check(start, stop)
        first, last = self._overlapping(start, stop)
        begins, ends = [start, *self._stops[first:last]], [*self._starts[first:last], stop]
        return [ByteRange(a, b) for a, b in zip(begins, ends, strict=True) if a < b]

    def covers(self, start: int, stop: int) -> bool:
        """All of `[start, stop)` is in; nothing is missing of an empty interval."""
        _check(start, stop)
        index = bisect_right(self._starts, start) - 1
        return start == stop or (index >= 0 and self._stops[index] >= stop)

    def prefix(self) -> int:
        """How many bytes from offset 0 on are in without a gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self._stops) - sum(self._starts)

    def copy(self) -> RangeSet:
        """An independent set of the same offsets."""
        twin = RangeSet()
        twin._starts, twin._stops = self._starts.copy(), self._stops.copy()
        return twin

    def minus(self, other: RangeSet) -> RangeSet:
        """A new set: the offsets that are in this one and not in the other."""
        rest = self.copy()
        for start, stop in zip(other._starts, other._stops, strict=True):
            rest.subtract(start, stop)
        return rest

    def _overlapping(self, start: int, stop: int) -> tuple[int, int]:
        """Slice of the intervals that share a byte with `[start, stop)`, or that an empty one lies in."""
        return bisect_right(self._stops, start), bisect_left(self._starts, stop)

    def __iter__(self) -> Iterator[ByteRange]:
        return map(ByteRange, self._starts, self._stops)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(zip(self._starts, self._stops, strict=True))})"


def _check(start: int, stop: int) -> None:
    if not 0 <= start <= stop:
        raise ValueError(f"not a byte range: [{start}, {stop})")
