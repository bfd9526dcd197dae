"""`storage.hydra(...)`: what its files share.

Snakemake imports this module at every start, even for `--version`: nothing heavy may be imported with it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.common import Operation  # type: ignore[import-untyped]
from snakemake_interface_storage_plugins.storage_provider import (  # type: ignore[import-untyped]
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.snakemake import host, queries, retrieval
from hydraflow.snakemake.objects import StorageObject, text
from hydraflow.snakemake.pins import Pins
from hydraflow.snakemake.probes import Probes
from hydraflow.snakemake.settings import StorageProviderSettings, check, headers
from hydraflow.snakemake.settings import size as size_in_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from hydraflow.models import FetchResult, Resource
    from hydraflow.runtime import Call
    from hydraflow.settings import Settings
    from hydraflow.snakemake.feeding import Feed

# Snakemake takes the class StorageObject from the module of the provider.
__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings"]

T = TypeVar("T")

#: Plugins that claim https URLs. Beside one of them a bare `storage("https://…")` would be ambiguous.
_RIVALS = ("snakemake_storage_plugin_http", "snakemake_storage_plugin_cached_http")


class StorageProvider(StorageProviderBase):  # type: ignore[misc]  # the interface package is not typed
    """What the files of one `storage.hydra` share: settings, answers about URLs, and the way to the engine thread."""

    settings: StorageProviderSettings

    def __post_init__(self) -> None:
        check(self.settings)
        try:
            self.pins = Pins(self.settings.lock)
        except HydraError as error:
            raise WorkflowError(f"the lock of the hydra storage provider: {text(error)}") from error
        self.probes = Probes(self._ask)
        self._places: dict[tuple[Operation, str], asyncio.Semaphore] = {}
        self._fetches: dict[Path, asyncio.Task[FetchResult]] = {}
        self._wanted: dict[str, int] = {}
        self._ahead: dict[Path, int] = {}
        #: No file may seem to be younger than what is made of it; a server's clock may be ahead, or its date wrong.
        self.begun = time.time()
        self._headers = headers(self.settings.headers or "")
        self._budget = size_in_bytes(self.settings.prefetch or "0")
        self.feeds: dict[Path, Feed] = {}
        #: What could not be retrieved, by local path, and why.
        self.failures: dict[Path, str] = {}
        # Snakemake asks the class about a bare `storage(URL)`, and the instance about `storage.hydra(URL)`.
        self.is_valid_query = self._validate  # type: ignore[method-assign]

    # ── what Snakemake asks of every provider ────────────────────────────────────────────────────────────────────────

    @classmethod
    def example_queries(cls) -> list[ExampleQuery]:
        """For Snakemake's catalogue of plugins."""
        url = "https://example.org/genome.fa.gz"
        return [
            ExampleQuery(url, "A file on a web server.", QueryType.INPUT),
            ExampleQuery(f"{url}#sha256=HEX", "The same, with the digest that it must have.", QueryType.INPUT),
            ExampleQuery(f"{url}#md5=HEX&size=N", "With an MD5 and a size in bytes.", QueryType.INPUT),
            ExampleQuery(
                f"{url}#sha256=HEX&mirror=https://example.net/genome.fa.gz", "With a mirror.", QueryType.INPUT
            ),
            ExampleQuery(
                f"{url}#sha256=HEX&stream=fifo",
                "In access.sequential(storage.hydra(...)): a named pipe that streams it, and nothing on disk.",
                QueryType.INPUT,
            ),
            ExampleQuery(f"hydra+{url}", "In storage(...), beside another http plugin.", QueryType.INPUT),
        ]

    @classmethod
    def is_valid_query(cls, query: str) -> StorageQueryValidationResult:
        """Whether a bare `storage(query)` is meant for this provider; what is wrong with it is said later."""
        scheme = queries.scheme(query)
        if scheme.startswith(queries.PREFIX) or scheme not in queries.SCHEMES:
            return _validate(query)
        rival = next(filter(importlib.util.find_spec, _RIVALS), None)
        reason = f"{rival} is installed: write storage.hydra(...) or hydra+https://" if rival else None
        return StorageQueryValidationResult(urls.redact(query), rival is None, reason)

    def postprocess_query(self, query: str) -> str:
        """The query as it is kept: without `hydra+`."""
        return query.strip().removeprefix(queries.PREFIX)

    def safe_print(self, query: str) -> str:
        """The query without secrets."""
        return urls.redact(query)

    def rate_limiter_key(self, query: str, operation: Operation) -> str:
        """Not used: see `use_rate_limiter`."""
        del operation
        return urls.origin(query)

    def default_max_requests_per_second(self) -> float:
        """Not used: see `use_rate_limiter`."""
        return 100.0

    def use_rate_limiter(self) -> bool:
        """Never: the engine keeps the user's rate, of all requests and not of files, and finds what a server bears."""
        return False

    # ── what the objects need ────────────────────────────────────────────────────────────────────────────────────────

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        """Have the engine thread do something: `.wait()` for it, or `await` its `.join()`."""
        from hydraflow import runtime

        return runtime.start(self.engine_settings, lambda _: work())

    def tell(self, level: int, line: str) -> None:
        """Write a line into Snakemake's log."""
        # Whole: Snakemake prints a record's template, without putting its arguments in.
        self.logger.log(level, f"hydra: {line}")  # noqa: G004

    @cached_property
    def engine_settings(self) -> Settings:
        """Settings of the engine.

        Raises:
            ConfigurationError: a setting here, or a `HYDRAFLOW_*` variable, is not of its kind.
        """
        from hydraflow.settings import load

        return load(threads=self.settings.threads, request_rate=self.settings.max_requests_per_second)

    @asynccontextmanager
    async def admission(self, operation: Operation, url: str) -> AsyncIterator[None]:
        """Wait for one of the places at a URL's server, as many as there are threads; in the engine thread."""
        key = operation, urls.origin(url)
        if key not in self._places:
            self._places[key] = asyncio.Semaphore(self.engine_settings.crowd)
        async with self._places[key]:
            yield

    def headers(self, url: str) -> dict[str, str]:
        """What requests for this URL carry."""
        own = {each.name: each.value for each in self._headers if each.host in queries.hosts(url)}
        if self.settings.token is not None and "authorization" not in map(str.lower, own):
            own["Authorization"] = f"Bearer {self.settings.token}"
        return own

    def state(self, query: str) -> Path:
        """The file that a query is fetched to, before it is moved to its local path, or linked there."""
        root = Path(self.settings.state_dir or self.local_prefix / ".hydra").expanduser()
        return root / queries.fingerprint(query)[:32] / urls.file_name(query)

    @property
    def keeps(self) -> bool:
        """What has been fetched stays in the state directory, for others."""
        return self.settings.state_dir is not None

    async def fetch(self, query: str) -> FetchResult:
        """Have the file in its place in the state directory; in the engine thread.

        What is under way already is waited for.

        Raises:
            HydraError: it could not be had.
        """
        self._wanted.pop(query, None)
        self._ahead.pop(self.state(query), None)
        task = self._fetch(query)
        self._begin_ahead()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise

    async def look_ahead(self, query: str, size: int) -> None:
        """Begin with a file that will be asked for, once not more bytes are ahead than the settings allow."""
        if self.state(query) not in self._ahead:
            self._wanted[query] = size
            self._begin_ahead()

    def _begin_ahead(self) -> None:
        for query, size in list(self._wanted.items()):
            if sum(self._ahead.values()) + size <= self._budget:
                del self._wanted[query]
                self._ahead[self.state(query)] = size
                # An error is that of the retrieval, which tries again.
                self._fetch(query).add_done_callback(lambda task: task.cancelled() or task.exception())

    def _fetch(self, query: str) -> asyncio.Task[FetchResult]:
        """The only transfer of a file in this process."""
        path, url = self.state(query), urls.parse(query).url

        async def work() -> FetchResult:
            known = self.probes.known(url)
            tagged = self.keeps and urls.parse(query).digest is None
            if tagged and not await asyncio.to_thread(retrieval.is_current, path, known):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            async with self.admission(Operation.RETRIEVE, url):
                try:
                    size = None if known is None else known.size
                    result = await retrieval.fetch(query, path, self.headers(url), self.engine_settings, size)
                except HydraError as error:
                    raise self.pins.explain(query, error) from error
            if tagged:
                await asyncio.to_thread(retrieval.note_tag, path, result.etag)
            return result

        if path not in self._fetches:
            self._fetches[path] = asyncio.get_running_loop().create_task(work())
            self._fetches[path].add_done_callback(lambda _: self._fetches.pop(path, None))
        return self._fetches[path]

    async def _ask(self, url: str) -> Resource:
        from hydraflow import api

        async with self.admission(Operation.EXISTS, url):
            return await api.aprobe(url, headers=self.headers(url), settings=self.engine_settings)

    def _validate(self, query: str) -> StorageQueryValidationResult:
        """As the class does, and by the lock; and nothing is to be written."""
        # Snakemake itself would find out when the job has run, and is to store its outputs.
        if (rule := host.writing_rule(StorageObject)) is not None:
            reason = f"rule {rule} has an output in storage.hydra, which can only be read; write a local file"
            return StorageQueryValidationResult(urls.redact(query), valid=False, reason=reason)
        try:
            return _validate(self.pins.pin(self.postprocess_query(query)))
        except HydraError as error:
            return StorageQueryValidationResult(urls.redact(query), valid=False, reason=text(error))


def _validate(query: str) -> StorageQueryValidationResult:
    reason = queries.objection(query)
    return StorageQueryValidationResult(urls.redact(query), reason is None, reason)
