"""Drives transfers against simulated origins and outputs in virtual time, as `engine.py` does in real time.

After each event the invariants are checked: every byte is missing, leased or received, and in one of them only; durable ⊆
written, received ⊆ written; places taken at the origin are requests that run; no request is sent twice in one moment.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydraflow.core import transfer as machine
from hydraflow.core.limiter import Limiter
from hydraflow.core.planner import Lease, LeasePolicy, Planner
from hydraflow.core.retry import Failure, FailureKind, Policy
from hydraflow.core.transfer import Command, Event, State, Terms, Transfer
from tests.simulation.origin import EPOCH, URL, Origin, Reply
from tests.simulation.outputs import FileOutput, Output, StreamOutput

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from hydraflow.core.responses import Ask
    from hydraflow.errors import HydraError
    from hydraflow.models import Claim

LEASES = LeasePolicy(first=400, smallest=100, largest=6400, seconds=4.0, patience=0.5)
PATIENCE = Policy(delay=0.5, delay_max=5.0, first_wait=10.0, max_wait=60.0)
READ_TIMEOUT = 8.0
TICK = 0.25
_LONGEST = 20_000.0  # virtual seconds after which a run counts as hanging


class World:
    """A clock, what is going to happen, and one limiter that all transfers share.

    Args:
        rng: the only source of chance.
        threads: most requests at a time.
        ticking: transfers are looked at every so often, as the engine does; otherwise only when they ask for it.
    """

    def __init__(self, rng: Random, *, threads: int = 4, ticking: bool = True) -> None:
        self.rng = rng
        self.now = 0.0
        self.threads = threads
        self.ticking = ticking
        self.limiter = Limiter(threads)
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

    def poke(self) -> None:
        """A place may be free."""
        for job in self.jobs:
            job.look()

    def kill(self, how: str, pause: float) -> None:
        """The process ends in the way `how`, and is started again after `pause` seconds."""
        running = [job for job in self.jobs if not job.over]
        for job in running:
            job.die(how)
        self.limiter = Limiter(self.threads)
        for job in running:
            job.later(pause, job.start)


@dataclass(slots=True)
class Seen:
    """What happened to one job, for the verdict on it."""

    opened: int = 0
    changed: int = 0
    last_byte_at: float = 0.0
    started_at: float = 0.0
    moments: Counter[tuple[float, int]] = field(default_factory=Counter)


class Job:
    """One transfer, its origin and its output; started again after a kill, and `reruns` times after a failure."""

    def __init__(
        self,
        world: World,
        origin: Origin,
        output: FileOutput | StreamOutput,
        *,
        claim: Claim | None = None,
        size: int | None = None,
        reruns: int = 0,
    ) -> None:
        self.world, self.origin, self.output = world, origin, output
        self.over = False
        self.error: HydraError | None = None
        self.seen = Seen()
        self.transfer: Transfer | None = None
        self.planner = Planner(LEASES)
        self._claim, self._size, self._reruns = claim, size, reruns
        self._life = 0
        self._blocked: list[Callable[[], None]] = []
        self._proved = False
        self._wake_at: float | None = None
        world.jobs.append(self)

    def __repr__(self) -> str:
        return f"<{self.transfer and self.transfer.state} {self.planner.done}/{self.planner.size} {self.planner.active}>"

    # ── life and death ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        world = self.world
        self._life += 1
        self._blocked, self._proved, self._wake_at = [], False, None
        horizon = self.output.horizon()
        self.planner = Planner(LEASES, largest=None if horizon is None else horizon // world.threads)
        self.transfer = Transfer(
            Terms(URL, self._claim, self._size, world.threads, PATIENCE),
            self.planner,
            world.limiter,
            rng=world.rng.random,
            restartable=self.output.restartable,
            horizon=self.output.horizon,
            now=world.now,
        )
        self.seen = Seen(opened=self.seen.opened, started_at=world.now, last_byte_at=world.now)
        self.dispatch(machine.Begun(*self.output.begin()))
        if world.ticking:
            self.later(TICK, self._tick)
        if isinstance(self.output, StreamOutput):
            self.later(0.0, self._read)
        else:
            self.later(self._chance(2.0), self._checkpoint)

    def die(self, how: str) -> None:
        self._life += 1
        self.origin.active -= len(self.planner.active)
        if how == "interrupt":
            self.output.checkpoint(self.planner.received)
        self.output.die(self.world.rng, how)
        self.planner, self.transfer = Planner(LEASES), None

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Later, if this life still lasts then."""
        self._at(self.world.now + delay, action)

    def _at(self, time: float, action: Callable[[], None]) -> None:
        life = self._life

        def if_alive() -> None:
            if self._life == life and not self.over:
                action()

        self.world.at(time, if_alive)

    def _chance(self, most: float) -> float:
        return self.world.rng.random() * most

    # ── the state machine ────────────────────────────────────────────────────────────────────────────────────────────

    def dispatch(self, event: Event) -> None:
        assert self.transfer is not None
        lease = getattr(event, "lease", None)
        if self.transfer.finished() or (lease is not None and lease.dropped):
            return
        for command in self.transfer.handle(event, self.world.now):
            self._execute(command, event)
        if self.transfer.state is not State.FAILED:
            self._check()
        if self.transfer.state is State.DONE:
            self.over = True
        elif not self.transfer.finished():
            self._set_alarm()
        if lease is not None and lease not in self.planner.active:
            self.world.poke()

    def look(self) -> None:
        """A tick, if there is still anything to decide."""
        if self.transfer is not None and not self.over:
            self.dispatch(machine.Ticked())

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
            case machine.Open(lease, ask):
                self._open(lease, ask)
            case machine.Drop(lease):
                if not lease.dropped:
                    lease.dropped = True
                    self.origin.active -= 1
            case machine.Prepare(resource, claim):
                self.output.prepare(resource, claim)
            case machine.Reset():
                self.output.reset()
            case machine.Verify(size):
                self.later(self._chance(0.1), lambda: self._verify(size))
            case machine.Commit():
                assert isinstance(event, machine.Verified), "a commit without a proof"
                assert self._proved, "a commit of bytes that are not proved"
                self.later(self._chance(0.1), self._commit)
            case machine.Fail(error, keep):
                self._failed(error, keep=keep)
            case machine.Notice(message):
                self.seen.changed += "changed" in message
                assert message
        assert len(self.planner.active) <= world.threads

    def _failed(self, error: HydraError, *, keep: bool) -> None:
        if keep:
            self.output.checkpoint(self.planner.received)
        else:
            self.output.reset() if self.output.restartable() else None
        if self._reruns and self.output.restartable():
            self._reruns -= 1
            self._life += 1
            self.later(self._chance(20.0), self.start)
        else:
            self.over, self.error = True, error

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, lease: Lease, ask: Ask) -> None:
        now = self.world.now
        self.seen.opened += 1
        self.seen.moments[now, lease.start] += 1
        assert self.seen.moments[now, lease.start] < 4, "a busy loop"
        self.origin.active += 1
        self.later(self.origin.traits.latency * (0.5 + self._chance(1.0)), lambda: self._answer(lease, ask))

    def _end(self, event: machine.LeaseEnded | machine.LeaseFailed) -> None:
        if not event.lease.dropped:
            self.origin.active -= 1
            self.dispatch(event)

    def _answer(self, lease: Lease, ask: Ask) -> None:
        if lease.dropped:
            return
        reply = self.origin.answer(ask, self.world.now)
        if isinstance(reply, Failure):
            self._end(machine.LeaseFailed(lease, reply))
            return
        self.dispatch(machine.HeadReceived(lease, reply.head, EPOCH + self.world.now))
        self._reserve(lease, reply, 0)

    def _reserve(self, lease: Lease, reply: Reply, sent: int) -> None:
        """Wait for room, then for bytes; `sent` of the body have come before."""
        if lease.dropped:
            return
        if lease.stop is not None and lease.position >= lease.stop:
            self._end(machine.LeaseEnded(lease))
            return
        room = self.output.room(lease.position)
        if not room:
            self._blocked.append(lambda: self._reserve(lease, reply, sent))
            return
        rate = self.origin.traits.rate
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
            failure = reply.end or Failure(FailureKind.DROPPED, "connection closed")
            self._end(machine.LeaseFailed(lease, failure) if broken else machine.LeaseEnded(lease))
            return
        if lease.stop is not None:  # it may have been lowered in the meantime
            count = min(count, lease.stop - lease.position)
        self.output.write(lease.position, reply.body[sent : sent + count])
        lease.position += count
        self.seen.last_byte_at = self.world.now
        self._reserve(lease, reply, sent + count)

    # ── beside the requests ──────────────────────────────────────────────────────────────────────────────────────────

    def _tick(self) -> None:
        self.output.settle(self.planner.received)
        self.later(TICK, self._tick)
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
        self.dispatch(machine.Verified(digest[0]))

    def _commit(self) -> None:
        assert self.planner.size is not None
        if self.output.commit(self.planner.size):
            self.dispatch(machine.Committed())
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
            assert not any(taken.gaps(piece.start, piece.stop) == [] for piece in planner._missing), "missing and leased"
            assert planner._missing.total + taken.total == planner.size
        assert not received.minus(output.written), "received, but not written"
        if isinstance(output, FileOutput):
            assert not output.durable.minus(output.written), "durable, but not written"
        running = sum(len(job.planner.active) for job in self.world.jobs if not job.over)
        assert self.world.limiter.active == running, "places lost"
