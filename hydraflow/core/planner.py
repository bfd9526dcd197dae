"""Which bytes to ask for next.

The planner hands out *leases*: half-open ranges, each fetched by one request.  Leases are large where the link is fast
(a request costs CPU and a round trip), small where the end is near (nothing waits for a straggler), and the slowest one
is split when there is nothing else to do.  Pure: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hydraflow.core.ranges import RangeSet

__all__ = ["Lease", "LeasePolicy", "Planner"]

MIB = 1 << 20
_SLOW = 4  # so many times slower than the others is a straggler


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Sizes of leases, in bytes, and times, in seconds.

    Attributes:
        first: the request that also serves as the probe.
        smallest: no lease is planned or split off below this.
        least: the same for what is split off a straggler, for whose end all others wait.
        largest: no lease is planned above this.
        seconds: a lease should last so long at the rate measured.
        patience: a lease that will end sooner than this is not worth a split.
        grace: an answer has this long to come up to speed before its lease can be a straggler.
    """

    first: int = 4 * MIB
    smallest: int = MIB
    least: int = 16 << 10
    largest: int = 64 * MIB
    seconds: float = 4.0
    patience: float = 0.5
    grace: float = 3.0


@dataclass(eq=False, slots=True)
class Lease:
    """One request's worth of bytes, `[start, stop)`; `stop` is None while the size is unknown.

    `position` is the next byte to receive; the planner may lower `stop` while the lease is running.
    `since` is when the request was sent, `answered` when its answer began.
    """

    start: int
    stop: int | None
    since: float
    position: int = field(init=False)
    answered: float | None = field(init=False, default=None)
    dropped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.position = self.start

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None if unknown."""
        return None if self.stop is None else self.stop - self.position

    def rate(self, now: float) -> float:
        """Bytes per second since the request was sent."""
        return (self.position - self.start) / max(now - self.since, 1e-3)


class Planner:
    """Keeps account of what is missing, leased and received; every byte is in exactly one of the three.

    Args:
        policy: sizes of leases.
        largest: overrides the policy's largest lease (a stream's window bounds it).
    """

    def __init__(self, policy: LeasePolicy, *, largest: int | None = None) -> None:
        self._policy = policy
        self._largest = max(policy.smallest, min(policy.largest, largest or policy.largest))
        self._rate = 0.0
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
        return self.size is not None and not self.active and self._received.covers(0, self.size)

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
        self._missing = RangeSet([(0, size)]).minus(self.received)
        for lease in self.active:
            lease.stop = size if lease.stop is None else min(lease.stop, size)
            self._missing.subtract(lease.position, lease.stop)

    def probe(self, now: float, *, whole: bool) -> Lease:
        """The first lease: the head of the file while nothing is known, or the first gap of a resumed one."""
        if self.size is not None:
            lease = self._cut(now, self._policy.first)
            assert lease is not None, "a complete file needs no probe"
            return lease
        lease = Lease(0, None if whole else self._policy.first, now)
        self.active.append(lease)
        return lease

    def next(self, now: float, workers: int, horizon: int | None = None) -> Lease | None:
        """The next lease for one of `workers`, or None if there is nothing to gain.

        Args:
            now: monotonic seconds.
            workers: how many leases may run at a time.
            horizon: first offset that a stream's window has no room for.
        """
        if self.size is None:
            return None
        share = self._missing.total // (2 * workers)
        length = max(self._policy.smallest, min(self._wanted(), share))
        return self._cut(now, length, horizon) or self._split(now, horizon)

    def wants(self, horizon: int | None = None) -> bool:
        """There are bytes that nobody has been asked for, and room for them before `horizon`."""
        if self.size is None:
            return not self.active
        gap = next(iter(self._missing), None)
        return gap is not None and (horizon is None or gap.start < horizon)

    def finish(self, lease: Lease, now: float) -> None:
        """The lease's request is over; what it did not receive is missing again."""
        self.active.remove(lease)
        self._received.add(lease.start, lease.position)
        if lease.stop is not None:
            self._missing.add(lease.position, lease.stop)
        if lease.position > lease.start:
            rate = lease.rate(now)
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate

    def shorten(self, lease: Lease, stop: int) -> None:
        """The answer to the lease's request ends at `stop`: what it was to bring beyond that is missing again."""
        if lease.stop is not None and stop < lease.stop:
            self._missing.add(stop, lease.stop)
            lease.stop = stop

    def _wanted(self) -> int:
        by_rate = int(self._rate * self._policy.seconds) if self._rate else 2 * self._policy.first
        return max(self._policy.first, by_rate)

    def _cut(self, now: float, length: int, horizon: int | None = None) -> Lease | None:
        gap = next(iter(self._missing), None)
        if gap is None or not self.wants(horizon):
            return None
        length = min(length, self._largest)
        # A last piece too small to be worth a request of its own goes along.
        stop = gap.stop if len(gap) < length + self._policy.smallest // 2 else gap.start + length
        self._missing.subtract(gap.start, stop)
        lease = Lease(gap.start, stop, now)
        self.active.append(lease)
        return lease

    def _split(self, now: float, horizon: int | None) -> Lease | None:
        """Take over the end of the running lease that would finish last, in proportion to the rates."""
        slowest, eta = None, self._policy.patience
        for lease in self.active:
            if lease.remaining is None or lease.remaining < 2 * self._floor(lease, now):
                continue
            left = lease.remaining / max(lease.rate(now), 1.0)
            if left > eta and (horizon is None or lease.position + lease.remaining // 2 < horizon):
                slowest, eta = lease, left
        if slowest is None or slowest.stop is None or not self._rate:
            return None
        theirs, floor, stop = slowest.rate(now), self._floor(slowest, now), slowest.stop
        share = self._rate / (self._rate + theirs)
        keep = max(floor, int((stop - slowest.position) * (1 - share)))
        cut = min(slowest.position + keep, stop - floor)
        if horizon is not None and cut >= horizon:
            return None
        slowest.stop = cut
        lease = Lease(cut, stop, now)
        self.active.append(lease)
        return lease

    def _floor(self, lease: Lease, now: float) -> int:
        """Bytes that a split leaves on either side at least."""
        # Since the answer began: where servers take long to answer, nobody is a straggler for that.
        age = 0.0 if lease.answered is None else now - lease.answered
        straggles = age > self._policy.grace and _SLOW * (lease.position - lease.start) < self._rate * age
        return self._policy.least if straggles else self._policy.smallest
