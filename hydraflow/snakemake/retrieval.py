"""A file's way from the server to its local path: fetched in a state directory, and moved when it is whole.

Snakemake deletes the local path when a retrieval fails, so the checkpoint lies elsewhere: `<state>/<hash>/<name>`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hydraflow.errors import DestinationExistsError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hydraflow.models import FetchResult, Resource
    from hydraflow.settings import Settings

__all__ = ["fetch", "is_current", "leave_unreadable", "move", "note_tag", "publish", "recall", "share"]

_SMALL = 8 << 20  # bytes; many such files come side by side, and each has a latency to wait for


async def fetch(
    query: str, state: Path, headers: Mapping[str, str], settings: Settings, size: int | None = None
) -> FetchResult:
    """Fetch `query` to `state`, unless it is there; the checkpoint lies beside it.

    Args:
        query: URL with its options in the fragment.
        state: a file in a directory of its own.
        headers: as for `hydraflow.fetch`.
        settings: of the engine.
        size: in bytes, as far as is known; a small file comes in one request.

    Raises:
        HydraError: see `hydraflow.errors`; the checkpoint stays.
    """
    from hydraflow import delivery, ordering, runtime

    (order,) = ordering.orders(query, headers=headers)
    if size is not None and size <= _SMALL:
        order = replace(order, first_lease=max(size, 1))
    overwrite = False
    while True:
        try:
            return await runtime.start(
                settings,
                lambda engine: delivery.to_file(engine, order, state, resume=True, overwrite=overwrite),  # noqa: B023
            ).join()
        except DestinationExistsError:
            # Kept, or left by a run that was killed between fetch and move, and it is another one now.
            overwrite = True


def is_current(path: Path, known: Resource | None) -> bool:
    """What is kept at `path` may still be the file, of which no digest is known; what has no date must have its tag."""
    if known is None or known.validator.last_modified is not None or not path.exists():
        return True
    try:
        return known.validator.etag is not None and _tag(path).read_text() == known.validator.etag
    except (OSError, ValueError):
        return False


def note_tag(path: Path, tag: str | None) -> None:
    """Keep the tag of the file beside it; without one, or without room for it, it is fetched again next time."""
    with suppress(OSError):
        if tag is None:
            _tag(path).unlink(missing_ok=True)
        else:
            _tag(path).write_text(tag)


def _tag(path: Path) -> Path:
    return path.with_name(f".{path.name}.etag")


async def recall(query: str, path: Path) -> FetchResult:
    """The result for a file that was fetched before; a declared digest and size are checked, and nobody is asked.

    Raises:
        StorageError: it is another one now.
    """
    from hydraflow import delivery, ordering

    (order,) = ordering.orders(query)
    return await delivery.recall(order, path)


def publish(source: Path, target: Path, mtime: float, *, keep: bool) -> None:
    """Give the file its final name in one step: whole and verified from its first moment on.

    Args:
        source: in a directory of its own, which goes with it.
        target: replaced, whatever file is there.
        mtime: Unix time of the file in the storage, which `target` gets too.
        keep: leave `source` where it is.

    Raises:
        StorageError: it cannot be done; nothing has changed at `target`.
    """
    if keep:
        share(source, target, mtime)
    else:
        move(source, target, mtime)


def share(source: Path, target: Path, mtime: float) -> None:
    """The same file under two names, or a copy where that cannot be (another file system, rights).

    Raises:
        StorageError: it cannot be done.
    """
    temporary = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, temporary)
            os.utime(temporary, (mtime, mtime))
        except OSError:
            temporary.unlink(missing_ok=True)
            _copy(source, temporary)
            os.utime(temporary, (mtime, mtime))
        temporary.replace(target)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot put {source} at {target}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
