"""The public functions: sync ones, their awaitable twins, and `Hydra` for many files.

All of them work the same from a script, a thread, a notebook or inside a running event loop: the work is done in the
engine thread (see `runtime`).
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hydraflow import delivery, runtime
from hydraflow.adapters.pipes import DescriptorWriter, FifoWriter, Writer, feed
from hydraflow.adapters.sinks import StreamSink
from hydraflow.core import urls
from hydraflow.engine import Engine, Order
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import Claim, Digest, DigestSource, FetchResult, Progress, Resource
from hydraflow.settings import Settings, load

__all__ = ["AsyncByteStream", "ByteStream", "Hydra", "afetch", "apipe", "aprobe", "astream", "fetch", "fetch_all",
           "pipe", "probe", "stream"]  # fmt: skip

OnProgress = Callable[[Progress], None]
OnOutcome = Callable[[str, FetchResult | HydraError], None]
_CHUNK = 1 << 20
_SLICE = 0.1


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(
    url: str,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """Fetch a URL to a file, over several connections, going on from where an earlier run ended.

    While another process, on this host or another, fetches the same URL to `dest`, this call waits for its result and
    checks it (`ALREADY_PRESENT`), or takes over should it end early.

    Args:
        url: http or https; `#sha256=HEX`, `#md5=HEX`, `#size=N` and `#mirror=URL` may stand behind it, joined by `&`.
        dest: a file; or a directory, if it exists as one or ends with a slash, for the URL's own file name in it.
            Default: the directory of the settings (`download/`).
        digest: `ALGORITHM:HEX` that the file must have.
        size: bytes that the file must have.
        mirrors: other URLs of the same file, used beside the first or in its stead; `#mirror=URL` names one, too.
        headers: added to every request to this origin, never sent to another one.
        resume: go on from the checkpoint of an earlier run.
        overwrite: replace another file at `dest`.
        on_progress: called at most ten times a second, in the engine's thread.
        settings: default: read from the environment.

    Returns:
        What happened, and what the verification rests on; its `path` is whole and verified.

    Raises:
        DestinationBusyError: another process fetches another URL to `dest`, shows no sign of life, or takes longer than
            `settings.busy_timeout`.
        HydraError: the member of the tree in `hydraflow.errors` says what went wrong; nothing is left at `dest`.
    """
    settings = settings or load()
    order = _order(url, digest, size, headers, on_progress, mirrors)
    path = _destination(order, dest, settings)
    return runtime.start(settings, _filing(order, path, resume=resume, overwrite=overwrite)).wait()


async def afetch(
    url: str,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """The same as `fetch`, awaitable; cancelling it flushes the checkpoint first."""
    settings = settings or load()
    order = _order(url, digest, size, headers, on_progress, mirrors)
    path = _destination(order, dest, settings)
    return await runtime.start(settings, _filing(order, path, resume=resume, overwrite=overwrite)).join()


def _filing(
    order: Order, path: Path, *, resume: bool, overwrite: bool
) -> Callable[[Engine], Coroutine[Any, Any, FetchResult]]:
    return lambda engine: delivery.to_file(engine, order, path, resume=resume, overwrite=overwrite)


# ── probes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def probe(url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None) -> Resource:
    """Ask what is at a URL, with one ranged GET whose body is not read.

    Raises:
        HydraError: the server refuses, or cannot be reached.
    """
    order = _order(url, None, None, headers, None)
    return runtime.start(settings or load(), lambda engine: engine.probe(order)).wait()


async def aprobe(url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None) -> Resource:
    """The same as `probe`, awaitable."""
    order = _order(url, None, None, headers, None)
    return await runtime.start(settings or load(), lambda engine: engine.probe(order)).join()


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ByteStream(io.RawIOBase):
    """Bytes in order, fetched over several connections; a readable binary file, and an iterator of chunks.

    It ends only after everything is verified: a stream that breaks or is wrong raises, it never just ends.
    `io.BufferedReader(stream)`, `gzip.open(stream)` and `for chunk in stream` all work.
    """

    def __init__(self, settings: Settings, order: Order) -> None:
        super().__init__()
        self.name = order.name
        self._sink = StreamSink(settings.window)
        self._call = runtime.start(settings, lambda engine: delivery.to_reader(engine, order, self._sink))
        self._result: FetchResult | None = None

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end."""
        return self._result

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
        self._sink.release(len(view))
        return len(view)

    def __iter__(self) -> Iterator[bytes]:
        """Chunks, as they come; not lines, since the bytes are rarely text."""
        while chunk := self.chunk():
            yield chunk

    def chunk(self, most: int = _CHUNK) -> bytes:
        """The next bytes, at most `most`; empty at the verified end."""
        view = self._take(most)
        if view is None:
            return b""
        data = bytes(view)
        self._sink.release(len(data))
        return data

    def _take(self, most: int) -> memoryview | None:
        if self.closed:
            raise ValueError("the stream is closed")
        if self._result is not None:
            return None
        while not (view := self._sink.take(most, _SLICE)):
            if view is None or self._call.done:
                self._result = self._call.wait()
                return None
        return view

    def close(self) -> None:
        """End the transfer, if it has not ended; no thread, socket or file of it stays."""
        if not self.closed and self._result is None:
            self._call.cancel()
            try:
                with suppress(HydraError, asyncio.CancelledError):
                    self._call.wait()
            finally:
                super().close()
        super().close()


class AsyncByteStream:
    """The awaitable twin of `ByteStream`: `async for chunk in stream`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.name = stream.name

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end."""
        return self._stream.result

    async def read(self, most: int = _CHUNK) -> bytes:
        """The next bytes, at most `most`; empty at the verified end."""
        return await asyncio.to_thread(self._stream.chunk, most)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def aclose(self) -> None:
        """End the transfer, if it has not ended."""
        await asyncio.to_thread(self._stream.close)


def stream(
    url: str,
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> AbstractContextManager[ByteStream]:
    """Open a URL as a stream of bytes in order; nothing is written to disk.

    Use it in a `with` statement; leaving early ends the transfer.  For the arguments and errors see `fetch`.
    """
    return _open_stream(settings or load(), _order(url, digest, size, headers, on_progress, mirrors))


@contextmanager
def _open_stream(settings: Settings, order: Order) -> Iterator[ByteStream]:
    opened = ByteStream(settings, order)
    try:
        yield opened
    finally:
        opened.close()


def astream(
    url: str,
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> AbstractAsyncContextManager[AsyncByteStream]:
    """The same as `stream`, for `async with` and `async for`."""
    return _aopen_stream(settings or load(), _order(url, digest, size, headers, on_progress, mirrors))


@asynccontextmanager
async def _aopen_stream(settings: Settings, order: Order) -> AsyncIterator[AsyncByteStream]:
    opened = AsyncByteStream(ByteStream(settings, order))
    try:
        yield opened
    finally:
        await opened.aclose()


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pipe(
    url: str,
    target: int | str | os.PathLike[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """Stream a URL into a file descriptor, or into a named pipe that is made if it is not there.

    The last 64 KiB follow only after everything is verified.

    Raises:
        ReaderGoneError: the reader closed its end early.
        NoReaderError: nobody opened the named pipe in time.
        HydraError: see `fetch`.
    """
    return _pipe(settings or load(), _order(url, digest, size, headers, on_progress, mirrors), target, lambda: False)


async def apipe(
    url: str,
    target: int | str | os.PathLike[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """The same as `pipe`, awaitable."""
    order = _order(url, digest, size, headers, on_progress, mirrors)
    policies, stopped = settings or load(), threading.Event()
    return await runtime.in_thread(lambda: _pipe(policies, order, target, stopped.is_set), stopped.set)


def _pipe(
    settings: Settings, order: Order, target: int | str | os.PathLike[str], stopped: Callable[[], bool]
) -> FetchResult:
    complete = False
    call: runtime.Call[FetchResult] | None = None

    def ended() -> bool:
        """Also in the middle of a write that no reader takes."""
        return stopped() or (call is not None and call.done and not complete)

    writer: Writer
    if isinstance(target, int):
        writer = DescriptorWriter(target, ended)
    else:
        writer = FifoWriter(Path(target), settings.open_timeout, ended)
    try:
        sink = StreamSink(settings.window)
        call = runtime.start(settings, lambda engine: delivery.to_reader(engine, order, sink))
        feed(sink, writer, ended)
        if stopped():
            raise asyncio.CancelledError
        result = call.wait()
        complete = True
    except BaseException:
        if call is not None:
            call.cancel()
            with suppress(HydraError, asyncio.CancelledError):
                call.wait()
        raise
    finally:
        writer.close(complete=complete)
    return result


# ── many ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hydra:
    """Many files with one set of connections: `async with Hydra() as hydra: await hydra.fetch_all(urls, "data/")`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or load()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def fetch_all(
        self,
        urls: Iterable[str],
        dest_dir: str | os.PathLike[str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        resume: bool = True,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[FetchResult]:
        """Fetch all URLs into one directory; results in their order.

        Raises:
            HydraError: of the first URL that failed, after all were tried.
        """
        outcomes = await self.gather(
            urls, dest_dir, headers=headers, resume=resume, overwrite=overwrite, on_progress=on_progress
        )
        for outcome in outcomes:
            if isinstance(outcome, HydraError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, FetchResult)]

    async def gather(
        self,
        urls: Iterable[str],
        dest_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> list[FetchResult | HydraError]:
        """The same as `fetch_all`, with the error in the place of a result that could not be had.

        Raises:
            ConfigurationError: a URL is wrong, or two would be written to one file; nothing was transferred.
        """
        return await _many(urls, dest_dir, self._settings, **options).join()

    async def stream_all(
        self, urls: Iterable[str], *, headers: Mapping[str, str] | None = None, ahead: int = 2
    ) -> AsyncIterator[tuple[str, AsyncByteStream]]:
        """Streams in the order of the URLs; up to `ahead` of them are fetched at a time within one `--buffer`.

        Yields:
            The file's name, and its stream, which must be read before the next one is asked for.

        Raises:
            ConfigurationError: a URL is wrong, or `ahead` is less than 1.
        """
        if ahead < 1:
            raise ConfigurationError(f"ahead must be at least 1, not {ahead}")
        settings = dataclasses.replace(self._settings, buffer=self._settings.window // ahead)
        waiting = collections.deque(_order(url, None, None, headers, None) for url in urls)
        running: collections.deque[AsyncByteStream] = collections.deque()
        try:
            while waiting or running:
                while waiting and len(running) < ahead:
                    running.append(AsyncByteStream(ByteStream(settings, waiting.popleft())))
                yield running[0].name, running[0]
                await running.popleft().aclose()
        finally:
            for left in running:
                await left.aclose()


def fetch_all(
    urls: Iterable[str],
    dest_dir: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    **options: Any,
) -> list[FetchResult | HydraError]:
    """Fetch many URLs into one directory, for callers without an event loop.

    Args:
        urls: each may carry its own digest and size in the fragment.
        dest_dir: default: the directory of the settings.
        settings: default: read from the environment.
        options: as for `fetch`; `on_outcome(name, result_or_error)` is called in the engine's thread as each file ends.

    Returns:
        For each URL, in order, its result, or the error in its place.

    Raises:
        ConfigurationError: a URL is wrong, or two would be written to one file; nothing was transferred.
    """
    return _many(urls, dest_dir, settings or load(), **options).wait()


def _many(
    urls: Iterable[str],
    dest_dir: str | os.PathLike[str] | None,
    settings: Settings,
    *,
    digest: str | Digest | None = None,
    mirrors: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    on_outcome: OnOutcome | None = None,
) -> runtime.Call[list[FetchResult | HydraError]]:
    directory = Path(dest_dir) if dest_dir is not None else settings.output
    others = tuple(mirrors)
    orders = [_order(url, digest, None, headers, on_progress, others) for url in urls]
    if others and len(orders) > 1:
        raise ConfigurationError(
            "mirrors are of one URL, and there are several", hint="Put #mirror=URL behind each of them."
        )
    _check_names(orders)

    async def work(engine: Engine) -> list[FetchResult | HydraError]:
        places = asyncio.Semaphore(settings.crowd + settings.width)

        async def one(order: Order) -> FetchResult | HydraError:
            async with places:
                outcome = await _outcome(engine, order, directory / order.name, resume=resume, overwrite=overwrite)
            if on_outcome is not None:
                on_outcome(order.name, outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(order)) for order in orders]
        return [task.result() for task in tasks]

    return runtime.start(settings, work)


async def _outcome(
    engine: Engine, order: Order, path: Path, *, resume: bool, overwrite: bool
) -> FetchResult | HydraError:
    try:
        return await delivery.to_file(engine, order, path, resume=resume, overwrite=overwrite)
    except HydraError as error:
        return error


# ── what the caller means ────────────────────────────────────────────────────────────────────────────────────────────


def _order(
    url: str,
    digest: str | Digest | None,
    size: int | None,
    headers: Mapping[str, str] | None,
    on_progress: OnProgress | None,
    mirrors: Iterable[str] = (),
) -> Order:
    target = urls.parse(url)
    claim = None
    if digest is not None:
        claim = Claim(_digest(digest), DigestSource.CALLER)
    elif target.digest is not None:
        claim = Claim(target.digest, DigestSource.FRAGMENT)
    return Order(
        url=target.url,
        name=urls.file_name(target.url),
        claim=claim,
        size=target.size if size is None else size,
        headers=_checked_headers(headers or {}),
        on_progress=on_progress,
        mirrors=_mirrors(target, mirrors),
    )


def _mirrors(target: urls.Target, given: Iterable[str]) -> tuple[str, ...]:
    """Every other URL once, in the caller's order, those of the fragment last."""
    named = [*given, *(value for name, value in target.options if name == "mirror")]
    parsed = dict.fromkeys(urls.parse(mirror).url for mirror in named)
    return tuple(url for url in parsed if url != target.url)


def _digest(value: str | Digest) -> Digest:
    if isinstance(value, Digest):
        return value
    try:
        return Digest.parse(value)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in ("range", "if-range", "host", "content-length", "transfer-encoding", "accept-encoding"):
            raise ConfigurationError(f"the header {name} is hydraflow's own to set")
        if not (name + value).isprintable() or not (name + value).isascii() or not name or set(name) & set(" :\t"):
            raise ConfigurationError(f"not a valid header: {name!r}")
    return dict(headers)


def _destination(order: Order, dest: str | os.PathLike[str] | None, settings: Settings) -> Path:
    if dest is None:
        return settings.output / order.name
    text = os.fspath(dest)
    if "\0" in text:
        raise ConfigurationError("the destination has a NUL character in it")
    is_directory = text.endswith(os.sep) or os.path.isdir(text)  # noqa: PTH112 - Path's raises where a name is too long
    return Path(text) / order.name if is_directory else Path(text)


def _check_names(orders: Sequence[Order]) -> None:
    seen: dict[str, Order] = {}
    for order in orders:
        other = seen.setdefault(order.name, order)
        if other is not order and other != order:
            raise ConfigurationError(
                f"two URLs would be written to one file, {order.name}: "
                f"{urls.redact(other.url)} and {urls.redact(order.url)}",
                hint="Fetch them in two commands with different --output.",
            )
        if other is not order:
            raise ConfigurationError(f"the URL {urls.redact(order.url)} is given twice")
