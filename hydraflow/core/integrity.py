"""Which digest to believe, how to compute it, and what a passed check is worth."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from hydraflow.errors import DigestMismatchError
from hydraflow.models import ALGORITHMS, Claim, DigestSource, Verification

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Hasher", "check", "choose", "hasher", "verification"]

_TRUST = {source: rank for rank, source in enumerate(DigestSource)}


def choose(caller: Claim | None, announced: Iterable[Claim]) -> Claim | None:
    """The claim to verify: the caller's own, or else that of the most trusted source, of its longest digest."""
    if caller is not None:
        return caller
    return min(announced, key=lambda claim: (_TRUST[claim.source], -ALGORITHMS[claim.digest.algorithm]), default=None)


class Hasher(Protocol):
    """A running digest; `hashlib` objects are such."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all bytes so far, in lower-case hexadecimal."""
        ...


def hasher(algorithm: str) -> Hasher:
    """A fresh running digest.

    Raises:
        ValueError: the algorithm is not one of `models.ALGORITHMS`.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown digest algorithm {algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
    # A checksum against accidents, also where policy forbids MD5 for security (FIPS).
    return _Crc32c() if algorithm == "crc32c" else hashlib.new(algorithm, usedforsecurity=False)


class _Crc32c:
    """CRC-32C (RFC 3720 appendix B.4), shown big-endian as `x-goog-hash` has it."""

    def __init__(self) -> None:
        import google_crc32c

        self._extend = google_crc32c.extend
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        # The library refuses every buffer that is not bytes.
        self._value = self._extend(self._value, bytes(data))

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


_WORTH = {
    DigestSource.CALLER: Verification.CALLER,
    DigestSource.FRAGMENT: Verification.CALLER,
    DigestSource.GOOG_HASH: Verification.SERVER,
    DigestSource.CONTENT_MD5: Verification.SERVER,
    DigestSource.S3_ETAG: Verification.SERVER,
}


def verification(claim: Claim | None, size_known_or_framed: bool) -> Verification:
    """What a transfer rests on that has passed its check.

    Args:
        claim: the claim that was checked; None if no digest was known.
        size_known_or_framed: the size was announced, or the body's framing shows where it ends.
    """
    if claim is not None:
        return _WORTH[claim.source]
    return Verification.SIZE if size_known_or_framed else Verification.NONE


def check(claim: Claim, actual_hex: str, url: str) -> None:
    """Compare a digest with the promised one.

    Raises:
        DigestMismatchError: they differ.
    """
    expected, algorithm = claim.digest.value, claim.digest.algorithm
    if actual_hex == expected:
        return
    raise DigestMismatchError(
        f"{algorithm} mismatch: expected {expected}, got {actual_hex} (promised by the {claim.source})",
        algorithm=algorithm,
        expected=expected,
        actual=actual_hex,
        source=str(claim.source),
        url=url,
    )
