r"""Data locks: what a list of files was when somebody looked, and whether it still is that.

As a package manager's lock file does for code: it names each file's URL, size and digest, so that whoever fetches by
it gets the same bytes or an error, and the validators and dates of that moment, by which a change can be seen without
fetching.  It is JSON, sorted and with one value on each line, so that it can be read, compared and merged::

    {
      "hydraflow-lock": 1,
      "files": [
        {
          "name": "genome.fa.gz",
          "url": "https://example.org/genome.fa.gz",
          "size": 1000000,
          "digest": "sha256:9f86d0…",
          "etag": "\"5f3-61a\"",
          "last_modified": "Tue, 15 Nov 1994 12:45:26 GMT"
        }
      ]
    }

Members that are not known are kept out of the way of later versions: they are passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydraflow.core import manifests, urls
from hydraflow.core.manifests import Entry
from hydraflow.errors import (
    ConfigurationError,
    DigestMismatchError,
    HydraError,
    ResourceChangedError,
    SizeMismatchError,
)
from hydraflow.models import Claim, Digest, Validator

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Change", "Lock", "Locked", "changed", "encode", "parse"]

_VERSION = 1
_MARK = "hydraflow-lock"
_AGAIN = "If the new file is meant, lock it anew: hydraflow lock."


@dataclass(frozen=True, slots=True)
class Change:
    """A value that was another one when the file was locked."""

    what: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.what} was {self.was}, is {self.now}"


@dataclass(frozen=True, slots=True)
class Locked:
    """A file as it was; see `manifests.Entry` and `models.Validator` for the values."""

    name: str
    url: str
    size: int
    digest: Digest
    etag: str | None = None
    last_modified: str | None = None

    @property
    def entry(self) -> Entry:
        """What is to be fetched."""
        return Entry(self.url, self.name, self.digest, self.size)

    def differences(self, size: int | None, claims: Iterable[Claim] = (), now: Validator | None = None) -> list[Change]:
        """What is seen to be different by now; a digest decides, a validator only where no digest of its kind is told.

        Args:
            size: in bytes, None where it is not told.
            claims: digests that are promised now.
            now: what the server tells versions apart by.
        """
        changes = []
        if size is not None and size != self.size:
            changes.append(Change("size", f"{self.size:,} bytes", f"{size:,} bytes"))
        same_kind = [
            claim.digest.value
            for claim in claims
            if (claim.digest.algorithm, claim.digest.parts) == (self.digest.algorithm, self.digest.parts)
        ]
        if same_kind and self.digest.value not in same_kind:
            changes.append(Change(self.digest.algorithm, self.digest.value, same_kind[0]))
        if changes or same_kind or now is None:
            return changes
        if self.etag is not None and now.etag is not None:
            return [] if self.etag == now.etag else [Change("ETag", self.etag, now.etag)]
        if None in (self.last_modified, now.last_modified) or self.last_modified == now.last_modified:
            return []
        return [Change("Last-Modified", f"{self.last_modified}", f"{now.last_modified}")]

    def explain(self, error: HydraError, lock: str) -> HydraError:
        """The same failure, told as what it means: that the file is not the locked one. Others stay as they are."""
        match error:
            case SizeMismatchError(expected=expected, actual=actual) if expected == self.size:
                change = Change("size", f"{expected:,} bytes", f"{actual:,} bytes")
            case DigestMismatchError(expected=self.digest.value, actual=value):
                change = Change(self.digest.algorithm, self.digest.value, value)
            case _:
                return error
        return changed([change], self, lock)


def changed(changes: list[Change], locked: Locked, lock: str) -> ResourceChangedError:
    """The error for a file that is not what it was."""
    return ResourceChangedError(
        f"not the file that {lock} has locked: {'; '.join(map(str, changes))}",
        was="; ".join(f"{change.what} {change.was}" for change in changes),
        now="; ".join(f"{change.what} {change.now}" for change in changes),
        url=urls.redact(locked.url),
        hint=_AGAIN,
    )


@dataclass(frozen=True, slots=True)
class Lock:
    """Files as they were, in the order of their list; `source` is what messages call the lock."""

    files: tuple[Locked, ...]
    source: str = "the lock"
    _places: dict[str, Locked] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.files:
            self._places.setdefault(urls.canonical(each.url), each)

    def find(self, url: str) -> Locked:
        """The file at a URL, whose credentials and fragment may be others.

        Raises:
            ConfigurationError: the lock does not have it; or the URL names another digest or size.
        """
        target = urls.parse(url)
        found = self._places.get(urls.canonical(target.url))
        if found is None:
            raise ConfigurationError(
                f"{urls.redact(target.url)} is not in {self.source}", hint="Lock it: hydraflow lock."
            )
        own = target.digest
        if own is not None and own.algorithm == found.digest.algorithm and own != found.digest:
            raise ConfigurationError(f"two digests are given: {own} with the URL, {found.digest} in {self.source}")
        if own is not None and own.algorithm != found.digest.algorithm:
            kinds = f"the URL has a {own.algorithm}, {self.source} a {found.digest.algorithm}"
            raise ConfigurationError(
                f"{kinds}: one of them would go unchecked", hint="Leave out the digest that stands with the URL."
            )
        if target.size not in (None, found.size):
            raise ConfigurationError(
                f"two sizes are given: {target.size:,} with the URL, {found.size:,} in {self.source}"
            )
        return found

    def pin(self, url: str) -> str:
        """The URL with what the lock knows of it in its fragment.

        Raises:
            ConfigurationError: see `find`.
        """
        found, target = self.find(url), urls.parse(url)
        mirrors = tuple(value for name, value in target.options if name == "mirror")
        return Entry(target.url, "", found.digest, found.size, mirrors).target


def encode(files: Iterable[Locked]) -> bytes:
    """The lock as it is written; sorted by name."""
    listed = [_values(each) for each in sorted(files, key=lambda each: (each.name, each.url))]
    return (json.dumps({_MARK: _VERSION, "files": listed}, indent=2, ensure_ascii=False) + "\n").encode()


def _values(locked: Locked) -> dict[str, Any]:
    return {
        "name": locked.name,
        "url": locked.url,
        "size": locked.size,
        "digest": str(locked.digest),
        "etag": locked.etag,
        "last_modified": locked.last_modified,
    }


def parse(data: bytes, source: str = "the lock") -> Lock:
    """Read a lock.

    Raises:
        ConfigurationError: it is none, of a later version, or says what cannot be.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict) or _MARK not in whole:
        raise ConfigurationError(f"{source} is not a data lock", hint="Make one: hydraflow lock URL... -o data.lock.")
    if whole[_MARK] != _VERSION:
        raise ConfigurationError(
            f"{source} is of version {whole[_MARK]!r}, known is {_VERSION}", hint="Update hydraflow."
        )
    if not isinstance(whole.get("files"), list):
        raise ConfigurationError(f"{source} has no list of files")
    return Lock(tuple(_locked(item, f"{source}, file {at}") for at, item in enumerate(whole["files"], 1)), source)


def _locked(item: Any, place: str) -> Locked:
    try:
        [entry] = manifests.parse(json.dumps([item]).encode()).entries
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {str(error).removeprefix('file 1: ')}") from None
    if entry.digest is None or entry.size is None or not entry.name:
        raise ConfigurationError(f"{place}: name, url, size and digest are needed")
    etag, date = (item.get(name) if isinstance(item.get(name), str) else None for name in ("etag", "last_modified"))
    return Locked(entry.name, entry.url, entry.size, entry.digest, etag, date)
