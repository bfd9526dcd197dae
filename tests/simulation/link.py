"""A link in virtual time: TCP connections that share it, servers with their limits, readers with their own pace.

It drives the real `Transfer`, `Planner` and `Limiter` as `engine.py` does, so that the policy is judged as it ships.
The network is a fluid in steps of a fraction of a round trip: each connection has a congestion window (slow start with
an early exit, then CUBIC, RFC 9438), the link a queue, and what overflows it is lost.  Nothing is drawn but from the
scenario's seed.  What it leaves out: packets, acknowledgements, retransmissions (a loss costs window, never bytes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from hydraflow.core import events
from hydraflow.core.events import Terms
from hydraflow.core.limiter import Limiter
from hydraflow.core.planner import Lease, LeasePolicy, Planner
from hydraflow.core.reorder import Window
from hydraflow.core.retry import Failure, FailureKind, Policy
from hydraflow.core.sources import Place
from hydraflow.core.throttle import Throttle
from hydraflow.core.transfer import State, Transfer
from hydraflow.models import Head

if TYPE_CHECKING:
    from hydraflow.core.responses import Ask

MIB = 1 << 20
MB = 1e6
URL = "http://h/x"
PACKET = 1448.0
FIRST_WINDOW = 10.0  # packets, RFC 6928
PATIENCE = Policy(delay=0.5, delay_max=15.0, first_wait=10.0, max_wait=600.0)
TICK = 0.05  # how often the engine looks at a transfer
NO_END = 1 << 62


@dataclass(frozen=True, slots=True)
class Scenario:
    """Sizes in bytes, rates in bytes per second, times in seconds.

    Attributes:
        sizes: of the files; more than one are fetched `ceiling` at a time.
        queue: of the bottleneck, as a multiple of rate × rtt, and at least 64 KiB.
        loss: chance of a packet to be lost on its way.
        cap: most that one connection gets.
        bears: requests at a time; the others are refused.
        refusal: 429, 503, or 0 for a connection reset.
        stragglers: chance of a connection to get only `slowness` of the cap, or of a 16th of the link.
        stalls: chance of a connection to fall silent for good after some seconds.
        think: mean time before an answer, exponentially distributed.
        cross: (from when, how many) other connections with endless appetite.
        reader: pace of a stream's reader; None for a file.
        window: of the stream.
        server: most that the server gives to all together.
        tls: round trips of a handshake.
        drops: (from, to) the network is gone, and each connection with it.
        limit: the user's own, in bytes per second.
        pace: requests per second that the server bears, and at most so many at once; the others are refused.
    """

    name: str
    sizes: tuple[int, ...]
    rate: float
    rtt: float
    queue: float = 1.0
    loss: float = 0.0
    cap: float = math.inf
    bears: int = 10_000
    refusal: int = 503
    retry_after: float | None = None
    stragglers: float = 0.0
    slowness: float = 0.1
    stalls: float = 0.0
    think: float = 0.0
    cross: tuple[tuple[float, int], ...] = ()
    reader: float | None = None
    window: int = 64 * MIB
    server: float = math.inf
    tls: int = 0
    drops: tuple[tuple[float, float], ...] = ()
    limit: float | None = None
    pace: float = math.inf
    ceiling: int = 16
    seed: int = 0

    @property
    def total(self) -> int:
        return sum(self.sizes)


class HangsError(Exception):
    """It takes longer than it may."""


class Fixed(Limiter):
    """As many requests as there are places, whatever happens: what adaptive ones are measured against."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.first = True

    def grant(self, now: float, who: object = None, *, needed: bool = False) -> bool:
        del now, who, needed
        if self.active >= (1 if self.first else self.ceiling):
            return False
        self.active += 1
        return True

    def release(self, who: object = None) -> None:
        del who
        self.active -= 1

    def received(self, count: int, now: float) -> None: ...

    def succeeded(self, now: float, since: float | None = None) -> None:
        self.first = False

    def refused(self, now: float, pause: float = 0.0, since: float | None = None) -> None: ...

    def failed(self, now: float, delay: float) -> None: ...


class Connection:
    """One TCP connection: its congestion window in packets, and the request on it, if any."""

    __slots__ = (
        "ask",
        "base",
        "best",
        "cap",
        "due",
        "exits",
        "idle_at",
        "job",
        "knee",
        "latency",
        "lease",
        "lost_at",
        "silent_at",
    )
    __slots__ += ("since", "state", "window")

    def __init__(self, cap: float, now: float, silent_at: float) -> None:
        self.window, self.exits, self.lost_at = FIRST_WINDOW, math.inf, -1.0
        self.best = self.base = self.knee = self.since = 0.0
        self.cap, self.idle_at, self.silent_at = cap, now, silent_at
        self.due = math.inf  # when the answer to its request comes
        self.latency = 0.0
        self.state = "idle"
        self.lease: Lease | None = None
        self.ask: Ask | None = None
        self.job: Job | None = None

    def lose(self, now: float, rtt: float) -> None:
        """A loss; several in one round trip are one."""
        if now - self.lost_at > rtt:
            best, self.lost_at = self.window, now
            self.avoid(now, max(2.0, 0.7 * best))
            self.best, self.knee = best, (0.75 * best) ** (1 / 3)

    def grow(self, now: float, rtt: float, step: float) -> None:
        if self.window < self.exits:
            self.window = min(self.window * 2.0 ** (step / rtt), self.exits)
            if self.window >= self.exits:
                self.avoid(now, self.window)
            return
        age = now - self.since
        cubic = 0.4 * (age - self.knee) ** 3 + self.best
        reno = self.base + 0.53 * age / rtt
        self.window = max(self.window, min(max(reno, cubic), 1.5 * self.window))

    def avoid(self, now: float, window: float) -> None:
        """Congestion avoidance from this window on."""
        self.window = self.exits = self.base = self.best = window
        self.since, self.knee = now, 0.0


class Job:
    """One transfer with its output."""

    def __init__(self, world: Link, size: int, number: int) -> None:
        self.world, self.size = world, size
        scenario = world.scenario
        self.window = None if scenario.reader is None else Window(scenario.window)
        self.planner = Planner(LeasePolicy(), window=None if self.window is None else scenario.window)
        self.transfer = Transfer(
            Terms(URL, None, None, scenario.ceiling, PATIENCE),
            self.planner,
            [Place(URL, world.limiter)],
            rng=world.rng.random,
            restartable=lambda: self.window is None,
            horizon=lambda: None if self.window is None else self.window.horizon,
            now=world.now,
        )
        self.number = number
        self.ended_at: float | None = None
        self.fed_at = 0.0
        self.dispatch(events.Begun())

    def dispatch(self, event: events.Event) -> None:
        lease = getattr(event, "lease", None)
        if self.transfer.finished() or (lease is not None and lease.dropped):
            return
        for command in self.transfer.handle(event, self.world.now):
            match command:
                case events.Open(lease, ask):
                    self.world.send(self, lease, ask)
                case events.Drop(lease):
                    lease.dropped = True
                    self.world.hang_up(lease)
                case events.Verify():
                    self.dispatch(events.Verified(None))
                case events.Commit():
                    self.dispatch(events.Committed())
                case events.Fail(error):
                    raise error
        if self.transfer.state is State.DONE and self.ended_at is None:
            self.ended_at = self.world.now

    def room(self, offset: int) -> int:
        return NO_END if self.window is None else max(0, self.window.horizon - offset)

    def receive(self, lease: Lease, count: int) -> None:
        if self.window is not None:
            self.window.add(lease.position, lease.position + count)
        lease.position += count


@dataclass(slots=True)
class Outcome:
    """What came of it. `samples` are (time, bytes received so far, requests that run, limit).

    Attributes:
        wasted: bytes that were on their way when their request was ended, at most.
        starved: longest time that a stream's reader had to wait, once he had got the first byte.
    """

    seconds: float
    requests: int = 0
    refused: int = 0
    connections: int = 0
    received: int = 0
    peak: int = 0
    busy: float = 0.0  # request-seconds
    wasted: float = 0.0
    starved: float = 0.0
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)


class Link:
    """The clock, the wire and the server."""

    def __init__(self, scenario: Scenario, limiter: Limiter, throttle: Throttle | None = None) -> None:
        self.scenario, self.limiter, self.throttle = scenario, limiter, throttle
        self.rng = Random(scenario.seed)
        self.now = 0.0
        self.step = min(max(scenario.rtt / 3, 0.004), 0.04)
        self.idle: list[Connection] = []
        self.busy: list[Connection] = []
        self.jobs: list[Job] = []
        self.result = Outcome(0.0)
        self.sent: list[tuple[float, int]] = []  # when requests were sent, and how many were under way then
        self._queued = 0.0
        self._poked = False
        self._tokens, self._counted_at = scenario.pace, 0.0
        self._queue = max(scenario.queue * scenario.rate * scenario.rtt, 64 << 10)

    def run(self, longest: float = 3000.0) -> Outcome:
        waiting = list(enumerate(self.scenario.sizes))
        open_jobs: list[Job] = []
        tick_at, result = 0.0, self.result
        while waiting or open_jobs:
            while waiting and len(open_jobs) < self.scenario.ceiling:
                number, size = waiting.pop(0)
                job = Job(self, size, number)
                open_jobs.append(job)
                self.jobs.append(job)
            self.now += self.step
            if self.now >= longest:
                raise HangsError(self.scenario)
            self._answer()
            self._flow()
            self._read()
            if self._poked or self.now >= tick_at:
                if self.now >= tick_at:
                    tick_at = self.now + TICK
                    result.samples.append((self.now, result.received, len(self.busy), self.limiter.limit))
                self._poked = False
                for job in open_jobs:
                    job.dispatch(events.Ticked())
            result.busy += len(self.busy) * self.step
            result.peak = max(result.peak, len(self.busy))
            open_jobs = [
                job for job in open_jobs if job.ended_at is None or (job.window and job.window.head < job.size)
            ]
        assert self.limiter.active == 0
        result.seconds = self.now
        return result

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, job: Job, lease: Lease, ask: Ask) -> None:
        """On an idle connection or on a new one; the answer comes after the round trips and the server's thoughts."""
        rtt, wait = self._rtt(), 0.0
        if self.idle:
            connection = self.idle.pop()
            if self.now - connection.idle_at > 1.0:  # RFC 9293 §3.8.6, as kernels do it
                connection.window = min(connection.window, FIRST_WINDOW)
        else:
            connection = self._connect()
            wait = (1 + self.scenario.tls) * rtt
        think = self.rng.expovariate(1 / self.scenario.think) if self.scenario.think else 0.0
        connection.job, connection.lease, connection.ask = job, lease, ask
        connection.due, connection.state, connection.latency = self.now + wait + rtt + think, "asked", rtt + think
        self.busy.append(connection)
        self.result.requests += 1
        self.sent.append((self.now, len(self.busy)))

    def hang_up(self, lease: Lease) -> None:
        for each in self.busy:
            if each.lease is lease and each.state == "body" and each.silent_at >= self.now:
                self.result.wasted += min(each.window * PACKET, each.cap * self._rtt(), each.ask.stop - lease.position)
        self.busy = [each for each in self.busy if each.lease is not lease]

    def _connect(self) -> Connection:
        scenario, draw = self.scenario, self.rng.random
        cap = scenario.cap
        if draw() < scenario.stragglers:
            cap = min(scenario.cap, scenario.rate / 16) * scenario.slowness
        silent_at = self.now + 5.0 * draw() if draw() < scenario.stalls else math.inf
        self.result.connections += 1
        return Connection(cap, self.now, silent_at)

    def _rtt(self) -> float:
        return self.scenario.rtt + self._queued / self.scenario.rate

    def _down(self) -> bool:
        return any(start <= self.now < stop for start, stop in self.scenario.drops)

    def _answer(self) -> None:
        down = self._down()
        for connection in list(self.busy):
            lease, job = connection.lease, connection.job
            if lease.dropped:
                continue
            if down and (connection.state == "body" or connection.due <= self.now):
                self._end(connection, reusable=False)
                job.dispatch(events.LeaseFailed(lease, Failure(FailureKind.CONNECT, "no route")))
            elif connection.state == "asked" and connection.due <= self.now:
                self._introduce(connection, job, lease)

    def _introduce(self, connection: Connection, job: Job, lease: Lease) -> None:
        scenario = self.scenario
        at_work = sum(each.state == "body" for each in self.busy)
        if at_work >= scenario.bears or not self._in_pace():
            self.result.refused += 1
            self._end(connection, reusable=bool(scenario.refusal))
            if scenario.refusal:
                text = f"HTTP status {scenario.refusal}"
                failure = Failure(FailureKind.STATUS, text, scenario.refusal, scenario.retry_after)
            else:
                failure = Failure(FailureKind.DROPPED, "connection reset")
            job.dispatch(events.LeaseFailed(lease, failure))
            return
        connection.state = "body"
        ask = connection.ask
        stop = min(ask.stop, job.size)
        fields = (("content-range", f"bytes {ask.start}-{stop - 1}/{job.size}"), ("etag", '"1"'))
        job.dispatch(events.HeadReceived(lease, Head(206, fields, URL), 0.0, latency=connection.latency))

    def _in_pace(self) -> bool:
        pace = self.scenario.pace
        if pace == math.inf:
            return True
        self._tokens = min(pace, self._tokens + (self.now - self._counted_at) * pace)
        self._counted_at = self.now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _end(self, connection: Connection, *, reusable: bool) -> None:
        self.busy.remove(connection)
        connection.lease = connection.job = None
        connection.state, connection.due = "idle", math.inf
        if reusable:
            connection.idle_at = self.now
            self.idle.append(connection)
        self._poked = True

    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _flow(self) -> None:
        """One step of all that flows."""
        scenario, now, step, rtt = self.scenario, self.now, self.step, self._rtt()
        flowing, wants, total = [], [], 0.0
        for each in self.busy:
            if each.state != "body" or each.silent_at < now:
                continue
            room = min(each.job.room(each.lease.position), self._turn())
            if room:
                want = min(each.window * PACKET / rtt, each.cap, room / step)
                flowing.append(each)
                wants.append(want)
                total += want
        rate = min(self._share(len(flowing)), scenario.server)
        spare = max(0.0, self._queued + (total - rate) * step - self._queue) if rate < scenario.server else 0.0
        dropped = spare / (total * step) if total else 0.0
        self._queued = (
            max(0.0, min(self._queue, self._queued + (total - rate) * step)) if rate < scenario.server else 0.0
        )
        share = min(1.0, rate / total) if total else 0.0
        standing = self._queued > scenario.rate * max(scenario.rtt / 8, 0.004)
        draw, chance = self.rng.random, dropped + scenario.loss
        for each, want in zip(flowing, wants, strict=True):
            if chance and draw() > (1.0 - min(chance, 0.9)) ** (want * step / PACKET):
                each.lose(now, rtt)
            elif want >= 0.9 * each.window * PACKET / rtt:  # nothing grows that is not used
                if standing and each.exits == math.inf:
                    each.avoid(now, each.window)  # HyStart: the delay grows, the path is full
                each.grow(now, rtt, step)
            self._deliver(each, int(want * share * step) + 1)

    def _turn(self) -> int:
        """Bytes that a connection may read now, as far as the user's own limit goes."""
        throttle = self.throttle
        if throttle is None:
            return NO_END
        throttle.readers = sum(each.state == "body" for each in self.busy)
        return 0 if throttle.delay(self.now) else throttle.piece

    def _share(self, own: int) -> float:
        others = 0
        for since, count in self.scenario.cross:
            if since <= self.now:
                others = count
        return self.scenario.rate * (own / (own + others) if own else 1.0)

    def _deliver(self, connection: Connection, count: int) -> None:
        lease, job, ask = connection.lease, connection.job, connection.ask
        if lease is None or lease.dropped:
            return
        count = min(count, lease.stop - lease.position, job.room(lease.position))
        job.receive(lease, count)
        self.result.received += count
        if self.throttle is not None:
            self.throttle.spend(count, self.now)
        if lease.position >= lease.stop:
            if lease.position < ask.stop:
                self.result.wasted += min(connection.window * PACKET, connection.cap * self._rtt())
            self._end(connection, reusable=lease.position in (ask.stop, job.size))
            job.dispatch(events.LeaseEnded(lease))

    def _read(self) -> None:
        for job in self.jobs:
            window = job.window
            if window is not None and window.head < window.ready:
                window.consume(min(window.ready - window.head, int(self.scenario.reader * self.step)))
                self._poked = True
                job.fed_at = self.now
            elif window is not None and 0 < window.head < job.size:
                self.result.starved = max(self.result.starved, self.now - job.fed_at)


def play(scenario: Scenario, limiter: Limiter | None = None, longest: float = 3000.0) -> Outcome:
    """Run a scenario with the shipped policy, or with another limiter, for at most `longest` seconds."""
    throttle = None if scenario.limit is None else Throttle(scenario.limit)
    return Link(scenario, limiter or Limiter(scenario.ceiling, throttle=throttle), throttle).run(longest)
