"""Bounded reorder window: bytes arrive at any offset and leave in order.

The bytes lie in blocks, taken from a stack of free ones::

      head         ready                                    horizon = head + capacity
       │ can leave  │            ┌── arrived early            │
    ───┼────────────┼────────────┼────────┼───────────────────┼───▶ offset
       [   block 4   |   block 5    |   block 6    ]  no memory yet

A block is free again once the reader has passed it, and the one freed last is used first.  So where the reader keeps
up, a stream of any length goes through the same few blocks, which stay in the processor's cache; memory grows towards
the capacity only when bytes really wait.  Deadlock cannot happen: the byte that the reader needs next always has room,
since the window begins at it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hydraflow.core.ranges import RangeSet

__all__ = ["Window"]

_BLOCK = 1 << 20


class Window:
    """A window of `capacity` bytes over the offsets `[head, head + capacity)`.

    Args:
        capacity: most bytes that can wait; up to two blocks more may be in use.
        block: bytes of a block.
        start: first offset of all.
    """

    def __init__(self, capacity: int, block: int = _BLOCK, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"a window holds at least 1 byte, not {capacity}")
        self.capacity = capacity
        self.head = start
        self.ready = start  # end of the bytes that can leave in order
        self._received = RangeSet()
        self._block = block
        self._blocks: dict[int, memoryview] = {}
        self._free: list[memoryview] = []

    @property
    def horizon(self) -> int:
        """First offset without room."""
        return self.head + self.capacity

    def room(self, offset: int, limit: int) -> memoryview:
        """Memory for bytes at `offset`, in one piece and at most `limit`; empty if there is no room."""
        count = min(self.horizon - offset, limit)
        if count <= 0:
            return memoryview(b"")
        number, begin = divmod(offset, self._block)
        if number not in self._blocks:
            self._blocks[number] = self._free.pop() if self._free else memoryview(bytearray(self._block))
        return self._blocks[number][begin : begin + count]

    def add(self, start: int, stop: int) -> bool:
        """Bytes `[start, stop)` have arrived; True if more can leave now.

        Raises:
            ValueError: there was no room for them.
        """
        if start < self.head or stop > self.horizon:
            raise ValueError(f"[{start}, {stop}) is outside the window [{self.head}, {self.horizon})")
        if start > self.ready:
            self._received.add(start, stop)
            return False
        before, self.ready = self.ready, max(self.ready, stop)
        first = next(iter(self._received), None)
        if first is not None and first.start <= self.ready:
            # Intervals coalesce, so at most one of them touches the new end.
            self.ready = max(self.ready, first.stop)
            self._received.subtract(0, self.ready)
        return self.ready > before

    def next(self, limit: int) -> memoryview:
        """The next bytes in order, in one piece, none at or after offset `limit`."""
        return next(self.pieces(limit), memoryview(b""))

    def pieces(self, limit: int) -> Iterator[memoryview]:
        """All bytes that can leave, in order, none at or after offset `limit`."""
        position, stop = self.head, min(self.ready, limit)
        while position < stop:
            number, begin = divmod(position, self._block)
            piece = self._blocks[number][begin : begin + stop - position]
            yield piece
            position += len(piece)

    def consume(self, count: int) -> None:
        """The first `count` bytes have left; their room is free.

        Raises:
            ValueError: they have not all arrived.
        """
        if not 0 <= count <= self.ready - self.head:
            raise ValueError(f"{count} bytes cannot leave, {self.ready - self.head} are ready")
        passed = range(self.head // self._block, (self.head + count) // self._block)
        self.head += count
        self._free += [self._blocks.pop(number) for number in passed if number in self._blocks]
