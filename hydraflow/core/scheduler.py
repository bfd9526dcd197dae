"""Which requests of a transfer run: whom the next one goes to, what it asks for, and which end before their time.

`transfer` knows what the file is and what becomes of failures, `planner` which bytes are missing, `limiter` how many
requests a server bears, `sources` who is quick; here they meet.  One question is asked again and again: is there work,
room and somebody to ask?
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from hydraflow.core import integrity, sources
from hydraflow.core.events import Command, Drop, Notice, Open, Terms
from hydraflow.core.planner import Lease, Planner
from hydraflow.core.responses import Ask
from hydraflow.core.sources import Source, Sources, Standing
from hydraflow.models import Validator

__all__ = ["Scheduler", "Stage"]

_SOON = 4  # there may be so many requests in a moment, however few are allowed now
_TRAILING, _HOPELESS = 4, 8  # so many times slower than others: when all wait for it, and at any time
_SILENT = 1 << 40  # the same of one that does not move at all
#: Seconds for which the first answer is waited for while another source could be asked: where a digest will tell
#: whether its bytes are the right ones, and where not.
_QUIET, _QUIET_UNPROVED = 1.0, 5.0
_TRIES = 3  # requests for the first answer after which a source is asked whose bytes nothing will prove


class Stage(enum.Enum):
    """How much may be asked for."""

    FIRST = "first"  # one request, whose answer tells what the file is
    ONE = "one"  # that one goes on to the end: nothing else could be put together with what it brings
    PIECES = "pieces"  # as much as the sources bear


class Scheduler:
    """The requests of one transfer.

    Args:
        terms: what the caller asks.
        planner: which bytes next.
        places: where the file can be had.
        horizon: first offset that the sink has no room for; None for no bound.

    Attributes:
        stage: how much may be asked for.
        whole: the first request asks for the file as a whole.
        alone: from now on only the source that leads is asked.
        checkpoint: the validator of what an earlier run left, which the URL that was asked for first is asked about.
        waits: there is work that no source has room for.
        sent: requests so far.
        peak: the most of them at a time.
    """

    def __init__(self, terms: Terms, planner: Planner, places: Sources, horizon: Callable[[], int | None]) -> None:
        self.stage = Stage.FIRST
        self.whole = self.alone = False
        self.checkpoint: Validator | None = None
        self.waits = False
        self.sent = self.peak = 0
        self._terms = terms
        self._planner = planner
        self._sources = places
        self._horizon = horizon
        self._asks: dict[Lease, Ask] = {}
        self._lent = False

    # ── more of them ─────────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, now: float) -> list[Command]:
        """Open as many requests as there is work and room for, and end those that are in the way."""
        for each in self._sources:
            each.resting = [time for time in each.resting if time > now]
        commands = [*self._give_way(now), *self._shed(now), *self._pass_over(now)]
        # Before its requests are given up one by one, and sent to it again.
        commands += [*self._put_off(now), *self._give_up(now, _HOPELESS)]
        self.waits = False
        spent: list[Source] = []
        while (source := self._pick(spent, now)) is not None:
            if not source.limiter.grant(now, self, needed=self._planner.wants(self._horizon())):
                self.waits = True
                spent.append(source)
                continue
            lease = self._next_lease(source, now)
            if lease is None:
                source.limiter.release(self)
                given_up = self._give_up(now)
                if not given_up:
                    spent.append(source)
                commands += given_up
                continue
            lease.source = source.index
            self._asks[lease] = ask = self._question(source, lease)
            self.sent += 1
            self.peak = max(self.peak, len(self._planner.active))
            commands.append(Open(lease, ask))
        return commands

    def wake_at(self, now: float) -> float | None:
        """When a request may be sent that may not now, in monotonic seconds; None if time alone changes nothing."""
        return min(self._rests(now), default=None)

    def waiting(self, now: float) -> bool:
        """No request is running, since all rest after a failure."""
        return not self._planner.active and bool(self._rests(now))

    def _rests(self, now: float) -> list[float]:
        return [time for each in self._sources for time in (*each.resting, each.limiter.opens_at) if time > now]

    def ask_of(self, lease: Lease) -> Ask:
        """What its request has asked for."""
        return self._asks[lease]

    def _pick(self, spent: list[Source], now: float) -> Source | None:
        """The source to send the next request to, if there may be one more; none of `spent`."""
        active, fetching = self._planner.active, self.stage is not Stage.FIRST
        most = self._terms.threads if fetching else 1
        if len(active) >= most:
            return None
        usable = [self._sources.lead] if self.alone and fetching else [each for each in self._sources if each.usable]
        first = self._sources[0]
        if not fetching and not self._proved_in_the_end and first.reluctance < _TRIES:
            usable = [first] if first.usable else usable
        if len(usable) == 1 and (not fetching or usable[0].standing is Standing.ADMITTED):
            left = (each for each in usable if each not in spent)
            return next((each for each in left if len(active) + len(each.resting) < most), None)
        running, lead = self._sources.running(active), self._sources.lead if fetching else None
        return sources.pick(usable, running, now, lead=lead, spent=spent)

    def _next_lease(self, source: Source, now: float) -> Lease | None:
        match self.stage:
            case Stage.FIRST:
                return self._planner.probe(now, whole=self.whole)
            case Stage.ONE:
                return None
            case Stage.PIECES:  # pragma: no branch - the last of three
                places = sum(each.limiter.limit for each in self._sources if each.standing is Standing.ADMITTED)
                workers = min(self._terms.threads, max(_SOON, places))
                pace = 0.0 if source.standing is Standing.UNKNOWN else source.pace
                return self._planner.next(now, workers, self._horizon(), pace=pace)

    def _question(self, source: Source, lease: Lease) -> Ask:
        known = self.checkpoint if source is self._sources[0] else None
        if source.resource is not None:
            known = source.resource.validator
        return Ask(lease.start, lease.stop, known.if_range if known is not None else None)

    @property
    def _proved_in_the_end(self) -> bool:
        """Whoever answers first may say what the file is: the caller's digest will tell before anybody has a byte."""
        claim = self._terms.claim
        return claim is not None and integrity.conclusive([claim]) and self._horizon() is None

    # ── fewer of them ────────────────────────────────────────────────────────────────────────────────────────────────

    def release(self, lease: Lease, now: float) -> None:
        """The lease's request is over, or must end."""
        self._planner.finish(lease, now)
        source = self._sources.of(lease)
        if self._sources.several:
            source.received.add(lease.start, lease.position)
            source.note_rate(self._planner.measured(lease, now))
        if not self._lent:
            source.limiter.release(self)
        self._lent = False
        del self._asks[lease]

    def drop(self, now: float, source: Source | None = None) -> list[Command]:
        """End all requests, or all to one source."""
        return self._end(
            [lease for lease in self._planner.active if source is None or self._sources.of(lease) is source], now
        )

    def _end(self, leases: list[Lease], now: float) -> list[Command]:
        for lease in leases:
            self.release(lease, now)
        return [Drop(lease) for lease in leases]

    def _give_way(self, now: float) -> list[Command]:
        """Give back the places of requests that wait for the reader, if bytes wait for one: he may wait for them."""
        horizon, active = self._horizon(), self._planner.active
        if horizon is None:
            return []
        if self._lent and active[0].position < horizon:
            self._lent = False
            self._sources.of(active[0]).limiter.reclaim(self)  # it goes on
        if not any(each.limiter.wanted for each in self._sources):
            return []
        blocked = [lease for lease in active if lease.position >= horizon and self._sources.of(lease).limiter.wanted]
        if self.stage is Stage.PIECES:
            return self._end(blocked, now)
        if blocked and not self._lent:
            # It could not be taken up again, so it stays open, idle; when it goes on, the place counts again.
            self._lent = True
            self._sources.of(blocked[0]).limiter.release(self)
        return []

    def _shed(self, now: float) -> list[Command]:
        """End requests that are too many, if they would last."""
        commands: list[Command] = []
        for each in self._sources:
            while self.stage is Stage.PIECES and each.limiter.surplus and len(self._planner.active) > 1:
                lease = self._planner.latest(now, source=each.index)
                if lease is None:
                    break
                commands += self._end([lease], now)
        return commands

    def _pass_over(self, now: float) -> list[Command]:
        """Ask another source for the first answer, where one has been silent for long."""
        if not self._sources.several or self.stage is not Stage.FIRST or not self._planner.active:
            return []
        lease = self._planner.active[0]
        source = self._sources.of(lease)
        proved = self._proved_in_the_end
        longest = (_QUIET if proved else _QUIET_UNPROVED) * 2.0**source.silences
        others = any(each.usable and each is not source for each in self._sources)
        if now - lease.since < longest or not others:
            return []
        source.silences += 1 if proved else _TRIES
        told = Notice(f"{source.url} has not answered for {longest:.0f} s; asking another source")
        return [*self._end([lease], now), told]

    def _put_off(self, now: float) -> list[Command]:
        """Leave a source out for a while that is far slower than another one; its bytes are missing again."""
        if not self._sources.several or self.stage is not Stage.PIECES or self._sources.lead.limiter.throttled(now):
            return []
        running, measured = self._sources.running(self._planner.active), []
        for each in self._sources:
            paces = self._planner.paces(now, each.index)
            if paces:
                each.measure(now, sum(paces) / len(paces), running[each.index])
                measured.append(each)
        sources.forgive(self._sources, measured)
        late = sources.slowest(self._sources, measured, now)
        if late is None:
            return []
        late.put_off(now)
        told = [Notice(f"{late.url} is slow ({late.flow / 1000:,.0f} kB/s): left out for a while")]
        return [*(told if late.slow == 1 else []), *self.drop(now, late)]

    def _give_up(self, now: float, times: int = _TRAILING) -> list[Command]:
        """End a request that is so many times slower than others; its bytes are missing again."""
        if self._sources.lead.limiter.throttled(now):
            times = _SILENT  # all are as fast as their turns come
        late = None
        if self.stage is Stage.PIECES:
            late = self._planner.straggler(now, self._horizon(), times)
        return self._end([late] if late is not None else [], now)
