"""Where bytes go: a file, or a reader that wants them in order. Both behind one protocol.

A lease's worker asks the sink for a *cursor* and receives from the socket straight into what `reserve` returns; no byte
is copied on the way from the socket to the page cache or to the reader's pipe.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from hydraflow.adapters import threads
from hydraflow.adapters.hashing import PrefixHasher
from hydraflow.adapters.store import Store
from hydraflow.core import integrity
from hydraflow.core.journal import Identity
from hydraflow.core.ranges import RangeSet
from hydraflow.core.reorder import Window
from hydraflow.errors import StorageError
from hydraflow.models import Claim, Resource

__all__ = ["HOLD_BACK", "Cursor", "FileSink", "Sink", "Source", "StreamSink"]

#: Bytes at the end of a stream that no reader gets before everything is verified.
HOLD_BACK = 64 << 10
_SCRATCH = 512 << 10
#: Bytes of a file up to which it is small.
_SMALL = 256 << 10
T = TypeVar("T")


class Cursor(Protocol):
    """A place in the output that moves on as bytes arrive."""

    async def reserve(self, limit: int) -> memoryview:
        """Memory for the next bytes, at least 1 and at most `limit`; waits until there is room."""
        ...

    def advance(self, count: int) -> None:
        """The first `count` bytes of the reserved memory are filled."""
        ...

    def close(self) -> None:
        """The cursor is not used any more."""
        ...


class Sink(Protocol):
    """An output. Called from the engine's thread; methods that may block are coroutines."""

    async def begin(self) -> tuple[Identity | None, RangeSet]:
        """Tell what an earlier run left in the output."""
        ...

    async def prepare(self, resource: Resource, claim: Claim | None) -> None:
        """Make ready for this resource, and hash for this claim."""
        ...

    async def expect(self, resource: Resource, claim: Claim) -> None:
        """Hash for this claim instead, from the first byte; only for a sink without a horizon."""
        ...

    def cursor(self, position: int) -> Cursor:
        """A cursor at an offset."""
        ...

    def horizon(self) -> int | None:
        """First offset that there is no room for; None if there is room for all."""
        ...

    def restartable(self) -> bool:
        """Everything can still be thrown away, and stays so until `reset`."""
        ...

    def writing(self) -> float:
        """Seconds that writing to a disk has taken so far."""
        ...

    def settle(self, received: RangeSet) -> None:
        """Called often: this is what has been received so far."""
        ...

    async def checkpoint(self, received: RangeSet) -> None:
        """Make durable what has been received."""
        ...

    async def reset(self) -> None:
        """Throw everything away."""
        ...

    async def digest(self, size: int) -> str | None:
        """The digest of all `size` bytes, if `prepare` was given a claim."""
        ...

    async def commit(self, size: int, resource: Resource) -> None:
        """Everything is verified: give the file its name, or the reader the last bytes."""
        ...

    async def close(self, *, keep: bool, error: BaseException | None) -> None:
        """The transfer is over; `keep` says that a later run can use what is there."""
        ...


class Source(Protocol):
    """The reader's end of a stream; used in one thread."""

    @property
    def verified(self) -> bool:
        """Every byte has passed its check, though the reader may not have taken every one."""
        ...

    def take(self, most: int, timeout: float | None = None) -> memoryview | None:
        """The next bytes in order, at most `most`, as a view that is good until `release`.

        Returns:
            An empty view if none came within `timeout` seconds, None at the verified end of the stream.

        Raises:
            BaseException: what ended the transfer, if it was not its proper end.
        """
        ...

    def release(self, count: int) -> None:
        """The bytes that `take` gave are used; all `count` of them."""
        ...

    def leave(self) -> None:
        """The reader has gone; called when the transfer has ended."""
        ...


class FileSink:
    """A file on disk, with a checkpoint beside it while it grows.

    A small file is kept in memory until all of it is there, and written in one go: each visit to the disk is one to
    another thread, which costs more than its bytes.  Should it take long to come, the first checkpoint writes it.

    Args:
        store: the destination, claimed.
        resume: go on from what an earlier run left; otherwise that is thrown away.
    """

    #: Memory that cursors have received into and others can use again; of one thread, the engine's.
    _scratch: ClassVar[list[memoryview]] = []
    _most_in_memory: ClassVar[int] = _SMALL

    def __init__(self, store: Store, *, resume: bool = True) -> None:
        self._store = store
        self._resume = resume
        self._hasher: PrefixHasher | None = None
        self._small: _Small | None = None
        self._turn = asyncio.Lock()
        self._generation = 0

    async def begin(self) -> tuple[Identity | None, RangeSet]:
        if self._store.empty:
            return None, RangeSet()
        return await self._in_thread(self._begin)

    async def prepare(self, resource: Resource, claim: Claim | None) -> None:
        if self._store.empty and resource.size is not None and resource.size <= self._most_in_memory:
            # Prepared once more it begins its digest anew, and keeps its bytes.
            self._small = self._small or _Small(resource, claim)
            return
        await self._in_thread(self._prepare, resource)
        self._begin_hash(resource, claim)

    async def expect(self, resource: Resource, claim: Claim) -> None:
        if self._small is not None:
            self._small.claim = claim
            return
        await self._in_thread(self._end_hash)
        self._begin_hash(resource, claim)

    def cursor(self, position: int) -> Cursor:
        if self._small is not None:
            return _SmallCursor(self, self._small, position)
        view = self._scratch.pop() if self._scratch else memoryview(bytearray(_SCRATCH))
        return _FileCursor(self._store, position, view, self._scratch)

    def horizon(self) -> int | None:
        return None

    def restartable(self) -> bool:
        return True

    def writing(self) -> float:
        return self._store.writing

    def settle(self, received: RangeSet) -> None:
        if self._hasher is not None:
            self._hasher.advance(received.prefix())

    async def checkpoint(self, received: RangeSet) -> None:
        if self._small is not None and received:
            await self._spill(self._small)
        await self._in_thread(self._sync, received, self._generation)

    async def reset(self) -> None:
        self._generation += 1
        self._small = None
        await self._in_thread(self._clear)

    async def digest(self, size: int) -> str | None:
        if self._small is not None:
            return self._small.digest()
        hasher = self._hasher
        if hasher is None:
            return None
        try:
            return await threads.begin(hasher.finish, size)
        except OSError as error:
            raise StorageError.wrap(error, f"cannot read {self._store.path} back") from error

    async def commit(self, size: int, resource: Resource) -> None:
        await self._in_thread(self._commit, size, resource.validator.last_modified)

    async def close(self, *, keep: bool, error: BaseException | None) -> None:
        del error
        if self._store.claimed or self._hasher is not None:
            await self._in_thread(self._close, keep)

    async def _in_thread(self, do: Callable[..., T], *arguments: Any) -> T:
        """One thing at a time, and each to its end."""
        async with self._turn:
            return await threads.to_the_end(threads.begin(do, *arguments))

    async def _spill(self, small: _Small) -> None:
        """From now on it is on the disk."""
        await self._in_thread(self._prepare, small.resource)
        if self._small is small:
            self._store.write(0, small.view)
            self._small = None
            self._begin_hash(small.resource, small.claim)

    def _begin_hash(self, resource: Resource, claim: Claim | None) -> None:
        self._end_hash()
        if claim is not None:
            self._hasher = PrefixHasher(integrity.verifier(claim.digest, resource.size), self._store.read_into)

    def write(self, position: int, data: memoryview) -> None:
        """Bytes of a small file have come, into its memory: put them where the others are."""
        if self._small is None:
            self._store.write(position, data)

    # ── in a thread, one at a time ───────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> tuple[Identity | None, RangeSet]:
        if not self._resume:
            self._store.reset()
        return self._store.replay()

    def _prepare(self, resource: Resource) -> None:
        self._store.prepare(resource.size, resource.validator, resource.claims)

    def _sync(self, received: RangeSet, generation: int) -> None:
        # While it waited for its turn the file may have been begun anew: then `received` is of another version.
        if generation == self._generation:
            self._store.sync(received)

    def _clear(self) -> None:
        self._end_hash()
        self._store.reset()

    def _commit(self, size: int, last_modified: str | None) -> None:
        self._end_hash()
        if self._small is not None:
            self._prepare(self._small.resource)
            self._store.write(0, self._small.view)
        self._store.commit(size, last_modified)

    def _close(self, keep: bool) -> None:
        self._end_hash()
        try:
            if not keep:
                self._store.discard()
        finally:
            self._store.close()

    def _end_hash(self) -> None:
        if self._hasher is not None:
            self._hasher.close()
            self._hasher = None


class _Small:
    """A file that is kept in memory for now."""

    def __init__(self, resource: Resource, claim: Claim | None) -> None:
        self.resource, self.claim = resource, claim
        self.view = memoryview(bytearray(resource.size or 0))

    def digest(self) -> str | None:
        if self.claim is None:
            return None
        hasher = integrity.verifier(self.claim.digest, self.resource.size)
        hasher.update(self.view)
        return hasher.hexdigest()


class _SmallCursor:
    def __init__(self, sink: FileSink, small: _Small, position: int) -> None:
        self._sink, self._view, self._position = sink, small.view, position

    async def reserve(self, limit: int) -> memoryview:
        return self._view[self._position : self._position + limit]

    def advance(self, count: int) -> None:
        self._sink.write(self._position, self._view[self._position : self._position + count])
        self._position += count

    def close(self) -> None: ...


class _FileCursor:
    def __init__(self, store: Store, position: int, view: memoryview, pool: list[memoryview]) -> None:
        self._store, self._position, self._view, self._pool = store, position, view, pool

    async def reserve(self, limit: int) -> memoryview:
        return self._view[:limit]

    def advance(self, count: int) -> None:
        self._store.write(self._position, self._view[:count])
        self._position += count

    def close(self) -> None:
        self._pool.append(self._view)


class StreamSink:
    """A bounded window that a reader in another thread takes bytes from, in order.

    The last `HOLD_BACK` bytes stay back until everything is verified, so that a reader never sees the end of a file
    that is not whole and right.

    Args:
        capacity: bytes of the window.
        start: first offset that the reader gets; what comes before is thrown away.
        stop: first offset that the reader does not get; None for the end of the file.

    Attributes:
        verified: every byte has passed its check, though the reader may not have taken every one.
    """

    def __init__(self, capacity: int, start: int = 0, stop: int | None = None) -> None:
        self._start, self._stop = start, stop
        self._window = Window(max(capacity, 4 * HOLD_BACK), start=start)
        self._turn = threading.Condition()
        self._size: int | None = None
        self._given = self._frozen = False
        self.verified = False
        self._ended = False
        self._error: BaseException | None = None
        self._hasher: integrity.Hasher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: asyncio.Event | None = None
        self._released = 0

    # ── the engine's side ────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(self) -> tuple[Identity | None, RangeSet]:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        return None, RangeSet()

    async def prepare(self, resource: Resource, claim: Claim | None) -> None:
        with self._turn:
            self._size = resource.size if resource.size is None else min(resource.size, self._stop or resource.size)
            self._hasher = None if claim is None else integrity.verifier(claim.digest, resource.size)

    async def expect(self, resource: Resource, claim: Claim) -> None:
        del resource, claim
        raise AssertionError("a reader may have had bytes by now")

    def cursor(self, position: int) -> Cursor:
        return _WindowCursor(self, position)

    def horizon(self) -> int | None:
        return self._window.horizon

    def restartable(self) -> bool:
        with self._turn:
            # Who asks means to begin anew: until the reset no reader may get a byte of what will be thrown away.
            self._frozen = not self._given
            return self._frozen

    def writing(self) -> float:
        return 0.0

    def settle(self, received: RangeSet) -> None:
        del received

    async def checkpoint(self, received: RangeSet) -> None:
        del received

    async def reset(self) -> None:
        with self._turn:
            self._window = Window(self._window.capacity, start=self._start)
            self._size = self._hasher = None
            self._frozen = False

    async def digest(self, size: int) -> str | None:
        with self._turn:
            self._size = size
            self._turn.notify_all()
        # The reader hashes what it takes; what it may not take yet is hashed here.
        while self._window.head < self._limit():
            await self._wait_for_room()
        if self._hasher is None:
            return None
        for piece in self._window.pieces(size):
            self._hasher.update(piece)
        return self._hasher.hexdigest()

    async def commit(self, size: int, resource: Resource) -> None:
        del resource
        with self._turn:
            self._hasher = None
            self.verified = True
            self._turn.notify_all()
        while self._window.head < size:
            await self._wait_for_room()

    async def close(self, *, keep: bool, error: BaseException | None) -> None:
        del keep
        with self._turn:
            self._error, self._ended = error, True
            self._turn.notify_all()

    async def room(self, position: int, limit: int) -> memoryview:
        """Memory in the window for bytes at `position`, or of no use for those that nobody wants."""
        if position < self._start:
            return memoryview(bytearray(min(limit, self._start - position, _SCRATCH)))
        if self._stop is not None and position >= self._stop:
            return memoryview(bytearray(min(limit, _SCRATCH)))
        while True:
            with self._turn:
                if view := self._window.room(position, limit if self._stop is None else self._stop - position):
                    return view[:limit]
            await self._wait_for_room()

    def add(self, start: int, stop: int) -> None:
        """Bytes `[start, stop)` have arrived in the window's memory."""
        if start < self._start or start >= (self._stop or stop):
            return
        with self._turn:
            if self._window.add(start, stop):
                self._turn.notify_all()

    async def _wait_for_room(self) -> None:
        assert self._room is not None
        self._room.clear()
        await self._room.wait()

    def _made_room(self) -> None:
        if self._room is not None:
            self._room.set()

    def _limit(self) -> int:
        """First offset that the reader may not have yet."""
        if self.verified:
            return self._window.ready
        end = self._window.ready if self._size is None else self._size
        return min(self._window.ready, max(self._window.head, end - HOLD_BACK))

    # ── the reader's side ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, most: int, timeout: float | None = None) -> memoryview | None:
        """The next bytes in order, at most `most`, as a view that is good until `release`.

        Returns:
            An empty view if none came within `timeout` seconds, None at the verified end of the stream.

        Raises:
            BaseException: what ended the transfer, if it was not its proper end.
        """
        with self._turn:
            if not self._turn.wait_for(lambda: self._available() or self._ended, timeout):
                return memoryview(b"")
            if self._error is not None:
                raise self._error
            if not self._available():
                return None
            view = self._window.next(min(self._limit(), self._window.head + most))
            hasher = self._hasher
            self._given = True
        if hasher is not None:
            hasher.update(view)
        return view

    def release(self, count: int) -> None:
        """The bytes that `take` gave are used; all `count` of them."""
        with self._turn:
            self._window.consume(count)
            self._released += count
            # Waking the engine costs a system call: do it for a worthwhile piece, or when the end is waited for.
            if self._released < self._window.capacity // 16 and self._window.head < self._limit():
                return
            self._released = 0
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._made_room)

    def leave(self) -> None: ...

    def _available(self) -> bool:
        return not self._frozen and self._window.head < self._limit()


class _WindowCursor:
    def __init__(self, sink: StreamSink, position: int) -> None:
        self._sink, self._position = sink, position

    async def reserve(self, limit: int) -> memoryview:
        return await self._sink.room(self._position, limit)

    def advance(self, count: int) -> None:
        self._sink.add(self._position, self._position + count)
        self._position += count

    def close(self) -> None: ...
