"""Data locks at work: made from what servers have now, and kept by whoever fetches.

`locked` is the one door for all fronts: it pins a URL to what the lock knows, and says of a failure what it means.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydraflow import api, ordering, runtime
from hydraflow.core import integrity, locks, names, urls
from hydraflow.core.locks import Change, Lock, Locked
from hydraflow.core.manifests import Entry
from hydraflow.engine import Engine, Order
from hydraflow.errors import ConfigurationError, HydraError, IntegrityError, StorageError
from hydraflow.models import ALGORITHMS, Claim, Digest, Progress, Resource
from hydraflow.settings import Settings, load

__all__ = ["Made", "compare", "locked", "make", "read"]

_LONGEST = 256 << 20
#: Files that are asked for at a time.
_ABREAST = 16
#: Bits of a digest from which on it tells files apart that somebody has made to look alike by accident.
_ENOUGH = 128


def read(path: str | os.PathLike[str]) -> Lock:
    """Read a lock file.

    Raises:
        ConfigurationError: it is no lock.
        StorageError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {os.fspath(path)}") from error
    return locks.parse(data, os.fspath(path))


@contextmanager
def locked(url: str, lock: str | os.PathLike[str] | Lock) -> Iterator[str]:
    """Pin a URL to what a lock knows of it, and tell a failure of the body as what it means.

    As in `with locked(url, "data.lock") as pinned: fetch(pinned)`, and around an `await` as well.

    Args:
        url: as for `fetch`; credentials in it may be other ones than when it was locked.
        lock: the file, or what `read` has made of it.

    Yields:
        The URL with size and digest in its fragment, for any function that takes a URL.

    Raises:
        ConfigurationError: the lock does not have it, or the URL names another digest.
        ResourceChangedError: the file is another one now; `was` and `now` have both values.
    """
    known = lock if isinstance(lock, Lock) else read(lock)
    found = known.find(url)
    try:
        yield known.pin(url)
    except HydraError as error:
        meant = found.explain(error, known.source)
        if meant is error:
            raise
        raise meant from error


# ── made ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Made:
    """What one file is now, or why that cannot be told; `read` is how many bytes were read to know."""

    url: str
    locked: Locked | None = None
    error: HydraError | None = None
    read: int = 0


def make(
    entries: Sequence[Entry],
    *,
    headers: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    on_made: Callable[[Made], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Made]:
    """Ask what files are now. One of which nobody promises a digest is read to its end, and its SHA-256 computed.

    Args:
        entries: a digest that one of them has is taken over, and so is its name.
        headers: as for `fetch`.
        settings: as for `fetch`.
        on_made: called as each is done.
        on_progress: called while one is read.

    Raises:
        ConfigurationError: a URL has a secret in it, which a lock would tell everybody, or two files have one name.
    """
    policies = settings or load()
    for entry in entries:
        _refuse_secrets(entry.url)
    done = []
    for entry, (found, claim) in zip(entries, _learn(entries, headers, policies), strict=True):
        done.append(_made(entry, found, claim, headers, policies, on_progress))
        if on_made is not None:
            on_made(done[-1])
    _refuse_twins([each.locked for each in done if each.locked is not None])
    return done


def _refuse_secrets(url: str) -> None:
    if urls.grants_access(url):
        raise ConfigurationError(
            f"{urls.redact(url)} has a password or a signature in it, and a lock is for others to read",
            hint="Lock the plain URL, and give credentials by --header or netrc.",
        )


def _refuse_twins(files: Iterable[Locked]) -> None:
    seen: dict[str, Locked] = {}
    for each in files:
        other = seen.setdefault(each.name, each)
        if other is not each:
            raise ConfigurationError(
                f"two files would be written to one name, {each.name}: {other.url} and {each.url}",
                hint="Give them names of their own in a manifest.",
            )


_Found = tuple[str, Resource] | HydraError


def _learn(
    entries: Sequence[Entry], headers: Mapping[str, str] | None, settings: Settings
) -> list[tuple[_Found, Claim | None]]:
    wanted = [ordering.orders(entry.url, headers={**(headers or {}), **dict(entry.headers)})[0] for entry in entries]

    async def work(engine: Engine) -> list[tuple[_Found, Claim | None]]:
        places = asyncio.Semaphore(_ABREAST)

        async def one(entry: Entry, order: Order) -> tuple[_Found, Claim | None]:
            async with places:
                return await _ask(engine, entry, order)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*each)) for each in zip(entries, wanted, strict=True)]
        return [task.result() for task in tasks]

    return runtime.start(settings, work).wait()


async def _ask(engine: Engine, entry: Entry, order: Order) -> tuple[_Found, Claim | None]:
    try:
        resource, known = await engine.learn(order, thorough=entry.digest is None)
        name = entry.name or order.name
        if not entry.name and names.is_vague(name):
            name = await engine.name(order)
        return (name, resource), integrity.choose(None, known, resource.size, resource.url)
    except HydraError as error:
        return error, None


def _made(
    entry: Entry,
    found: _Found,
    claim: Claim | None,
    headers: Mapping[str, str] | None,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None,
) -> Made:
    shown = urls.redact(entry.url)
    if isinstance(found, HydraError):
        return Made(shown, error=found)
    name, resource = found
    promised = None if claim is None else claim.digest
    digest = entry.digest or (promised if promised is not None and _tells_apart(promised) else None)
    validator = resource.validator
    if digest is not None and resource.size is not None:
        fresh = Locked(name, entry.url, resource.size, digest, validator.etag, validator.last_modified)
        return Made(shown, fresh, _contradiction(entry, fresh, claim))
    try:
        return Made(shown, *_computed(entry, name, headers, settings, on_progress))
    except HydraError as error:
        return Made(shown, error=error)


def _contradiction(entry: Entry, fresh: Locked, claim: Claim | None) -> HydraError | None:
    """The manifest says one thing, the server another."""
    said = fresh if entry.size is None else replace(fresh, size=entry.size)
    changes = said.differences(fresh.size, [] if claim is None else [claim])
    if not changes:
        return None
    text = "; ".join(f"{change.what} {change.was} in the manifest, {change.now} by the server" for change in changes)
    return IntegrityError(
        f"not what the manifest says: {text}", url=urls.redact(entry.url), hint="Correct the manifest."
    )


def _tells_apart(digest: Digest) -> bool:
    return ALGORITHMS[digest.algorithm] >= _ENOUGH and (not digest.parts or bool(digest.part_size))


def _computed(
    entry: Entry,
    name: str,
    headers: Mapping[str, str] | None,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[Locked, None, int]:
    """Read it all; the digest of what came, in one version, is its digest."""
    hasher = hashlib.sha256()
    own = {**(headers or {}), **dict(entry.headers)}
    with api.stream(entry.target, headers=own, settings=settings, on_progress=on_progress) as stream:
        for chunk in stream:
            hasher.update(chunk)
        result = stream.result
    assert result is not None
    digest = entry.digest or Digest("sha256", hasher.hexdigest())
    return Locked(name, entry.url, result.size, digest, result.etag, result.last_modified), None, result.size


# ── compared ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare(
    lock: Lock, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None
) -> list[tuple[Locked, list[Change] | HydraError]]:
    """Ask, without fetching, whether files are still what they were: by size, digest and validator."""
    entries = [each.entry for each in lock.files]
    answers = _learn(entries, headers, settings or load())
    return [(each, _compared(each, found, claim)) for each, (found, claim) in zip(lock.files, answers, strict=True)]


def _compared(locked: Locked, found: _Found, claim: Claim | None) -> list[Change] | HydraError:
    if isinstance(found, HydraError):
        return found
    resource = found[1]
    return locked.differences(resource.size, [*([claim] if claim else []), *resource.claims], resource.validator)
