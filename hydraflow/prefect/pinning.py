"""Transfers that are kept to a data lock: other bytes than were locked are refused, with what was and what is."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from hydraflow import locking
from hydraflow.core import urls
from hydraflow.core.manifests import Entry
from hydraflow.errors import HydraError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hydraflow.core.locks import Lock

__all__ = ["Path", "explained", "listed", "pinned"]

#: Where a lock is; None for "no lock".
Path = str | os.PathLike[str] | None


@contextlib.contextmanager
def pinned(url: str, lock: Path) -> Iterator[str]:
    """See `locking.locked`; without a lock, the URL as it is."""
    if lock is None:
        yield url
    else:
        with locking.locked(url, _read(lock)) as known:
            yield known


def listed(items: Sequence[str | Entry], lock: Path) -> list[str | Entry]:
    """Files as the lock has them; the names are those of the manifest, or else of the lock.

    Raises:
        ConfigurationError: the lock does not have one, or contradicts it.
    """
    return list(items) if lock is None else [_locked(item, _read(lock)) for item in items]


def _locked(item: str | Entry, lock: Lock) -> Entry:
    if isinstance(item, str):
        found, pin = lock.find(item), urls.parse(lock.pin(item))
        mirrors = tuple(value for name, value in pin.options if name == "mirror")
        return Entry(pin.url, found.name, found.digest, found.size, mirrors)
    found = lock.find(item.target)
    return replace(item, name=item.name or found.name, digest=found.digest, size=found.size)


def explained(error: HydraError, item: str | Entry, lock: Path) -> HydraError:
    """The same failure, told in the terms of the lock; its cause stays with it, as behind `raise … from`."""
    if lock is None or isinstance(item, str):
        return error
    known = _read(lock)
    meant = known.find(item.target).explain(error, known.source)
    if meant is not error:
        meant.__cause__ = error
    return meant


def _read(lock: str | os.PathLike[str]) -> Lock:
    try:
        facts = os.stat(lock)  # noqa: PTH116 - it may be a text
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {os.fspath(lock)}") from error
    return _as_it_is(os.fspath(lock), (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _as_it_is(path: str, _version: object) -> Lock:
    """Read once, for hundreds of tasks."""
    return locking.read(path)
