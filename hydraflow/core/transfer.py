"""THE state machine of a transfer: events in, commands out.

::

             Begun            all there already
    ┌─────────┐ ───────────────────────────────┐
    │ PROBING │ first answer   ┌──────────┐    │  all bytes    ┌───────────┐ digest ok ┌────────────┐  done  ┌──────┐
    │         │ ─────────────▶ │ FETCHING │ ───┴─────────────▶ │ VERIFYING │ ────────▶ │ COMMITTING │ ─────▶ │ DONE │
    └─────────┘ ◀───────────── └──────────┘                    └───────────┘           └────────────┘        └──────┘
         ▲   begin anew: the resource changed, or cannot be resumed  │ a digest that fails on resumed bytes
         └───────────────────────────────────────────────────────────┘             any state ──▶ FAILED

It sees counts, never bytes; asks for work in commands and never does it; time and randomness are arguments.  What may
happen in which state stands in one table, `_TABLE`; an event that is not in it is a bug of the driver.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydraflow.core import headers, integrity, responses, retry
from hydraflow.core.journal import Identity
from hydraflow.core.limiter import Limiter
from hydraflow.core.planner import Lease, Planner
from hydraflow.core.ranges import RangeSet
from hydraflow.core.responses import Ask, Changed, Facts, Refused, Unranged
from hydraflow.errors import (
    DigestConflictError,
    DigestMismatchError,
    HydraError,
    RequestError,
    ResourceChangedError,
    SizeMismatchError,
    UnverifiableError,
)
from hydraflow.models import Bound, Claim, Head, Resource

__all__ = [
    "Aborted",
    "Begun",
    "Command",
    "Commit",
    "Committed",
    "Drop",
    "Event",
    "Expect",
    "Fail",
    "HeadReceived",
    "LeaseEnded",
    "LeaseFailed",
    "Notice",
    "Open",
    "Prepare",
    "Promised",
    "Reset",
    "State",
    "Terms",
    "Ticked",
    "Transfer",
    "Verified",
    "Verify",
]


_FICKLE = 3  # restarts after which a file that changes again is fetched over one connection
_DOUBTS = 3  # answers of another version, in a row, before a stream that cannot begin anew believes them
_SOON = 4  # there may be so many requests in a moment, however few are allowed now
_TRAILING, _HOPELESS = 4, 8  # so many times slower than others: when all wait for it, and at any time
_SILENT = 1 << 40  # the same of one that does not move at all
_SPREAD = 0.1  # share of a pause that the server asked for, drawn at random and added
#: Seconds in which a failure of one kind is told once; the same after so many in a row.
_SAID, _SAID_OFTEN, _OFTEN = 0.1, 10.0, 3


class State(enum.Enum):
    """Where a transfer stands; see the picture above."""

    PROBING = "probing"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Begun:
    """The destination is ours; this is what an earlier run left in it."""

    identity: Identity | None = None
    durable: RangeSet | None = None


@dataclass(frozen=True, slots=True)
class HeadReceived:
    """The answer to a lease's request has begun. `wall` is Unix time; `claims` come from another question asked."""

    lease: Lease
    head: Head
    wall: float
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """All of the lease is received, or the body of unknown length came to its proper end."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseFailed:
    """The request failed, at whatever position the lease has reached."""

    lease: Lease
    failure: retry.Failure


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed, a place at the origin is free, or the reader has made room (`horizon`)."""


@dataclass(frozen=True, slots=True)
class Promised:
    """Digests that are published elsewhere than in the answer, and were looked up meanwhile."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The digest of all bytes, in hexadecimal; None where there was none to compute."""

    actual: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The file stands at its name, or the last byte has left."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The local side failed."""

    error: HydraError


Event = Begun | HeadReceived | LeaseEnded | LeaseFailed | Ticked | Promised | Verified | Committed | Aborted


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request for the lease."""

    lease: Lease
    ask: Ask


@dataclass(frozen=True, slots=True)
class Drop:
    """End the lease's request; no event of it is wanted any more."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the sink ready for this resource, and hash for this claim."""

    resource: Resource
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Expect:
    """Hash all bytes for this claim, those too that are there already."""

    resource: Resource
    claim: Claim


@dataclass(frozen=True, slots=True)
class Reset:
    """Throw away every byte received."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Finish the digest and report it."""

    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Give the verified file its name, or release the stream's last bytes."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person would like to know."""

    message: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It is over. `keep` says that the bytes on disk are worth another run."""

    error: HydraError
    keep: bool


Command = Open | Drop | Prepare | Expect | Reset | Verify | Commit | Notice | Fail


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller asks of a transfer.

    Attributes:
        url: redacted, for messages.
        claim: the caller's digest.
        size: the caller's size in bytes, of the whole file.
        threads: most leases at a time.
        retry: when to try again, and when to give up.
        start: first byte that is wanted.
        stop: offset behind the last byte that is wanted; None for the end of the file.
        verify: `require` takes nothing that no digest is known of, `none` believes no digest but the caller's.
    """

    url: str
    claim: Claim | None
    size: int | None
    threads: int
    retry: retry.Policy
    start: int = 0
    stop: int | None = None
    verify: str = "auto"

    @property
    def partial(self) -> bool:
        """A part of the file is wanted, whose digest nobody knows."""
        return self.start > 0 or self.stop is not None


class Transfer:
    """One transfer's decisions.

    Args:
        terms: what the caller asks.
        planner: which bytes next.
        limiter: how many requests the origin bears, shared with other transfers.
        rng: uniform random numbers in [0, 1), for jitter.
        restartable: tells whether everything can still be thrown away (a stream that has given bytes away cannot).
        horizon: first offset that the sink has no room for; None for no bound.
        now: monotonic seconds.
    """

    def __init__(
        self,
        terms: Terms,
        planner: Planner,
        limiter: Limiter,
        *,
        rng: Callable[[], float],
        restartable: Callable[[], bool],
        horizon: Callable[[], int | None],
        now: float,
    ) -> None:
        self.state = State.PROBING
        self.resource: Resource | None = None
        self.claim = terms.claim
        self.planner = planner
        self.from_checkpoint = 0
        self.requests = self.retries = self.restarts = self.peak = 0
        self.waits = False
        self._bounds: dict[Bound, float] = {}
        self._noted_at = now
        self._terms = terms
        self._limiter = limiter
        self._rng = rng
        self._restartable = restartable
        self._horizon = horizon
        self._room = horizon() or 0
        self._identity: Identity | None = None
        self._promised: tuple[Claim, ...] = ()
        self._whole = False
        self._divisible = False
        self._lent = False
        self._answered = False
        self._attempts = self._broken = self._doubts = 0
        self._failed_at = now
        self._progress_at = now
        self._progress = 0
        self._told: tuple[retry.FailureKind, float] | None = None
        self._resting: list[float] = []
        self._asks: dict[Lease, Ask] = {}

    # ── the way in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: Event, now: float) -> list[Command]:
        """The only way to move the transfer on. `now` is monotonic seconds, never going back.

        Raises:
            AssertionError: the event cannot happen in this state; the driver is wrong.
        """
        handler = _TABLE.get((self.state, type(event)))
        assert handler is not None, f"{type(event).__name__} cannot happen while {self.state.value}"
        self._note_progress(now)
        try:
            return handler(self, event, now)
        except (SizeMismatchError, RequestError, DigestConflictError, UnverifiableError) as error:
            return self._fail(error, keep=True)  # nothing came of it; what was there may be what the caller wants

    def finished(self) -> bool:
        """Nothing more will happen."""
        return self.state in (State.DONE, State.FAILED)

    def abandon(self, now: float) -> None:
        """The caller has gone: give every place back. There are no commands, since nobody would carry them out."""
        if not self.finished():
            self._drop_all(now)
            self.state = State.FAILED

    def wake_at(self, now: float) -> float | None:
        """When a `Ticked` is due at the latest, in monotonic seconds; None if only other events can help."""
        if self.state not in (State.PROBING, State.FETCHING):
            return None
        times = [time for time in (*self._resting, self._limiter.opens_at) if time > now]
        return min(times, default=None)

    def waiting(self, now: float) -> bool:
        """No request is running, since all rest after a failure."""
        return not self.planner.active and any(time > now for time in (*self._resting, self._limiter.opens_at))

    def bound(self, now: float) -> Bound | None:
        """What keeps it from being faster, at the moment; None if no bytes are being fetched."""
        if self.state is not State.FETCHING:
            return None
        if self._limiter.throttled(now):
            return Bound.LIMIT_RATE
        horizon = self._horizon()
        if horizon is not None and self.planner.front >= horizon - self._room / 2:
            return Bound.READER  # half of his window is full
        return self._limiter.bound if self._divisible else Bound.SERVER

    @property
    def limited_by(self) -> Bound | None:
        """What kept it from being faster for most of the time."""
        return max(self._bounds, key=lambda bound: self._bounds[bound], default=None)

    # ── beginning ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, event: Begun, now: float) -> list[Command]:
        pause = self._limiter.resume_at - now
        if pause > 0:
            return [Notice(f"the server asked for a pause, {pause:.0f} s are left"), *self._take_up(event, now)]
        return self._take_up(event, now)

    def _take_up(self, event: Begun, now: float) -> list[Command]:
        identity = event.identity
        if identity is None:
            return self._schedule(event, now)
        if not event.durable:
            return [Reset(), *self._schedule(event, now)]  # the version that its journal names may be gone
        if not identity.validator.strong and self._terms.claim is None and not self._decisive(identity.claims):
            return [
                Notice("what an earlier run left cannot be trusted (no strong validator, no digest); starting anew"),
                Reset(),
                *self._schedule(event, now),
            ]
        self._identity = identity
        self.planner.resolve(identity.size, event.durable)
        self.from_checkpoint = self._progress = self.planner.done
        commands: list[Command] = [Notice(f"going on after {self.from_checkpoint:,} of {identity.size:,} bytes")]
        if self.planner.complete:
            self._answered = True
            return [
                *commands,
                *self._adopt(_remembered(identity, self._terms.url), identity.claims, complete=True),
                *self._advance(now),
            ]
        return [*commands, *self._schedule(event, now)]

    def _adopt(self, resource: Resource, claims: tuple[Claim, ...], *, complete: bool = False) -> list[Command]:
        """Take the resource as the one to fetch; if it is `complete` already, a digest may still be looked up."""
        self._check_size(resource.size)
        self.claim = self._believe(claims, resource.size)
        if (
            self.claim is not None
            and self.claim.digest.parts
            and not integrity.part_sizes(self.claim.digest, resource.size)
        ):
            what = f"the digest given is one of {self.claim.digest.parts} parts, which no size in use makes of the file"
            raise UnverifiableError(what, url=self._terms.url, hint="Give a digest of the whole file.")
        if not complete:
            self._require_claim()
        self.resource = resource
        return [Prepare(resource, self.claim)]

    def _require_claim(self) -> None:
        if self.claim is None and self._terms.verify == "require":
            raise UnverifiableError("nobody promises a digest of the file, and one is required", url=self._terms.url)

    def _believe(self, claims: tuple[Claim, ...], size: int | None) -> Claim | None:
        if self._terms.partial:
            return None  # a digest is the whole's
        heard = () if self._terms.verify == "none" else (*claims, *self._promised)
        return integrity.choose(self._terms.claim, heard, size, self._terms.url)

    def _decisive(self, claims: tuple[Claim, ...]) -> bool:
        """A digest will show in the end whether the bytes are of one version."""
        return self._terms.verify != "none" and integrity.conclusive(claims)

    def _promise(self, event: Promised, now: float) -> list[Command]:
        """What was looked up replaces nothing but a worse promise, or none."""
        del now
        self._promised = event.claims
        # A reader has had bytes that cannot be hashed any more.
        if self.resource is None or self._horizon() is not None:
            return []
        known = () if self.claim is None else (self.claim,)
        claim = self._believe(known, self.planner.size)
        if claim is None or claim == self.claim:
            return []
        self.claim = claim
        return [Expect(self.resource, claim)]

    def _check_size(self, actual: int | None) -> None:
        expected, start = self._terms.size, self._terms.start
        if actual is not None and 0 < start >= actual:
            raise self._beyond(f"{actual:,} bytes")
        if expected is not None and actual is not None and actual != expected:
            message = f"size mismatch: expected {expected:,} bytes, the server has {actual:,}"
            raise SizeMismatchError(message, expected=expected, actual=actual, url=self._terms.url)

    def _beyond(self, what: str) -> RequestError:
        start = self._terms.start
        return RequestError(f"the range begins at byte {start:,} of {what}", status=416, url=self._terms.url)

    # ── the first answer ─────────────────────────────────────────────────────────────────────────────────────────────

    def _introduce(self, event: HeadReceived, now: float) -> list[Command]:
        verdict = responses.introduce(
            event.head, self._asks[event.lease], url=self._terms.url, final_url=event.head.url, now=event.wall
        )
        match verdict:
            case Refused(failure):
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Unranged(reason):
                return self._ask_whole(event.lease, reason, now)
            case Changed(now=what) if self._identity is None and event.head.status == 416:
                raise self._beyond(what)
            case Changed() if self._identity is None:  # nothing is known that could have changed
                return self._ask_whole(event.lease, "the server does not answer ranges", now)
            case Changed(now=what):
                return self._changed(event.lease, what, now)
            case Facts(resource, empty):  # pragma: no branch - the last of four
                return self._welcome(event, resource, now, empty=empty)

    def _welcome(self, event: HeadReceived, resource: Resource, now: float, *, empty: bool) -> list[Command]:
        self._limiter.succeeded(now, event.lease.since)
        self._answered = True
        lease, known = event.lease, self._identity
        lease.answered = now
        if known is not None and not _is(known, resource):
            return self._changed(lease, f"{resource.validator}, {resource.size} bytes", now)
        if known is not None and not resource.ranges:
            # Not over what is there already: that may have been hashed.
            return self._ask_whole(lease, "the server does not answer ranges any more", now)
        self._shorten(event)
        # What an earlier run was promised holds for this version too.
        claims = (*resource.claims, *event.claims, *(known.claims if known is not None else ()))
        divisible = self._told_apart(resource, claims)
        in_one = lease.start <= self._terms.start and (
            lease.stop is None
            or resource.size is None
            or lease.stop >= min(resource.size, self._terms.stop or resource.size)
        )
        if resource.ranges and not divisible and not in_one:
            return self._ask_whole(lease, "the server gives no strong validator", now)
        commands = self._adopt(resource, claims)
        self.state = State.FETCHING
        self._divisible = divisible
        if not resource.ranges:
            lease.stop = resource.size
        if resource.size is not None and known is None:
            self.planner.resolve(resource.size)
        if empty:
            return [*commands, Drop(lease), *self._end(lease, now)]
        return [*commands, *self._schedule(event, now)]

    def _told_apart(self, resource: Resource, claims: tuple[Claim, ...]) -> bool:
        """Pieces of two versions can be told apart, so that the file can be fetched in pieces."""
        known = self._identity
        # What an earlier run left under a weaker validator is of this version only if a digest says so in the end.
        strong = resource.validator.strong and (known is None or _is_surely(known, resource))
        # A reader has had his bytes by the time when a digest could tell that they were of two versions.
        in_the_end = self._horizon() is None and (self._terms.claim is not None or self._decisive(claims))
        return resource.ranges and (strong or in_the_end)

    def _ask_whole(self, lease: Lease, reason: str, now: float) -> list[Command]:
        self._whole = True
        commands: list[Command] = [Drop(lease), Notice(f"fetching over one connection: {reason}")]
        return [*commands, *self._anew(now)]

    # ── more answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _admit(self, event: HeadReceived, now: float) -> list[Command]:
        assert self.resource is not None
        verdict = responses.admit(event.head, self._asks[event.lease], self.resource, now=event.wall)
        match verdict:
            case Refused(failure):
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Unranged(reason) if self._restartable():
                return self._ask_whole(event.lease, reason, now)
            case Unranged(reason):
                failure = retry.Failure(retry.FailureKind.PROTOCOL, reason)
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Changed(now=what):
                return self._changed(event.lease, what, now)
            case None:  # pragma: no branch - the last of four
                self._limiter.succeeded(now, event.lease.since)
                event.lease.answered = now
                self._doubts = 0
                self._shorten(event)
                return []

    def _shorten(self, event: HeadReceived) -> None:
        stop = responses.part_stop(event.head)
        if stop is not None:
            self.planner.shorten(event.lease, stop)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, event: LeaseEnded, now: float) -> list[Command]:
        return self._end(event.lease, now)

    def _end(self, lease: Lease, now: float) -> list[Command]:
        assert self.resource is not None
        self._limiter.ended(now, lease.since, lease.answered)
        self._release(lease, now)
        if self.planner.size is None:
            self.planner.resolve(lease.position)
            self._check_size(lease.position)
        return self._advance(now)

    def _advance(self, now: float) -> list[Command]:
        if not self.planner.complete:
            return self._schedule(Ticked(), now)
        assert self.planner.end is not None
        self.state = State.VERIFYING
        return [Verify(self.planner.end)]

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _retry(self, event: LeaseFailed, now: float) -> list[Command]:
        failure, lease = event.failure, event.lease
        if lease.remaining == 0:
            return self._end(lease, now)  # what goes wrong behind the last byte is nobody's loss
        self._release(lease, now)
        refused = self._is_refusal(lease, failure)
        if refused:
            # Others were told the same: not all of them should come back in the same moment.
            wish = (failure.retry_after or 0.0) * (1 + _SPREAD * self._rng())
            self._limiter.refused(now, min(wish, self._terms.retry.max_wait), lease.since)
        self._count_failure(lease, failure, now)
        self._answered = self._answered or failure.status is not None
        decision = retry.decide(
            failure,
            attempt=self._broken or self._attempts,
            quiet=now - self._progress_at,
            answered=self._answered,
            policy=self._terms.retry,
            rng=self._rng,
        )
        if isinstance(decision, retry.GiveUp):
            return self._fail(retry.error_for(failure, self._attempts, self._terms.url, decision.reason), keep=True)
        if not refused and lease.answered is None and failure.kind is not retry.FailureKind.PROTOCOL:
            self._limiter.failed(now, decision.delay)
        self.retries += 1
        self._resting.append(now + decision.delay)
        told = self._tell(failure, decision, now)
        if self.resumable:
            return [*told, *self._schedule(event, now)]
        if self.restarts >= self._terms.retry.restarts or not self._restartable():
            return self._fail(retry.error_for(failure, self._attempts, self._terms.url), keep=False)
        self.restarts += self.planner.done > 0
        return [*told, *self._anew(now)]

    def _tell(self, failure: retry.Failure, decision: retry.Retry, now: float) -> list[Command]:
        """Connections fail together, and in an outage again and again: what was just said is not said again."""
        silence = _SAID_OFTEN if self._attempts > _OFTEN else _SAID
        if self._told is not None and self._told[0] is failure.kind and now - self._told[1] < silence:
            return []
        self._told = (failure.kind, now)
        return [Notice(retry.notice(failure, decision))]

    def _is_refusal(self, lease: Lease, failure: retry.Failure) -> bool:
        """The server says that it is too much; also by no connection for one while others have theirs."""
        cut_off = lease.answered is None and failure.kind in (retry.FailureKind.CONNECT, retry.FailureKind.DROPPED)
        return failure.status in (429, 503) or (cut_off and self._limiter.active > 0)

    def _count_failure(self, lease: Lease, failure: retry.Failure, now: float) -> None:
        if not self._attempts:
            # Patience begins when the first request that fails is sent: until then nobody waited for the network.
            self._progress_at = max(self._progress_at, lease.since)
        broken = failure.kind is retry.FailureKind.PROTOCOL
        if not self._attempts or lease.since >= self._failed_at:
            # Requests that were under way together fail together: that is one failure.
            self._attempts += 1
            self._broken += broken
            self._failed_at = now
        self._broken = max(self._broken, 1) if broken else 0

    @property
    def resumable(self) -> bool:
        """It can be taken up where it ended, now or by a later run: nothing has come, or pieces can be put together."""
        return self.resource is None or self._divisible

    def _changed(self, lease: Lease, what: str, now: float) -> list[Command]:
        known = self._identity
        was = str(self.resource.validator if self.resource else known.validator if known else "unknown")
        if self.restarts < self._terms.retry.restarts and self._restartable():
            return self._anew_as_changed(was, what, now)
        if self._doubts < _DOUBTS:
            self._doubts += 1
            self._release(lease, now)
            self._resting.append(now + retry.backoff(self._terms.retry, self._doubts, self._rng))
            notice = Notice(f"an answer of another version came (was {was}, now {what}); asking again")
            return [Drop(lease), notice, *self._schedule(Ticked(), now)]
        error = ResourceChangedError(
            f"the remote file changed: it was {was}, now it is {what}", was=was, now=what, url=self._terms.url
        )
        return self._fail(error, keep=False)

    def _anew_as_changed(self, was: str, what: str, now: float) -> list[Command]:
        self.restarts += 1
        # A file that goes on changing, or servers behind one name that differ: a single answer is of one version.
        self._whole = self._whole or self.restarts >= _FICKLE
        how = "starting anew over one connection" if self._whole else "starting anew"
        # Replicas that are not of one mind yet need time; the pauses of requests that are gone do not count any more.
        self._resting = [now + retry.backoff(self._terms.retry, self.restarts, self._rng)]
        return [Notice(f"the remote file changed (was {was}, now {what}); {how}"), *self._anew(now)]

    def _anew(self, now: float) -> list[Command]:
        """Throw everything away and ask again."""
        commands: list[Command] = [*self._drop_all(now), Reset()]
        self.planner.reset()
        self.state = State.PROBING
        self.resource = self._identity = None
        self._divisible = False
        self.claim = self._terms.claim
        self.from_checkpoint = self._progress = 0
        return [*commands, *self._schedule(Ticked(), now)]

    def _drop_all(self, now: float) -> list[Command]:
        leases = list(self.planner.active)
        for lease in leases:
            self._release(lease, now)
        return [Drop(lease) for lease in leases]

    def _fail(self, error: HydraError, *, keep: bool) -> list[Command]:
        commands = self._drop_all(self._progress_at)
        self.state = State.FAILED
        return [*commands, Fail(error, keep)]

    def _abort(self, event: Aborted, now: float) -> list[Command]:
        del now
        return self._fail(event.error, keep=True)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _verified(self, event: Verified, now: float) -> list[Command]:
        self._require_claim()
        if self.claim is not None:
            assert event.actual is not None, "a claim was there, and nothing was hashed"
            try:
                integrity.check(self.claim, event.actual, self._terms.url)
            except DigestMismatchError as error:
                if self._terms.claim is None and not integrity.conclusive([self.claim]):
                    return self._undecided(self.claim)
                if self.from_checkpoint and self._restartable():
                    self.restarts += 1
                    return [Notice(f"{error}; the checkpoint was of no use, starting anew"), *self._anew(now)]
                return self._fail(error, keep=False)
        self.state = State.COMMITTING
        return [Commit()]

    def _undecided(self, claim: Claim) -> list[Command]:
        """Not one of the usual sizes of parts yields the digest: that shows nothing."""
        what = f"the {claim} is of {claim.digest.parts} parts, and no size of parts in use yields it"
        if self._terms.verify == "require":
            raise UnverifiableError(what, url=self._terms.url)
        self.claim = None
        self.state = State.COMMITTING
        return [Notice(f"{what}: only the size is verified"), Commit()]

    def _commit(self, event: Committed, now: float) -> list[Command]:
        del event, now
        self.state = State.DONE
        return []

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _schedule(self, event: Event, now: float) -> list[Command]:
        """Open as many requests as there is work and room for."""
        del event
        self._resting = [time for time in self._resting if time > now]
        places = (self._terms.threads if self.state is State.FETCHING else 1) - len(self._resting)
        commands = [*self._give_way(now), *self._shed(now), *self._give_up(now, _HOPELESS)]
        self.waits = False
        while len(self.planner.active) < places:
            if not self._limiter.grant(now, self, needed=self.planner.wants(self._horizon())):
                self.waits = True
                break
            lease = self._next_lease(now)
            if lease is None:
                self._limiter.release(self)
                given_up = self._give_up(now)
                if not given_up:
                    break
                commands += given_up
                continue
            self._asks[lease] = ask = self._question(lease)
            self.requests += 1
            self.peak = max(self.peak, len(self.planner.active))
            commands.append(Open(lease, ask))
        return commands

    def _next_lease(self, now: float) -> Lease | None:
        if self.resource is None:
            return self.planner.probe(now, whole=self._whole)
        if not self._divisible:
            return None
        workers = min(self._terms.threads, max(_SOON, self._limiter.limit))
        return self.planner.next(now, workers, self._horizon())

    def _give_way(self, now: float) -> list[Command]:
        """Give back the places of requests that wait for the reader, if bytes wait for one: he may wait for them."""
        horizon = self._horizon()
        if horizon is None:
            return []
        if self._lent and self.planner.active[0].position < horizon:
            self._lent = False
            self._limiter.reclaim(self)  # it goes on
        if not self._limiter.wanted:
            return []
        blocked = [lease for lease in self.planner.active if lease.position >= horizon]
        if self._divisible:
            for lease in blocked:
                self._release(lease, now)
            return [Drop(lease) for lease in blocked]
        if blocked and not self._lent:
            # It could not be taken up again, so it stays open, idle; when it goes on, the place counts again.
            self._lent = True
            self._limiter.release(self)
        return []

    def _shed(self, now: float) -> list[Command]:
        """End requests that are too many, if they would last."""
        commands: list[Command] = []
        while self._divisible and self._limiter.surplus and len(self.planner.active) > 1:
            lease = self.planner.latest(now)
            if lease is None:
                break
            self._release(lease, now)
            commands.append(Drop(lease))
        return commands

    def _give_up(self, now: float, times: int = _TRAILING) -> list[Command]:
        """End a request that is so many times slower than others; its bytes are missing again."""
        if self._limiter.throttled(now):
            times = _SILENT  # all are as fast as their turns come
        late = self.planner.straggler(now, self._horizon(), times) if self._divisible else None
        if late is None:
            return []
        self._release(late, now)
        return [Drop(late)]

    def _question(self, lease: Lease) -> Ask:
        known = self.resource or self._identity
        return Ask(lease.start, lease.stop, known.validator.if_range if known is not None else None)

    def _release(self, lease: Lease, now: float) -> None:
        self.planner.finish(lease, now)
        if not self._lent:
            self._limiter.release(self)
        self._lent = False
        del self._asks[lease]

    def _note_progress(self, now: float) -> None:
        bound = self.bound(now)
        if bound is not None and now > self._noted_at:
            self._bounds[bound] = self._bounds.get(bound, 0.0) + now - self._noted_at
        self._noted_at = now
        done, horizon = self.planner.done, self._horizon()
        self._limiter.received(max(0, done - self._progress), now)
        self.planner.observe(now, horizon)
        # Where all that has room is there, it is the reader's turn, not the network's.
        if done > self._progress or (horizon is not None and done >= horizon):
            self._progress, self._progress_at, self._attempts, self._broken = done, now, 0, 0

    def _ignore(self, event: Event, now: float) -> list[Command]:
        del event, now
        return []


def _is(known: Identity, resource: Resource) -> bool:
    """The resource may be the version that the checkpoint was made of: nothing shows the contrary."""
    return (
        resource.size == known.size
        and headers.same_version(known.validator, resource.validator)
        and not integrity.contradict(known.claims, resource.claims)
    )


def _is_surely(known: Identity, resource: Resource) -> bool:
    """The resource is the version that the checkpoint was made of."""
    return headers.compare(known.validator, resource.validator) is headers.Likeness.SAME


def _remembered(identity: Identity, url: str) -> Resource:
    """The resource as an earlier run saw it."""
    return Resource(url, url, identity.size, ranges=True, validator=identity.validator, claims=identity.claims)


_TABLE: dict[tuple[State, type[Event]], Callable[[Transfer, Any, float], list[Command]]] = {
    (State.PROBING, Begun): Transfer._begin,
    (State.PROBING, HeadReceived): Transfer._introduce,
    (State.PROBING, LeaseFailed): Transfer._retry,
    (State.PROBING, Ticked): Transfer._schedule,
    (State.PROBING, Promised): Transfer._promise,
    (State.PROBING, Aborted): Transfer._abort,
    (State.FETCHING, HeadReceived): Transfer._admit,
    (State.FETCHING, LeaseEnded): Transfer._ended,
    (State.FETCHING, LeaseFailed): Transfer._retry,
    (State.FETCHING, Ticked): Transfer._schedule,
    (State.FETCHING, Promised): Transfer._promise,
    (State.FETCHING, Aborted): Transfer._abort,
    (State.VERIFYING, Verified): Transfer._verified,
    (State.VERIFYING, Ticked): Transfer._ignore,
    (State.VERIFYING, Promised): Transfer._promise,
    (State.VERIFYING, Aborted): Transfer._abort,
    (State.COMMITTING, Committed): Transfer._commit,
    (State.COMMITTING, Ticked): Transfer._ignore,
    (State.COMMITTING, Promised): Transfer._ignore,
    (State.COMMITTING, Aborted): Transfer._abort,
    (State.DONE, Ticked): Transfer._ignore,
    (State.FAILED, Ticked): Transfer._ignore,
}
