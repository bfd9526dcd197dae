"""`hydra_fetch` and `hydra_fetch_many`: files, whole and verified, as tasks of a flow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.cache_policies import NO_CACHE

from hydraflow import api
from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.models import FetchResult
from hydraflow.prefect import manifests, pinning
from hydraflow.prefect.artifacts import Board
from hydraflow.prefect.budgets import aheld, held
from hydraflow.prefect.caching import FileOnDisk, replaceable
from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.lineage import materialized, materialized_all
from hydraflow.prefect.profiles import HydraProfile, aloaded, loaded, reveal, settle
from hydraflow.prefect.records import FetchedFile
from hydraflow.prefect.retrying import worth_another_try
from hydraflow.prefect.runs import logger, stopped
from hydraflow.prefect.serialising import SERIALIZER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import SecretStr

    from hydraflow.core.manifests import Entry

__all__ = ["hydra_fetch", "hydra_fetch_many"]

# ── one file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fetch(
    url: str | SecretStr,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | None = None,
    size: int | None = None,
    mirrors: Sequence[str] = (),
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> FetchedFile:
    """Fetch a URL to a file, as a task; what it returns is whole and verified.

    A direct call gives the file, and in async code an awaitable of it.  `submit`, `map` and `with_options` are those of
    every task.  Failures of the network are retried three times, and each time go on from the checkpoint; whatever a
    retry cannot cure (404, 401, 403, a wrong digest, a wrong call, a full disk) fails at once.

    A second run with the same digest is `Cached` as long as the file is there as it was left: see `FileOnDisk`.

    Args:
        url: http or https; `#sha256=HEX`, `#md5=HEX` and `#size=N` may stand behind it.
        dest: a file; or a directory, if it exists as one or ends with a slash.
            Default: `HYDRAFLOW_OUTPUT` (`download/`).
        digest: `ALGORITHM:HEX` that the file must have.
        size: bytes that the file must have.
        mirrors: other URLs of the same file.
        lock: a data lock that knows the URL; another file than was locked is refused.
        headers: added to every request to this origin, never sent to another one.
        overwrite: replace another file at `dest`.
        profile: a `HydraProfile`, or the name of one that is saved.
        settings: by their names in docs/configuration.md, before those of the profile and the environment.
        progress: show a progress artifact in the UI, for transfers that take more than two seconds.

    Returns:
        The file's path and the proof; usable as a path itself.

    Raises:
        ResourceChangedError: the file is not the locked one; `was` and `now` have both values.
        HydraError: the member of the tree in `hydraflow.errors` says what went wrong; nothing is left at `dest`.
    """
    halted = stopped()
    fields, policies = settle(loaded(profile), headers, settings)
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(pinning.pinned(reveal(url), lock))
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.callback(board.close)
        result = api.fetch(
            plain,
            dest,
            digest=digest,
            size=size,
            mirrors=mirrors,
            headers=fields,
            overwrite=overwrite or replaceable(),
            on_progress=board,
            stopped=halted,
            settings=stack.enter_context(held([plain, *mirrors], policies, halted)),
        )
        return _report(result, board)


async def _afetch(
    url: str | SecretStr,
    dest: str | os.PathLike[str] | None = None,
    *,
    digest: str | None = None,
    size: int | None = None,
    mirrors: Sequence[str] = (),
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> FetchedFile:
    fields, policies = settle(await aloaded(profile), headers, settings)
    async with contextlib.AsyncExitStack() as stack:
        plain = stack.enter_context(pinning.pinned(reveal(url), lock))
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.push_async_callback(board.aclose)
        work = api.afetch(
            plain,
            dest,
            digest=digest,
            size=size,
            mirrors=mirrors,
            headers=fields,
            overwrite=overwrite or replaceable(),
            on_progress=board,
            settings=await stack.enter_async_context(aheld([plain, *mirrors], policies)),
        )
        return _report(await work, board)


def _report(result: FetchResult, board: Board | None) -> FetchedFile:
    """The record to return; a line in the run's log, a link in the UI, and the file's descent."""
    file = FetchedFile.of(result)
    logger().info("%s: %s, %s bytes, %s", file.path, file.outcome, f"{file.size:,}", file.proof)
    if board is not None:
        board.link(file)
    materialized(file)
    return file


def _run_name(parameters: dict[str, Any]) -> str:
    # Only the file's name, for the rest of a URL may hold secrets.
    return f"fetch-{urls.file_name(reveal(parameters['url']))}"


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
    cache_policy=FileOnDisk(),
    persist_result=True,
    result_serializer=SERIALIZER,
)


# ── many files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _fetch_many(
    manifest: str | os.PathLike[str] | Iterable[str | SecretStr],
    dest_dir: str | os.PathLike[str] | None = None,
    *,
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[FetchedFile]:
    """Fetch many files into one directory, as one task; what it returns is whole and verified, in the given order.

    All of them are tried.  If some fail the task fails, and is retried if that can help; those that are there already
    are checked, and not fetched again.  A table in the UI has a row for each file.

    Args:
        manifest: URLs, each perhaps with its digest in the fragment; or a file that lists them: see `manifests.read`.
        dest_dir: default: `HYDRAFLOW_OUTPUT` (`download/`).
        lock: a data lock that knows all of them, as for `hydra_fetch`; it is a manifest as well.
        headers: as for `hydra_fetch`, for each URL; so are the others.
        overwrite: replace other files.
        profile: see there.
        settings: see there.
        progress: show one progress artifact for all of them, and the table.

    Raises:
        HydraError: of the file that failed, if it is one.
        ExceptionGroup: of the errors, if several failed.
    """
    wanted, halted = pinning.listed(manifests.items(manifest), lock), stopped()
    fields, policies = settle(loaded(profile), headers, settings)
    with contextlib.ExitStack() as stack:
        board = Board.of_this_run(len(wanted)) if progress else None
        if board is not None:
            stack.callback(board.close)
        outcomes = api.fetch_all(
            wanted,
            dest_dir,
            headers=fields,
            overwrite=overwrite,
            on_progress=board,
            on_outcome=None if board is None else board.ended,
            stopped=halted,
            settings=stack.enter_context(held(map(_url, wanted), policies, halted)),
        )
        return _report_all(wanted, _meant(wanted, outcomes, lock), board)


async def _afetch_many(
    manifest: str | os.PathLike[str] | Iterable[str | SecretStr],
    dest_dir: str | os.PathLike[str] | None = None,
    *,
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    overwrite: bool = False,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[FetchedFile]:
    wanted = pinning.listed(manifests.items(manifest), lock)
    fields, policies = settle(await aloaded(profile), headers, settings)
    async with contextlib.AsyncExitStack() as stack:
        board = Board.of_this_run(len(wanted)) if progress else None
        if board is not None:
            stack.push_async_callback(board.aclose)
        hydra = api.Hydra(await stack.enter_async_context(aheld(map(_url, wanted), policies)))
        work = hydra.gather(
            wanted,
            dest_dir,
            headers=fields,
            overwrite=overwrite,
            on_progress=board,
            on_outcome=None if board is None else board.ended,
        )
        return _report_all(wanted, _meant(wanted, await work, lock), board)


def _url(item: str | Entry) -> str:
    return item if isinstance(item, str) else item.target


def _meant(
    wanted: Sequence[str | Entry], outcomes: Sequence[FetchResult | HydraError], lock: pinning.Path
) -> list[FetchResult | HydraError]:
    """The outcomes, failures told in the terms of the lock."""
    return [
        pinning.explained(outcome, item, lock) if isinstance(outcome, HydraError) else outcome
        for item, outcome in zip(wanted, outcomes, strict=True)
    ]


def _report_all(
    wanted: Sequence[str | Entry], outcomes: Sequence[FetchResult | HydraError], board: Board | None
) -> list[FetchedFile]:
    """The records to return, or the errors to raise; each in the log and the table."""
    files = [FetchedFile.of(outcome) for outcome in outcomes if isinstance(outcome, FetchResult)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, HydraError)]
    count, size = f"{len(files):,} of {len(outcomes):,} files", f"{sum(file.size for file in files):,} bytes"
    logger().info("%s are there, %s, %s of them over the network", count, size, _received(files))
    for item, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, HydraError):
            logger().error("%s: %s", urls.redact(_url(item)), outcome)
    if board is not None:
        rows = [_row(_url(item), outcome) for item, outcome in zip(wanted, outcomes, strict=True)]
        board.table(rows, f"{count}, {size}")
    materialized_all(files)
    if len(errors) > 1:
        raise ExceptionGroup(f"{len(errors):,} of {len(outcomes):,} files failed", errors)
    if errors:
        raise errors[0]
    return files


def _received(files: Sequence[FetchedFile]) -> str:
    return f"{sum(file.bytes_from_network for file in files):,}"


def _row(url: str, outcome: FetchResult | HydraError) -> dict[str, Any]:
    if isinstance(outcome, HydraError):
        what = {"bytes": None, "outcome": "failed", "proof": str(outcome), "digest": None}
        return {"file": urls.file_name(url), **what, "from": urls.redact(url)}
    file = FetchedFile.of(outcome)
    return {
        "file": file.path.name,
        "bytes": file.size,
        "outcome": str(file.outcome),
        "proof": file.proof,
        "digest": file.digest,
        "from": file.url,
    }


def _run_name_of_many(parameters: dict[str, Any]) -> str:
    manifest = parameters["manifest"]
    if isinstance(manifest, (str, os.PathLike)):
        return f"fetch-{Path(manifest).name}"
    return f"fetch-{len(manifest):,}-files" if isinstance(manifest, Sized) else "fetch"


hydra_fetch_many = HydraTask(
    _fetch_many,
    _afetch_many,
    name="hydra_fetch_many",
    description="Fetch many files, resuming and verified.",
    task_run_name=_run_name_of_many,
    retries=3,
    retry_delay_seconds=[1, 2, 4],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
    # Files that are there are looked at one by one.
    cache_policy=NO_CACHE,
    result_serializer=SERIALIZER,
)
