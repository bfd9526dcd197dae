"""Streams: transfers that a thread of the caller's reads in order, one URL or several that follow each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from hydraflow import delivery, runtime
from hydraflow.adapters.decoding import DecodedSource
from hydraflow.adapters.pipes import Writer
from hydraflow.adapters.sinks import Source, StreamSink
from hydraflow.adapters.spool import Spool
from hydraflow.core import urls
from hydraflow.engine import Order
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import FetchResult
from hydraflow.settings import Settings

__all__ = ["Inflow", "Keeping", "OnOutcome", "pour"]

OnOutcome = Callable[[str, FetchResult | HydraError], None]

#: Transfers under way at a time; they share the window, and the last one waits for its turn.
_AT_ONCE = 2
_SLICE = 0.1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Keeping:
    """A stream is kept: each order's file goes to the path of its place.

    `resume` goes on from what an earlier run left, and `overwrite` replaces another file, as in a fetch.
    """

    paths: Sequence[Path]
    resume: bool = True
    overwrite: bool = False


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
