"""One file in a storage. Snakemake makes several objects for it, copies them and changes their `query` at will.

Snakemake awaits the `managed_*` coroutines in its own event loop.  Those of the base class run blocking code, one file
after the other; these here hand the work to the engine thread, and files are retrieved side by side.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.exceptions import FileOrDirectoryNotFoundError  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, Mtime  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead  # type: ignore[import-untyped]

from hydraflow.core import urls
from hydraflow.errors import (
    AccessDeniedError,
    DestinationExistsError,
    HydraError,
    NotFoundError,
    RemoteProtocolError,
    UnverifiableError,
)
from hydraflow.snakemake import host, queries, retrieval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hydraflow.models import FetchResult, Resource
    from hydraflow.runtime import Call
    from hydraflow.snakemake.feeding import Feed
    from hydraflow.snakemake.provider import StorageProvider

__all__ = ["StorageObject", "text"]

#: Modification time, in Unix seconds, of a file whose digest is declared, or whose server gives no date.
_PINNED = 1.0

#: What to do, where the words for the command line would not help.
_HINTS: dict[type[HydraError], str] = {
    AccessDeniedError: "Pass credentials by ~/.netrc, SNAKEMAKE_STORAGE_HYDRA_TOKEN or "
    "SNAKEMAKE_STORAGE_HYDRA_HEADERS, or renew the signed URL.",
    RemoteProtocolError: "The server or a proxy between is faulty; try --storage-hydra-threads 1, or another mirror.",
    UnverifiableError: "Declare one: URL#sha256=HEX.",
    DestinationExistsError: "Without --storage-hydra-offline it is fetched anew.",
}


class StorageObject(StorageObjectRead):  # type: ignore[misc]  # the interface package is not typed
    """A file that can be retrieved."""

    provider: StorageProvider
    query: str
    #: What streams into the job that this object is an input of: each job has objects of its own.
    _feed: Feed | None = None

    def __post_init__(self) -> None:
        if queries.is_pattern(self.query) or not self.is_valid_query():
            return
        self.query = self.provider.pins.pin(self.query)
        if not (self._is_promised and self._target.size is not None):
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
        """Nothing is left of a file that was retrieved, and what is left of others is wanted for the next run.

        Raises:
            WorkflowError: a stream into a job failed, and this is the last that is heard of it.
        """
        feed = self.provider.feeds.pop(self.local_path(), None)
        self._feed = None
        if feed is not None:
            if host.runs_one_job():
                with self._explained("failed to stream"):
                    feed.verdict()
            else:
                feed.end()

    # ── what Snakemake awaits ────────────────────────────────────────────────────────────────────────────────────────

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        """Write down all that one request tells."""
        key = self.cache_key()
        if key in cache.exists_in_storage:
            return
        self._remove_stale()
        resource = await self._found()
        cache.exists_in_storage[key] = resource is not None
        if resource is not None:
            cache.mtime[key] = Mtime(storage=self._mtime(resource))
            cache.size[key] = self._size(resource)
            if (checksum := self.checksum()) is not None:
                cache.checksum[key] = checksum

    async def managed_exists(self) -> bool:
        """The server has it; False only if it says that it has not (404, 410).

        What is declared to be there, by its digest, is there: should it be missing, that is a failed retrieval, and
        ends the jobs that need it and not the workflow.

        Raises:
            WorkflowError: nobody knows.
        """
        return await self._found() is not None

    async def managed_mtime(self) -> float:
        """Unix time of its last change, as the server says; of a file with a digest it is pinned."""
        return self._mtime(self._existing(await self._find()))

    async def managed_size(self) -> int:
        """In bytes, 0 if the server does not say."""
        size = self._size(self._existing(await self._find()))
        self._look_ahead(size)
        return size

    async def managed_local_footprint(self) -> int:
        """The same, as it is kept as it comes; nothing of a stream."""
        return 0 if self._is_fed() else await self.managed_size()

    async def managed_checksum(self) -> str | None:
        """See `checksum`; asked for after each job, which fails if its stream did, or the retrieval of its file.

        Raises:
            WorkflowError: it did.
        """
        feed, self._feed = self._feed, None
        if feed is not None:
            self.provider.feeds.pop(self.local_path(), None)
            if host.takes_for_done():
                with self._explained("failed to stream"):
                    await asyncio.to_thread(feed.verdict)
            else:
                await asyncio.to_thread(feed.end)
        failure = self.provider.failures.get(self.local_path())
        # While another error is handled the job has failed already.
        if failure is not None and host.takes_for_done() and sys.exception() is None:
            raise WorkflowError(f"the job ended well, but one of its inputs was not there: {failure}")
        return self.checksum()

    async def managed_retrieve(self) -> None:
        """Bring it to its local path, whole and verified, or put a named pipe there that will bring it.

        A failure ends the jobs that need the file or, with `on_error=abort`, the workflow.  A job that is the only one
        of this process is ended by an error.  Another one is let start, and fails as it opens its input (see
        `retrieval.leave_unreadable`) or, if it never does (`tar`, `mv`, `ln`), as it is to be taken for done.

        Raises:
            WorkflowError: the workflow cannot go on, or the job of this process.
        """
        if self._is_fed_by_another():
            return
        await self.wait_for_free_space()
        path, failures = self.local_path(), self.provider.failures
        with self._explained("cannot retrieve"):
            try:
                await (self._stream() if self._is_fed() else self._bring())
            except HydraError as error:
                if self.provider.settings.on_error == "abort" or host.runs_one_job():
                    raise
                retrieval.leave_unreadable(path)
                failures[path] = f"cannot retrieve {self.print_query}: {text(error)}"
                self.provider.tell(logging.ERROR, f"{failures[path]} The jobs that need it will fail.")
            else:
                failures.pop(path, None)

    async def _bring(self) -> None:
        self._tell(await self._retrieval().join())

    async def _stream(self) -> None:
        """Begin the stream, and see its first bytes in the pipe; what has none comes as a file."""
        from hydraflow import ordering
        from hydraflow.snakemake import feeding

        path, provider = self.local_path(), self.provider

        def on_end(outcome: FetchResult | HydraError) -> None:
            if isinstance(outcome, HydraError):
                provider.tell(logging.ERROR, f"the stream of {self.print_query} has failed: {text(outcome)}")
            else:
                self._tell(outcome)

        explain = functools.partial(provider.pins.explain, self.query)
        orders = ordering.orders(self.query, headers=provider.headers(self._target.url))
        feed = provider.feeds[path] = feeding.Feed(orders, path, provider.engine_settings, on_end, explain)
        try:
            await feed.armed()
        except feeding.EmptyStreamError:
            del provider.feeds[path]
            await self._bring()
        except BaseException:
            del provider.feeds[path]
            raise
        else:
            self._feed = feed

    def _is_fed(self) -> bool:
        """The job wants a stream, it is the only one to read it, it runs here, and its end will be told."""
        if not queries.is_stream(self.query) or not self.is_ondemand_eligible or self.provider.settings.offline:
            return False
        if self.local_path() in self.provider.feeds:  # another job's, which is not done
            return False
        return self._target.size != 0 and host.may_feed() and not host.ends_unheard(self)

    def _is_fed_by_another(self) -> bool:
        """The pipe is there and has bytes in it: the process that started this one feeds it, as in Slurm's jobs."""
        if not queries.is_stream(self.query) or self.local_path() in self.provider.feeds:
            return False
        from hydraflow.snakemake import feeding

        return feeding.is_fed(self.local_path())

    def _look_ahead(self, size: int) -> None:
        """What Snakemake asks the size of while it chooses jobs is an input of one that is ready."""
        settings = self.provider.settings
        wanted = settings.prefetch and self.retrieve and not settings.offline and not queries.is_stream(self.query)
        if wanted and host.is_scheduling() and not self.local_path().exists():
            query = self.query
            self.provider.run(lambda: self.provider.look_ahead(query, size))

    def _remove_stale(self) -> None:
        if queries.is_stream(self.query):
            from hydraflow.snakemake import feeding

            feeding.remove_stale(self.local_path())

    async def _found(self) -> Resource | None:
        """A local copy that was kept and has lost bytes since, or got some, is none."""
        resource, path = await self._find(), self.local_path()
        size = 0 if resource is None else self._size(resource)
        with suppress(OSError):
            facts = path.lstat()
            if size and stat.S_ISREG(facts.st_mode) and facts.st_size != size:
                path.unlink()
        return resource

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
        return queries.checksum(self._target.digest)

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
            if self.provider.settings.offline:
                return self._kept()
            known = self._target.size is not None or self.provider.probes.failed(self._target.url)
            if self._is_promised and known:
                return self._declared()  # there is nothing to ask
            try:
                found = await self._answer().join()
            except HydraError:
                if not self._is_promised:
                    raise
                return self._declared()
            return self._declared() if found is None and self._is_promised else found

    def _find_now(self) -> Resource | None:
        with self._explained("cannot find out about"):
            return self._kept() if self.provider.settings.offline else self._answer().wait()

    @property
    def _is_promised(self) -> bool:
        """A digest says that it is there, whatever the server says now; the retrieval will see."""
        return self._target.digest is not None and self.provider.settings.on_error == "job"

    def _declared(self) -> Resource:
        """What the URL itself tells."""
        from hydraflow.models import Resource, Validator

        shown = self.print_query
        return Resource(url=shown, final_url=shown, size=None, ranges=False, validator=Validator())

    def _kept(self) -> Resource | None:
        """What an earlier run has left."""
        from hydraflow.models import Resource, Validator

        path = self._kept_path()
        if path is None:
            return None
        facts = path.stat()
        moment = formatdate(facts.st_mtime, usegmt=True)
        shown = self.print_query
        return Resource(shown, shown, facts.st_size, ranges=False, validator=Validator(last_modified=moment))

    def _kept_path(self) -> Path | None:
        places = (self.provider.state(self.query), self.local_path())
        return next((path for path in places if path.is_file()), None)

    def _answer(self) -> Call[Resource | None]:
        url = self._target.url
        return self.provider.run(lambda: self.provider.probes.resource(url))

    def _retrieval(self) -> Call[FetchResult]:
        return self.provider.run(self._retrieve_kept if self.provider.settings.offline else self._retrieve)

    async def _retrieve(self) -> FetchResult:
        """In the engine thread."""
        provider, query, target = self.provider, self.query, self.local_path()
        mtime = _PINNED
        if self._target.digest is None:
            resource = await provider.probes.resource(self._target.url)
            mtime = _PINNED if resource is None else self._mtime(resource)
        result = await provider.fetch(query)
        publish = functools.partial(retrieval.publish, provider.state(query), target, mtime, keep=provider.keeps)
        feed = provider.feeds.get(target)
        await asyncio.to_thread(publish if feed is None else lambda: feed.replace(publish))
        return replace(result, path=target)

    async def _retrieve_kept(self) -> FetchResult:
        """In the engine thread; no server is asked.

        Raises:
            HydraError: it is not there, or not what is declared.
        """
        source, target = self._kept_path(), self.local_path()
        if source is None:
            raise NotFoundError("this run is offline, and the file is not in the state directory", status=404)
        result = await retrieval.recall(self.query, source)
        mtime = self._mtime(self._existing(self._kept()))
        if source != target:
            await asyncio.to_thread(retrieval.share, source, target, mtime)
        return replace(result, path=target)

    def _existing(self, resource: Resource | None) -> Resource:
        if resource is None:
            raise FileOrDirectoryNotFoundError(self.local_path(), self.print_query)
        return resource

    def _mtime(self, resource: Resource) -> float:
        # A digest that is declared says whether it is the same file; a date that was touched must not cause a rerun.
        if self._target.digest is not None:
            return _PINNED
        from hydraflow.adapters.store import timestamp

        return min(max(timestamp(resource.validator.last_modified) or _PINNED, _PINNED), self.provider.begun)

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
            raise WorkflowError(f"{doing} {self.print_query}: {text(error)}") from error


def text(error: HydraError) -> str:
    """What is wrong and what to do, in one line."""
    hint = _HINTS.get(type(error), error.hint) if error.hint == error.default_hint else error.hint
    return f"{error}. {hint}" if hint else f"{error}."
