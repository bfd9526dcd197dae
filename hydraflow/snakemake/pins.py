"""A data lock in a workflow: which file each URL is, and what a failure means that shows another one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.snakemake import queries

if TYPE_CHECKING:
    from hydraflow.core.locks import Lock

__all__ = ["Pins"]


class Pins:
    """What the lock at `path` says of queries; without one, they stay what they are.

    Raises:
        HydraError: it cannot be read, or is no lock.
    """

    def __init__(self, path: str | None) -> None:
        self._others: Lock | None = None
        self._locks: dict[str, Lock] = {}
        if path is not None:
            from hydraflow import locking

            lock = locking.read(path)
            self._others = replace(lock, files=())
            # Each file in a lock of its own: to search all of them for each query takes minutes if there are thousands.
            for each in reversed(lock.files):
                self._locks[urls.canonical(each.url)] = replace(lock, files=(each,))

    def pin(self, query: str) -> str:
        """The query with digest and size as they were locked; a pattern stays one.

        Raises:
            ConfigurationError: the lock does not have it, or the query names another digest or size.
        """
        lock = None if queries.is_pattern(query) else self._of(query)
        if lock is None:
            return query
        streams = [f"&stream={value}" for name, value in urls.parse(query).options if name == "stream"]
        return "".join([lock.pin(query), *streams])

    def explain(self, query: str, error: HydraError) -> HydraError:
        """The same failure, told as what it means: that the file is not the locked one."""
        lock = self._of(query)
        return error if lock is None else lock.find(query).explain(error, lock.source)

    def _of(self, query: str) -> Lock | None:
        if self._others is None:
            return None
        return self._locks.get(urls.canonical(urls.parse(query).url), self._others)
