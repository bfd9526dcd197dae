"""Lists of files: read for a run, written for the next one."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from hydraflow.core import manifests, urls
from hydraflow.core.locks import Lock
from hydraflow.core.manifests import Entry
from hydraflow.errors import ConfigurationError, HydraError, StorageError

__all__ = ["check_place", "entry_of", "of_lock", "read", "write", "write_failed"]

_STDIN = "-"
#: What the lines of a list of failures have.
_OURS = {each.name for each in fields(Entry)}


def read(source: str, note: Callable[[str], None]) -> list[Entry]:
    """The files of a manifest; `-` is standard input.

    Raises:
        ConfigurationError: it cannot be understood, or lists nothing.
        StorageError: it cannot be read.
    """
    shown = "standard input" if source == _STDIN else source
    try:
        manifest = manifests.parse(_bytes(source))
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}: {error}", hint=error.hint) from None
    if not manifest.entries:
        raise ConfigurationError(f"{shown} lists no file")
    if manifest.ignored:
        note(f"{shown}: passed over, since it means nothing here: {', '.join(manifest.ignored)}")
    return list(manifest.entries)


def _bytes(source: str) -> bytes:
    most = manifests.MAX_BYTES + 1
    try:
        if source == _STDIN:
            if sys.stdin is None:
                raise ConfigurationError("it is closed")
            return sys.stdin.buffer.read(most)
        with Path(source).open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {source}") from error


def entry_of(url: str) -> Entry:
    """What a URL with its fragment asks for."""
    target = urls.parse(url)
    mirrors = tuple(value for name, value in target.options if name == "mirror")
    return Entry(target.url, "", target.digest, target.size, mirrors)


def of_lock(lock: Lock, wanted: Sequence[Entry]) -> list[Entry]:
    """What is wanted, as the lock has it; all of it, if nothing is named.

    Raises:
        ConfigurationError: the lock does not have one, or contradicts it.
    """
    if not wanted:
        return [each.entry for each in lock.files]
    found = []
    for entry in wanted:
        locked = lock.find(entry.target)
        name = entry.name or locked.name
        found.append(Entry(entry.url, name, locked.digest, locked.size, entry.mirrors, entry.headers))
    return found


def check_place(path: Path, source: str) -> None:
    """A list of failures may take the place of one that was read, and go; a manifest of somebody's own may not.

    Raises:
        ConfigurationError: it would.
    """
    try:
        if source == _STDIN or not path.samefile(source):
            return
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError:
        return
    except ValueError:
        rows = [None]
    if not all(isinstance(row, dict) and row.keys() <= _OURS for row in rows):
        raise ConfigurationError(
            f"--failed would take the place of the manifest {source}", hint="Name another file for what fails."
        )


def write_failed(path: Path, items: Sequence[str | Entry], outcomes: Iterable[object]) -> int:
    """List what failed, for `--input`; without any failure there is no list afterwards. How many there are.

    It has the URLs as they were given, secrets included, so only its owner may read it.
    """
    failed = [item for item, outcome in zip(items, outcomes, strict=True) if isinstance(outcome, HydraError)]
    lines = [json.dumps({"url": item} if isinstance(item, str) else item.as_dict()) for item in failed]
    if lines:
        write(path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError.wrap(error, f"cannot remove {path}") from error
    return len(failed)


def write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put a small file in its place in one step: whoever reads it finds the old one or the new one.

    Raises:
        StorageError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot write {path}") from error
