"""Which digest to believe, how to compute it, and what a passed check is worth.

The order of trust is that of `models.DigestSource`; `docs/security.md` has the reasons.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Protocol

from hydraflow.errors import DigestConflictError, DigestMismatchError
from hydraflow.models import ALGORITHMS, Claim, Digest, DigestSource, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Hasher", "check", "choose", "conclusive", "contradict", "hasher", "part_sizes", "verification", "verifier"]

_TRUST = {source: rank for rank, source in enumerate(DigestSource)}
#: What redirects is asked by name, where it leads to may be anybody's cache: the former need not fear contradiction.
_OF_THE_ORIGIN = (DigestSource.LINKED_ETAG, DigestSource.DIGEST)


# ── whom to believe ──────────────────────────────────────────────────────────────────────────────────────────────────


def choose(caller: Claim | None, announced: Iterable[Claim], size: int | None, url: str = "") -> Claim | None:
    """The claim to verify: the caller's own, or else that of the most trusted source, of its longest digest.

    Digests of parts come last among those of one source, and not at all if no size of the parts fits `size`.

    Raises:
        DigestConflictError: two who are trusted promise different digests, and the caller gave none.
    """
    if caller is not None:
        return caller
    usable = [claim for claim in announced if not claim.digest.parts or part_sizes(claim.digest, size)]
    _refuse_conflicts(usable, url)
    return min(usable, key=_rank, default=None)


def _rank(claim: Claim) -> tuple[bool, int, bool, int]:
    digest = claim.digest
    return not conclusive([claim]), _TRUST[claim.source], bool(digest.parts), -ALGORITHMS[digest.algorithm]


def conclusive(claims: Iterable[Claim]) -> bool:
    """One of the claims decides in any case whether a file is right; of parts of unknown size it may not."""
    return any(not claim.digest.parts or claim.digest.part_size for claim in claims)


def contradict(one: Iterable[Claim], two: Iterable[Claim]) -> bool:
    """One source promises two different digests of one kind: these are claims about two versions."""
    promised = {(claim.source, claim.digest.algorithm, claim.digest.parts): claim.digest.value for claim in one}
    return any(
        promised.get((claim.source, claim.digest.algorithm, claim.digest.parts), claim.digest.value)
        != claim.digest.value
        for claim in two
    )


def _refuse_conflicts(claims: Sequence[Claim], url: str) -> None:
    known: dict[tuple[str, int], Claim] = {}
    for claim in sorted(claims, key=_rank):
        first = known.setdefault((claim.digest.algorithm, claim.digest.parts), claim)
        if first.digest.value == claim.digest.value or first.source in _OF_THE_ORIGIN:
            continue
        raise DigestConflictError(
            f"two different {claim.digest.algorithm} digests are promised: {first.digest.value} by the {first}, "
            f"{claim.digest.value} by the {claim}",
            hint="Give the right one with --digest, or take neither with --verify none.",
            url=url,
        )


# ── digests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    if algorithm.startswith("crc"):
        return _Crc(algorithm)
    # A checksum against accidents, also where policy forbids MD5 for security (FIPS).
    return hashlib.new(algorithm, usedforsecurity=False)


class _Crc:
    """A cyclic redundancy check, shown big-endian as `x-goog-hash` and `x-amz-checksum-…` have it."""

    def __init__(self, algorithm: str) -> None:
        self._extend = _crc(algorithm)
        self._value = 0
        self._digits = ALGORITHMS[algorithm] // 4

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._extend(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._digits}x}"


def _crc(algorithm: str) -> Callable[[bytes | bytearray | memoryview, int], int]:
    if algorithm == "crc32":
        return zlib.crc32
    from awscrt import checksums  # Amazon's own; it takes 35 ms to import

    extend: Callable[[bytes | bytearray | memoryview, int], int] = getattr(checksums, algorithm)
    return extend


# ── digests of digests of parts ──────────────────────────────────────────────────────────────────────────────────────

_MIB = 1 << 20
#: Bytes of the parts of common programs: awscli and boto3, rclone and minio-go, Galaxy and s3cmd, MinIO's, Hadoop's, …
_USUAL_MIB = (8, 5, 16, 15, 64, 100, 50, 25, 10, 32, 128, 256, 512, 1024, 20, 40, 200, 500, 2, 4, 1)
_USUAL = (*(mib * _MIB for mib in _USUAL_MIB), *(mb * 1_000_000 for mb in (8, 5, 10, 16, 15, 50, 100, 25, 64, 500)))
_MOST_GUESSES = 4  # each costs as much as one digest


def part_sizes(digest: Digest, size: int | None) -> tuple[int, ...]:
    """Sizes in bytes that the parts may have had of a file of `size` bytes, most likely first; none if none fits."""
    if size is None:
        return ()
    if digest.parts == 1:
        return (max(size, 1),)
    even = -(-size // digest.parts)  # some programs divide the file evenly, and round up to MiB
    fitting = [each for each in _USUAL if -(-size // each) == digest.parts]
    guesses = (digest.part_size,) if digest.part_size else (*fitting[: _MOST_GUESSES - 1], -(-even // _MIB) * _MIB)
    return tuple(dict.fromkeys(each for each in guesses if each and -(-size // each) == digest.parts))


class _OfParts:
    """The digest of the digests of parts of one size."""

    def __init__(self, algorithm: str, part_size: int) -> None:
        self._algorithm, self._part_size = algorithm, part_size
        self._whole, self._part, self._room = hasher(algorithm), hasher(algorithm), part_size

    def update(self, data: memoryview) -> None:
        while data:
            if not self._room:
                self._end_part()
            piece = data[: self._room]
            self._part.update(piece)
            self._room -= len(piece)
            data = data[len(piece) :]

    def _end_part(self) -> None:
        self._whole.update(bytes.fromhex(self._part.hexdigest()))
        self._part, self._room = hasher(self._algorithm), self._part_size

    def hexdigest(self) -> str:
        self._end_part()
        return self._whole.hexdigest()


class _OfGuessedParts:
    """The expected digest if one of several sizes of parts yields it, all computed in one pass; else the first's."""

    def __init__(self, digest: Digest, sizes: Iterable[int]) -> None:
        self._expected = digest.value
        self._guesses = [_OfParts(digest.algorithm, size) for size in sizes]

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        view = memoryview(data)
        for guess in self._guesses:
            guess.update(view)

    def hexdigest(self) -> str:
        values = [guess.hexdigest() for guess in self._guesses]
        return self._expected if self._expected in values else values[0]


def verifier(digest: Digest, size: int | None) -> Hasher:
    """A running digest to compare with `digest`, of a file of `size` bytes.

    Raises:
        ValueError: no size of its parts fits; see `part_sizes`.
    """
    if not digest.parts:
        return hasher(digest.algorithm)
    sizes = part_sizes(digest, size)
    if not sizes:
        raise ValueError(f"{size} bytes do not make {digest.parts} parts of a size in use: give another digest")
    return _OfGuessedParts(digest, sizes)


# ── what a check is worth ────────────────────────────────────────────────────────────────────────────────────────────

_WORTH = {
    DigestSource.CALLER: Verification.CALLER,
    DigestSource.FRAGMENT: Verification.CALLER,
    DigestSource.MANIFEST: Verification.CALLER,
    DigestSource.CATALOGUE: Verification.CATALOGUE,
    DigestSource.METALINK: Verification.SIDECAR,
    DigestSource.SIDECAR: Verification.SIDECAR,
    DigestSource.SIDECAR_HTTP: Verification.SIDECAR,
}


def verification(claim: Claim | None, size_known_or_framed: bool) -> Verification:
    """What a transfer rests on that has passed its check.

    Args:
        claim: the claim that was checked; None if no digest was known.
        size_known_or_framed: the size was announced, or the body's framing shows where it ends.
    """
    if claim is not None:
        return _WORTH.get(claim.source, Verification.SERVER)
    return Verification.SIZE if size_known_or_framed else Verification.NONE


_DISTRUST = "The promise may be outdated: give the right one with --digest, or take none with --verify none."


def check(claim: Claim, actual_hex: str, url: str) -> None:
    """Compare a digest with the promised one.

    Raises:
        DigestMismatchError: they differ.
    """
    expected, algorithm = claim.digest.value, claim.digest.algorithm
    if actual_hex == expected:
        return
    own = verification(claim, size_known_or_framed=True) is Verification.CALLER
    raise DigestMismatchError(
        f"{algorithm} mismatch: expected {expected}, got {actual_hex} (promised by the {claim})",
        algorithm=algorithm,
        expected=expected,
        actual=actual_hex,
        source=str(claim.source),
        hint="" if own else _DISTRUST,
        url=url,
    )
