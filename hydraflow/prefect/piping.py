"""`hydra_pipe`: a command on a stream, as a task of a flow."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.cache_policies import NO_CACHE

from hydraflow.core import urls
from hydraflow.prefect import pinning
from hydraflow.prefect.artifacts import Board
from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.profiles import HydraProfile, reveal
from hydraflow.prefect.records import PipeResult
from hydraflow.prefect.retrying import worth_another_try
from hydraflow.prefect.runs import logger
from hydraflow.prefect.serialising import SERIALIZER
from hydraflow.prefect.streaming import hydra_stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

__all__ = ["hydra_pipe"]


def _pipe(
    url: str | SecretStr,
    command: str | Sequence[str],
    *,
    digest: str | None = None,
    keep: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    progress: bool = True,
) -> PipeResult:
    """Stream a URL through a command, as a task: nothing on disk, and no result of broken or wrong data.

    A failing transfer kills the command with all that it has started, before it could see the end of its input; then
    the task is retried if that can help.  A command that fails is not retried.

    Args:
        url: as for `hydra_stream`; so are the others.
        command: `"zcat | grep -c '^>'"`, or the words of a program: see `HydraStream.run`.
        digest: see there.
        keep: see there.
        decompress: see there.
        lock: see there.
        headers: see there.
        profile: see there.
        settings: see there.
        allow_partial: see there.
        progress: show a progress artifact in the UI, for transfers that take more than two seconds.

    Raises:
        CommandFailedError: the command's exit code is not 0.
        HydraError: see `HydraStream.run`.
    """
    with contextlib.ExitStack() as stack:
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.callback(board.close)
        opening = hydra_stream(
            url,
            digest=digest,
            keep=keep,
            decompress=decompress,
            lock=lock,
            headers=headers,
            profile=profile,
            settings=settings,
            allow_partial=allow_partial,
            on_progress=board,
        )
        return _told(stack.enter_context(opening).run(command))


async def _apipe(
    url: str | SecretStr,
    command: str | Sequence[str],
    *,
    digest: str | None = None,
    keep: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    lock: pinning.Path = None,
    headers: Mapping[str, str] | None = None,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    progress: bool = True,
) -> PipeResult:
    async with contextlib.AsyncExitStack() as stack:
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.push_async_callback(board.aclose)
        opening = hydra_stream(
            url,
            digest=digest,
            keep=keep,
            decompress=decompress,
            lock=lock,
            headers=headers,
            profile=profile,
            settings=settings,
            allow_partial=allow_partial,
            on_progress=board,
        )
        stream = await stack.enter_async_context(opening)
        return _told(await stream.run(command))


def _told(result: PipeResult) -> PipeResult:
    stream = result.stream
    read = "not read to its end" if stream is None else f"{stream.size:,} bytes, {stream.proof}"
    logger().info("streamed: %s; exit code %s", read, result.returncode)
    return result


def _run_name(parameters: dict[str, Any]) -> str:
    command = parameters["command"]
    words = command.split() if isinstance(command, str) else [os.fspath(word) for word in command]
    # What a line sets before it may be secret.
    program = next((Path(word).name for word in words if "=" not in word), "")
    return f"pipe-{urls.file_name(reveal(parameters['url']))}-{program}"


hydra_pipe = HydraTask(
    _pipe,
    _apipe,
    name="hydra_pipe",
    description="Stream a file through a command, verified.",
    task_run_name=_run_name,
    retries=3,
    retry_delay_seconds=[1, 2, 4],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
    result_serializer=SERIALIZER,
)
