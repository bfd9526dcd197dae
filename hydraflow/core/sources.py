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
from hydraflow.errors import TransferError
from hydraflow.models import Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hydraflow.core.limiter import Limiter
    from hydraflow.core.planner import Lease
    from hydraflow.core.retry import FailureKind
    from hydraflow.errors import HydraError
    from hydraflow.models import Resource

__all__ = ["Place", "Source", "Sources", "Standing", "forgive", "pick", "slowest"]

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file can be had: the URL, redacted; the limiter of its origin; how the driver asks there."""

    url: str
    limiter: Limiter
    route: object = None


@dataclass(eq=False, slots=True)
class Source:
    """One URL of the file.

    Attributes:
        url: redacted, for messages.
        limiter: of its origin.
        route: how the driver asks there; nobody here looks into it.
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
    route: object = None
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


class Sources:
    """All places of a transfer's file, by index; the first is what was asked for, and leads until another does."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._all: list[Source] = []
        self.join(places)
        self.lead = self._all[0]

    def __iter__(self) -> Iterator[Source]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Source:
        return self._all[index]

    @property
    def several(self) -> bool:
        """There is a choice."""
        return len(self._all) > 1

    def join(self, places: Sequence[Place]) -> int:
        """These are places of the file too; how many of them are new?"""
        known = {each.url for each in self._all}
        new = [each for each in places if each.url not in known]
        for each in new:
            self._all.append(Source(len(self._all), each.url, each.limiter, each.route))
        return len(new)

    def of(self, lease: Lease) -> Source:
        """Whom it was sent to."""
        return self._all[lease.source]

    def running(self, leases: Iterable[Lease]) -> list[int]:
        """How many of these requests each source has, by index."""
        running = [0] * len(self._all)
        for lease in leases:
            running[lease.source] += 1
        return running

    def credit(self, leases: Iterable[Lease], now: float) -> None:
        """Tell each origin's limiter what has come from it, in these requests and in those that are over."""
        counts = [each.received.total for each in self._all]
        for lease in leases:
            counts[lease.source] += lease.position - lease.start
        for each, count in zip(self._all, counts, strict=True):
            each.limiter.received(max(0, count - each.counted), now)
            if count > each.counted:
                each.attempts = each.broken = each.silences = 0
            each.counted = count

    def shares(self) -> tuple[Share, ...]:
        """What each gave; empty if there is one."""
        if not self.several:
            return ()
        return tuple(Share(each.url, each.received.total, str(each.error or each.reason)) for each in self._all)

    def verdict(self) -> HydraError:
        """The error that says what is wrong with each of them, in one line."""
        errors = [each.error for each in self._all if each.error is not None]
        # Where trying again may help, the caller should know.
        error = next((each for each in errors if isinstance(each, TransferError)), errors[0])
        reasons = [f"{each.url}: {each.error or each.reason}" for each in self._all if each.error or each.reason]
        error.args = (f"no source is left: {'; '.join(reasons)}",)
        return error


# ── whose turn ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pick(
    sources: Sequence[Source],
    running: Sequence[int],
    now: float,
    *,
    lead: Source | None,
    spent: Sequence[Source] = (),
) -> Source | None:
    """The source to ask next; None if none may be asked now.

    Args:
        sources: those that come into question.
        running: how many requests each source of the transfer has, by index.
        now: monotonic seconds.
        lead: the source that the file's facts are from; None while they are not known.
        spent: those whose origin bears no more requests now; the others are not alone for that.
    """
    awake = [each for each in sources if each.usable and not each.resting]
    if lead is None:  # who has kept nobody waiting, in the order of the caller
        left = (each for each in awake if each not in spent)
        return min(left, key=lambda each: (each.reluctance, each.index), default=None)
    quick = [each for each in awake if now >= each.slow_until] or awake
    alone = len(quick) == 1
    open_ = [each for each in quick if each not in spent and running[each.index] < _worth(each, lead, alone=alone)]
    if not any(running[each.index] for each in awake if each.standing is Standing.ADMITTED):
        # What is new is tasted beside what is known, not in its stead: each that is mute would cost its time in a row.
        open_ = [each for each in open_ if each.standing is Standing.ADMITTED] or open_
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


def forgive(sources: Iterable[Source], measured: Sequence[Source]) -> None:
    """Who was left out as slow and is as fast as any other now, is trusted again."""
    best = max((each.pace or 0.0 for each in sources if each.standing is Standing.ADMITTED), default=0.0)
    for each in measured:
        if each.slow and (each.pace or 0.0) >= best > 0.0:
            each.slow = 0


def slowest(sources: Iterable[Source], measured: Sequence[Source], now: float) -> Source | None:
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
