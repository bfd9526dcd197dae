"""Where simulated bytes go: a file with its checkpoint, or a window that somebody reads from.

Both do what `adapters/store.py` and `adapters/sinks.py` do, without a disk and without threads.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from hydraflow.core.journal import Identity
from hydraflow.core.ranges import RangeSet
from hydraflow.core.reorder import Window

if TYPE_CHECKING:
    from random import Random

    from hydraflow.models import Claim, Resource


class Output(Protocol):
    written: RangeSet
    result: bytes | None

    def begin(self) -> tuple[Identity | None, RangeSet]: ...
    def prepare(self, resource: Resource, claim: Claim | None) -> None: ...
    def room(self, offset: int) -> int: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def settle(self, received: RangeSet) -> None: ...
    def checkpoint(self, received: RangeSet) -> None: ...
    def reset(self) -> None: ...
    def digest(self, size: int) -> tuple[str | None] | None: ...
    def commit(self, size: int) -> bool: ...
    def horizon(self) -> int | None: ...
    def restartable(self) -> bool: ...
    def die(self, rng: Random, how: str) -> None: ...


class FileOutput:
    """A part file and its journal. They outlive the process; `durable` outlives a power cut."""

    def __init__(self) -> None:
        self.written = RangeSet()
        self.result: bytes | None = None
        self.durable = RangeSet()
        self.identity: Identity | None = None
        self._part: bytearray | None = None
        self._hashed: bytearray | None = None

    def begin(self) -> tuple[Identity | None, RangeSet]:
        self._hashed = None
        self.written = self.durable.copy()
        if self.identity is None:
            self._part = None
        return self.identity, self.durable.copy()

    def prepare(self, resource: Resource, claim: Claim | None) -> None:
        if self._part is None:  # a part taken over stays
            self._part = bytearray()
            if resource.size is not None:
                self.identity = Identity("http://h/x", resource.size, resource.validator, resource.claims, "part-1")
        self._hashed = None if claim is None else bytearray()

    def room(self, offset: int) -> int:
        del offset
        return 1 << 62

    def write(self, offset: int, data: bytes) -> None:
        assert self._part is not None
        self._part.extend(bytes(max(0, offset + len(data) - len(self._part))))
        self._part[offset : offset + len(data)] = data
        self.written.add(offset, offset + len(data))

    def settle(self, received: RangeSet) -> None:
        """Hash what has come in order, as the real one does beside the transfer."""
        if self._hashed is not None and self._part is not None:
            self._hashed += self._part[len(self._hashed) : received.prefix()]

    def checkpoint(self, received: RangeSet) -> None:
        if self.identity is not None and self._part is not None:
            self.durable = received.copy()

    def reset(self) -> None:
        self._part = self._hashed = self.identity = None
        self.durable, self.written = RangeSet(), RangeSet()

    def digest(self, size: int) -> tuple[str | None]:
        assert self._part is not None
        if self._hashed is None:
            return (None,)
        return (hashlib.md5(bytes(self._hashed) + self._part[len(self._hashed) : size]).hexdigest(),)

    def commit(self, size: int) -> bool:
        assert self._part is not None
        self.result = bytes(self._part[:size])
        return True

    def horizon(self) -> int | None:
        return None

    def restartable(self) -> bool:
        return True

    def die(self, rng: Random, how: str) -> None:
        """The process is gone; after a power cut, bytes that nobody has synced are anything."""
        del rng
        if how == "power" and self._part is not None:
            for gap in self.durable.gaps(0, len(self._part)):
                self._part[gap.start : gap.stop] = b"#" * len(gap)


class StreamOutput:
    """A window and its reader, who never sees the last `hold_back` bytes before they are verified."""

    def __init__(self, capacity: int, hold_back: int) -> None:
        self._capacity, self._hold_back = capacity, hold_back
        self._renew()

    def _renew(self) -> None:
        self.result: bytes | None = None
        self.read = bytearray()
        self._clear()

    def _clear(self) -> None:
        self.written = RangeSet()
        self._window = Window(self._capacity, block=100)
        self._size: int | None = None
        self._hashing = self._verified = False

    def begin(self) -> tuple[Identity | None, RangeSet]:
        return None, RangeSet()

    def prepare(self, resource: Resource, claim: Claim | None) -> None:
        self._size = resource.size
        self._hashing = claim is not None

    def room(self, offset: int) -> int:
        return len(self._window.room(offset, self._capacity))

    def write(self, offset: int, data: bytes) -> None:
        self._window.room(offset, len(data))[:] = data
        self._window.add(offset, offset + len(data))
        self.written.add(offset, offset + len(data))

    def take(self, most: int) -> bool:
        """The reader takes what it may; True if it got anything."""
        view = self._window.next(min(self._limit(), self._window.head + most))
        self.read += view
        self._window.consume(len(view))
        return bool(view)

    def _limit(self) -> int:
        if self._verified:
            return self._window.ready
        end = self._window.ready if self._size is None else self._size
        return min(self._window.ready, max(self._window.head, end - self._hold_back))

    def settle(self, received: RangeSet) -> None: ...

    def checkpoint(self, received: RangeSet) -> None: ...

    def reset(self) -> None:
        assert not self.read, "bytes that were given away cannot be taken back"
        self._clear()

    def digest(self, size: int) -> tuple[str | None] | None:
        """None as long as the reader has bytes to take before."""
        self._size = size
        if self._window.head < self._limit():
            return None
        if not self._hashing:
            return (None,)
        held = b"".join(self._window.pieces(size))
        return (hashlib.md5(bytes(self.read) + held).hexdigest(),)

    def commit(self, size: int) -> bool:
        self._verified = True
        if self._window.head < size:
            return False
        self.result = bytes(self.read)
        return True

    def horizon(self) -> int | None:
        return self._window.horizon

    def restartable(self) -> bool:
        return not self.read

    def die(self, rng: Random, how: str) -> None:
        """Nothing of a stream outlives its process."""
        del rng, how
        self._renew()
