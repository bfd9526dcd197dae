"""An order carried out to its destination: a file, which may be there already or on its way, or a reader."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hydraflow.adapters import ownership, threads
from hydraflow.adapters.ownership import Owner
from hydraflow.adapters.sinks import FileSink, Sink, StreamSink
from hydraflow.adapters.spool import Spool, SpoolSink, reopen
from hydraflow.adapters.store import Store, timestamp
from hydraflow.core import integrity, urls
from hydraflow.engine import Engine, Order
from hydraflow.errors import DestinationBusyError, DestinationExistsError, StorageError, UnverifiableError
from hydraflow.models import Claim, Digest, FetchResult, Outcome, Phase, Progress, Resource, Verification

__all__ = ["digest_of", "recall", "to_both", "to_file", "to_reader"]

_BLOCK = 1 << 20
#: Seconds between two looks at whether another process has ended: first, and at most.
_FIRST_LOOK, _LOOK = 0.05, 0.5
#: How often others may come first before that is an error: a file system that cannot tell who owns what.
_CONTESTS = 20
_Facts = tuple[int, ...]


async def to_file(
    engine: Engine, order: Order, path: Path, *, resume: bool, overwrite: bool, spool: Spool | None = None
) -> FetchResult:
    """Fetch to `path`, which afterwards is whole and verified, or as it was before.

    What is at `path` already is left alone if it is the file asked for (`ALREADY_PRESENT`), replaced if `overwrite`
    allows, and otherwise an error.  While another process fetches the same URL to `path`, this one waits, and then
    checks what came of it as if it had been there already; should nothing come of it, it goes on from there itself.

    A reader of `spool` gets what is fetched; nothing, if the file was there.

    Raises:
        DestinationExistsError: something else is at `path`.
        DestinationBusyError: another process fetches another URL to `path`, or takes longer than the settings allow.
        HydraError: see `errors`.
    """
    begun, contests = time.monotonic(), 0
    # What may be at `path` without being looked at: with `overwrite`, what is there at first, and not what comes later.
    spared: set[_Facts | None] | None = None if overwrite else {None}

    def make(store: Store) -> Sink:
        return FileSink(store, resume=resume) if spool is None else SpoolSink(store, spool, resume=resume)

    while True:
        store = Store(path, urls.canonical(order.url), overwrite=overwrite)
        found = await _try(engine, order, store, spared, make)
        if isinstance(found, FetchResult):
            return found
        spared = {None, found.there} if spared is None else spared
        if found.there not in spared:
            if there := await _take(engine, order, path, overwrite=overwrite):
                return replace(there, elapsed=time.monotonic() - begun)
            spared.add(found.there)
        elif found.owner is not None:
            await _Queue(engine, order, store, begun).wait(found.owner)
        elif found.lost is not None:
            contests += 1
            if contests == _CONTESTS:
                raise found.lost


async def _take(engine: Engine, order: Order, path: Path, *, overwrite: bool) -> FetchResult | None:
    """What is at the destination, if it is the file asked for; None if it may be replaced."""
    try:
        return await _present(engine, order, path)
    except DestinationExistsError:
        if overwrite:
            return None
        raise


@dataclass(frozen=True, slots=True)
class _Found:
    """A destination: what file is there, who works on it, and the claim that was lost to somebody."""

    there: _Facts | None
    owner: Owner | None
    lost: DestinationBusyError | None = None


async def _try(
    engine: Engine, order: Order, store: Store, spared: set[_Facts | None] | None, make: Callable[[Store], Sink]
) -> FetchResult | _Found:
    """Fetch, if the destination is free; what is there is in the way unless it is `spared`, or that is None."""
    try:
        found = await threads.to_the_end(threads.begin(_enter, store, spared))
        if not store.claimed:
            return found
        try:
            return await _fetch(engine, order, store, make(store))
        except DestinationBusyError as error:
            return replace(found, lost=error)
    except DestinationExistsError:
        if store.overwrite:
            raise
        return _Found(None, None)  # it has just come: to be looked at
    finally:
        if store.claimed:
            await threads.to_the_end(threads.begin(store.close))


def _enter(store: Store, spared: set[_Facts | None] | None) -> _Found:
    """Look at the destination, and claim it if it is free."""
    there, owner = _occupied(store.path), store.owner()
    if owner is None and (spared is None or there in spared):
        try:
            store.claim()
        except DestinationBusyError as error:
            return _Found(there, None, error)
    return _Found(there, owner)


async def _fetch(engine: Engine, order: Order, store: Store, sink: Sink) -> FetchResult:
    heart = _Heart(store)
    try:
        return replace(await engine.run(order, sink), path=store.path)
    finally:
        heart.stop()


class _Heart:
    """Shows others that the owner of a destination is alive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = asyncio.get_running_loop().call_later(ownership.BEAT, self._beat)

    def _beat(self) -> None:
        threads.begin(self._store.beat)
        self._next = asyncio.get_running_loop().call_later(ownership.BEAT, self._beat)

    def stop(self) -> None:
        self._next.cancel()


class _Queue:
    """A caller that waits for the process that works on its destination."""

    def __init__(self, engine: Engine, order: Order, store: Store, begun: float) -> None:
        self._settings, self._order, self._store, self._begun = engine.settings, order, store, begun
        self._told = ""

    async def wait(self, owner: Owner | None) -> None:
        """Until nobody works on it any more.

        Raises:
            DestinationBusyError: it makes no sense to wait, or no more.
        """
        pause, seen, since = _FIRST_LOOK, owner, time.monotonic()
        while owner is not None:
            if owner != seen:
                seen, since = owner, time.monotonic()
            silent = time.monotonic() - since
            self._check(owner, silent)
            self._tell(owner)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK)
            if silent > ownership.SILENCE and not owner.certain:
                await threads.begin(self._store.evict, owner)
            owner = await threads.begin(self._store.owner)

    def _check(self, owner: Owner, silent: float) -> None:
        store, limit = self._store, self._settings.busy_timeout
        if not owner.wants(store.url):
            raise DestinationBusyError(f"{owner} is fetching another URL to {store.path}")
        waited = time.monotonic() - self._begun
        if limit is not None and waited >= limit:
            after = f" after {waited:.0f} s" if limit else ""
            raise DestinationBusyError(f"{owner} is still fetching {store.path}{after}")
        if silent > max(self._settings.max_wait, ownership.SILENCE):
            raise DestinationBusyError(
                f"{owner} is fetching {store.path} and has shown no sign of life for {silent:.0f} s",
                hint="End it, and run the same command again: it goes on from the last checkpoint.",
            )

    def _tell(self, owner: Owner) -> None:
        order, told = self._order, self._told
        self._told = f"waiting for {owner}, which is fetching the same file"
        if order.on_progress is not None and told != self._told:
            order.on_progress(Progress(urls.redact(order.url), order.name, Phase.WAITING, message=self._told))


async def to_reader(engine: Engine, order: Order, sink: StreamSink) -> FetchResult:
    """Fetch into a window that somebody reads from.

    Raises:
        HydraError: see `errors`; the reader gets the same one.
    """
    result = await engine.run(replace(order, window=engine.settings.window), sink)
    return replace(result, outcome=Outcome.STREAMED)


async def to_both(
    engine: Engine, order: Order, path: Path, spool: Spool, *, resume: bool, overwrite: bool
) -> FetchResult:
    """Fetch to `path` as `to_file` does, while somebody reads along; from the file, if it is there already.

    Returns when the file is there and the reader has everything.

    Raises:
        HydraError: see `to_file`; the reader gets the same one.
    """
    error: BaseException | None = None
    try:
        result = await to_file(
            engine, replace(order, window=engine.settings.window), path, resume=resume, overwrite=overwrite, spool=spool
        )
        if result.outcome is Outcome.ALREADY_PRESENT:
            if spool.given:
                raise DestinationBusyError(f"another process has fetched {path}, and the reader has begun")
            spool.open(await threads.begin(reopen, path), result.size)
            await spool.finish(result.size)
    except BaseException as caught:
        error = caught
        raise
    finally:
        spool.end(error)
    return result


def _occupied(path: Path) -> _Facts | None:
    """What tells the file at `path` from another one; None if there is none, and an error for anything but a file."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError.wrap(error, f"cannot look at {path}") from error
    mode = facts.st_mode
    if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and path.is_dir()):
        raise StorageError(f"{path} is a directory", hint="Name a file in it, or end the path with a slash.")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise StorageError(f"{path} is neither a file nor a directory", hint="Use --fifo to write to a named pipe.")
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


async def _present(engine: Engine, order: Order, path: Path) -> FetchResult:
    """The result for a file that is there, if it is the one asked for."""
    begun = time.monotonic()
    facts = await threads.begin(_stat, path)
    resource, claim = (None, order.claim) if order.claim is not None else await _believed(engine, order)
    if order.size not in (None, facts.st_size):
        raise DestinationExistsError(f"{path} exists with {facts.st_size:,} bytes, not {order.size:,}")
    if claim is not None and not await threads.begin(_is_promised, path, facts.st_size, claim):
        claim = None  # a digest of parts that may have had any size
    if claim is None and resource is not None:
        if engine.settings.verify == "require":
            raise UnverifiableError(f"{path} exists, and nobody promises a digest to verify it by", url=resource.url)
        _compare_facts(path, facts, resource)
    await threads.begin(Store(path, urls.canonical(order.url)).sweep)
    return _present_result(order, path, facts.st_size, claim, resource, time.monotonic() - begun)


async def recall(order: Order, path: Path) -> FetchResult:
    """The result for a file that was verified when it came, and of which no server is asked.

    Raises:
        DestinationExistsError: its size or digest is not what the order says.
    """
    begun = time.monotonic()
    facts, claim = await threads.begin(_stat, path), order.claim
    if order.size not in (None, facts.st_size):
        raise DestinationExistsError(f"{path} has {facts.st_size:,} bytes, not {order.size:,}")
    if claim is not None and not await threads.begin(_is_promised, path, facts.st_size, claim):
        raise DestinationExistsError(f"{path} is not what {claim.digest} is the digest of")
    return _present_result(order, path, facts.st_size, claim, None, time.monotonic() - begun)


def _stat(path: Path) -> os.stat_result:
    try:
        facts = path.stat()
    except OSError as error:
        raise StorageError.wrap(error, f"cannot look at {path}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise DestinationExistsError(f"{path} is a link to something that is no file")
    return facts


async def _believed(engine: Engine, order: Order) -> tuple[Resource, Claim | None]:
    """What is there now, and the digest that a transfer of it would be verified by."""
    resource, known = await engine.learn(order)
    return resource, integrity.choose(None, known, resource.size, resource.url)


def digest_of(path: Path, digest: Digest) -> str:
    """The file's digest of the same kind, in hexadecimal.

    Raises:
        StorageError: it cannot be read.
        ValueError: the digest is one of parts, which this file cannot have had.
    """
    try:
        with path.open("rb", buffering=0) as file:
            hasher, view = integrity.verifier(digest, os.fstat(file.fileno()).st_size), memoryview(bytearray(_BLOCK))
            while count := file.readinto(view):
                hasher.update(view[:count])
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}") from error
    return hasher.hexdigest()


def _is_promised(path: Path, size: int, claim: Claim) -> bool:
    """Whether the file has the digest; an error if it surely has not."""
    if claim.digest.parts and not integrity.part_sizes(claim.digest, size):
        actual = "a size that does not make its parts"
    else:
        actual = digest_of(path, claim.digest)
    if actual == claim.digest.value:
        return True
    own = integrity.verification(claim, size_known_or_framed=True) is Verification.CALLER
    if not own and not integrity.conclusive([claim]):
        return False
    raise DestinationExistsError(f"{path} exists with {claim.digest.algorithm} {actual}, not {claim.digest.value}")


def _compare_facts(path: Path, facts: os.stat_result, resource: Resource) -> None:
    """No digest is known: the size must agree, and the time where the server gives one (a fetch sets it)."""
    if resource.size != facts.st_size:
        theirs = "does not tell its size" if resource.size is None else f"has {resource.size:,}"
        raise DestinationExistsError(f"{path} exists with {facts.st_size:,} bytes, the server {theirs}")
    moment = timestamp(resource.validator.last_modified)
    if moment is not None and int(moment) != int(facts.st_mtime):
        raise DestinationExistsError(
            f"{path} exists with the same size but another modification time than the server's"
        )


def _present_result(
    order: Order, path: Path, size: int, claim: Claim | None, resource: Resource | None, elapsed: float
) -> FetchResult:
    url = urls.redact(order.url)
    return FetchResult(
        url=url,
        final_url=url if resource is None else resource.final_url,
        path=path,
        size=size,
        digest=None if claim is None else claim.digest,
        verification=integrity.verification(claim, True) if claim else Verification.SIZE,
        digest_source=None if claim is None else claim.source,
        etag=None if resource is None else resource.validator.etag,
        last_modified=None if resource is None else resource.validator.last_modified,
        outcome=Outcome.ALREADY_PRESENT,
        bytes_from_network=0,
        bytes_from_checkpoint=0,
        requests=0 if resource is None else 1,
        retries=0,
        restarts=0,
        peak_connections=0 if resource is None else 1,
        http_version="" if resource is None else resource.http_version,
        elapsed=elapsed,
        digest_url=None if claim is None else claim.url,
    )
