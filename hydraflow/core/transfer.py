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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hydraflow.core import evidence, integrity, responses, retry
from hydraflow.core.bounds import Bounds
from hydraflow.core.events import (
    Aborted,
    Begun,
    Command,
    Commit,
    Committed,
    Drop,
    Event,
    Expect,
    Fail,
    HeadReceived,
    LeaseEnded,
    LeaseFailed,
    Notice,
    Prepare,
    Promised,
    Reset,
    Terms,
    Ticked,
    Verified,
    Verify,
)
from hydraflow.core.journal import Identity
from hydraflow.core.planner import Lease, Planner
from hydraflow.core.responses import Changed, Facts, Refused, Unranged
from hydraflow.core.scheduler import Scheduler, Stage
from hydraflow.core.sources import Place, Source, Sources, Standing
from hydraflow.errors import (
    DigestConflictError,
    DigestMismatchError,
    HydraError,
    RequestError,
    ResourceChangedError,
    SizeMismatchError,
    UnverifiableError,
)
from hydraflow.models import Bound, Claim, Resource, Validator

__all__ = ["State", "Transfer"]


_FICKLE = 3  # restarts after which a file that changes again is fetched over one connection
_DOUBTS = 3  # answers of another version, in a row, before a stream that cannot begin anew believes them
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


class Transfer:
    """One transfer's decisions.

    Args:
        terms: what the caller asks.
        planner: which bytes next.
        places: where the file can be had, the URL that was asked for first; limiters are shared with other transfers.
        rng: uniform random numbers in [0, 1), for jitter.
        restartable: tells whether everything can still be thrown away (a stream that has given bytes away cannot).
        horizon: first offset that the sink has no room for; None for no bound.
        now: monotonic seconds.
        writing: seconds that writing to a disk has taken so far.
    """

    def __init__(
        self,
        terms: Terms,
        planner: Planner,
        places: Sequence[Place],
        *,
        rng: Callable[[], float],
        restartable: Callable[[], bool],
        horizon: Callable[[], int | None],
        now: float,
        writing: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.state = State.PROBING
        self.resource: Resource | None = None
        self.claim = terms.claim
        self.planner = planner
        self.from_checkpoint = 0
        self.retries = self.restarts = 0
        self._bounds = Bounds(writing, now)
        self._terms = terms
        self.sources = Sources(places)
        self.scheduler = Scheduler(terms, planner, self.sources, horizon)
        self._named = False
        self._suspects: list[Source] = []
        self._wrong: dict[str, Source] = {}
        self._claims: tuple[Claim, ...] = ()
        self._written: tuple[Claim, ...] = ()
        self._rng = rng
        self._restartable = restartable
        self._horizon = horizon
        self._room = horizon() or 0
        self._identity: Identity | None = None
        self._promised: tuple[Claim, ...] = ()
        self._answered = False
        self._doubts = 0
        self._progress_at = now
        self._progress = 0

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
            lease = getattr(event, "lease", None)
            # Nothing came of it; what was there may be what the caller wants.
            return self._fail(error, keep=True) if lease is None else self._lose(self.sources.of(lease), error, now)

    def finished(self) -> bool:
        """Nothing more will happen."""
        return self.state in (State.DONE, State.FAILED)

    def abandon(self, now: float) -> None:
        """The caller has gone: give every place back. There are no commands, since nobody would carry them out."""
        if not self.finished():
            self.scheduler.drop(now)
            self.state = State.FAILED

    def wake_at(self, now: float) -> float | None:
        """When a `Ticked` is due at the latest, in monotonic seconds; None if only other events can help."""
        if self.state not in (State.PROBING, State.FETCHING):
            return None
        return self.scheduler.wake_at(now)

    def bound(self, now: float) -> Bound | None:
        """What keeps it from being faster, at the moment; None if no bytes are being fetched."""
        if self.state is not State.FETCHING:
            return None
        if self.sources.lead.limiter.throttled(now):
            return Bound.LIMIT_RATE
        horizon = self._horizon()
        if horizon is not None and self.planner.front >= horizon - self._room / 2:
            return Bound.READER  # half of his window is full
        if self._bounds.disk:
            return Bound.DISK
        return self.sources.lead.limiter.bound if self.scheduler.stage is Stage.PIECES else Bound.SERVER

    @property
    def limited_by(self) -> Bound | None:
        """What kept it from being faster for most of the time."""
        return self._bounds.most

    # ── beginning ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, event: Begun, now: float) -> list[Command]:
        pause = self.sources.lead.limiter.resume_at - now
        if pause > 0:
            return [Notice(f"the server asked for a pause, {pause:.0f} s are left"), *self._take_up(event, now)]
        return self._take_up(event, now)

    def _take_up(self, event: Begun, now: float) -> list[Command]:
        identity = event.identity
        if identity is None:
            return self.scheduler.schedule(now)
        if not event.durable:
            return [Reset(), *self.scheduler.schedule(now)]  # the version that its journal names may be gone
        if not identity.validator.strong and self._terms.claim is None and not self._decisive(identity.claims):
            return [
                Notice("what an earlier run left cannot be trusted (no strong validator, no digest); starting anew"),
                Reset(),
                *self.scheduler.schedule(now),
            ]
        self._identity, self.scheduler.checkpoint = identity, identity.validator
        self._answered = True  # an earlier run: the URL is not mistyped
        self.planner.resolve(identity.size, event.durable)
        self.from_checkpoint = self._progress = self.planner.done
        commands: list[Command] = [Notice(f"going on after {self.from_checkpoint:,} of {identity.size:,} bytes")]
        if self.planner.complete:
            self.scheduler.stage = Stage.PIECES
            return [
                *commands,
                *self._adopt(evidence.recalled(identity, self._terms.url), identity.claims, complete=True),
                *self._advance(now),
            ]
        return [*commands, *self.scheduler.schedule(now)]

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
        self._claims = claims if self._terms.claim is None else (self._terms.claim, *claims)
        recorded = self._recorded(resource)
        self._written = evidence.vouching(self._identity) if self._identity is not None else recorded.claims
        return [Prepare(recorded, self.claim)]

    def _recorded(self, resource: Resource) -> Resource:
        """The resource as a later run must know it, whichever sources that one has.

        Where mirrors may give bytes on the word of a digest, that digest has to outlive this run, and no validator may
        vouch for them in its stead.  A mirror's validator says nothing to the URL that was asked for anyway, but for a
        strong tag that both may have.
        """
        if not self.sources.several:
            return resource
        if self.claim is not None and integrity.conclusive([self.claim]) and self._horizon() is None:
            others = tuple(claim for claim in resource.claims if claim != self.claim)
            return replace(resource, claims=(self.claim, *others), validator=Validator())
        if self.sources.lead is self.sources[0]:
            return resource
        return replace(resource, validator=Validator(resource.validator.strong_etag))

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
        verdict = self._read_first(event)
        match verdict:
            case Refused(failure):
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Unranged(reason) | Changed(now=reason) if self._identity and event.lease.source:
                return self._set_aside(self.sources.of(event.lease), reason, now)
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

    def _read_first(self, event: HeadReceived) -> Facts | Unranged | Changed | Refused:
        ask = self.scheduler.ask_of(event.lease)
        return responses.introduce(event.head, ask, url=self._terms.url, final_url=event.head.url, now=event.wall)

    def _welcome(self, event: HeadReceived, resource: Resource, now: float, *, empty: bool) -> list[Command]:
        lease, known, source = event.lease, self._identity, self.sources.of(event.lease)
        self._answers(event, source, now)
        self._answered = True
        if known is not None and source is not self.sources[0]:
            shown = evidence.compare(known.size, known.validator, known.claims, None, resource)
            provable = self._provable(self._believe(known.claims, known.size), evidence.vouching(known))
            objection = evidence.objection(shown, resource, provable=provable)
            if objection:
                return self._set_aside(source, objection, now)
        elif known is not None and not evidence.may_be(known, resource):
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
        self.sources.lead = source
        # Who names others with each answer could keep it beginning anew for ever: each source allows for some restarts.
        joined = self.sources.join(event.mirrors) if divisible and not self._named else 0
        self._named = self._named or bool(joined)
        commands = self._adopt(resource, claims)
        if joined and not in_one:
            commands.append(Notice(f"the server names {joined} mirror{'s' if joined > 1 else ''}"))
        source.resource, source.standing = resource, Standing.ADMITTED
        self.state = State.FETCHING
        self.scheduler.stage = Stage.PIECES if divisible else Stage.ONE
        if not resource.ranges:
            lease.stop = resource.size
        if resource.size is not None and known is None:
            self.planner.resolve(resource.size)
        if empty:
            return [*commands, Drop(lease), *self._end(lease, now)]
        return [*commands, *self.scheduler.schedule(now)]

    def _told_apart(self, resource: Resource, claims: tuple[Claim, ...]) -> bool:
        """Pieces of two versions can be told apart, so that the file can be fetched in pieces."""
        known = self._identity
        # What an earlier run left under a weaker validator is of this version only if a digest says so in the end.
        strong = resource.validator.strong and (known is None or evidence.was_surely(known, resource))
        # A reader has had his bytes by the time when a digest could tell that they were of two versions.
        in_the_end = self._horizon() is None and (self._terms.claim is not None or self._decisive(claims))
        return resource.ranges and (strong or in_the_end)

    def _ask_whole(self, lease: Lease, reason: str, now: float) -> list[Command]:
        self.scheduler.whole = True
        commands: list[Command] = [Drop(lease), Notice(f"fetching over one connection: {reason}")]
        return [*commands, *self._anew(now)]

    # ── more answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _admit(self, event: HeadReceived, now: float) -> list[Command]:
        source = self.sources.of(event.lease)
        if source.resource is None:
            return self._try(event, source, now)
        verdict = responses.admit(event.head, self.scheduler.ask_of(event.lease), source.resource, now=event.wall)
        match verdict:
            case Refused(failure):
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Unranged(reason) | Changed(now=reason) if self._dispensable(source):
                return self._set_aside(source, f"it changed: {reason}", now)
            case Unranged(reason) if self._restartable():
                return self._ask_whole(event.lease, reason, now)
            case Unranged(reason):
                failure = retry.Failure(retry.FailureKind.PROTOCOL, reason)
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Changed(now=what):
                return self._changed(event.lease, what, now)
            case None:  # pragma: no branch - the last of four
                self._answers(event, source, now)
                self._doubts = 0
                self._shorten(event)
                return []

    def _answers(self, event: HeadReceived, source: Source, now: float) -> None:
        """It answers as it was asked."""
        event.lease.answered = now
        source.limiter.succeeded(now, event.lease.since if event.latency is None else now - event.latency)

    # ── other sources ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _most_restarts(self) -> int:
        return self._terms.retry.restarts * len(self.sources)

    def _try(self, event: HeadReceived, source: Source, now: float) -> list[Command]:
        """The first answer of another source: its bytes are used if it is shown to be the same file."""
        assert self.resource is not None
        known = self.resource
        verdict = self._read_first(event)
        match verdict:
            case Refused(failure):
                return [Drop(event.lease), *self._retry(LeaseFailed(event.lease, failure), now)]
            case Unranged(reason):
                return self._set_aside(source, reason, now)
            case Changed(now=what):
                return self._set_aside(source, f"it answers with {what}", now)
            case Facts(resource):  # pragma: no branch - the last of four
                shown = evidence.compare(known.size, known.validator, self._claims, known.encoding, resource)
                provable = self._provable(self.claim, self._written)
                objection = evidence.objection(shown, resource, provable=provable)
                if objection:
                    return self._set_aside(source, objection, now)
        source.resource, source.standing = resource, Standing.ADMITTED
        self._answers(event, source, now)
        self._shorten(event)
        return []

    def _provable(self, claim: Claim | None, written: tuple[Claim, ...]) -> bool:
        """Whether a digest will tell in the end if another source's bytes were wrong.

        Args:
            claim: what all bytes are verified by in the end.
            written: the claims that the checkpoint rests on, in this run and later ones.
        """
        # A reader has had his bytes by the time when a digest could tell.
        checked = claim is not None and integrity.conclusive([claim]) and self._horizon() is None
        return checked and integrity.conclusive(written)

    def _dispensable(self, source: Source) -> bool:
        """The transfer goes on without the source: it can go on from others, without beginning anew."""
        if source is self.sources.lead and self._restartable():
            return False
        return any(each is not source and each.standing is Standing.ADMITTED for each in self.sources)

    def _set_aside(self, source: Source, reason: str, now: float) -> list[Command]:
        """Not another byte of it, unless everything begins anew."""
        source.standing, source.reason = Standing.ASIDE, reason
        return [Notice(f"{source.url} is left out: {reason}"), *self._go_on_without(source, now)]

    def _lose(self, source: Source, error: HydraError, now: float, *, keep: bool = True) -> list[Command]:
        """A source is of no use any more; so is the transfer, if it was the last one."""
        source.standing, source.error = Standing.FAILED, error
        if not self.sources.several:
            return self._fail(error, keep=keep)
        return [Notice(f"{source.url} is given up: {error}"), *self._go_on_without(source, now)]

    def _go_on_without(self, source: Source, now: float) -> list[Command]:
        commands = self.scheduler.drop(now, source)
        if source is self.sources.lead:
            self.sources.lead = next((each for each in self.sources if each.standing is Standing.ADMITTED), source)
        others = [each for each in self.sources if each.standing is not Standing.FAILED]
        usable = any(each.usable for each in others)
        alone = self.scheduler.alone and self.resource is not None
        if not usable and others and not alone and self._worth_asking_again(source):
            usable = True
            for each in others:
                each.standing, each.resource = Standing.UNKNOWN, None
        if usable and self.resumable and not alone:
            return [*commands, *self.scheduler.schedule(now)]
        if not others or self.restarts >= self._most_restarts or not self._restartable():
            keep = self.resumable and self.state is not State.VERIFYING
            return [*commands, *self._fail(self.sources.verdict(), keep=keep)]
        self.restarts += self.planner.done > 0
        self.scheduler.whole = False  # that was about another server
        notice = "no other source has provably the same file; starting anew"
        return [*commands, Notice(notice), *self._anew(now)]

    def _worth_asking_again(self, lost: Source) -> bool:
        """Perhaps nobody can be reached: what is on disk is thrown away only for a source that answers now."""
        failed = lost.standing is Standing.FAILED
        return failed and self._horizon() is None and self.resumable and self.planner.done > 0

    def _suspect(self, error: DigestMismatchError, now: float) -> list[Command]:
        """Some source gave wrong bytes: fetch again what did not come from the lead; if it is still wrong, it is he."""
        self.scheduler.alone = True
        helpers = [each for each in self.sources if each is not self.sources.lead and each.received]
        if not helpers or self.sources.lead.standing is not Standing.ADMITTED or self._horizon() is not None:
            return self._lose_wrong(error, now)
        self._suspects = helpers
        for each in helpers:
            self.planner.forget(each.received)
            each.forget()
            if each.usable:
                each.standing, each.reason = Standing.ASIDE, "wrong bytes may have come from it"
        self.state = State.FETCHING
        self._progress = self.planner.done
        assert self.resource is not None
        names = ", ".join(each.url for each in helpers)
        notice = Notice(f"{error}; fetching again what came from {names}")
        return [notice, Prepare(self._recorded(self.resource), self.claim), *self.scheduler.schedule(now)]

    def _lose_wrong(self, error: DigestMismatchError, now: float) -> list[Command]:
        """All bytes are of one source, and wrong: another one may do better, unless one has given the same before."""
        before = self._wrong.setdefault(error.actual, self.sources.lead)
        if before is self.sources.lead:
            return self._lose(self.sources.lead, error, now)
        error.args = (
            f"{error}; {before.url} and {self.sources.lead.url} give the same bytes: is it the right digest?",
        )
        return self._fail(error, keep=False)

    def _convict(self) -> list[Command]:
        """Without the suspects' bytes it is right."""
        suspects, self._suspects = self._suspects, []
        return [Notice(f"{' or '.join(each.url for each in suspects)} gave wrong bytes")] if suspects else []

    def _shorten(self, event: HeadReceived) -> None:
        stop = responses.part_stop(event.head)
        if stop is not None:
            self.planner.shorten(event.lease, stop)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, event: LeaseEnded, now: float) -> list[Command]:
        return self._end(event.lease, now)

    def _end(self, lease: Lease, now: float) -> list[Command]:
        assert self.resource is not None
        self.sources.of(lease).limiter.ended(now, lease.since, lease.answered)
        self.scheduler.release(lease, now)
        if self.planner.size is None:
            self.planner.resolve(lease.position)
            self._check_size(lease.position)
        return self._advance(now)

    def _advance(self, now: float) -> list[Command]:
        if not self.planner.complete:
            return self.scheduler.schedule(now)
        assert self.planner.end is not None
        self.state = State.VERIFYING
        return [Verify(self.planner.end)]

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _retry(self, event: LeaseFailed, now: float) -> list[Command]:
        failure, lease, source = event.failure, event.lease, self.sources.of(event.lease)
        if lease.remaining == 0:
            return self._end(lease, now)  # what goes wrong behind the last byte is nobody's loss
        self.scheduler.release(lease, now)
        refused = self._is_refusal(lease, failure)
        if refused:
            # Others were told the same: not all of them should come back in the same moment.
            wish = (failure.retry_after or 0.0) * (1 + _SPREAD * self._rng())
            source.limiter.refused(now, min(wish, self._terms.retry.max_wait), lease.since)
        self._count_failure(lease, failure, now)
        self._answered = self._answered or failure.status is not None
        decision = retry.decide(
            failure,
            attempt=source.broken or source.attempts,
            quiet=now - self._progress_at,
            answered=self._answered,
            policy=self._terms.retry,
            rng=self._rng,
        )
        if isinstance(decision, retry.GiveUp):
            error = retry.error_for(failure, source.attempts, source.url, decision.reason)
            return self._lose(source, error, now)
        if not refused and lease.answered is None and failure.kind is not retry.FailureKind.PROTOCOL:
            source.limiter.failed(now, decision.delay)
        self.retries += 1
        source.resting.append(now + decision.delay)
        told = self._tell(source, failure, decision, now)
        if self.resumable:
            return [*told, *self.scheduler.schedule(now)]
        if self.restarts >= self._most_restarts or not self._restartable():
            return self._lose(source, retry.error_for(failure, source.attempts, source.url), now, keep=False)
        source.setbacks += 1
        self.restarts += self.planner.done > 0
        return [*told, *self._anew(now)]

    def _tell(self, source: Source, failure: retry.Failure, decision: retry.Retry, now: float) -> list[Command]:
        """Connections fail together, and in an outage again and again: what was just said is not said again."""
        silence = _SAID_OFTEN if source.attempts > _OFTEN else _SAID
        if source.told is not None and source.told[0] is failure.kind and now - source.told[1] < silence:
            return []
        source.told = (failure.kind, now)
        notice = retry.notice(failure, decision)
        return [Notice(f"{source.url}: {notice}" if self.sources.several else notice)]

    def _is_refusal(self, lease: Lease, failure: retry.Failure) -> bool:
        """The server says that it is too much; also by no connection for one while others have theirs."""
        cut_off = lease.answered is None and failure.kind in (retry.FailureKind.CONNECT, retry.FailureKind.DROPPED)
        return failure.status in (429, 503) or (cut_off and self.sources.of(lease).limiter.active > 0)

    def _count_failure(self, lease: Lease, failure: retry.Failure, now: float) -> None:
        source = self.sources.of(lease)
        if not any(each.attempts for each in self.sources):
            # Patience begins when the first request that fails is sent: until then nobody waited for the network.
            self._progress_at = max(self._progress_at, lease.since)
        broken = failure.kind is retry.FailureKind.PROTOCOL
        if not source.attempts or lease.since >= source.failed_at:
            # Requests that were under way together fail together: that is one failure.
            source.attempts += 1
            source.broken += broken
            source.failed_at = now
        source.broken = max(source.broken, 1) if broken else 0

    @property
    def resumable(self) -> bool:
        """It can be taken up where it ended, now or by a later run: nothing has come, or pieces can be put together."""
        return self.scheduler.stage is not Stage.ONE

    def _changed(self, lease: Lease, what: str, now: float) -> list[Command]:
        known, source = self._identity, self.sources.of(lease)
        was = str(self.resource.validator if self.resource else known.validator if known else "unknown")
        if self.restarts < self._most_restarts and self._restartable():
            return self._anew_as_changed(source, was, what, now)
        if self._doubts < _DOUBTS:
            self._doubts += 1
            self.scheduler.release(lease, now)
            source.resting.append(now + retry.backoff(self._terms.retry, self._doubts, self._rng))
            notice = Notice(f"an answer of another version came (was {was}, now {what}); asking again")
            return [Drop(lease), notice, *self.scheduler.schedule(now)]
        error = ResourceChangedError(
            f"the remote file changed: it was {was}, now it is {what}", was=was, now=what, url=self._terms.url
        )
        return self._fail(error, keep=False)

    def _anew_as_changed(self, source: Source, was: str, what: str, now: float) -> list[Command]:
        self.restarts += 1
        # A file that goes on changing, or servers behind one name that differ: a single answer is of one version.
        self.scheduler.whole = self.scheduler.whole or self.restarts >= _FICKLE
        how = "starting anew over one connection" if self.scheduler.whole else "starting anew"
        # Replicas that are not of one mind yet need time; the pauses of requests that are gone do not count any more.
        source.resting = [now + retry.backoff(self._terms.retry, self.restarts, self._rng)]
        return [Notice(f"the remote file changed (was {was}, now {what}); {how}"), *self._anew(now)]

    def _anew(self, now: float) -> list[Command]:
        """Throw everything away and ask again."""
        commands: list[Command] = [*self.scheduler.drop(now), Reset()]
        self.planner.reset()
        self.state = State.PROBING
        self.resource = self._identity = self.scheduler.checkpoint = None
        self.scheduler.stage = Stage.FIRST
        self.claim, self._promised = self._terms.claim, ()
        self.from_checkpoint = self._progress = 0
        for source in self.sources:
            source.forget()
        return [*commands, *self.scheduler.schedule(now)]

    def _fail(self, error: HydraError, *, keep: bool) -> list[Command]:
        commands = self.scheduler.drop(self._progress_at)
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
                if self.sources.several and self._restartable():
                    return self._suspect(error, now)
                givers = [each.url for each in self.sources if each.received]
                if len(givers) > 1:
                    error.args = (f"{error}; the bytes are from {' and '.join(givers)}",)
                return self._fail(error, keep=False)
        self.state = State.COMMITTING
        return [*self._convict(), Commit()]

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

    def _note_progress(self, now: float) -> None:
        self._bounds.watch(now)
        self._bounds.note(self.bound(now), now)
        done, horizon = self.planner.done, self._horizon()
        if self.sources.several:
            self.sources.credit(self.planner.active, now)
        else:
            self.sources.lead.limiter.received(max(0, done - self._progress), now)
        self.planner.observe(now, horizon)
        # Where all that has room is there, it is the reader's turn, not the network's.
        if done > self._progress or (horizon is not None and done >= horizon):
            self._progress, self._progress_at = done, now
            if not self.sources.several:
                self.sources.lead.attempts = self.sources.lead.broken = 0

    def _tick(self, event: Ticked, now: float) -> list[Command]:
        del event
        return self.scheduler.schedule(now)

    def _ignore(self, event: Event, now: float) -> list[Command]:
        del event, now
        return []


_TABLE: dict[tuple[State, type[Event]], Callable[[Transfer, Any, float], list[Command]]] = {
    (State.PROBING, Begun): Transfer._begin,
    (State.PROBING, HeadReceived): Transfer._introduce,
    (State.PROBING, LeaseFailed): Transfer._retry,
    (State.PROBING, Ticked): Transfer._tick,
    (State.PROBING, Promised): Transfer._promise,
    (State.PROBING, Aborted): Transfer._abort,
    (State.FETCHING, HeadReceived): Transfer._admit,
    (State.FETCHING, LeaseEnded): Transfer._ended,
    (State.FETCHING, LeaseFailed): Transfer._retry,
    (State.FETCHING, Ticked): Transfer._tick,
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
