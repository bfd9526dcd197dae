"""One file in a storage. Snakemake makes several objects for it, copies them and changes their `query` at will.

Snakemake awaits the `managed_*` coroutines in its own event loop.  Those of the base class run blocking code, one file
after the other; these here hand the work to the engine thread, and files are retrieved side by side.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.common import Operation  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.exceptions import FileOrDirectoryNotFoundError  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, Mtime  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead  # type: ignore[import-untyped]

from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.snakemake import queries, retrieval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydraflow.models import FetchResult, Resource
    from hydraflow.runtime import Call
    from hydraflow.snakemake.provider import StorageProvider

__all__ = ["StorageObject"]

#: Modification time, in Unix seconds, of a file whose digest is declared, or whose server gives no date.
_PINNED = 1.0


class StorageObject(StorageObjectRead):  # type: ignore[misc]  # the interface package is not typed
    """A file that can be retrieved."""

    provider: StorageProvider

    def __post_init__(self) -> None:
        if not queries.is_pattern(self.query) and queries.objection(self.query) is None:
            self.provider.probes.expect(self._target.url)

    def local_suffix(self) -> str:
        """See `queries.local_suffix`."""
        suffix = queries.local_suffix(self.query)
        # Snakemake takes objects with one local path for one file: if another rule wants the same file retrieved, it
        # would act for either of the two.
        return suffix if self.retrieve else f"~not-retrieved/{suffix}"

    def get_inventory_parent(self) -> None:
        """There are no directories to list."""
        return

    def cleanup(self) -> None:
        """Nothing is left of a file that was retrieved, and what is left of others is wanted for the next run."""

    # ── what Snakemake awaits ────────────────────────────────────────────────────────────────────────────────────────

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        """Write down all that one request tells."""
        key = self.cache_key()
        if key in cache.exists_in_storage:
            return
        resource = await self._find()
        cache.exists_in_storage[key] = resource is not None
        if resource is not None:
            cache.mtime[key] = Mtime(storage=self._mtime(resource))
            cache.size[key] = self._size(resource)
            if (checksum := self.checksum()) is not None:
                cache.checksum[key] = checksum

    async def managed_exists(self) -> bool:
        """The server has it; False only if it says that it has not (404, 410).

        Raises:
            WorkflowError: nobody knows.
        """
        return await self._find() is not None

    async def managed_mtime(self) -> float:
        """Unix time of its last change, as the server says; of a file with a digest it is pinned."""
        return self._mtime(self._existing(await self._find()))

    async def managed_size(self) -> int:
        """In bytes, 0 if the server does not say."""
        return self._size(self._existing(await self._find()))

    async def managed_local_footprint(self) -> int:
        """The same: it is kept as it comes."""
        return await self.managed_size()

    async def managed_checksum(self) -> str | None:
        """See `checksum`."""
        return self.checksum()

    async def managed_retrieve(self) -> None:
        """Bring it to its local path, whole and verified.

        A failure ends the jobs that need the file (see `retrieval.leave_unreadable`) or, with `on_error=abort`, the
        workflow.

        Raises:
            WorkflowError: the workflow cannot go on.
        """
        await self.wait_for_free_space()
        with self._explained("cannot retrieve"):
            try:
                result = await self._retrieval().join()
            except HydraError as error:
                if self.provider.settings.on_error == "abort":
                    raise
                retrieval.leave_unreadable(self.local_path())
                self.provider.tell(
                    logging.ERROR,
                    f"cannot retrieve {self.print_query}: {_text(error)} The jobs that need it will fail.",
                )
            else:
                self._tell(result)

    # ── the same for callers without an event loop ───────────────────────────────────────────────────────────────────

    def exists(self) -> bool:
        """See `managed_exists`."""
        return self._find_now() is not None

    def mtime(self) -> float:
        """See `managed_mtime`."""
        return self._mtime(self._existing(self._find_now()))

    def size(self) -> int:
        """See `managed_size`."""
        return self._size(self._existing(self._find_now()))

    def checksum(self) -> str | None:
        """`ALGORITHM:HEX` as declared in the URL, for Snakemake to compare between runs."""
        digest = self._target.digest
        # Snakemake computes checksums of whole files with hashlib, which has no CRC.
        if digest is None or digest.parts or digest.algorithm not in hashlib.algorithms_guaranteed:
            return None
        return str(digest)

    def retrieve_object(self) -> None:
        """Bring it to its local path.

        Raises:
            WorkflowError: it could not be done.
        """
        with self._explained("cannot retrieve"):
            self._tell(self._retrieval().wait())

    # ── how ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _target(self) -> urls.Target:
        return urls.parse(self.query)

    async def _find(self) -> Resource | None:
        with self._explained("cannot find out about"):
            return await self._answer().join()

    def _find_now(self) -> Resource | None:
        with self._explained("cannot find out about"):
            return self._answer().wait()

    def _answer(self) -> Call[Resource | None]:
        url = self._target.url
        return self.provider.run(lambda: self.provider.probes.resource(url))

    def _retrieval(self) -> Call[FetchResult]:
        query, local_path = self.query, self.local_path()

        async def work() -> FetchResult:
            url = self._target.url
            resource = await self.provider.probes.resource(url)
            async with self.provider.admission(Operation.RETRIEVE, url):
                return await retrieval.retrieve(
                    query,
                    self.provider.state(query),
                    local_path,
                    mtime=_PINNED if resource is None else self._mtime(resource),
                    headers=self.provider.headers,
                    settings=self.provider.engine_settings,
                )

        return self.provider.run(work)

    def _existing(self, resource: Resource | None) -> Resource:
        if resource is None:
            raise FileOrDirectoryNotFoundError(self.local_path(), self.print_query)
        return resource

    def _mtime(self, resource: Resource) -> float:
        # A digest that is declared says whether it is the same file; a date that was touched must not cause a rerun.
        if self._target.digest is not None:
            return _PINNED
        from hydraflow.adapters.store import timestamp

        return max(timestamp(resource.validator.last_modified) or _PINNED, _PINNED)

    def _size(self, resource: Resource) -> int:
        declared = self._target.size
        return declared if declared is not None else resource.size or 0

    def _tell(self, result: FetchResult) -> None:
        from hydraflow.progress import summary

        self.provider.tell(logging.INFO, summary(result, urls.file_name(self.query)))

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except HydraError as error:
            raise WorkflowError(f"{doing} {self.print_query}: {_text(error)}") from error


def _text(error: HydraError) -> str:
    """What is wrong and what to do, in one line."""
    return f"{error}. {error.hint}" if error.hint else f"{error}."
