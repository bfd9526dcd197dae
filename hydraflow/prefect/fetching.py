"""`hydra_fetch`: a file, whole and verified, as a task of a flow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import anyio
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from hydraflow import api
from hydraflow.core import urls
from hydraflow.prefect.artifacts import ProgressBar
from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.records import FetchedFile
from hydraflow.prefect.retrying import worth_another_try

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Mapping

    from hydraflow.models import FetchResult

__all__ = ["hydra_fetch"]


def _fetch(
    url: str,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> FetchedFile:
    """Fetch a URL to a file, as a task; what it returns is whole and verified.

    A direct call gives the file, and in async code an awaitable of it.  `submit`, `map` and `with_options` are those of
    every task.  Failures of the network are retried three times, and each time go on from the checkpoint; whatever a
    retry cannot cure (404, 401, 403, a wrong digest, a wrong call, a full disk) fails at once.

    The result is not cached (`NO_CACHE`): Prefect's default policy would return the record of an earlier run without
    looking for its file.  A second run finds the file itself, checks it and fetches nothing.

    Args:
        url: http or https; `#sha256=HEX`, `#md5=HEX` and `#size=N` may stand behind it.
        dest: a file; or a directory, if it exists as one or ends with a slash.
            Default: `HYDRAFLOW_OUTPUT` (`download/`).
        digest: `ALGORITHM:HEX` that the file must have.
        size: bytes that the file must have.
        headers: added to every request to this origin, never sent to another one.
        overwrite: replace another file at `dest`.
        progress: show a progress artifact in the UI, for transfers that take more than two seconds.

    Returns:
        The file's path and the proof; usable as a path itself.

    Raises:
        HydraError: the member of the tree in `hydraflow.errors` says what went wrong; nothing is left at `dest`.
    """
    with contextlib.ExitStack() as stack:
        bar = ProgressBar.of_this_run() if progress else None
        if bar is not None:
            stack.callback(bar.close)
        result = api.fetch(url, dest, digest=digest, size=size, headers=headers, overwrite=overwrite, on_progress=bar)
    return _report(result)


async def _afetch(
    url: str,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> FetchedFile:
    async with contextlib.AsyncExitStack() as stack:
        bar = ProgressBar.of_this_run() if progress else None
        if bar is not None:
            stack.push_async_callback(bar.aclose)
        work = api.afetch(url, dest, digest=digest, size=size, headers=headers, overwrite=overwrite, on_progress=bar)
        result = await _see_end(work)
    return _report(result)


async def _see_end(work: Coroutine[Any, Any, FetchResult]) -> FetchResult:
    """Await a transfer; if cancelled, cancel it and go on only once its checkpoint is flushed.

    A timeout of Prefect cancels again at every await, which only a shielded scope outlasts.  Without it the retry would
    meet the transfer that is still ending.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


def _report(result: FetchResult) -> FetchedFile:
    """The record to return, and one line in the run's log."""
    file = FetchedFile.of(result)
    _logger().info("%s: %s, %s bytes, %s", file.path, file.outcome, f"{file.size:,}", file.proof)
    return file


def _logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:  # called as `hydra_fetch.fn`
        return logging.getLogger(__name__)


def _run_name(parameters: dict[str, Any]) -> str:
    # Only the file's name, for the rest of a URL may hold secrets.
    return f"fetch-{urls.file_name(str(parameters['url']))}"


hydra_fetch = HydraTask(
    _fetch,
    _afetch,
    name="hydra_fetch",
    description="Fetch a file, resuming and verified.",
    task_run_name=_run_name,
    retries=3,
    retry_delay_seconds=[1, 2, 4],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
    # The default policy would hand out the record of an earlier run, whose file may be gone.
    cache_policy=NO_CACHE,
)
