"""Drives transfers: events from the network go into the state machine, its commands become I/O.

One `Engine` per process holds what transfers share (connections, one limiter per origin); one `Job` drives one transfer
against its sink.  Everything here runs on one event loop; decisions are all made in `core/transfer.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hydraflow.adapters import netrc
from hydraflow.adapters.pacing import paced
from hydraflow.adapters.sinks import Sink
from hydraflow.adapters.transport import Response, Route, Transport, TransportFailure
from hydraflow.core import claims, events, headers, integrity, links, names, responses, retry, urls
from hydraflow.core.events import Command, Event, Terms
from hydraflow.core.limiter import Limiter
from hydraflow.core.planner import Lease, LeasePolicy, Planner
from hydraflow.core.responses import Ask
from hydraflow.core.retry import Failure, FailureKind
from hydraflow.core.sources import Place
from hydraflow.core.throttle import Throttle
from hydraflow.core.transfer import State, Transfer
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import Claim, Decision, FetchResult, Head, Outcome, Phase, Progress, Resource
from hydraflow.settings import Settings
from hydraflow.sources.lookup import Lookup, Subject

__all__ = ["Engine", "Job", "Order"]

_TICK = 0.05
_PROGRESS_INTERVAL = 0.1
#: Longest wait, in seconds, for the end of a body whose bytes have all come.
_END_WAIT = 1.0
#: Longest wait of a stream, in seconds, for a digest to be looked up: what has been read cannot be hashed afterwards.
_LOOKUP_WAIT = 2.0
#: Seconds without a look at the clock after which this process was not running: it looks every `_TICK`.
_ASLEEP = 3.0

_PHASES = {
    State.PROBING: Phase.CONNECTING,
    State.FETCHING: Phase.TRANSFERRING,
    State.VERIFYING: Phase.VERIFYING,
    State.COMMITTING: Phase.VERIFYING,
    State.DONE: Phase.DONE,
    State.FAILED: Phase.FAILED,
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants done: a URL, what is known of it, and whom to tell how it goes."""

    url: str
    name: str
    claim: Claim | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    on_progress: Callable[[Progress], None] | None = None
    window: int | None = None
    first_lease: int | None = None
    mirrors: tuple[str, ...] = ()
    start: int = 0
    stop: int | None = None


class Clock:
    """Monotonic seconds during which this process ran: one that was stopped cannot say that the network was silent."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._asleep = 0.0

    def resume(self) -> None:
        """Nobody has looked at it for a while, because nothing was to be done."""
        self._read_at = time.monotonic()

    def now(self) -> float:
        """To be asked often while anything is going on."""
        now = time.monotonic()
        if now - self._read_at > _ASLEEP:
            self._asleep += now - self._read_at
        self._read_at = now
        return now - self._asleep


class Engine:
    """What all transfers of a process share."""

    def __init__(self, settings: Settings) -> None:
        if not (settings.user_agent.isascii() and settings.user_agent.isprintable()):
            raise ConfigurationError(f"not a valid User-Agent: {settings.user_agent!r}")
        self.settings = settings
        self.transport = Transport(settings)
        self.lookup = Lookup(self.ask)
        self.clock = Clock()
        self.policy = retry.Policy(
            delay=settings.retry_delay,
            delay_max=settings.retry_delay_max,
            first_wait=settings.first_wait,
            max_wait=settings.max_wait,
        )
        self.throttle = None if settings.limit_rate is None else Throttle(settings.limit_rate)
        self._limiters: dict[str, Limiter] = {}
        self._jobs: dict[Job, None] = {}  # in the order in which they came
        self._freed = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None

    def limiter(self, url: str) -> Limiter:
        """The limiter of a URL's origin."""
        most = self.settings.request_rate
        limiter = Limiter(
            self.settings.ceiling,
            crowd=self.settings.crowd,
            throttle=self.throttle,
            gap=0.0 if most is None else 1 / most,
        )
        return self._limiters.setdefault(urls.origin(url), limiter)

    async def run(self, order: Order, sink: Sink) -> FetchResult:
        """Carry out an order.

        Raises:
            HydraError: it could not be done; see `errors`.
        """
        if not self._jobs:
            self.clock.resume()
        job = Job(self, order, sink)
        self._jobs[job] = None
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend())
        try:
            return await job.run()
        finally:
            del self._jobs[job]
            self.poke()

    def poke(self) -> None:
        """A place at an origin may be free: let the transfers that wait for one look."""
        self._freed.set()

    async def _tend(self) -> None:
        """Let the transfers look at the clock, and those that wait for a place whether one is free."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _TICK
        while self._jobs:
            # No timeout: its exception, twenty times a second for days, would be work for the collector of garbage.
            alarm = loop.call_at(due, self._freed.set)
            await self._freed.wait()
            alarm.cancel()
            self._freed.clear()
            all_of_them = loop.time() >= due
            if all_of_them:
                due = loop.time() + _TICK
            for job in list(self._jobs):
                if all_of_them or job.waits:
                    job.tick()

    @contextlib.asynccontextmanager
    async def ask(self, route: Route, ask: Ask, method: str = "GET") -> AsyncIterator[Response]:
        """Send a request that is none of a transfer's; it waits for its turn where requests per second are limited."""
        now = self.clock.now()
        if (pause := self.limiter(route.origin.url).reserve(now) - now) > 0:
            await asyncio.sleep(pause)
        async with self.transport.open(route, ask, method) as response:
            yield response

    async def probe(self, order: Order) -> Resource:
        """Ask what is there, with a request for one byte, tried again as a transfer's would be.

        Raises:
            HydraError: the server refuses or cannot be reached.
        """
        return (await self._introduce(order))[0]

    async def name(self, order: Order) -> str:
        """What to call the file, where the URL does not tell: by Content-Disposition, the last redirect, its type.

        Raises:
            HydraError: the server refuses or cannot be reached.
        """
        resource, head = await self._introduce(order)
        announced = next(filter(None, map(names.announced, (head, *head.redirects))), None)
        if announced is not None:
            return announced
        there = urls.file_name(resource.final_url)
        return names.with_suffix(order.name if names.is_vague(there) else there, resource.media_type)

    async def learn(self, order: Order, *, thorough: bool = False) -> tuple[Resource, tuple[Claim, ...]]:
        """The same, and all digests that somebody promises, as a transfer would look for them.

        Args:
            order: what to ask for.
            thorough: look in the usual places too, however small the file; `verify` = `require` does.
        """
        resource, head = await self._introduce(order)
        if self.settings.verify == "none":
            return resource, ()
        known = (*resource.claims, *await self.of_the_whole(Route(order.url, order.headers), head))
        if integrity.conclusive(known):
            return resource, known
        subject = Subject(order.url, order.headers, resource.size, head)
        thorough = thorough or self.settings.verify == "require"
        return resource, (*known, *await self.lookup.claims(subject, thorough=thorough))

    async def _introduce(self, order: Order) -> tuple[Resource, Head]:
        begun, shown = time.monotonic(), urls.redact(order.url)
        route = Route(order.url, order.headers)
        whole = False
        for attempt in itertools.count(1):
            try:
                ask = Ask() if whole else Ask(0, 1)
                async with self.ask(route, ask) as response:
                    head = response.head
                    if head.status == 206:
                        await response.read_into(memoryview(bytearray(2)))
                        await _end(response)  # so that the transfer can use the connection
                verdict = responses.introduce(head, ask, url=shown, final_url=head.url, now=time.time())
            except TransportFailure as error:
                verdict = responses.Refused(error.failure)
            match verdict:
                case responses.Facts(resource):
                    return resource, head
                case responses.Unranged():
                    whole = True
                case responses.Changed(now=what):
                    raise AssertionError(f"nothing was known that could change into {what}")
                case responses.Refused(failure):
                    decision = retry.decide(
                        failure,
                        attempt=attempt,
                        quiet=time.monotonic() - begun,
                        answered=False,
                        policy=self.policy,
                        rng=random.random,
                    )
                    if isinstance(decision, retry.GiveUp):
                        raise retry.error_for(failure, attempt, shown, decision.reason)
                    await asyncio.sleep(decision.delay)
        raise AssertionError("the loop above has no end")

    async def of_the_whole(self, route: Route, head: Head) -> tuple[Claim, ...]:
        """A partial answer's Content-MD5 may be the part's: ask by HEAD what the whole file's is."""
        if not claims.ambiguous(head):
            return ()
        try:
            async with self.ask(route, Ask(), "HEAD") as whole:
                same = headers.same_version(headers.validator(head), headers.validator(whole.head))
                return claims.announced(whole.head, bodiless=True) if whole.head.status == 200 and same else ()
        except TransportFailure:
            return ()

    async def look_up(self, order: Order, size: int | None, head: Head | None, since: float) -> tuple[Claim, ...]:
        """Digests of the file that are published elsewhere than in the answer, and were read there `since` then."""
        subject = Subject(order.url, order.headers, size, head)
        return await self.lookup.claims(subject, thorough=self.settings.verify == "require", since=since)

    async def rest(self) -> None:
        """Close the connections that nothing is using."""
        await self.transport.rest()

    async def aclose(self) -> None:
        """Close every connection."""
        await self.transport.aclose()


class Job:
    """One transfer, from its order to its result."""

    def __init__(self, engine: Engine, order: Order, sink: Sink) -> None:
        self._engine = engine
        self._settings = engine.settings
        self._order = order
        self._sink = sink
        self._home = urls.origin(order.url)
        self._shown = urls.redact(order.url)
        policy = LeasePolicy(first=order.first_lease or LeasePolicy().first)
        self._planner = Planner(policy, window=order.window, start=order.start, stop=order.stop)
        self._begun, self._begun_at = time.monotonic(), engine.clock.now()
        self._limiter = engine.limiter(order.url)
        self._transfer = Transfer(
            Terms(
                self._shown,
                order.claim,
                order.size,
                self._settings.ceiling,
                engine.policy,
                order.start,
                order.stop,
                self._settings.verify,
            ),
            self._planner,
            [self._place(order.url), *(self._place(url, named=True) for url in order.mirrors)],
            rng=random.random,
            restartable=sink.restartable,
            horizon=sink.horizon,
            writing=sink.writing,
            now=self._begun_at,
        )
        self._turn = asyncio.Lock()
        self._workers: dict[Lease, asyncio.Task[None]] = {}
        self._lookup: asyncio.Task[None] | None = None
        #: What was published before is of a version that is gone, in seconds of `time.monotonic`.
        self._outdated = 0.0
        self._failed: events.Fail | None = None
        self._over = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._going = False
        self._saving: asyncio.Task[None] | None = None
        self._saved, self._saved_at = 0, time.monotonic()
        self._received = 0
        self._notice = ""
        self._reported_at = 0.0

    # ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> FetchResult:
        """See `Engine.run`."""
        keep, error = True, None
        try:
            found = await self._sink.begin()
            await self._drive(*found)
            if self._failed is not None:
                keep = self._failed.keep
                raise self._failed.error
            return self._result()
        except BaseException as caught:
            error = caught
            if keep:
                with suppress(HydraError):
                    await self._sink.checkpoint(self._planner.received)
            raise
        finally:
            self._transfer.abandon(self._engine.clock.now())
            await self._sink.close(keep=keep, error=error)
            self._report(force=True)

    async def _drive(self, *found: object) -> None:
        try:
            async with self._group:
                self._going, self._saved_at = True, time.monotonic()
                try:
                    await self._dispatch(events.Begun(*found))  # type: ignore[arg-type]
                    self._saved = self._planner.done
                    await self._over.wait()
                finally:
                    self._going = False
                for task in (*self._workers.values(), *filter(None, [self._saving, self._lookup])):
                    task.cancel()
        except BaseExceptionGroup as group:
            # A bug, not a failure of the transfer: let the first one be seen as it is.
            raise group.exceptions[0] from None

    async def _dispatch(self, event: Event) -> None:
        """Let the state machine see an event, and carry out its commands before the next one."""
        async with self._turn:
            lease = getattr(event, "lease", None)
            if self._transfer.finished() or (lease is not None and lease.dropped):
                return
            try:
                for command in self._transfer.handle(event, self._engine.clock.now()):
                    await self._execute(command)
            except HydraError as error:
                for command in self._transfer.handle(events.Aborted(error), self._engine.clock.now()):
                    await self._execute(command)
            if self._transfer.finished():
                self._over.set()

    async def _execute(self, command: Command) -> None:
        match command:
            case events.Prepare(resource, claim):
                await self._sink.prepare(resource, claim)
            case events.Expect(resource, claim):
                await self._sink.expect(resource, claim)
            case events.Reset():
                self._saved = 0
                self._forget_claims()
                await self._sink.reset()
            case _:
                self._execute_now(command)

    def _execute_now(self, command: Command) -> None:
        match command:
            case events.Open(lease, ask):
                self._workers[lease] = self._group.create_task(self._work(lease, ask))
            case events.Drop(lease):
                self._drop(lease)
            case events.Verify(size):
                self._group.create_task(self._verify(size))
            case events.Commit():
                self._group.create_task(self._commit())
            case events.Notice(message):
                self._notice = message
                self._report(force=True)
            case events.Fail():
                self._failed = command
            case _:
                raise AssertionError(f"{command} takes its time")

    def _drop(self, lease: Lease) -> None:
        lease.dropped = True
        task = self._workers.get(lease)
        # The task that is just dispatching looks at `dropped` itself; cancelling it would undo its own commands.
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # ── one lease ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _work(self, lease: Lease, ask: Ask) -> None:
        try:
            await self._dispatch(await self._fetch(lease, ask))
        except HydraError as error:
            await self._dispatch(events.Aborted(error))
        finally:
            self._workers.pop(lease, None)
            self._engine.poke()

    async def _fetch(self, lease: Lease, ask: Ask) -> Event:
        route = self._transfer.sources[lease.source].route
        assert isinstance(route, Route)
        try:
            async with self._engine.transport.open(route, ask) as response:
                head = response.head
                more, mirrors = await self._more_claims(route, head), self._named(route, head)
                await self._dispatch(events.HeadReceived(lease, head, time.time(), more, response.latency, mirrors))
                if not lease.dropped:
                    await self._receive(lease, ask, response)
        except TransportFailure as error:
            return events.LeaseFailed(lease, error.failure)
        return events.LeaseEnded(lease)

    async def _receive(self, lease: Lease, ask: Ask, response: Response) -> None:
        cursor = self._sink.cursor(lease.position)
        throttle, read = self._engine.throttle, response.read_into
        read_some = read if throttle is None else paced(read, throttle, self._engine.clock.now)
        try:
            while lease.stop is None or lease.position < lease.stop:
                limit = (1 << 62) if lease.stop is None else lease.stop - lease.position
                count = await read_some(await cursor.reserve(limit))
                if lease.dropped:
                    return
                if count == 0:
                    _check_end(lease)
                    return
                self._received += count
                if lease.stop is not None:  # it may have been lowered in the meantime
                    count = min(count, lease.stop - lease.position)
                cursor.advance(count)
                lease.position += count
        finally:
            cursor.close()
        if lease.position in (ask.stop, self._planner.size):
            await _end(response)

    # ── what the answer tells of other places ────────────────────────────────────────────────────────────────────────

    def _place(self, url: str, *, named: bool = False) -> Place:
        # The caller's headers are for the origin that he named them for, and his netrc for mirrors that he named.
        headers = self._order.headers if urls.origin(url) == self._home else {}
        route = Route(url, netrc.authorized(url, headers) if named else headers)
        return Place(urls.redact(url), self._engine.limiter(url), route)

    def _named(self, route: Route, head: Head) -> tuple[Place, ...]:
        """Mirrors that the first answer names."""
        if self._transfer.resource is not None or head.status not in (200, 206):
            return ()
        return tuple(map(self._place, links.duplicates(head, route.origin.url)))

    # ── digests that the answer does not tell ────────────────────────────────────────────────────────────────────────

    async def _more_claims(self, route: Route, head: Head) -> tuple[Claim, ...]:
        """Begin to look for digests if the first answer has none, and wait for them where they would come too late."""
        if self._transfer.resource is not None or not self._asks_others() or head.status not in (200, 206):
            return ()
        found = await self._engine.of_the_whole(route, head)
        if not integrity.conclusive((*claims.announced(head), *found)) and self._lookup is None:
            size = responses.size(head)
            self._lookup = self._group.create_task(self._look_up(head, size))
            if self._settings.verify == "require":
                await asyncio.wait([self._lookup])
            elif self._sink.horizon() is not None:
                await asyncio.wait([self._lookup], timeout=_LOOKUP_WAIT)
        return found

    def _asks_others(self) -> bool:
        order = self._order
        part = order.start or order.stop is not None
        return order.claim is None and not part and self._settings.verify != "none"

    async def _look_up(self, head: Head | None, size: int | None) -> None:
        found = await self._engine.look_up(self._order, size, head, since=self._outdated)
        await self._dispatch(events.Promised(found))

    def _forget_claims(self) -> None:
        """A file that was replaced has another digest; who publishes both is asked again."""
        self._outdated = time.monotonic()
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None

    # ── beside the leases ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def waits(self) -> bool:
        """It has work for a request, and no place."""
        return self._transfer.scheduler.waits

    def tick(self) -> None:
        """Time has passed, or a place is free; called often while the transfer is going on."""
        if not self._going:
            return
        try:
            self._sink.settle(self._planner.received)
            self._report()
            if not self._turn.locked():
                for command in self._transfer.handle(events.Ticked(), self._engine.clock.now()):
                    self._execute_now(command)
                if self._transfer.finished():
                    self._over.set()
            if self._saving is None and self._is_due():
                self._saving = self._group.create_task(self._save())
        except Exception as error:  # noqa: BLE001 - it is this transfer's, not that of who looks after all of them
            self._group.create_task(_raise(error))

    def _is_due(self) -> bool:
        """A checkpoint by time or by bytes, whichever comes first."""
        grown = self._planner.done - self._saved
        if not grown or self._transfer.state is not State.FETCHING:
            return False
        long_ago = time.monotonic() - self._saved_at >= self._settings.sync_interval
        return long_ago or grown >= self._settings.sync_bytes

    async def _save(self) -> None:
        received = self._planner.received
        self._saved, self._saved_at = received.total, time.monotonic()
        try:
            await self._sink.checkpoint(received)
        except HydraError as error:
            await self._dispatch(events.Aborted(error))
        finally:
            self._saving = None

    async def _verify(self, size: int) -> None:
        try:
            if self._lookup is None and self._transfer.claim is None and self._asks_others():
                self._lookup = self._group.create_task(self._look_up(None, size))  # all was there: nothing was answered
            if self._lookup is not None and self._sink.horizon() is None:
                await asyncio.wait([self._lookup])
            event: Event = events.Verified(await self._sink.digest(size))
        except HydraError as error:
            event = events.Aborted(error)
        await self._dispatch(event)

    async def _commit(self) -> None:
        resource, size = self._transfer.resource, self._planner.end
        assert resource is not None
        assert size is not None
        try:
            await self._sink.commit(size, resource)
            event: Event = events.Committed()
        except HydraError as error:
            event = events.Aborted(error)
        await self._dispatch(event)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _report(self, *, force: bool = False) -> None:
        now, transfer = self._engine.clock.now(), self._transfer
        if self._order.on_progress is None or not (force or now - self._reported_at >= _PROGRESS_INTERVAL):
            return
        self._reported_at = now
        size = self._size()
        phase = Phase.WAITING if transfer.scheduler.waiting(now) else _PHASES[transfer.state]
        self._order.on_progress(
            Progress(
                url=self._shown,
                name=self._order.name,
                phase=phase,
                done=self._planner.done if size is None else min(self._planner.done, size),
                size=size,
                from_checkpoint=transfer.from_checkpoint,
                connections=len(self._planner.active),
                message=self._notice,
                resumable=transfer.resumable,
                bound=transfer.bound(now),
                decision=_told(self._limiter.news()),
            )
        )
        self._notice = ""

    def _size(self) -> int | None:
        """Bytes that are wanted, None while that is unknown."""
        return None if self._planner.end is None else max(0, self._planner.end - self._order.start)

    def _result(self) -> FetchResult:
        transfer, resource, size = self._transfer, self._transfer.resource, self._size()
        assert resource is not None
        assert size is not None
        claim = transfer.claim
        return FetchResult(
            url=self._shown,
            final_url=resource.final_url,
            path=None,
            size=size,
            digest=None if claim is None else claim.digest,
            verification=integrity.verification(claim, resource.framed),
            digest_source=None if claim is None else claim.source,
            etag=resource.validator.etag,
            last_modified=resource.validator.last_modified,
            outcome=Outcome.RESUMED if transfer.from_checkpoint else Outcome.FETCHED,
            bytes_from_network=self._received,
            bytes_from_checkpoint=transfer.from_checkpoint,
            requests=transfer.scheduler.sent,
            retries=transfer.retries,
            restarts=transfer.restarts,
            peak_connections=transfer.scheduler.peak,
            http_version=resource.http_version,
            elapsed=time.monotonic() - self._begun,
            limited_by=transfer.limited_by,
            decisions=tuple(
                replace(each, at=round(each.at - self._begun_at, 3))
                for each in self._limiter.decisions
                if each.at >= self._begun_at
            ),
            digest_url=None if claim is None else claim.url,
            sources=transfer.sources.shares(),
        )


def _told(decision: Decision | None) -> str:
    if decision is None:
        return ""
    return f"{decision.limit} connection{'s' if decision.limit > 1 else ''} from now on: {decision.reason}"


async def _end(response: Response) -> None:
    """All bytes asked for are here: what is wrong behind them costs the connection, and nothing else."""
    with suppress(TransportFailure, TimeoutError):
        async with asyncio.timeout(_END_WAIT):
            await response.finish()


async def _raise(error: Exception) -> None:
    raise error


def _check_end(lease: Lease) -> None:
    """The body is at its end; that is right only where no length was known."""
    if lease.stop is not None:
        got, wanted = lease.position - lease.start, lease.stop - lease.start
        raise TransportFailure(Failure(FailureKind.DROPPED, f"connection closed after {got:,} of {wanted:,} bytes"))
