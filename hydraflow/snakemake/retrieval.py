"""A file's way from the server to its local path: fetched in a state directory, and moved when it is whole.

Snakemake deletes the local path when a retrieval fails, so the checkpoint lies elsewhere: `<state>/<hash>/<name>`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hydraflow.errors import DestinationBusyError, DestinationExistsError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hydraflow.models import FetchResult
    from hydraflow.settings import Settings

__all__ = ["leave_unreadable", "move", "retrieve"]

_PAUSE = 0.5  # seconds between two looks at whether another process has finished


async def retrieve(
    query: str, state: Path, target: Path, *, mtime: float, headers: Mapping[str, str], settings: Settings
) -> FetchResult:
    """Fetch `query` to `state`, then move it to `target`, which is whole and verified from its first moment on.

    Args:
        query: URL with its options in the fragment.
        state: a file in a directory of its own; the checkpoint lies beside it.
        target: replaced, whatever file is there.
        mtime: Unix time of the file in the storage, which `target` gets too.
        headers: as for `hydraflow.fetch`.
        settings: of the engine.

    Raises:
        HydraError: see `hydraflow.errors`; nothing has changed at `target`, and the checkpoint stays.
    """
    result = await _fetch(query, state, headers, settings)
    await asyncio.to_thread(move, state, target, mtime)
    return replace(result, path=target)


async def _fetch(query: str, state: Path, headers: Mapping[str, str], settings: Settings) -> FetchResult:
    from hydraflow import api

    overwrite = False
    while True:
        try:
            return await api.afetch(query, state, headers=headers, overwrite=overwrite, settings=settings)
        except DestinationExistsError:
            # A run was killed between fetch and move, and the file that it left is another one now.
            overwrite = True
        except DestinationBusyError:
            await asyncio.sleep(_PAUSE)


def move(source: Path, target: Path, mtime: float) -> None:
    """Give the file its final name in one step, then remove the directory that it was in.

    Raises:
        StorageError: it cannot be done.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Snakemake retrieves anew what is older than the file in the storage, and refuses what is of the future.
        os.utime(source, (mtime, mtime))
        _rename(source, target)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot move {source} to {target}") from error
    with suppress(OSError):
        source.parent.rmdir()


def _rename(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        source.unlink()


def _copy(source: Path, target: Path) -> None:
    """The state directory is on another file system: copy beside the target, then rename."""
    temporary = _beside(target)
    try:
        shutil.copy2(source, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def leave_unreadable(path: Path) -> None:
    """Leave something at `path` that exists and cannot be opened, by nobody and with no rights: a socket.

    An error raised from a retrieval would abort the whole workflow, `--keep-going` and `retries` or not.  So the job is
    let start, and fails as it opens its input (ENXIO).  The time is 0: older than any file in a storage, which is
    therefore retrieved again for the next try.

    Raises:
        StorageError: it cannot be done.
    """
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(temporary, stat.S_IFSOCK | 0o600)
        os.utime(temporary, (0, 0))
        temporary.replace(path)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot mark {path} as not retrieved") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name in the same directory that nobody else uses."""
    return path.with_name(f".{secrets.token_hex(8)}.hydra")
