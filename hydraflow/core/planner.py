"""Which bytes to ask for next.

The planner hands out *leases*: half-open ranges, each fetched by one request.  Leases are large where the link is fast
(a request costs CPU and a round trip) and small where the end is near.  When all is leased, whoever has nothing to do
takes over a part of the lease that would end last, so that both end together; and a lease that hardly moves while
others do is given up, and asked for again.  Nothing then waits for a straggler longer than `patience`, at the end of a
file as at the head of a stream's window.  Pure: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from hydraflow.core.ranges import RangeSet

__all__ = ["Lease", "LeasePolicy", "Planner"]

MIB = 1 << 20
_WORTH = 3  # a request should bring what comes in so many latencies of an answer: one of them it waits
_TRIPS = 5  # patience, in latencies of answers: each is a round trip or two


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Sizes of leases, in bytes, and times, in seconds.

    Attributes:
        first: the request that also serves as the probe.
        smallest: no lease is planned below this.
        least: the same for what is split off a lease for whose end others wait.
        largest: no lease is planned above this.
        seconds: a lease should last so long at the rate measured.
        patience: a lease that will end sooner than this is waited for.
        hedge: share of the file that may be asked for twice.
    """

    first: int = 4 * MIB
    smallest: int = MIB
    least: int = 64 << 10
    largest: int = 64 * MIB
    seconds: float = 4.0
    patience: float = 0.5
    hedge: float = 0.02


@dataclass(eq=False, slots=True)
class Lease:
    """One request's worth of bytes, `[start, stop)`; `stop` is None while the size is unknown.

    `position` is the next byte to receive; the planner may lower `stop` while the lease is running.
    `since` is when the request was sent, `answered` when its answer began; `source` is the index of who was asked.
    """

    start: int
    stop: int | None
    since: float
    position: int = field(init=False)
    answered: float | None = field(init=False, default=None)
    dropped: bool = field(init=False, default=False)
    source: int = field(init=False, default=0)
    _speed: float = field(init=False, default=0.0)
    _latest: float = field(init=False, default=0.0)
    _seen: tuple[float, int] | None = field(init=False, default=None)
    _moved: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.position = self.start

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None if unknown."""
        return None if self.stop is None else self.stop - self.position

    def rate(self, now: float) -> float:
        """Bytes per second since the request was sent."""
        return (self.position - self.start) / max(now - self.since, 1e-3)

    def observe(self, now: float, horizon: int | None) -> None:
        """Look how fast it is, about now; not where it is the reader who holds it up."""
        if self.answered is None:
            return
        at, position = self._seen or (self.answered, self.start)
        passed = now - at
        if passed < _GLANCE:
            return
        if self.position > position or (horizon is not None and self.position >= horizon):
            self._moved = now
        if horizon is None or self.position < horizon:
            weight = 1.0 if self._seen is None else min(1.0, passed / _MEMORY)
            self._latest = (self.position - position) / passed
            self._speed += weight * (self._latest - self._speed)
        self._seen = now, self.position

    def pace(self, now: float, patience: float, latency: float) -> float | None:
        """Bytes per second of late; None as long as nothing can be said. `latency` is an answer's, on average."""
        if self.answered is None:
            return None if now - self.since < max(patience, _LONG * latency) else 0.0
        if now - self.answered < patience / 2:
            return None
        # A connection that is young gets faster: what it was on average is behind it.
        return max(self._speed, self._latest) if now - max(self._moved, self.answered) < patience else 0.0


_LONG = 4  # so many times the usual latency has an answer to come
_GLANCE = 0.1  # seconds between two looks at a lease's speed
_MEMORY = 1.0  # seconds; servers that hold a rate send a burst and rest for up to half of that


class Planner:
    """Keeps account of what is missing, leased and received; every byte is in exactly one of the three.

    Args:
        policy: sizes of leases.
        window: memory of a stream, in bytes: all leases together fill it once, so that its reader never waits long.
        start: first byte that is wanted.
        stop: offset behind the last byte that is wanted; None for the end of the file.
    """

    def __init__(
        self, policy: LeasePolicy, *, window: int | None = None, start: int = 0, stop: int | None = None
    ) -> None:
        self._start, self._stop = start, stop
        self._policy = policy
        self._window = window
        self._rate = self._quickest = 0.0
        self._latencies: dict[int, float] = {}  # of each source
        self._hedged = 0
        self.active: list[Lease] = []
        self.size: int | None = None
        self._missing = RangeSet()
        self._received = RangeSet()

    @property
    def received(self) -> RangeSet:
        """What has come so far, the running leases' part included."""
        received = self._received.copy()
        for lease in self.active:
            received.add(lease.start, lease.position)
        return received

    @property
    def done(self) -> int:
        """Bytes received so far."""
        return self._received.total + sum(lease.position - lease.start for lease in self.active)

    @property
    def complete(self) -> bool:
        """The size is known, and every byte is there."""
        return self.end is not None and not self.active and self._received.covers(self._start, self.end)

    @property
    def end(self) -> int | None:
        """Offset behind the last byte that is wanted; None while it is unknown."""
        return self.size if self.size is None or self._stop is None else min(self.size, self._stop)

    def reset(self) -> None:
        """Forget everything: the file is fetched anew."""
        self.active = []
        self.size = None
        self._missing, self._received = RangeSet(), RangeSet()

    def resolve(self, size: int, received: RangeSet | None = None) -> None:
        """Learn the size, and what an earlier run has left; leases past the end are cut."""
        self.size = size
        if received is not None:
            self._received = received.copy()
        end = size if self._stop is None else min(size, self._stop)
        self._missing = RangeSet([(self._start, max(self._start, end))]).minus(self.received)
        for lease in self.active:
            lease.stop = end if lease.stop is None else min(lease.stop, end)
            self._missing.subtract(lease.position, lease.stop)

    def probe(self, now: float, *, whole: bool) -> Lease:
        """The first lease: the head of the file while nothing is known, or the first gap of a resumed one."""
        if self.size is not None:
            lease = self._cut(now, min(self._policy.first, self._longest(1)))
            assert lease is not None, "a complete file needs no probe"
            return lease
        stop = self._start + self._policy.first
        lease = Lease(0, None, now) if whole else Lease(self._start, min(stop, self._stop or stop), now)
        self.active.append(lease)
        return lease

    def next(self, now: float, workers: int, horizon: int | None = None, *, pace: float | None = None) -> Lease | None:
        """The next lease for one of `workers`, or None if there is nothing to gain.

        Args:
            now: monotonic seconds.
            workers: how many leases may run at a time.
            horizon: first offset that a stream's window has no room for.
            pace: bytes per second to expect of it, if that is not what the others bring; 0 for nobody knows.
        """
        if self.size is None:
            return None
        share = self._missing.total // (2 * workers)
        worth = int(_WORTH * self._latency * self._rate)
        length = max(min(self._policy.smallest, self._wanted()), min(max(self._wanted(), worth), max(share, worth)))
        if pace is not None:
            length = min(length, max(self._policy.smallest, int(pace * self._policy.seconds)))
        length = min(length, self._longest(workers))
        return self._take_over(now, horizon) or self._cut(now, length, horizon) or self._split(now, horizon)

    def wants(self, horizon: int | None = None) -> bool:
        """There are bytes that nobody has been asked for, and room for them before `horizon`."""
        if self.size is None:
            return not self.active
        gap = next(iter(self._missing), None)
        return gap is not None and (horizon is None or gap.start < horizon)

    @property
    def front(self) -> int:
        """The first byte that is not there yet."""
        starts = [lease.position for lease in self.active] + [gap.start for gap in islice(self._missing, 1)]
        return min(starts, default=self.size or 0)

    def finish(self, lease: Lease, now: float) -> None:
        """The lease's request is over; what it did not receive is missing again."""
        self.active.remove(lease)
        self._received.add(lease.start, lease.position)
        if lease.stop is not None:
            self._missing.add(lease.position, lease.stop)
        rate = self.measured(lease, now)
        if rate is not None:
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        if lease.answered is not None:
            latency = lease.answered - lease.since
            usual = self._latencies.get(lease.source, latency)
            self._latencies[lease.source] = 0.7 * usual + 0.3 * latency
            self._quickest = min(self._quickest or latency, latency)

    def measured(self, lease: Lease, now: float) -> float | None:
        """Bytes per second that the lease has brought; None if it is too little to say anything."""
        return lease.rate(now) if lease.position - lease.start >= self._policy.least else None

    def forget(self, pieces: RangeSet) -> None:
        """These bytes were wrong: they are missing again. No lease may be running."""
        for piece in pieces:
            self._received.subtract(piece.start, piece.stop)
            self._missing.add(piece.start, piece.stop)

    def shorten(self, lease: Lease, stop: int) -> None:
        """The answer to the lease's request ends at `stop`: what it was to bring beyond that is missing again."""
        if lease.stop is not None and stop < lease.stop:
            self._missing.add(stop, lease.stop)
            lease.stop = stop

    @property
    def _latency(self) -> float:
        """Seconds that an answer takes on average, of the source that is quickest: it gets the next request."""
        return min(self._latencies.values(), default=0.0)

    def _wanted(self) -> int:
        policy = self._policy
        if self._window is not None:  # somebody waits for the first of them
            return max(policy.smallest // 4, int(self._rate * policy.seconds / 4))
        return max(policy.first, int(self._rate * policy.seconds) if self._rate else 2 * policy.first)

    def _longest(self, workers: int) -> int:
        policy = self._policy
        if self._window is None:
            return policy.largest
        return max(policy.smallest, min(policy.largest, self._window // workers))

    def _cut(self, now: float, length: int, horizon: int | None = None) -> Lease | None:
        gap = next(iter(self._missing), None)
        if gap is None or not self.wants(horizon):
            return None
        # A last piece too small to be worth a request of its own goes along.
        stop = gap.stop if len(gap) < length + min(length, self._policy.smallest) // 2 else gap.start + length
        self._missing.subtract(gap.start, stop)
        lease = Lease(gap.start, stop, now)
        self.active.append(lease)
        return lease

    # ── who is late ──────────────────────────────────────────────────────────────────────────────────────────────────

    def observe(self, now: float, horizon: int | None = None) -> None:
        """Look at the running leases; often."""
        for lease in self.active:
            lease.observe(now, horizon)

    def _patience(self) -> float:
        return max(self._policy.patience, _TRIPS * self._quickest)

    def _pace(self, lease: Lease, now: float) -> float | None:
        return lease.pace(now, self._patience(), self._latencies.get(lease.source, self._latency))

    def _typical(self, now: float) -> float:
        """Bytes per second that one more connection would bring."""
        paces = [pace for lease in self.active if (pace := self._pace(lease, now))]
        return max(median(paces), self._rate) if paces else self._rate

    def _take_over(self, now: float, horizon: int | None) -> Lease | None:
        """In streams, part of the lease that the reader waits for, if that is late: it goes before what lies ahead."""
        typical = self._typical(now)
        if not (self._window is not None and self.active and typical):
            return None
        front = min(self.active, key=lambda lease: lease.position)
        pace = self._pace(front, now)
        if pace is None or front.remaining is None or front.remaining <= pace * self._patience():
            return None
        return self._halve(front, now, typical, horizon)

    def _split(self, now: float, horizon: int | None) -> Lease | None:
        """Take over the end of the running lease that would finish last, so that both finish together."""
        typical = self._typical(now)
        slowest = self.latest(now, horizon)
        if slowest is None or not typical:
            return None
        return self._halve(slowest, now, typical, horizon)

    def _halve(self, lease: Lease, now: float, typical: float, horizon: int | None) -> Lease | None:
        pace = self._pace(lease, now)
        theirs = typical if pace is None else pace
        assert lease.stop is not None
        left, least = lease.stop - lease.position, self._policy.least
        # The new request is answered a while from now; until then only the old one moves.
        keep = int(theirs * (left + typical * 2 * self._latency) / (theirs + typical))
        cut = lease.position + max(least, keep)
        if cut > lease.stop - least or (horizon is not None and cut >= horizon):
            return None
        stop, lease.stop = lease.stop, cut
        new = Lease(cut, stop, now)
        self.active.append(new)
        return new

    def paces(self, now: float, source: int) -> list[float]:
        """Bytes per second of the source's running leases, as far as anything can be said of them."""
        paces = [self._pace(lease, now) for lease in self.active if lease.source == source]
        return [pace for pace in paces if pace is not None]

    def latest(self, now: float, horizon: int | None = None, *, source: int | None = None) -> Lease | None:
        """The running lease, of all or of one source, that would end last, if that is not soon."""
        typical, patience = self._typical(now), self._patience()
        slowest, latest = None, patience
        for lease in self.active:
            theirs = source is None or lease.source == source
            if theirs and lease.remaining is not None and (horizon is None or lease.position < horizon):
                pace = self._pace(lease, now)
                if pace is None and self._window is not None:
                    continue  # its connection is not closed on suspicion
                eta = lease.remaining / max(typical if pace is None else pace, 1.0)
                if eta > latest:
                    slowest, latest = lease, eta
        return slowest

    def straggler(self, now: float, horizon: int | None = None, times: int = 4) -> Lease | None:
        """A lease so many times slower than others that its rest is better asked for again: give it up."""
        typical, patience = self._typical(now), self._patience()
        for lease in self.active:
            if lease.remaining is None or (horizon is not None and lease.position >= horizon):
                continue
            pace = self._pace(lease, now)
            asked = lease.since if lease.answered is None else lease.answered
            if pace is None or now - asked < patience or times * pace >= typical or lease.remaining <= patience * pace:
                continue
            # What is on its way is lost, and what would have come while there is no connection.
            lost = int(self._policy.least + typical * self._latency)
            if self.size is not None and self._hedged + lost <= max(self._policy.hedge * self.size, 2 * lost):
                self._hedged += lost
                return lease
        return None
