"""Whether two answers are of the same bytes: an earlier run's and this one's, or those of two servers.

Sizes and digests decide where they are known; a strong validator ties later answers to the one that was believed.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from hydraflow.core import headers, integrity
from hydraflow.models import Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hydraflow.core.journal import Identity
    from hydraflow.models import Claim, Validator

__all__ = ["Evidence", "compare", "may_be", "objection", "recalled", "vouching", "was_surely"]


class Evidence(enum.Enum):
    """What two answers from two servers say of the bytes behind them."""

    SAME = "same"
    OTHER = "other"
    NONE = "none"


# ── another server's answer ──────────────────────────────────────────────────────────────────────────────────────────


def compare(
    size: int | None, validator: Validator, claims: Iterable[Claim], encoding: str | None, seen: Resource
) -> Evidence:
    """Whether another server's resource holds the same bytes as the one described.

    Sizes and announced digests decide; a strong ETag that two servers share was made from the same file (RFC 9110
    §8.8.1 lets no two versions of one resource share it, and servers that make it from date and size mirror both).
    """
    if size is None or seen.size != size or seen.encoding != encoding:
        return Evidence.OTHER
    promised = {(claim.digest.algorithm, claim.digest.parts, claim.digest.value) for claim in claims}
    announced = {(claim.digest.algorithm, claim.digest.parts, claim.digest.value) for claim in seen.claims}
    both = {each[:2] for each in promised} & {each[:2] for each in announced}
    if any(each not in promised for each in announced if each[:2] in both):
        return Evidence.OTHER
    shared = validator.strong_etag is not None and validator.strong_etag == seen.validator.strong_etag
    # Later answers can be tied to the one that announced the digest only by a strong validator.
    return Evidence.SAME if shared or (both and seen.validator.strong) else Evidence.NONE


def objection(evidence: Evidence, seen: Resource, *, provable: bool) -> str:
    """Why another source's bytes may not be put among those of the file; empty if they may.

    Args:
        evidence: what its answer shows.
        seen: its answer.
        provable: a digest of the whole will tell in the end, before anybody has had a byte, now or in a later run.
    """
    if evidence is Evidence.OTHER:
        return f"another file: {seen.size} bytes, {seen.validator}"
    if not seen.ranges:
        return "it does not answer ranges"
    if evidence is Evidence.SAME or provable:
        return ""
    return "the size is the same, but neither a common strong ETag nor a digest shows that the bytes are"


# ── an earlier run's ─────────────────────────────────────────────────────────────────────────────────────────────────


def may_be(known: Identity, resource: Resource) -> bool:
    """The resource may be the version that the checkpoint was made of: nothing shows the contrary."""
    return (
        resource.size == known.size
        and headers.same_version(known.validator, resource.validator)
        and not integrity.contradict(known.claims, resource.claims)
    )


def was_surely(known: Identity, resource: Resource) -> bool:
    """The resource is the version that the checkpoint was made of."""
    return headers.compare(known.validator, resource.validator) is headers.Likeness.SAME


def vouching(known: Identity) -> tuple[Claim, ...]:
    """The claims that the bytes of a checkpoint rest on; none where they are taken at the word of a validator."""
    return () if known.validator.strong else known.claims


def recalled(known: Identity, url: str) -> Resource:
    """The resource as an earlier run saw it."""
    return Resource(url, url, known.size, ranges=True, validator=known.validator, claims=known.claims)
