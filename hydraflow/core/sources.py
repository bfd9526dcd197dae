"""The places that one file can be had from: what is known of each, and whose turn it is.

A transfer has one source, the URL that it was asked for, or several, its mirrors.  The first one that answers tells
what the file is (it *leads*); every other one has to show that it holds the same bytes before one of them is used::

    UNKNOWN ──▶ ADMITTED    the same size, and the same digest or the same strong ETag, or a digest to verify it all by
       │   ╲──▶ ASIDE       another file, or nothing shows that it is the same; of use if everything begins anew
       ▼
     FAILED                 it refuses, breaks the rules, or its bytes were wrong

What is fast is asked first; what is far slower than another source is left out for a while.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydraflow.core.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hydraflow.core.limiter import Limiter
    from hydraflow.core.retry import FailureKind
    from hydraflow.errors import HydraError
    from hydraflow.models import Claim, Resource, Validator

__all__ = ["Evidence", "Source", "Standing", "compare", "forgive", "pick", "slowest"]

_FAR = 8  # a source so many times slower than another one is no help
_REST, _LONGEST_REST = 5.0, 4  # seconds for which a slow source is left out, and how often they double
_TASTE = 4  # requests of the source that leads, before its pace is known
_FADE = 1.0  # seconds in which half of what was measured is forgotten: servers that hold a rate send in bursts


class Standing(enum.Enum):
    """What a source is good for; see the picture above."""

    UNKNOWN = "unknown"
    ADMITTED = "admitted"
    ASIDE = "aside"
    FAILED = "failed"


class Evidence(enum.Enum):
    """What two answers from two servers say of the bytes behind them."""

    SAME = "same"
    OTHER = "other"
    NONE = "none"


@dataclass(eq=False, slots=True)
class Source:
    """One URL of the file.

    Attributes:
        url: redacted, for messages.
        limiter: of its origin.
        resource: what it said of the file, once it was admitted.
        error: why it is of no use any more; for one that is aside, `reason` says why.
        resting: until when requests that failed are not sent again, in monotonic seconds.
        received: the bytes that came from it, where there are several sources.
        pace: bytes per second of one connection of late; None as long as nothing can be said.
        flow: the same of all its connections.
    """

    index: int
    url: str
    limiter: Limiter
    standing: Standing = Standing.UNKNOWN
    resource: Resource | None = None
    error: HydraError | None = None
    reason: str = ""
    resting: list[float] = field(default_factory=list)
    received: RangeSet = field(default_factory=RangeSet)
    counted: int = 0
    attempts: int = 0
    broken: int = 0
    silences: int = 0
    setbacks: int = 0
    failed_at: float = 0.0
    told: tuple[FailureKind, float] | None = None
    pace: float | None = None
    flow: float = 0.0
    measured_at: float = 0.0
    slow_until: float = 0.0
    slow: int = 0

    @property
    def usable(self) -> bool:
        """It can be asked, or will be after a rest."""
        return self.standing in (Standing.UNKNOWN, Standing.ADMITTED)

    @property
    def reluctance(self) -> int:
        """How often it has failed, kept silent, or broken off what could not be taken up again."""
        return self.attempts + self.silences + self.setbacks

    def forget(self) -> None:
        """Everything begins anew: what it has given is gone, and nobody knows any more what the right file is."""
        if self.standing is not Standing.FAILED:
            self.standing = Standing.UNKNOWN
        self.resource, self.reason = None, ""
        self.received, self.counted = RangeSet(), 0

    def note_rate(self, rate: float | None) -> None:
        """A request is over that brought so many bytes per second; None if it says nothing."""
        if rate is not None:
            self.pace = rate if self.pace is None else 0.7 * self.pace + 0.3 * rate

    def measure(self, now: float, pace: float, connections: int) -> None:
        """So fast is each of its connections at the moment; how fast they were lately counts too."""
        left = 2.0 ** ((self.measured_at - now) / _FADE)
        self.flow = max(pace * connections, left * self.flow)
        self.pace = max(pace, left * (self.pace or 0.0))
        self.measured_at = now

    def put_off(self, now: float) -> None:
        """It is far slower than another one: it is left out for some seconds, longer each time."""
        self.slow_until = now + _REST * 2.0 ** min(self.slow, _LONGEST_REST)
        self.slow += 1


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


# ── whose turn ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pick(sources: Sequence[Source], running: Sequence[int], now: float, *, lead: Source | None) -> Source | None:
    """The source to ask next; None if none may be asked now.

    Args:
        sources: those that come into question.
        running: how many requests each source of the transfer has, by index.
        now: monotonic seconds.
        lead: the source that the file's facts are from; None while they are not known.
    """
    awake = [each for each in sources if each.usable and not each.resting]
    if lead is None:  # who has kept nobody waiting, in the order of the caller
        return min(awake, key=lambda each: (each.reluctance, each.index), default=None)
    quick = [each for each in awake if now >= each.slow_until] or awake
    open_ = [each for each in quick if running[each.index] < _worth(each, lead, alone=len(quick) == 1)]
    return min(open_, key=_rank, default=None)


def _worth(source: Source, lead: Source, *, alone: bool) -> float:
    """How many requests it may have: few tell what it is worth; more then, unless it has been found slow."""
    if alone or (_tried(source) and not source.slow):
        return math.inf
    return _TASTE if source is lead and not source.slow else 1


def _tried(source: Source) -> bool:
    return source.standing is Standing.ADMITTED and source.pace is not None


def _rank(source: Source) -> tuple[bool, float, int]:
    return source.standing is Standing.ADMITTED, -(float("inf") if source.pace is None else source.pace), source.index


def forgive(sources: Sequence[Source], measured: Sequence[Source]) -> None:
    """Who was left out as slow and is as fast as any other now, is trusted again."""
    best = max((each.pace or 0.0 for each in sources if each.standing is Standing.ADMITTED), default=0.0)
    for each in measured:
        if each.slow and (each.pace or 0.0) >= best > 0.0:
            each.slow = 0


def slowest(sources: Sequence[Source], measured: Sequence[Source], now: float) -> Source | None:
    """One of those measured now that is far slower than another source in use: by connection, and in all."""
    for late in measured:
        for other in sources:
            worth = other.standing is Standing.ADMITTED and not other.resting and now >= other.slow_until
            if other is late or not worth:
                continue
            pace = other.pace or 0.0
            if pace > _FAR * (late.pace or 0.0) and max(other.flow, pace) > _FAR * late.flow:
                return late
    return None
