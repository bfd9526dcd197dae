"""An order carried out to its destination: a file, which may be there already, or a reader."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

from hydraflow.adapters import threads
from hydraflow.adapters.sinks import FileSink, StreamSink
from hydraflow.adapters.store import Store, timestamp
from hydraflow.core import integrity, urls
from hydraflow.engine import Engine, Order
from hydraflow.errors import DestinationExistsError, StorageError
from hydraflow.models import Claim, FetchResult, Outcome, Resource, Verification

__all__ = ["to_file", "to_reader"]

_BLOCK = 1 << 20


async def to_file(engine: Engine, order: Order, path: Path, *, resume: bool, overwrite: bool) -> FetchResult:
    """Fetch to `path`, which afterwards is whole and verified, or as it was before.

    What is at `path` already is left alone if it is the file asked for (`ALREADY_PRESENT`), replaced if `overwrite`
    allows, and otherwise an error.

    Raises:
        DestinationExistsError: something else is at `path`.
        HydraError: see `errors`.
    """
    if await threads.begin(_occupied, path) and not overwrite:
        return await _present(engine, order, path)
    store = Store(path, urls.canonical(order.url), overwrite=overwrite)
    result = await engine.run(order, FileSink(store, resume=resume))
    return replace(result, path=path)


async def to_reader(engine: Engine, order: Order, sink: StreamSink) -> FetchResult:
    """Fetch into a window that somebody reads from.

    Raises:
        HydraError: see `errors`; the reader gets the same one.
    """
    # Leases that fill the window between them: the reader never waits for the end of a long one.
    largest = (sink.horizon() or 0) // engine.settings.threads
    result = await engine.run(replace(order, largest_lease=largest), sink)
    return replace(result, outcome=Outcome.STREAMED)


def _occupied(path: Path) -> bool:
    """There is a file at `path`; anything but a file is an error."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError.wrap(error, f"cannot look at {path}") from error
    if stat.S_ISDIR(mode):
        raise StorageError(f"{path} is a directory", hint="Name a file in it, or end the path with a slash.")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise StorageError(f"{path} is neither a file nor a directory", hint="Use --fifo to write to a named pipe.")
    return True


async def _present(engine: Engine, order: Order, path: Path) -> FetchResult:
    """The result for a file that is there, if it is the one asked for."""
    begun = time.monotonic()
    facts = await threads.begin(_stat, path)
    resource = None if order.claim is not None else await engine.probe(order)
    claim = order.claim or integrity.choose(None, resource.claims if resource is not None else ())
    if order.size not in (None, facts.st_size):
        raise DestinationExistsError(f"{path} exists with {facts.st_size:,} bytes, not {order.size:,}")
    if claim is not None:
        await threads.begin(_compare, path, claim)
    elif resource is not None:
        _compare_facts(path, facts, resource)
    await threads.begin(Store(path, urls.canonical(order.url)).sweep)
    return _present_result(order, path, facts.st_size, claim, resource, time.monotonic() - begun)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise StorageError.wrap(error, f"cannot look at {path}") from error


def _compare(path: Path, claim: Claim) -> None:
    hasher, view = integrity.hasher(claim.digest.algorithm), memoryview(bytearray(_BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(view):
                hasher.update(view[:count])
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}") from error
    if hasher.hexdigest() != claim.digest.value:
        raise DestinationExistsError(
            f"{path} exists with {claim.digest.algorithm} {hasher.hexdigest()}, not {claim.digest.value}"
        )


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
    )
