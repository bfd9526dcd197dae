"""Lists of files: read for a run, written for the next one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hydraflow.cli import products
from hydraflow.core import manifests, urls
from hydraflow.core.locks import Lock
from hydraflow.core.manifests import Entry
from hydraflow.errors import ConfigurationError, HydraError, StorageError

__all__ = ["check_streamed", "entry_of", "is_url", "of_lock", "read", "write_failed"]

_STDIN = "-"


def read(source: str, note: Callable[[str], None]) -> list[Entry]:
    """The files of a manifest; `-` is standard input.

    Raises:
        ConfigurationError: it cannot be understood, or lists nothing.
        StorageError: it cannot be read.
    """
    if is_url(source):
        what = f"{urls.redact(source)} is a URL, and a manifest is a file of this machine"
        raise ConfigurationError(what, hint="Fetch it first.")
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


def check_streamed(entries: Sequence[Entry], *, keep: bool) -> None:
    """Refuse what a stream would drop without a word.

    Raises:
        ConfigurationError: a file has headers of its own, or one that is kept another name than its URL's.
    """
    for entry in entries:
        shown = urls.redact(entry.url)
        if entry.headers:
            raise ConfigurationError(f"headers of one file cannot be sent in a stream: {shown}", hint="Use --header.")
        if keep and entry.name not in ("", urls.file_name(entry.url)):
            what = f"a stream is kept under the name in its URL, and not as {entry.name}: {shown}"
            raise ConfigurationError(what, hint="Fetch it, and stream it from there.")


def write_failed(
    path: Path, items: Sequence[str | Entry], outcomes: Iterable[object], digest: str | None = None
) -> int:
    """List what failed, for `--input`; without any failure there is no list afterwards. How many there are.

    It has the URLs as they were given, secrets included, so only its owner may read it.
    """
    failed = [item for item, outcome in zip(items, outcomes, strict=True) if isinstance(outcome, HydraError)]
    # A digest of the command line is that of the one file there is.
    known = {} if digest is None else {"digest": digest}
    lines = [json.dumps(({"url": item} if isinstance(item, str) else item.as_dict()) | known) for item in failed]
    if lines:
        products.write(path, "".join(f"{line}\n" for line in lines).encode(), products.FAILURES, mode=0o600)
    else:
        products.remove(path, products.FAILURES)
    return len(failed)


def is_url(source: str) -> bool:
    """It is the address of something, and not a file's path."""
    return source.lower().startswith(("http://", "https://"))
