"""Bounded reorder window: bytes arrive at any offset and leave in order.

Only the accounting is here; the bytes themselves lie in a ring buffer of the same capacity (`slot` maps an offset to
its place).  Deadlock cannot happen: the byte that the reader needs next always has room, since the window begins at it.
"""

from __future__ import annotations

from hydraflow.core.ranges import RangeSet

__all__ = ["Window"]


class Window:
    """A window of `capacity` bytes over the offsets `[head, head + capacity)`."""

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"a window holds at least 1 byte, not {capacity}")
        self.capacity = capacity
        self.head = start
        self._received = RangeSet()
        self._ready = start

    @property
    def horizon(self) -> int:
        """First offset without room."""
        return self.head + self.capacity

    @property
    def ready(self) -> int:
        """End of the bytes that can leave in order."""
        return self._ready

    def slot(self, offset: int) -> int:
        """Index of an offset in the ring."""
        return offset % self.capacity

    def room(self, offset: int) -> int:
        """Bytes that can be received at `offset` in one piece: up to the horizon and to the ring's end."""
        return max(0, min(self.horizon - offset, self.capacity - self.slot(offset)))

    def add(self, start: int, stop: int) -> bool:
        """Bytes `[start, stop)` have arrived; True if more can leave now.

        Raises:
            ValueError: there was no room for them.
        """
        if start < self.head or stop > self.horizon:
            raise ValueError(f"[{start}, {stop}) is outside the window [{self.head}, {self.horizon})")
        if start > self._ready:
            self._received.add(start, stop)
            return False
        before, self._ready = self._ready, max(self._ready, stop)
        first = next(iter(self._received), None)
        if first is not None and first.start <= self._ready:
            # Intervals coalesce, so at most one of them touches the new end.
            self._ready = max(self._ready, first.stop)
            self._received.subtract(0, self._ready)
        return self._ready > before

    def leave(self, limit: int) -> tuple[int, int]:
        """Ring indices `(begin, end)` of the next bytes in order, in one piece, none at or after offset `limit`."""
        begin = self.slot(self.head)
        return begin, begin + max(0, min(self._ready - self.head, limit - self.head, self.capacity - begin))

    def consume(self, count: int) -> None:
        """The first `count` bytes have left; their room is free.

        Raises:
            ValueError: they have not all arrived.
        """
        if not 0 <= count <= self._ready - self.head:
            raise ValueError(f"{count} bytes cannot leave, {self._ready - self.head} are ready")
        self.head += count
