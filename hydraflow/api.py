"""The public functions: sync ones, their awaitable twins, and `Hydra` for many files.

All of them work the same from a script, a thread, a notebook or inside a running event loop: the work is done in the
engine thread (see `runtime`).
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hydraflow import delivery, ordering, runtime
from hydraflow.adapters.pipes import DescriptorWriter, FifoWriter, Writer
from hydraflow.core import names, urls
from hydraflow.engine import Engine, Order
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import Digest, FetchResult, Resource
from hydraflow.ordering import Keeping, OnProgress
from hydraflow.settings import Settings, load
from hydraflow.streams import AsyncByteStream, ByteStream, Inflow, OnOutcome, pour

if TYPE_CHECKING:
    from hydraflow.core.manifests import Entry

__all__ = ["AsyncByteStream", "ByteStream", "Hydra", "afetch", "apipe", "aprobe", "astream", "fetch", "fetch_all",
           "pipe", "pipe_all", "probe", "stream"]  # fmt: skip


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
    order = ordering.order(url, digest, size, headers, on_progress, mirrors)
    path = ordering.destination(order, dest, settings)
    filing = _filing(order, path, named=ordering.is_named(order, dest), resume=resume, overwrite=overwrite)
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
    order = ordering.order(url, digest, size, headers, on_progress, mirrors)
    path = ordering.destination(order, dest, settings)
    filing = _filing(order, path, named=ordering.is_named(order, dest), resume=resume, overwrite=overwrite)
    return await runtime.start(settings, filing).join()


def _filing(
    order: Order, path: Path, *, named: bool, resume: bool, overwrite: bool
) -> Callable[[Engine], Coroutine[Any, Any, FetchResult]]:
    async def work(engine: Engine) -> FetchResult:
        there = path if named else path.with_name(ordering.spelt(await engine.name(order)))
        return await delivery.to_file(engine, order, there, resume=resume, overwrite=overwrite)

    return work


# ── probes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def probe(url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None) -> Resource:
    """Ask what is at a URL, with one ranged GET whose body is not read.

    Raises:
        HydraError: the server refuses, or cannot be reached.
    """
    order = ordering.order(url, None, None, headers, None)
    return runtime.start(settings or load(), lambda engine: engine.probe(order)).wait()


async def aprobe(url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None) -> Resource:
    """The same as `probe`, awaitable."""
    order = ordering.order(url, None, None, headers, None)
    return await runtime.start(settings or load(), lambda engine: engine.probe(order)).join()


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    wanted = ordering.orders(
        url,
        digest=digest,
        size=size,
        mirrors=mirrors,
        start=start,
        stop=stop,
        headers=headers,
        on_progress=on_progress,
    )
    return _open_stream(
        policies, wanted, ordering.keep(wanted, spool, policies), decompress=decompress, stopped=stopped
    )


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
    wanted = ordering.orders(
        url,
        digest=digest,
        size=size,
        mirrors=mirrors,
        start=start,
        stop=stop,
        headers=headers,
        on_progress=on_progress,
    )
    return _aopen_stream(policies, wanted, ordering.keep(wanted, spool, policies), decompress=decompress)


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
    order = ordering.order(url, digest, size, headers, on_progress, mirrors, start, stop)
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
    wanted = ordering.orders(urls, digest=digest, start=start, stop=stop, headers=headers, on_progress=on_progress)
    keeping = ordering.keep(wanted, spool, policies, resume=resume, overwrite=overwrite)
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
    order = ordering.order(url, digest, size, headers, on_progress, mirrors, start, stop)
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
        waiting = collections.deque(ordering.order(url, None, None, headers, None) for url in urls)
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
    items = list(urls)
    given = {item.name for item in items if not isinstance(item, str) and item.name}
    wanted = ordering.orders(items, digest=digest, mirrors=mirrors, headers=headers, on_progress=on_progress)
    ordering.check_names(wanted, given)

    async def named(engine: Engine, order: Order) -> Order:
        """The order with the name that the file gets, which is also what everybody is told about it by."""
        if names.is_vague(order.name) and order.name not in given:
            order = dataclasses.replace(order, name=ordering.spelt(await engine.name(order)))
        if order.name in taken:
            raise ConfigurationError(f"another URL is written to {order.name} already", hint=ordering.APART)
        taken.add(order.name)
        return order

    async def work(engine: Engine) -> list[FetchResult | HydraError]:
        places = asyncio.Semaphore(settings.crowd + settings.width)

        async def one(order: Order) -> FetchResult | HydraError:
            outcome: FetchResult | HydraError
            async with places:
                try:
                    order = await named(engine, order)
                    path = directory / order.name
                    outcome = await delivery.to_file(engine, order, path, resume=resume, overwrite=overwrite)
                except HydraError as error:
                    outcome = _about(error, order)
            if on_outcome is not None:
                on_outcome(order.name, outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(order)) for order in wanted]
        return [task.result() for task in tasks]

    return runtime.start(settings, work)


def _about(error: HydraError, order: Order) -> HydraError:
    """Of many files one has to know which it was."""
    error.url = error.url or urls.redact(order.url)
    return error
