"""Small things that writing to a disk needs, and `os` does not have."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from hydraflow.errors import StorageError

__all__ = ["NOFOLLOW", "make_directories", "open_regular", "reserve", "sync_directory", "wrap", "write_all"]

NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


class wrap:  # noqa: N801 - reads as a statement
    """`OSError` becomes `StorageError`."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError.wrap(error, self._doing) from error


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def reserve(fd: int, start: int, stop: int) -> bool:
    """Have the file system set blocks aside for bytes `[start, stop)`; False where it cannot.

    By fallocate(2) itself: where that is not supported, posix_fallocate(3) would write zeros instead.
    """
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return False
    import ctypes

    try:
        call = ctypes.CDLL(None).fallocate
    except (OSError, AttributeError):
        return False
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return int(call(fd, _KEEP_SIZE, start, stop - start)) == 0


def open_regular(name: str, directory: int, flags: int) -> int:
    """Open a plain file of one name in a directory; -1 if there is none, or something else of that name."""
    try:
        # Non-blocking, because a named pipe may lie there.
        fd = os.open(name, flags | os.O_NONBLOCK | NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return -1
        raise
    plain = False
    try:
        plain = stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        if not plain:
            os.close(fd)
    return fd if plain else -1


def make_directories(path: Path) -> None:
    """`mkdir -p`; what is made is durable, or a file in it would not be."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in made:
        sync_directory(each.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the file system can."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # one may write into it and not read it: nothing can be promised
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can do it
            raise
    finally:
        os.close(fd)
