"""Small files that a command writes beside its data: lists of failures, reports, locks.

The name of one is easily mistaken for another option's, and nothing may be lost by that: only a file of the same kind
is replaced or removed.  What is no plain file (`/dev/null`, a named pipe) is written to, and stays.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from hydraflow.core.manifests import Entry
from hydraflow.errors import ConfigurationError, StorageError

__all__ = ["FAILURES", "LOCK", "REPORT", "Kind", "check", "is_plain", "remove", "write"]

#: What the lines of a list of failures have.
_OURS = {each.name for each in fields(Entry)}


@dataclass(frozen=True, slots=True)
class Kind:
    """What such a file is called, the option that names it, and whether bytes are one."""

    name: str
    option: str
    fits: Callable[[bytes], bool]


def _lists_failures(data: bytes) -> bool:
    try:
        rows = [json.loads(line) for line in data.splitlines()]
    except ValueError:
        return False
    return all(isinstance(row, dict) and row.keys() <= _OURS for row in rows)


def _is_lock(data: bytes) -> bool:
    from hydraflow.core import locks

    try:
        locks.parse(data, "")
    except ConfigurationError:
        return False
    return True


FAILURES = Kind("a list of failures", "--failed", _lists_failures)
REPORT = Kind("a report", "--report", lambda data: b"<title>hydraflow: " in data[:1000])
LOCK = Kind("a data lock", "--output", _is_lock)


def check(path: Path, kind: Kind) -> None:
    """See that a file of the kind can be written here.

    Raises:
        ConfigurationError: another file would be lost.
        StorageError: it is a directory, or cannot be looked at.
    """
    if not path.name or os.path.isdir(path):  # noqa: PTH112 - Path's raises where it may not look
        raise StorageError(f"cannot write {path}: it is a directory", hint="Name a file in it.")
    try:
        data = path.read_bytes() if is_plain(path) else b""
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}, which would be replaced") from error
    if data and not kind.fits(data):
        message = f"{kind.option} would take the place of {path}, which is not {kind.name}"
        raise ConfigurationError(message, hint="Name another file.")


def is_plain(path: Path) -> bool:
    """There is a file that can be replaced, and not something that is only written to."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    # /dev/stdout may be a file, that of a shell which holds it open.
    return stat.S_ISREG(mode) and path.absolute().parts[:2] != (os.sep, "dev")


def write(path: Path, data: bytes, kind: Kind, *, mode: int = 0o666) -> None:
    """Put it in its place in one step: whoever reads it finds the old one or the new one.

    Raises:
        ConfigurationError: another file would be lost.
        StorageError: it cannot be written.
    """
    check(path, kind)
    try:
        if path.exists() and not is_plain(path):
            _write_to(path, data)
        else:
            _replace(Path(os.path.realpath(path)), data, mode)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot write {path}") from error


def _write_to(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe without a reader is an error
    os.set_blocking(fd, True)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def _replace(path: Path, data: bytes, mode: int) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def remove(path: Path, kind: Kind) -> None:
    """Have no such file here.

    Raises:
        ConfigurationError: there is another one.
        StorageError: it cannot be removed.
    """
    check(path, kind)
    try:
        if is_plain(path):
            path.unlink()
    except OSError as error:
        raise StorageError.wrap(error, f"cannot remove {path}") from error
