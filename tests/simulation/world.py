"""Drives transfers against simulated origins and outputs in virtual time, as `engine.py` does in real time.

After each event the invariants are checked: every byte is missing, leased or received, in one of them only; durable ⊆
written, received ⊆ written; places taken at the origin are requests that run; no request is sent twice in one moment.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydraflow.core import events
from hydraflow.core.events import Command, Event, Terms
from hydraflow.core.limiter import Limiter
from hydraflow.core.planner import Lease, LeasePolicy, Planner
from hydraflow.core.retry import Failure, FailureKind, Policy
from hydraflow.core.sources import Place
from hydraflow.core.transfer import State, Transfer
from tests.simulation.origin import EPOCH, URL, Origin, Reply
from tests.simulation.outputs import FileOutput, StreamOutput

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from hydraflow.core.responses import Ask
    from hydraflow.errors import HydraError
    from hydraflow.models import Claim

LEASES = LeasePolicy(first=400, smallest=100, least=10, largest=6400, seconds=4.0, patience=0.5)
PATIENCE = Policy(delay=0.5, delay_max=5.0, first_wait=10.0, max_wait=60.0)
READ_TIMEOUT = 8.0
TICK, SLOW_TICK = 0.25, 5.0
_CUT = Failure(FailureKind.DROPPED, "connection closed")
_LONGEST = 20_000.0  # virtual seconds after which a run counts as hanging


class World:
    """A clock, what is going to happen, and one limiter that all transfers share.

    Args:
        rng: the only source of chance.
        threads: most requests at a time.
        ticking: transfers are looked at often, as the engine does; otherwise when they ask for it, and seldom besides.
    """

    def __init__(self, rng: Random, *, threads: int = 4, ticking: bool = True) -> None:
        self.rng = rng
        self.now = 0.0
        self.threads = threads
        self.ticking = ticking
        self.must_succeed = False
        self.limiter = Limiter(threads)
        self.mirror_limiters: dict[Origin, Limiter] = {}
        self.jobs: list[Job] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._count), action))

    def run(self) -> None:
        """Until all jobs are over."""
        for job in self.jobs:
            job.start()
        while not all(job.over for job in self.jobs):
            assert self._queue, f"stuck: {self.jobs}"
            self.now, _, action = heapq.heappop(self._queue)
            assert self.now < _LONGEST, f"hangs: {self.jobs}"
            action()
        assert self.limiter.active == 0
        assert not any(limiter.active for limiter in self.mirror_limiters.values())

    def poke(self) -> None:
        """A place may be free."""
        for job in self.jobs:
            job.look()

    def limiter_of(self, mirror: Origin) -> Limiter:
        """The mirrors' origins have one each; all files' first URLs share one."""
        return self.mirror_limiters.setdefault(mirror, Limiter(self.threads))

    def kill(self, how: str, pause: float) -> None:
        """The process ends in the way `how`, and is started again after `pause` seconds."""
        running = [job for job in self.jobs if not job.over]
        for job in running:
            job.die(how)
        self.limiter, self.mirror_limiters = Limiter(self.threads), {}
        for job in running:
            job.later(pause, job.start)


@dataclass(slots=True)
class Seen:
    """What happened to one job, for the verdict on it; times are of its last life."""

    requests: int = 0
    lives: int = 0
    restarts: int = 0
    last_byte_at: float | None = None
    started_at: float = 0.0
    failed_at: float = 0.0
    given: bool = False
    in_a_row: int = 0
    at_once: Counter[float] = field(default_factory=Counter)


class Job:
    """One transfer, its origin and its output; started again after a kill, and `reruns` times after a failure.

    Args:
        after: what the reader reads first.
        mirrors: other servers that may have the same file.
        named: they are known from the origin's answer only.
    """

    def __init__(
        self,
        world: World,
        origin: Origin,
        output: FileOutput | StreamOutput,
        *,
        claim: Claim | None = None,
        size: int | None = None,
        reruns: int = 0,
        after: Job | None = None,
        mirrors: tuple[Origin, ...] = (),
        named: bool = False,
    ) -> None:
        self.world, self.origin, self.output = world, origin, output
        self.origins = (origin, *mirrors)
        self.named = named
        self.over = False
        self.error: HydraError | None = None
        self.seen = Seen()
        self.transfer: Transfer | None = None
        self.planner = Planner(LEASES)
        self.claim, self.size, self._reruns, self._after = claim, size, reruns, after
        self._life = 0
        self._blocked: list[Callable[[], None]] = []
        self._proved = False
        self._wake_at: float | None = None
        world.jobs.append(self)

    def places(self, limiter: Limiter) -> int:
        """Taken at an origin; a request that waits for the reader may have lent its own."""
        if self.transfer is None:
            return 0
        taken = [lease for lease in self.planner.active if self.transfer.sources[lease.source].limiter is limiter]
        return len(taken) - (self.transfer.scheduler._lent and bool(taken))

    def __repr__(self) -> str:
        return (
            f"<{self.transfer and self.transfer.state} {self.planner.done}/{self.planner.size} {self.planner.active}>"
        )

    def _mirrors(self) -> tuple[Place, ...]:
        enumerated = enumerate(self.origins[1:], 1)
        return tuple(Place(f"http://m{index}/x", self.world.limiter_of(each)) for index, each in enumerated)

    # ── life and death ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        world = self.world
        self._life += 1
        self._blocked, self._proved, self._wake_at = [], False, None
        horizon = self.output.horizon()
        self.planner = Planner(LEASES, window=horizon)
        self.transfer = Transfer(
            Terms(URL, self.claim, self.size, world.threads, PATIENCE),
            self.planner,
            [Place(URL, world.limiter), *([] if self.named else self._mirrors())],
            rng=world.rng.random,
            restartable=self.output.restartable,
            horizon=self.output.horizon,
            now=world.now,
        )
        self.seen.lives += 1
        self.seen.started_at, self.seen.last_byte_at, self.seen.in_a_row = world.now, None, 0
        self.dispatch(events.Begun(*self.output.begin()))
        self.later(TICK, self._tick)
        if isinstance(self.output, StreamOutput):
            self.later(0.0, self._read)
        else:
            self.later(self._chance(2.0), self._checkpoint)

    def die(self, how: str) -> None:
        self._life += 1
        for lease in self.planner.active:
            self._of(lease).active -= 1
        if how == "interrupt":
            self.output.checkpoint(self.planner.received)
        self.output.die(self.world.rng, how)
        self.planner, self.transfer = Planner(LEASES), None

    def cancel(self) -> None:
        """The caller goes away, and comes back after a while."""
        if self.transfer is None or self.over:
            return
        self.transfer.abandon(self.world.now)
        self.die("interrupt")
        self.world.poke()
        self.later(self._chance(10.0), self.start)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Later, if this life still lasts then."""
        self._at(self.world.now + delay, action)

    def _at(self, time: float, action: Callable[[], None]) -> None:
        life = self._life

        def if_alive() -> None:
            if self._life == life and not self.over:
                action()

        self.world.at(time, if_alive)

    def _of(self, lease: Lease) -> Origin:
        return self.origins[lease.source]

    def _chance(self, most: float) -> float:
        return self.world.rng.random() * most

    # ── the state machine ────────────────────────────────────────────────────────────────────────────────────────────

    def dispatch(self, event: Event) -> None:
        transfer, lease = self.transfer, getattr(event, "lease", None)
        assert transfer is not None
        if transfer.finished() or (lease is not None and lease.dropped):
            return
        for command in transfer.handle(event, self.world.now):
            self._execute(command, event)
        if transfer.state is State.DONE:
            self.over = True
        elif not transfer.finished():
            self._check()
            self._set_alarm()
        if lease is not None and lease not in self.planner.active:
            self.world.poke()

    def look(self) -> None:
        """A tick, if there is still anything to decide."""
        if self.transfer is not None and not self.over:
            self.dispatch(events.Ticked())

    def _set_alarm(self) -> None:
        assert self.transfer is not None
        due = self.transfer.wake_at(self.world.now)
        assert due is None or due > self.world.now
        if not self.world.ticking and due is not None and due != self._wake_at:
            self._wake_at = due
            self._at(due, self.look)

    def _execute(self, command: Command, event: Event) -> None:
        world = self.world
        match command:
            case events.Open(lease, ask):
                self._open(lease, ask)
            case events.Drop(lease):
                if not lease.dropped:
                    lease.dropped = True
                    self._of(lease).active -= 1
            case events.Prepare(resource, claim):
                self.output.prepare(resource, claim)
            case events.Reset():
                self.seen.restarts += 1
                self.output.reset()
            case events.Verify(size):
                self.later(self._chance(0.1), lambda: self._verify(size))
            case events.Commit():
                assert isinstance(event, events.Verified), "a commit without a proof"
                assert self._proved, "a commit of bytes that are not proved"
                self.later(self._chance(0.1), self._commit)
            case events.Fail(error, keep):
                self._failed(error, keep=keep)
            case events.Notice(message):
                assert message.isprintable()
        assert len(self.planner.active) <= world.threads

    def _failed(self, error: HydraError, *, keep: bool) -> None:
        self.seen.failed_at, self.seen.given = self.world.now, not self.output.restartable()
        if keep:
            self.output.checkpoint(self.planner.received)
        elif isinstance(self.output, FileOutput):
            self.output.reset()
        if self._reruns:
            self._reruns -= 1
            self.die("failure")
            self.later(self._chance(20.0), self.start)
        else:
            self.over, self.error = True, error

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, lease: Lease, ask: Ask) -> None:
        now = self.world.now
        self.seen.requests += 1
        self.seen.at_once[now] += 1
        # What a mirror that turns out to be another file was to bring is asked for again at once.
        assert self.seen.at_once[now] <= self.world.threads * len(self.origins), "a busy loop"
        self._of(lease).active += 1
        self.later(self._of(lease).traits.latency * (0.5 + self._chance(1.0)), lambda: self._answer(lease, ask))

    def _end(self, event: events.LeaseEnded | events.LeaseFailed) -> None:
        if not event.lease.dropped:
            self._of(event.lease).active -= 1
            self.dispatch(event)

    def _answer(self, lease: Lease, ask: Ask) -> None:
        if lease.dropped:
            return
        reply = self._of(lease).answer(ask, self.world.now)
        self.seen.in_a_row += 1
        assert self.seen.in_a_row < 300, "a server that does not answer is asked too often"
        if isinstance(reply, Failure):
            self._end(events.LeaseFailed(lease, reply))
            return
        named = self._mirrors() if self.named else ()
        self.dispatch(events.HeadReceived(lease, reply.head, EPOCH + self.world.now, mirrors=named))
        self._reserve(lease, reply, 0)

    def _reserve(self, lease: Lease, reply: Reply, sent: int) -> None:
        """Wait for room, then for bytes; `sent` of the body have come before."""
        if lease.dropped:
            return
        if lease.stop is not None and lease.position >= lease.stop:
            broken = self.world.rng.random() < self._of(lease).traits.rude
            self._end(events.LeaseFailed(lease, _CUT) if broken else events.LeaseEnded(lease))
            return
        room = self.output.room(lease.position)
        if not room:
            self._blocked.append(lambda: self._reserve(lease, reply, sent))
            return
        rate = self._of(lease).traits.rate
        most = min(room, reply.cut - sent, self.world.rng.randint(1, max(50, int(rate))))
        if lease.stop is not None:
            most = min(most, lease.stop - lease.position)
        delay = READ_TIMEOUT if not most and reply.end and reply.end.kind is FailureKind.STALLED else most / rate
        self.later(delay, lambda: self._receive(lease, reply, sent, most))

    def _receive(self, lease: Lease, reply: Reply, sent: int, count: int) -> None:
        if lease.dropped:
            return
        if not count:
            broken = lease.stop is not None or reply.end is not None
            self._end(events.LeaseFailed(lease, reply.end or _CUT) if broken else events.LeaseEnded(lease))
            return
        if lease.stop is not None:  # it may have been lowered in the meantime
            count = min(count, lease.stop - lease.position)
        self.output.write(lease.position, reply.body[sent : sent + count])
        lease.position += count
        self.seen.last_byte_at, self.seen.in_a_row = self.world.now, 0
        self._reserve(lease, reply, sent + count)

    # ── beside the requests ──────────────────────────────────────────────────────────────────────────────────────────

    def _tick(self) -> None:
        self.output.settle(self.planner.received)
        self.later(TICK if self.world.ticking else SLOW_TICK, self._tick)
        self.look()

    def _checkpoint(self) -> None:
        assert self.transfer is not None
        if self.transfer.state is State.FETCHING:
            self.output.settle(self.planner.received)
            self.output.checkpoint(self.planner.received)
        self.later(self._chance(2.0), self._checkpoint)

    def _read(self) -> None:
        """A reader who takes a piece now and then, and sometimes a long rest."""
        assert isinstance(self.output, StreamOutput)
        pause = 100.0 if self.world.rng.random() < 0.01 else self._chance(1.0)
        self.later(pause, self._read)
        if self._after is not None and not self._after.over:
            return
        if self.output.take(self.world.rng.randint(1, 4000)):
            blocked, self._blocked = self._blocked, []
            for go_on in blocked:
                go_on()
            self.look()

    def _verify(self, size: int) -> None:
        assert self.transfer is not None
        digest = self.output.digest(size)
        if digest is None:  # the reader has bytes to take before
            self.later(0.5, lambda: self._verify(size))
            return
        claim = self.transfer.claim
        self._proved = claim is None or claim.digest.value == digest[0]
        self.dispatch(events.Verified(digest[0]))

    def _commit(self) -> None:
        assert self.planner.size is not None
        if self.output.commit(self.planner.size):
            self.dispatch(events.Committed())
        else:
            self.later(0.5, self._commit)

    # ── what must hold at any time ───────────────────────────────────────────────────────────────────────────────────

    def _check(self) -> None:
        planner, output = self.planner, self.output
        received = planner.received
        taken = received.copy()
        for lease in planner.active:
            stop = lease.position if lease.stop is None else lease.stop
            assert not any(piece.start < stop and lease.position < piece.stop for piece in taken), "leased twice"
            taken.add(lease.position, stop)
        if planner.size is not None:
            assert not any(taken.gaps(piece.start, piece.stop) == [] for piece in planner._missing), (
                "missing and leased"
            )
            assert planner._missing.total + taken.total == planner.size
        assert not received.minus(output.written), "received, but not written"
        if isinstance(output, FileOutput):
            assert not output.durable.minus(output.written), "durable, but not written"
        for limiter in (self.world.limiter, *self.world.mirror_limiters.values()):
            assert limiter.active == sum(job.places(limiter) for job in self.world.jobs), "places lost"
