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
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hydraflow import delivery, runtime
from hydraflow.adapters import netrc
from hydraflow.adapters.pipes import DescriptorWriter, FifoWriter, Writer
from hydraflow.core import names, urls
from hydraflow.engine import Engine, Order
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import Claim, Digest, DigestSource, FetchResult, Progress, Resource
from hydraflow.settings import Settings, load
from hydraflow.streams import Inflow, Keeping, OnOutcome, pour

if TYPE_CHECKING:
    from hydraflow.core.manifests import Entry

__all__ = ["AsyncByteStream", "ByteStream", "Hydra", "afetch", "apipe", "aprobe", "astream", "fetch", "fetch_all",
           "pipe", "pipe_all", "probe", "stream"]  # fmt: skip

OnProgress = Callable[[Progress], None]
_CHUNK = 1 << 20
_APART = "Fetch them in two commands with different directories."


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
    stopped: Callable[[], bool] = lambda: False,
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
        stopped: tells when to end it all, for callers that nothing can be thrown at; asked in this thread.
        settings: default: read from the environment.

    Returns:
        What happened, and what the verification rests on; its `path` is whole and verified.

    Raises:
        DestinationBusyError: another process fetches another URL to `dest`, shows no sign of life, or takes longer than
            `settings.busy_timeout`.
        HydraError: the member of the tree in `hydraflow.errors` says what went wrong; nothing is left at `dest`.
        CancelledError: `stopped()` is true; the checkpoint is kept.
    """
    settings = settings or load()
    order = _order(url, digest, size, headers, on_progress, mirrors)
    path = _destination(order, dest, settings)
    filing = _filing(order, path, named=_is_named(order, dest), resume=resume, overwrite=overwrite)
    return runtime.start(settings, filing).wait(stopped)


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
    filing = _filing(order, path, named=_is_named(order, dest), resume=resume, overwrite=overwrite)
    return await runtime.start(settings, filing).join()


def _filing(
    order: Order, path: Path, *, named: bool, resume: bool, overwrite: bool
) -> Callable[[Engine], Coroutine[Any, Any, FetchResult]]:
    async def work(engine: Engine) -> FetchResult:
        there = path if named else path.with_name(await engine.name(order))
        return await delivery.to_file(engine, order, there, resume=resume, overwrite=overwrite)

    return work


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
        self._ended = False
        self.name = orders[0].name

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end; of several URLs, what happened to the last."""
        return self._flow.results[-1] if self._ended else None

    @property
    def results(self) -> list[FetchResult]:
        """What happened to each URL that has been read to its end."""
        return list(self._flow.results)

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

    def chunk(self, most: int = _CHUNK) -> bytes:
        """The next bytes, at most `most`; empty at the verified end."""
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
                return view
            self._ended = view is None
        return None

    def close(self) -> None:
        """End the transfer, if it has not ended; no thread, socket or file of it stays."""
        try:
            if not self.closed:
                self._flow.close()
        finally:
            super().close()


class AsyncByteStream:
    """The awaitable twin of `ByteStream`: `async for chunk in stream`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.name = stream.name

    @property
    def result(self) -> FetchResult | None:
        """What happened, once the stream has been read to its end; of several URLs, what happened to the last."""
        return self._stream.result

    @property
    def results(self) -> list[FetchResult]:
        """What happened to each URL that has been read to its end."""
        return self._stream.results

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
    url: str | Sequence[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    stopped: Callable[[], bool] = lambda: False,
    settings: Settings | None = None,
) -> AbstractContextManager[ByteStream]:
    """Open a URL as a stream of bytes in order; nothing is written to disk.

    Use it in a `with` statement; leaving early ends the transfer.  For the arguments and errors see `fetch`; `stopped`
    is asked while a reader waits.  Several URLs follow each other in one stream, each verified before its end is given;
    the next one is begun while one is read.

    `start` and `stop` choose the bytes from offset `start` up to, not including, `stop`.  Then no digest is checked,
    only that all these bytes are of one version of the file: the verdict is `Verification.SIZE`.  A range that begins
    behind the last byte is a `RequestError`; one that reaches beyond it is cut there.

    `spool` names a file, or a directory for files of the URLs' own names, that is written as well: as by `fetch`, with
    a checkpoint, so that a later stream or fetch reads from disk what is there and fetches the rest.  A slow reader
    does not slow that transfer down, and the file is there as soon as it is whole and verified.

    `decompress` gives what is in a file that gzip (also of many members, and bgzip), Zstandard or xz has compressed;
    with the extra `hydraflow-io[decompress]`.  Digests, sizes and `spool` stay those of the compressed file.
    """
    policies = settings or load()
    wanted = orders(
        url,
        digest=digest,
        size=size,
        mirrors=mirrors,
        start=start,
        stop=stop,
        headers=headers,
        on_progress=on_progress,
    )
    return _open_stream(policies, wanted, keep(wanted, spool, policies), decompress=decompress, stopped=stopped)


@contextmanager
def _open_stream(
    settings: Settings,
    orders: Sequence[Order],
    keeping: Keeping | None,
    *,
    decompress: bool,
    stopped: Callable[[], bool],
) -> Iterator[ByteStream]:
    opened = ByteStream(settings, *orders, keeping=keeping, decompress=decompress, stopped=stopped)
    try:
        yield opened
    finally:
        opened.close()


def astream(
    url: str | Sequence[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> AbstractAsyncContextManager[AsyncByteStream]:
    """The same as `stream`, for `async with` and `async for`."""
    policies = settings or load()
    wanted = orders(
        url,
        digest=digest,
        size=size,
        mirrors=mirrors,
        start=start,
        stop=stop,
        headers=headers,
        on_progress=on_progress,
    )
    return _aopen_stream(policies, wanted, keep(wanted, spool, policies), decompress=decompress)


@asynccontextmanager
async def _aopen_stream(
    settings: Settings, orders: Sequence[Order], keeping: Keeping | None, *, decompress: bool
) -> AsyncIterator[AsyncByteStream]:
    opened = AsyncByteStream(ByteStream(settings, *orders, keeping=keeping, decompress=decompress))
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
    start: int = 0,
    stop: int | None = None,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """Stream a URL into a file descriptor, or into a named pipe that is made if it is not there.

    The last 64 KiB follow only after everything is verified.  `start` and `stop` are as for `stream`.

    Raises:
        ReaderGoneError: the reader closed its end early.
        NoReaderError: nobody opened the named pipe in time.
        HydraError: see `fetch`.
    """
    order = _order(url, digest, size, headers, on_progress, mirrors, start, stop)
    return _pipe(settings or load(), [order], target, lambda: False)[0]


def pipe_all(
    urls: Sequence[str],
    target: int | str | os.PathLike[str],
    *,
    digest: str | Digest | None = None,
    start: int = 0,
    stop: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    on_outcome: OnOutcome | None = None,
    settings: Settings | None = None,
) -> list[FetchResult]:
    """Stream several URLs one after another into a file descriptor or a named pipe, as `pipe` does with one.

    Each is verified before its last 64 KiB are given, and the next one is begun while one is read.
    `on_outcome(name, result_or_error)` is called as each ends.  For `spool` see `stream`; `resume` and `overwrite` are
    then as for `fetch`.

    Raises:
        HydraError: see `pipe`; what comes behind the URL that failed is not streamed.
    """
    policies = settings or load()
    wanted = orders(urls, digest=digest, start=start, stop=stop, headers=headers, on_progress=on_progress)
    keeping = keep(wanted, spool, policies, resume=resume, overwrite=overwrite)
    return _pipe(policies, wanted, target, lambda: False, on_outcome, keeping, decompress=decompress)


async def apipe(
    url: str,
    target: int | str | os.PathLike[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    settings: Settings | None = None,
) -> FetchResult:
    """The same as `pipe`, awaitable."""
    order = _order(url, digest, size, headers, on_progress, mirrors, start, stop)
    policies, stopped = settings or load(), threading.Event()
    return (await runtime.in_thread(lambda: _pipe(policies, [order], target, stopped.is_set), stopped.set))[0]


def _pipe(
    settings: Settings,
    orders: Sequence[Order],
    target: int | str | os.PathLike[str],
    stopped: Callable[[], bool],
    on_outcome: OnOutcome | None = None,
    keeping: Keeping | None = None,
    *,
    decompress: bool = False,
) -> list[FetchResult]:
    flow: Inflow | None = None

    def ended() -> bool:
        """Also in the middle of a write that no reader takes."""
        return stopped() or (flow is not None and flow.broken)

    writer: Writer
    if isinstance(target, int):
        writer = DescriptorWriter(target, ended)
    else:
        writer = FifoWriter(Path(target), settings.open_timeout, ended)
    try:
        flow = Inflow(settings, orders, keeping=keeping, decompress=decompress, on_outcome=on_outcome)
        pour(flow, writer, stopped)
    finally:
        try:
            if flow is not None:
                flow.close()
        finally:
            writer.close()
    return flow.results


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
        urls: Iterable[str | Entry],
        dest_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> list[FetchResult | HydraError]:
        """The same as `fetch_all`, with the error in the place of a result that could not be had.

        Raises:
            ConfigurationError: a URL is wrong, or two would be written to one name; nothing was transferred.
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
    urls: Iterable[str | Entry],
    dest_dir: str | os.PathLike[str] | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    settings: Settings | None = None,
    **options: Any,
) -> list[FetchResult | HydraError]:
    """Fetch many URLs into one directory, for callers without an event loop.

    Args:
        urls: each may carry its own digest and size in the fragment; or be an entry of a manifest, which may name its
            place below `dest_dir`, too.
        dest_dir: default: the directory of the settings.
        stopped: as for `fetch`.
        settings: default: read from the environment.
        options: as for `fetch`; `on_outcome(name, result_or_error)` is called in the engine's thread as each file ends.

    Returns:
        For each URL, in order, its result, or the error in its place.

    Raises:
        ConfigurationError: a URL is wrong, or two would be written to one name; nothing was transferred.
    """
    return _many(urls, dest_dir, settings or load(), **options).wait(stopped)


def _many(
    urls: Iterable[str | Entry],
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
    taken: set[str] = set()
    others, items = tuple(mirrors), list(urls)
    given = {item.name for item in items if not isinstance(item, str) and item.name}
    wanted = [
        _order(item, digest, None, headers, on_progress, others)
        if isinstance(item, str)
        else _listed(item, headers, on_progress)
        for item in items
    ]
    if others and len(wanted) > 1:
        raise ConfigurationError(
            "mirrors are of one URL, and there are several", hint="Put #mirror=URL behind each of them."
        )
    check_names(wanted, given)

    async def outcome_of(engine: Engine, order: Order) -> FetchResult | HydraError:
        try:
            vague = names.is_vague(order.name) and order.name not in given
            name = await engine.name(order) if vague else order.name
            if name in taken:
                raise ConfigurationError(f"another URL is written to {name} already", hint=_APART)
            taken.add(name)
            return await delivery.to_file(engine, order, directory / name, resume=resume, overwrite=overwrite)
        except HydraError as error:
            return error

    async def work(engine: Engine) -> list[FetchResult | HydraError]:
        places = asyncio.Semaphore(settings.crowd + settings.width)

        async def one(order: Order) -> FetchResult | HydraError:
            async with places:
                outcome = await outcome_of(engine, order)
            if on_outcome is not None:
                on_outcome(order.name, outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(order)) for order in wanted]
        return [task.result() for task in tasks]

    return runtime.start(settings, work)


def _listed(entry: Entry, headers: Mapping[str, str] | None, on_progress: OnProgress | None) -> Order:
    """What an entry of a manifest asks for."""
    order = _order(entry.target, None, None, {**(headers or {}), **dict(entry.headers)}, on_progress)
    claim = None if entry.digest is None else Claim(entry.digest, DigestSource.MANIFEST)
    return dataclasses.replace(order, name=entry.name or order.name, claim=claim)


# ── what the caller means ────────────────────────────────────────────────────────────────────────────────────────────


def _order(
    url: str,
    digest: str | Digest | None,
    size: int | None,
    headers: Mapping[str, str] | None,
    on_progress: OnProgress | None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
) -> Order:
    target = urls.parse(url)
    if not 0 <= start < (start + 1 if stop is None else stop):
        raise ConfigurationError(f"not a range of bytes: from {start} to before {stop}")
    if (start or stop is not None) and (digest is not None or target.digest is not None):
        raise ConfigurationError(
            "a digest is that of the whole file, and cannot be checked against a part of it",
            hint="Leave one of them out.",
        )
    claim = None
    if digest is not None:
        claim = Claim(_digest(digest), DigestSource.CALLER)
        if target.digest is not None and _contradicts(target.digest, claim.digest):
            raise ConfigurationError(
                f"two digests are given: {claim.digest}, and in the URL {target.digest}", url=urls.redact(target.url)
            )
    elif target.digest is not None:
        claim = Claim(target.digest, DigestSource.FRAGMENT)
    return Order(
        url=target.url,
        name=urls.file_name(target.url),
        claim=claim,
        size=target.size if size is None else size,
        headers=_authorized(target.url, _checked_headers(headers or {})),
        on_progress=on_progress,
        start=start,
        stop=stop,
        mirrors=_mirrors(target, mirrors),
    )


def _mirrors(target: urls.Target, given: Iterable[str]) -> tuple[str, ...]:
    """Every other URL once, in the caller's order, those of the fragment last."""
    named = [*given, *(value for name, value in target.options if name == "mirror")]
    parsed = dict.fromkeys(urls.parse(mirror).url for mirror in named)
    return tuple(url for url in parsed if url != target.url)


def orders(
    url: str | Sequence[str],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Order]:
    """What the caller wants of each URL.

    Raises:
        ConfigurationError: it cannot be meant.
    """
    wanted = [url] if isinstance(url, str) else list(url)
    if len(wanted) > 1 and (digest is not None or size is not None):
        raise ConfigurationError(
            "one digest or size cannot be that of several URLs", hint="Write each URL with its own: URL#md5=HEX&size=N."
        )
    if len(wanted) > 1 and (start or stop is not None):
        raise ConfigurationError("one range cannot be that of several URLs")
    others = tuple(mirrors)
    if len(wanted) > 1 and others:
        raise ConfigurationError(
            "mirrors are of one URL, and there are several", hint="Put #mirror=URL behind each of them."
        )
    return [_order(each, digest, size, headers, on_progress, others, start, stop) for each in wanted]


def _contradicts(one: Digest, two: Digest) -> bool:
    kinds = [(each.algorithm, each.parts) for each in (one, two)]
    return kinds[0] == kinds[1] and one.value != two.value


def _digest(value: str | Digest) -> Digest:
    if isinstance(value, Digest):
        return value
    try:
        return Digest.parse(value)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _authorized(url: str, headers: dict[str, str]) -> dict[str, str]:
    """With what netrc has for the host, unless the caller says who he is."""
    value = None if any(name.lower() == "authorization" for name in headers) else netrc.authorization(url)
    return headers if value is None else {**headers, "Authorization": value}


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
    return Path(text) / order.name if _is_directory(text) else Path(text)


def _is_directory(text: str) -> bool:
    return text.endswith(os.sep) or os.path.isdir(text)  # noqa: PTH112 - Path's raises where a name is too long


def _is_named(order: Order, dest: str | os.PathLike[str] | None) -> bool:
    """The caller names the file, or its URL does."""
    return (dest is not None and not _is_directory(os.fspath(dest))) or not names.is_vague(order.name)


def keep(
    wanted: Sequence[Order],
    spool: str | os.PathLike[str] | None,
    settings: Settings,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Keeping | None:
    """How the streams of these orders are kept in `spool`; not at all, if that is None.

    Raises:
        ConfigurationError: only parts are wanted, or two files would get one name.
    """
    if spool is None:
        return None
    if any(order.start or order.stop is not None for order in wanted):
        raise ConfigurationError("a part of a file cannot be kept")
    check_names(wanted)
    paths = [_destination(order, spool, settings) for order in wanted]
    if len(set(paths)) < len(paths):
        raise ConfigurationError(f"{spool} is one file, and there are several URLs", hint="Name a directory.")
    return Keeping(paths, resume, overwrite)


def check_names(wanted: Sequence[Order], given: Collection[str] = ()) -> None:
    """Each order has a name of its own; those that are `given` are meant, also if they say nothing.

    Raises:
        ConfigurationError: two have not.
    """
    seen: dict[str, Order] = {}
    for order in wanted:
        # What the server will call it is not known yet; the URL may stand twice all the same.
        name = order.url if names.is_vague(order.name) and order.name not in given else order.name
        other = seen.setdefault(name, order)
        if other is not order and other != order:
            raise ConfigurationError(
                f"two URLs would be written to one name, {order.name}: "
                f"{urls.redact(other.url)} and {urls.redact(order.url)}",
                hint=_APART,
            )
        if other is not order:
            raise ConfigurationError(f"the URL {urls.redact(order.url)} is given twice")
