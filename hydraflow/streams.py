"""Streams: transfers that a thread of the caller's reads in order, one URL or several that follow each other."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hydraflow import delivery, runtime
from hydraflow.adapters.decoding import DecodedSource
from hydraflow.adapters.pipes import Writer
from hydraflow.adapters.sinks import Source, StreamSink
from hydraflow.adapters.spool import Spool
from hydraflow.core import urls
from hydraflow.engine import Order
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import FetchResult
from hydraflow.ordering import Keeping
from hydraflow.settings import Settings

__all__ = ["AsyncByteStream", "ByteStream", "Inflow", "OnOutcome", "pour"]

OnOutcome = Callable[[str, FetchResult | HydraError], None]

#: Transfers under way at a time; they share the window, and the last one waits for its turn.
_AT_ONCE = 2
_SLICE = 0.1
_PIECE = 1 << 20


class Inflow:
    """What some orders bring, as one row of bytes.

    The next transfer is begun when the first bytes of the one before have come, so that no time passes between two.

    Args:
        settings: of the engine.
        orders: what to bring, in order.
        window: bytes that may wait for the reader, in all; default: those of the settings.
        keeping: write files too, and read from them what is there already.
        decompress: give what is in the files, which are compressed; see `adapters.decoding`.
        on_outcome: called with the name and the result of each transfer that has been read to its end.

    Attributes:
        results: of the transfers that have been read to their end.
    """

    def __init__(
        self,
        settings: Settings,
        orders: Sequence[Order],
        window: int | None = None,
        keeping: Keeping | None = None,
        decompress: bool = False,
        on_outcome: OnOutcome | None = None,
    ) -> None:
        if not orders:
            raise ConfigurationError("no URL is given")
        self.results: list[FetchResult] = []
        self._count = len(orders)
        self._lent = False
        self._settings, self._on_outcome = settings, on_outcome
        self._waiting = deque(orders)
        self._keeping, self._decompress = keeping, decompress
        self._capacity = (window or settings.window) // min(_AT_ONCE, len(orders))
        self._running: deque[tuple[Order, Source, runtime.Call[FetchResult]]] = deque()
        self._begin()

    def _begin(self) -> None:
        number, order = self._count - len(self._waiting), self._waiting.popleft()
        if self._keeping is None:
            self._stream(order)
        else:
            self._spool(order, self._keeping.paths[number], self._keeping)

    def _stream(self, order: Order) -> None:
        sink = StreamSink(self._capacity, order.start, order.stop)
        call = runtime.start(self._settings, lambda engine: delivery.to_reader(engine, order, sink))
        self._append(order, sink, call)

    def _spool(self, order: Order, path: Path, how: Keeping) -> None:
        spool = Spool()
        call = runtime.start(
            self._settings,
            lambda engine: delivery.to_both(engine, order, path, spool, resume=how.resume, overwrite=how.overwrite),
        )
        self._append(order, spool, call)

    def _append(self, order: Order, source: Source, call: runtime.Call[FetchResult]) -> None:
        if self._decompress:
            source = DecodedSource(source, urls.redact(order.url))
        self._running.append((order, source, call))

    def take(self, most: int, timeout: float = _SLICE) -> memoryview | None:
        """The next bytes, at most `most`, good until `release`.

        Returns:
            An empty view if none came within `timeout` seconds, None at the verified end of the last transfer.

        Raises:
            HydraError: what ended a transfer.
        """
        self._lent = False
        while self._running:
            order, sink, call = self._running[0]
            view = sink.take(most, timeout)
            if view and self._waiting and len(self._running) < _AT_ONCE:
                self._begin()
            if view is not None:
                if not view and call.done:
                    call.wait()  # raises what ended it, if that has not come to the source
                    continue
                self._lent = bool(view)
                return view
            self.results.append(call.wait())
            self._running.popleft()
            sink.leave()
            if self._waiting and not self._running:
                self._begin()
            self.tell(order.name, self.results[-1])
            if self._running:
                return memoryview(b"")
        if len(self.results) < self._count:
            raise ValueError("the stream is closed")  # by another thread: that is not its end
        return None

    def tell(self, name: str, outcome: FetchResult | HydraError) -> None:
        """Let whoever wants to know it know how a transfer ended."""
        if self._on_outcome is not None:
            self._on_outcome(name, outcome)

    @property
    def name(self) -> str:
        """Of the file whose bytes come next; empty at the end."""
        return self._running[0][0].name if self._running else ""

    def release(self, count: int) -> None:
        """The bytes that `take` gave are used; all `count` of them."""
        if self._running:  # nobody has closed it meanwhile
            self._running[0][1].release(count)

    @property
    def broken(self) -> bool:
        """While bytes are taken and not released: the transfer that they are of has failed."""
        return self._lent and self._running[0][2].done and not self._running[0][1].verified

    @property
    def verified(self) -> bool:
        """Every byte has passed its check, though not every one may have been taken."""
        return len(self.results) + sum(sink.verified for _, sink, _ in self._running) == self._count

    def close(self) -> None:
        """End what has not ended; no thread, socket or file of it stays."""
        self._waiting.clear()
        with ExitStack() as ends:
            while self._running:
                _, sink, call = self._running.popleft()
                call.cancel()
                ends.callback(sink.leave)
                ends.callback(_wait, call)  # first


def _wait(call: runtime.Call[FetchResult]) -> None:
    with suppress(HydraError, asyncio.CancelledError):
        call.wait()


def pour(flow: Inflow, writer: Writer, stopped: Callable[[], bool]) -> None:
    """Move everything to the writer, until the verified end.

    Raises:
        HydraError: what ended a transfer, or the reader's failure.
        CancelledError: `stopped()` is true.
    """
    name, ended = flow.name, 0
    try:
        while (view := flow.take(_PIECE)) is not None:
            if len(flow.results) > ended:  # what comes next may fail, and this has not
                ended = len(flow.results)
                writer.flush()
            if view:
                writer.write(view)
            else:
                writer.check()
            if stopped():
                raise asyncio.CancelledError
            if view:
                flow.release(len(view))
        writer.finish()
        if stopped():
            raise asyncio.CancelledError
    except HydraError as error:
        flow.tell(flow.name or name, error)
        raise


# ── for callers ──────────────────────────────────────────────────────────────────────────────────────────────────────


class ByteStream(io.RawIOBase):
    """Bytes in order, fetched over several connections; a readable binary file, and an iterator of chunks.

    It ends only after everything is verified: a stream that breaks or is wrong raises, it never just ends.
    `io.BufferedReader(stream)`, `gzip.open(stream)` and `for chunk in stream` all work.
    """

    def __init__(
        self,
        settings: Settings,
        *orders: Order,
        keeping: Keeping | None = None,
        decompress: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._stopped = stopped
        self._flow = Inflow(settings, orders, keeping=keeping, decompress=decompress)
        self._ended = self._given = self._verified = False
        self.name = orders[0].name

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end; of several URLs, what happened to the last."""
        return self._flow.results[-1] if self._ended else None

    @property
    def results(self) -> list[FetchResult]:
        """What happened to each URL that has been read to its end."""
        return list(self._flow.results)

    @property
    def left(self) -> bool:
        """Bytes have been read, and not all has been verified: closed now, it was left in the middle."""
        return self._given and not (self._verified or self._flow.verified)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Put the next bytes into `buffer`; 0 at the verified end.

        Raises:
            HydraError: what ended the stream early.
        """
        target = memoryview(buffer).cast("B")
        view = self._take(len(target)) if len(target) else None
        if view is None:
            return 0
        target[: len(view)] = view
        self._flow.release(len(view))
        return len(view)

    def __iter__(self) -> Iterator[bytes]:
        """Chunks, as they come; not lines, since the bytes are rarely text."""
        while chunk := self.chunk():
            yield chunk

    def chunk(self, most: int = _PIECE) -> bytes:
        """The next bytes, at least one and at most `most`; empty at the verified end.

        Raises:
            ValueError: `most` is less than 1: of no bytes nobody could tell whether they are the end.
        """
        _check_most(most)
        view = self._take(most)
        if view is None:
            return b""
        data = bytes(view)
        self._flow.release(len(data))
        return data

    def _take(self, most: int) -> memoryview | None:
        if self.closed:
            raise ValueError("the stream is closed")
        while not self._ended:
            if self._stopped():
                raise asyncio.CancelledError
            view = self._flow.take(most)
            if view:
                self._given = True
                return view
            self._ended = view is None
        return None

    def close(self) -> None:
        """End the transfer, if it has not ended; no thread, socket or file of it stays."""
        try:
            if not self.closed:
                self._verified = self._flow.verified
                self._flow.close()
        finally:
            super().close()


def _check_most(most: int) -> None:
    if most < 1:
        raise ValueError(f"a chunk has at least 1 byte, not {most}")


class AsyncByteStream:
    """The awaitable twin of `ByteStream`: `async for chunk in stream`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reading: asyncio.Future[bytes] | None = None
        self._left = b""
        self._turn = asyncio.Lock()
        self.name = stream.name

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end; of several URLs, what happened to the last."""
        return self._stream.result

    @property
    def results(self) -> list[FetchResult]:
        """What happened to each URL that has been read to its end."""
        return self._stream.results

    @property
    def left(self) -> bool:
        """Bytes have been read, and not all has been verified."""
        return self._stream.left

    async def read(self, most: int = _PIECE) -> bytes:
        """The next bytes, at least one and at most `most`; empty at the verified end.

        Cancelling it, as a timeout does, loses nothing: what it would have given comes with the next one.

        Raises:
            ValueError: `most` is less than 1.
        """
        _check_most(most)
        async with self._turn:
            data = self._left or await self._next(most)
            self._left = data[most:]
            return data[:most]

    async def _next(self, most: int) -> bytes:
        """A chunk; the thread that gets it cannot be cancelled, so it is waited for again where somebody was."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._stream.chunk, most))
        await asyncio.wait({self._reading})
        reading, self._reading = self._reading, None
        return reading.result()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def aclose(self) -> None:
        """End the transfer, if it has not ended."""
        await asyncio.to_thread(self._stream.close)
        self._left = b""
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)  # nobody wants to know
