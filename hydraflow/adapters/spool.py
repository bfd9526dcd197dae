"""A stream by way of a file: the transfer fills the file as it likes, and the reader follows behind what is in order.

The bytes that wait for the reader are the file's, in the page cache, so there is no window: a slow reader does not slow
the transfer down, and one that comes back another time begins with what is on disk.  The last `HOLD_BACK` bytes stay
back until everything is verified, as in a stream without a file.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from hydraflow.adapters.sinks import HOLD_BACK, FileSink
from hydraflow.adapters.store import Store
from hydraflow.core.journal import Identity
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DestinationBusyError, StorageError
from hydraflow.models import Claim, Resource

__all__ = ["Spool", "SpoolSink", "reopen"]

_PIECE = 1 << 20
#: There is room for all; but, unlike with a file, there is a reader who cannot give back what he has.
_BOUNDLESS = 1 << 62


class Spool:
    """The reader's end of a file that grows.

    Attributes:
        verified: every byte has passed its check, though the reader may not have taken every one.
        given: the reader has had a byte.
    """

    def __init__(self) -> None:
        self.verified = self.given = False
        self._turn = threading.Condition()
        self._fd = -1
        self._size: int | None = None
        self._head = self._limit = 0
        self._frozen = self._ended = False
        self._error: BaseException | None = None
        self._buffer = memoryview(bytearray(_PIECE))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read = asyncio.Event()

    # ── the engine's side ────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, fd: int, size: int | None) -> None:
        """Read from this file, which becomes the spool's own to close; `size` bytes, if that is known."""
        with self._turn:
            self._close()
            self._fd, self._size, self._frozen = fd, size, False

    def allow(self, prefix: int) -> None:
        """So many bytes are in the file, without a gap."""
        with self._turn:
            end = prefix if self._size is None else self._size
            self._limit = max(self._limit, min(prefix, end - HOLD_BACK))
            self._turn.notify_all()

    def freeze(self) -> bool:
        """Nothing has been given, and nothing will be until `open`."""
        with self._turn:
            self._frozen = not self.given
            return self._frozen

    def reset(self) -> None:
        """The file is thrown away."""
        with self._turn:
            self._limit = 0
            self._close()

    async def finish(self, size: int) -> None:
        """All `size` bytes are verified; returns when the reader has them."""
        self._loop = asyncio.get_running_loop()
        with self._turn:
            self._size = self._limit = size
            self.verified = True
            self._turn.notify_all()
        while self._head < size:
            self._read.clear()
            await self._read.wait()

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come."""
        with self._turn:
            self._error, self._ended = error, True
            self._turn.notify_all()

    # ── the reader's side ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, most: int, timeout: float | None = None) -> memoryview | None:
        """See `StreamSink.take`.

        Raises:
            StorageError: the file cannot be read back.
            BaseException: what ended the transfer, if it was not its proper end.
        """
        with self._turn:
            if not self._turn.wait_for(lambda: self._available() or self._ended, timeout):
                return memoryview(b"")
            if self._error is not None:
                raise self._error
            if not self._available():
                return None
            self.given = True
            view = self._buffer[: min(most, self._limit - self._head)]
        try:
            count = os.preadv(self._fd, [view], self._head)
        except OSError as error:
            raise StorageError.wrap(error, "cannot read the stream back") from error
        if not count:
            raise StorageError("the file is shorter than what was written to it")
        return view[:count]

    def release(self, count: int) -> None:
        """See `StreamSink.release`."""
        self._head += count
        if self.verified and self._head == self._size and self._loop is not None:
            self._loop.call_soon_threadsafe(self._read.set)

    def leave(self) -> None:
        """The reader has gone; called when the transfer has ended."""
        with self._turn:
            self._close()

    def _available(self) -> bool:
        return not self._frozen and self._fd >= 0 and self._head < self._limit

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class SpoolSink(FileSink):
    """A file on disk, with a checkpoint beside it, and a reader behind it.

    Args:
        store: the destination.
        spool: the reader's end.
        resume: go on from what an earlier run left; otherwise that is thrown away.
    """

    _most_in_memory = -1  # the reader follows on the disk

    def __init__(self, store: Store, spool: Spool, *, resume: bool = True) -> None:
        super().__init__(store, resume=resume)
        self._spool = spool
        self._prepared = False

    async def begin(self) -> tuple[Identity | None, RangeSet]:
        identity, durable = await super().begin()
        if self._spool.given:
            raise DestinationBusyError(f"another process has taken over {self._store.path}, and the reader has begun")
        if identity is not None and not identity.validator.strong:
            # A digest would tell in the end whether these bytes are of this version; that is too late for a reader.
            await super().reset()
            return None, RangeSet()
        return identity, durable

    async def prepare(self, resource: Resource, claim: Claim | None) -> None:
        await super().prepare(resource, claim)
        self._spool.open(self._store.share(), resource.size)
        self._prepared = True

    def horizon(self) -> int | None:
        return _BOUNDLESS

    def restartable(self) -> bool:
        return self._spool.freeze()

    def settle(self, received: RangeSet) -> None:
        super().settle(received)
        if self._prepared:
            self._spool.allow(received.prefix())

    async def reset(self) -> None:
        self._prepared = False
        self._spool.reset()
        await super().reset()

    async def commit(self, size: int, resource: Resource) -> None:
        await super().commit(size, resource)
        await self._spool.finish(size)


def reopen(path: Path) -> int:
    """A file that is there already, for a reader.

    Raises:
        StorageError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}") from error
