"""`hydraflow verify`: files that are there already, checked against a URL, a manifest or a digest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hydraflow import api, delivery, ordering, runtime
from hydraflow.core import integrity, manifests, metalink, sidecars, urls
from hydraflow.engine import Engine
from hydraflow.errors import (
    ConfigurationError,
    DigestMismatchError,
    HydraError,
    IntegrityError,
    SizeMismatchError,
    StorageError,
    UnverifiableError,
)
from hydraflow.models import ALGORITHMS, Claim, Digest, DigestSource, Verification
from hydraflow.settings import Settings, load

__all__ = ["Check", "against_digest", "against_manifest", "against_published", "against_url", "is_list"]

_LONGEST_MANIFEST = 64 << 20
_LIST = re.compile(
    r"(?:md5|sha(?:1|224|256|384|512))[_-]?(?:check)?sums?(?:\.txt)?|.+\.(?:md5|sha\d+|meta4|metalink)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one file.

    Attributes:
        path: the file.
        claim: what it was checked by; None if nobody promises a digest.
        size: in bytes; None if it could not be looked at.
        error: why it is not verified; None if it is.
    """

    path: Path
    claim: Claim | None = None
    size: int | None = None
    error: HydraError | None = None

    @property
    def verification(self) -> Verification:
        """What the verdict rests on."""
        if self.error is not None:
            return Verification.NONE
        return integrity.verification(self.claim, size_known_or_framed=True)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values, named as those of `FetchResult`."""
        claim, error = self.claim, self.error
        return {
            "path": str(self.path),
            "ok": error is None,
            "size": self.size,
            "digest": None if claim is None else str(claim.digest),
            "verification": self.verification,
            "digest_source": None if claim is None else claim.source,
            "digest_url": None if claim is None else claim.url,
            "error": None if error is None else type(error).__name__,
            "message": None if error is None else str(error),
            "exit_code": 0 if error is None else error.exit_code,
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a manifest says of one file."""

    name: str
    digests: tuple[Digest, ...]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _List:
    """Where a list is, and what a digest in it is called."""

    name: str
    source: DigestSource


def against_digest(path: Path, digest: Digest) -> Check:
    """Check a file by a digest of the caller's own."""
    return _check(path, Claim(digest, DigestSource.CALLER), None)


def against_url(
    path: Path, url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None
) -> Check:
    """Check a file by what is published of the one at a URL: its digest, wherever that is found, and its size.

    Raises:
        HydraError: the server refuses or cannot be reached, or the promises contradict each other.
    """
    order = ordering.orders(url, headers=headers)[0]
    if order.claim is not None:
        return _check(path, order.claim, order.size)

    async def ask(engine: Engine) -> tuple[Claim | None, int | None]:
        resource, known = await engine.learn(order, thorough=True)
        return integrity.choose(None, known, resource.size, resource.url), resource.size

    claim, size = runtime.start(settings or load(), ask).wait()
    return _check(path, claim, size if order.size is None else order.size)


def against_manifest(path: Path, manifest: Path) -> list[Check]:
    """Check all files that a manifest lists, in the directory `path`; or the one at `path`.

    A manifest is what `--json` prints, a data lock, a table as for `--input`, a Metalink file, or a checksum file
    (`SHA256SUMS`, `md5checksums.txt`, …).

    Raises:
        ConfigurationError: it is none of these, or does not list the file.
        StorageError: it cannot be read.
    """
    return _against_list(path, _read(manifest), _List(str(manifest), DigestSource.MANIFEST))


def is_list(url: str) -> bool:
    """A URL names a checksum file or a Metalink file, as far as its name tells."""
    return _LIST.fullmatch(urls.file_name(url)) is not None


def against_published(
    path: Path, url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None
) -> list[Check]:
    """The same with a list that is published at a URL: it is worth what other checksum files are.

    Raises:
        ConfigurationError: it cannot be understood, or does not list the file.
        HydraError: the server refuses or cannot be reached.
    """
    with api.stream(url, headers=headers, settings=replace(settings or load(), verify="none")) as stream:
        data = bytearray()
        while len(data) <= _LONGEST_MANIFEST and (piece := stream.chunk()):
            data += piece
        secure = stream.result is not None and stream.result.final_url.startswith("https://")
    source = DigestSource.SIDECAR if secure else DigestSource.SIDECAR_HTTP
    return _against_list(path, bytes(data), _List(urls.redact(url), source))


def _against_list(path: Path, data: bytes, where: _List) -> list[Check]:
    if len(data) > _LONGEST_MANIFEST:
        raise ConfigurationError(f"{where.name} is longer than a manifest may be, {_LONGEST_MANIFEST:,} bytes")
    if path.is_dir():
        return [_listed(path, entry, where) for entry in _entries(data, where.name)]
    bare = sidecars.bare(data)
    if bare is not None:
        return [_by_entry(path, _Entry(path.name, (bare,)), where)]
    mine = [entry for entry in _entries(data, where.name) if PurePosixPath(entry.name).name == path.name]
    if len(mine) != 1:
        count = "is not listed" if not mine else f"is listed {len(mine)} times"
        raise ConfigurationError(f"{path.name} {count} in {where.name}")
    return [_by_entry(path, mine[0], where)]


def _listed(directory: Path, entry: _Entry, where: _List) -> Check:
    relative = PurePosixPath(entry.name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in entry.name:
        error = ConfigurationError(f"{entry.name!r} is not a place in {directory}")
        return Check(Path(urls.file_name(f"http://h/{relative.name}")), error=error)
    return _by_entry(directory / relative, entry, where)


def _by_entry(path: Path, entry: _Entry, where: _List) -> Check:
    digest = entry.digests[0] if entry.digests else None
    claim = None if digest is None else Claim(digest, where.source, where.name)
    return _check(path, claim, entry.size)


def _check(path: Path, claim: Claim | None, size: int | None) -> Check:
    actual: int | None = None
    try:
        actual = _size(path)
        if size is not None and size != actual:
            message = f"size mismatch: expected {size:,} bytes, the file has {actual:,}"
            raise SizeMismatchError(message, expected=size, actual=actual, hint="")
        if claim is None:
            raise UnverifiableError("nobody promises a digest of it", hint="Give one with --digest.")
        _compare(path, claim)
    except (IntegrityError, StorageError) as error:
        return Check(path, claim, actual, error)
    return Check(path, claim, actual)


def _compare(path: Path, claim: Claim) -> None:
    try:
        integrity.check(claim, delivery.digest_of(path, claim.digest), "")
    except ValueError as error:
        raise UnverifiableError(str(error)) from None
    except DigestMismatchError as error:
        error.url, error.hint = None, ""
        if integrity.conclusive([claim]):
            raise
        raise UnverifiableError(f"no size of parts in use yields the {claim}") from None


def _size(path: Path) -> int:
    try:
        if not path.is_file():
            raise StorageError("there is no such file" if not path.exists() else "it is not a file")
        return path.stat().st_size
    except OSError as error:
        raise StorageError.wrap(error, f"cannot look at {path}") from error


def _read(manifest: Path) -> bytes:
    try:
        with manifest.open("rb") as file:
            return file.read(_LONGEST_MANIFEST + 1)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {os.fspath(manifest)}") from error


# ── manifests ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _entries(data: bytes, manifest: str) -> list[_Entry]:
    start = data.lstrip()[:1]
    try:
        read = _metalink if start == b"<" else _checksums
        if start == b"{":
            read = _json_lines if _is_printed(data) else _manifest
        found = list(read(data))
        if not found:
            with suppress(ConfigurationError):
                found = list(_manifest(data))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{manifest} cannot be understood: {error}") from None
    if not found:
        raise ConfigurationError(
            f"{manifest} lists no file with a digest",
            hint="Expected: the output of --json, a data lock, a Metalink file, or lines as sha256sum writes them.",
        )
    return found


def _is_printed(data: bytes) -> bool:
    """These are lines that `--json` has printed, and no manifest of JSON, nor a lock."""
    try:
        first = json.loads(data.lstrip().partition(b"\n")[0])
    except ValueError:
        return False
    return isinstance(first, dict) and "ok" in first


def _manifest(data: bytes) -> Iterator[_Entry]:
    """A data lock, or a table that names digests: what `--input` and `--locked` take."""
    for entry in manifests.parse(data).entries:
        digests = () if entry.digest is None else (entry.digest,)
        yield _Entry(entry.name or urls.file_name(entry.url), digests, entry.size)


def _json_lines(data: bytes) -> Iterator[_Entry]:
    for line in data.splitlines():
        if not line.strip():
            continue
        fields = json.loads(line)
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            raise ValueError("a line of JSON has no name")  # noqa: TRY004 - it is the content that is wrong
        digest, size = fields.get("digest"), fields.get("size")
        digests = (Digest.parse(digest),) if isinstance(digest, str) else ()
        path, name = fields.get("path"), fields["name"]
        if isinstance(path, str) and "/" not in name:  # the server may have named it otherwise than its URL
            name = PurePosixPath(path).name
        # Of one that failed nothing is known but that it should be there.
        yield _Entry(name, digests, size if type(size) is int else None)


def _metalink(data: bytes) -> Iterator[_Entry]:
    for file in metalink.parse(data):
        yield _Entry(file.name, file.digests, file.size)


def _checksums(data: bytes) -> Iterator[_Entry]:
    names: dict[str, set[Digest]] = {}
    for name, value in sidecars.entries(data.decode("utf-8", "surrogateescape")):
        algorithm = sidecars.algorithm_of(value)
        if algorithm is not None:
            names.setdefault(name.removeprefix("./"), set()).add(Digest(algorithm, value.lower()))
    for name, digests in names.items():
        longest = max(ALGORITHMS[digest.algorithm] for digest in digests)
        best = [digest for digest in digests if ALGORITHMS[digest.algorithm] == longest]
        if len(best) > 1:
            raise ValueError(f"two different digests of {name!r}")
        yield _Entry(name, (best[0],))
