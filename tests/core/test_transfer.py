"""The state machine, event by event: what it asks for, what it refuses to believe, and when it gives up."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from hydraflow import errors
from hydraflow.core import events
from hydraflow.core.events import Terms
from hydraflow.core.journal import Identity
from hydraflow.core.limiter import Limiter, _State
from hydraflow.core.planner import Lease, LeasePolicy, Planner
from hydraflow.core.ranges import RangeSet
from hydraflow.core.responses import Ask
from hydraflow.core.retry import Failure, FailureKind, Policy
from hydraflow.core.sources import Place
from hydraflow.core.throttle import Throttle
from hydraflow.core.transfer import _TABLE, State, Transfer
from hydraflow.models import Bound, Claim, Digest, DigestSource, Head, Validator

URL = "http://h/x"
LEASES = LeasePolicy(first=40, smallest=10, largest=100, seconds=4.0, patience=0.5)
PATIENCE = Policy(delay=1.0, delay_max=8.0, first_wait=10.0, max_wait=60.0, restarts=2)
GOOD, BAD = "1" * 32, "2" * 32
CALLER = Claim(Digest("md5", GOOD), DigestSource.CALLER)
SERVER = Claim(Digest("md5", BAD), DigestSource.CONTENT_MD5)
WEAK = Validator('W/"v1"')
STRONG = Validator('"v1"')
DROPPED = Failure(FailureKind.DROPPED, "connection dropped")
REFUSED = Failure(FailureKind.CONNECT, "cannot connect")


def partial(start: int, stop: int, size: int = 100, etag: str | None = '"v1"', **fields: str) -> Head:
    lines = [("content-range", f"bytes {start}-{stop - 1}/{size}"), *fields.items()]
    return Head(206, tuple([*lines, ("etag", etag)] if etag else lines), URL)


def whole(size: int | None = 100, etag: str | None = '"v1"') -> Head:
    lines = [] if size is None else [("content-length", str(size))]
    return Head(200, tuple([*lines, ("etag", etag)] if etag else lines), URL)


def status(code: int, **fields: str) -> Head:
    return Head(code, tuple((name.replace("_", "-"), value) for name, value in fields.items()), URL)


def left_over(size: int = 100, validator: Validator = STRONG, claims: tuple[Claim, ...] = ()) -> Identity:
    return Identity(URL, size, validator, claims, "part-1")


class Open(Limiter):
    """One that allows all it may from the first answer on."""

    def succeeded(self, now: float, since: float | None = None) -> None:
        super().succeeded(now, since)
        if self._calm_until is None:
            self.limit = self.ceiling


class Rig:
    """A transfer with a clock that stands still until told, chance that is always 1/2, and its commands."""

    def __init__(self, *, threads: int = 2, claim: Claim | None = None, size: int | None = None, **options) -> None:
        self.now = 0.0
        self.given = False
        self.horizon = options.get("horizon")
        self.writing = 0.0
        self.limiter = options.get("limiter") or Open(threads)
        wanted = {name: options[name] for name in ("start", "stop") if name in options}
        self.planner = Planner(LEASES, **wanted)
        mirrors = options.get("mirrors", 0)
        self.open: list[tuple[Lease, Ask]] = []
        self.said: list[str] = []
        self.did: list[str] = []
        self.transfer = Transfer(
            Terms(
                URL,
                claim,
                size,
                threads,
                options.get("policy", PATIENCE),
                verify=options.get("verify", "auto"),
                **wanted,
            ),
            self.planner,
            [Place(URL, self.limiter), *(Place(f"http://m{n}/x", Open(threads)) for n in range(1, mirrors + 1))],
            rng=lambda: 0.5,
            restartable=lambda: not self.given,
            horizon=lambda: self.horizon,
            now=0.0,
            writing=lambda: self.writing,
        )
        self.failed: events.Fail | None = None

    @classmethod
    def of_part(cls, start: int, stop: int | None) -> Rig:
        """A part of the file is wanted, as a stream."""
        return cls(horizon=200, start=start, stop=stop)

    def feed(self, event: events.Event) -> list[events.Command]:
        commands = self.transfer.handle(event, self.now)
        self.did = []
        for command in commands:
            match command:
                case events.Open(lease, ask):
                    self.open.append((lease, ask))
                    self.did.append(f"open {ask.start}-{ask.stop}" + (f" of {lease.source}" if lease.source else ""))
                case events.Drop(lease):
                    lease.dropped = True
                    self.open = [each for each in self.open if each[0] is not lease]
                case events.Notice(message):
                    self.said.append(message)
                case events.Fail():
                    self.failed = command
                    self.did.append("fail")
                case _:
                    self.did.append(type(command).__name__.lower())
        assert len(self.open) == len(self.planner.active)
        return commands

    @property
    def state(self) -> State:
        return self.transfer.state

    @property
    def asks(self) -> list[Ask]:
        return [ask for _, ask in self.open]

    def begin(self, identity: Identity | None = None, *durable: tuple[int, int]) -> Rig:
        self.feed(events.Begun(identity, RangeSet(durable)))
        return self

    def after(self, seconds: float) -> Rig:
        self.now += seconds
        self.feed(events.Ticked())
        return self

    def head(
        self, answer: Head, index: int = 0, claims: tuple[Claim, ...] = (), mirrors: tuple[Place, ...] = ()
    ) -> Rig:
        self.feed(events.HeadReceived(self.open[index][0], answer, 0.0, claims, mirrors=mirrors))
        return self

    def receive(self, count: int, index: int = 0) -> Rig:
        self.open[index][0].position += count
        return self

    def end(self, index: int = 0) -> Rig:
        """All that is left of the lease comes."""
        lease, _ = self.open.pop(index)
        if lease.stop is not None:
            lease.position = lease.stop
        self.feed(events.LeaseEnded(lease))
        return self

    def fail(self, failure: Failure = DROPPED, index: int = 0) -> Rig:
        lease, _ = self.open.pop(index)
        self.feed(events.LeaseFailed(lease, failure))
        return self

    def finish(self, actual: str | None = None) -> Rig:
        self.feed(events.Verified(actual))
        self.feed(events.Committed())
        return self

    def error(self, kind: type[errors.HydraError], *, keep: bool) -> errors.HydraError:
        """The transfer has failed so."""
        assert self.state is State.FAILED
        assert self.failed is not None
        assert self.open == []
        assert self.planner.active == []
        assert self.failed.keep is keep
        assert type(self.failed.error) is kind
        return self.failed.error


def fetching(size: int = 100, etag: str | None = '"v1"', **options) -> Rig:
    """A rig whose first answer has come: bytes 0-39 are under way."""
    return Rig(**options).begin().head(partial(0, min(40, size), size, etag))


# The straight way.


def test_a_file_in_pieces():
    rig = Rig().begin()
    assert rig.asks == [Ask(0, 40)]
    rig.head(partial(0, 40))
    assert rig.did == ["prepare", "open 40-55"]
    assert rig.state is State.FETCHING
    rig.head(partial(40, 55), 1).end(1)
    assert rig.did == ["open 55-66"]
    assert rig.asks[1] == Ask(55, 66, '"v1"')
    while rig.state is State.FETCHING:
        rig.end()
    assert (rig.did, rig.state) == (["verify"], State.VERIFYING)
    rig.feed(events.Verified(None))
    assert (rig.did, rig.state) == (["commit"], State.COMMITTING)
    assert not rig.transfer.finished()
    rig.feed(events.Committed())
    assert (rig.did, rig.state, rig.transfer.finished()) == ([], State.DONE, True)
    assert (rig.limiter.active, rig.transfer.retries, rig.transfer.restarts) == (0, 0, 0)
    assert (rig.transfer.scheduler.sent, rig.transfer.scheduler.peak) == (6, 2)


def test_the_planner_learns_when_an_answer_began():
    rig = Rig().begin()
    rig.now = 1.0
    rig.head(partial(0, 40))
    rig.now = 2.0
    rig.head(partial(40, 55), 1)
    assert [lease.answered for lease in rig.planner.active] == [1.0, 2.0]


def test_a_small_file_needs_one_request():
    rig = Rig().begin().head(partial(0, 25, 25)).end()
    assert (rig.state, rig.transfer.scheduler.sent) == (State.VERIFYING, 1)


@pytest.mark.parametrize("answer", [whole(0), partial(0, 1, 0), status(416, content_range="bytes */0")])
def test_an_empty_file(answer):
    if answer.status == 206:
        answer = replace(answer, status=416, headers=(("content-range", "bytes */0"),))
    rig = Rig().begin().head(answer)
    assert (rig.did, rig.state, rig.open) == (["prepare", "verify"], State.VERIFYING, [])
    rig.finish()
    assert rig.state is State.DONE
    assert rig.limiter.active == 0


def test_a_server_without_ranges():
    rig = Rig(threads=4).begin().head(whole(100))
    assert (rig.did, len(rig.open), rig.open[0][0].stop) == (["prepare"], 1, 100)
    rig.after(1.0).receive(50).after(1.0)
    assert len(rig.open) == 1
    assert rig.end().did == ["verify"]


def test_a_body_of_unknown_length():
    rig = Rig().begin().head(whole(None))
    assert rig.open[0][0].stop is None
    rig.receive(70).end()
    assert (rig.did, rig.planner.size) == (["verify"], 70)
    rig.finish()
    assert rig.state is State.DONE


def test_the_first_request_waits_for_a_place():
    limiter = Limiter(1)
    assert limiter.grant(0.0)
    rig = Rig(limiter=limiter).begin()
    assert rig.open == []
    assert rig.transfer.scheduler.waits
    limiter.release()
    assert rig.after(0.1).asks == [Ask(0, 40)]


def test_a_place_that_nobody_can_use_is_given_back():
    rig = fetching(20, threads=4)
    assert (rig.limiter.active, rig.limiter.limit) == (1, 4)


# One request instead of many.


@pytest.mark.parametrize(
    "answer",
    [status(416, content_range="bytes */100"), replace(partial(0, 40), headers=(("content-range", "bytes 0-39/*"),))],
)
def test_a_server_that_cannot_do_ranges_is_asked_for_the_whole(answer):
    rig = Rig().begin().head(answer)
    assert rig.did == ["reset", "open 0-None"]
    assert rig.said[-1].startswith("fetching over one connection: the server ")
    assert rig.head(whole()).end().did == ["verify"]
    assert rig.transfer.restarts == 0


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_strong_validator_or_a_digest_nothing_is_put_together(etag):
    rig = fetching(etag=etag)
    assert rig.did == ["reset", "open 0-None"]
    assert rig.said == ["fetching over one connection: the server gives no strong validator"]
    assert rig.state is State.PROBING
    rig.head(whole(etag=etag))
    assert len(rig.after(1.0).open) == 1


@pytest.mark.parametrize("options", [{"claim": CALLER}, {}])
def test_a_digest_lets_pieces_be_put_together(options):
    rig = Rig(**options).begin()
    rig.head(partial(0, 40, etag=None), claims=() if options else (SERVER,))
    assert rig.did == ["prepare", "open 40-55"]
    assert rig.asks[1] == Ask(40, 55)
    assert rig.transfer.claim == (CALLER if options else SERVER)


def test_a_date_can_be_a_strong_validator():
    dates = {"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:50:39 GMT"}
    rig = Rig().begin().head(partial(0, 40, etag=None, **dates))
    assert rig.asks[1] == Ask(40, 55, dates["last-modified"])


def test_a_weak_tag_forbids_if_range_but_the_date_still_proves():
    """RFC 9110 §13.1.5: no date in If-Range where there is a tag; every part is compared all the same."""
    dates = {"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:50:39 GMT"}
    rig = Rig().begin().head(partial(0, 40, etag='W/"v1"', **dates))
    assert rig.asks[1] == Ask(40, 55)
    assert rig.head(partial(40, 55, etag='W/"v1"', **dates), 1).did == []


def test_a_stream_is_not_put_together_under_a_digest_alone():
    """Its reader would have got bytes of two versions by the time when the digest tells."""
    rig = Rig(claim=CALLER, horizon=1000).begin()
    rig.head(partial(0, 40, etag=None))
    assert rig.did == ["reset", "open 0-None"]
    rig.given = True
    rig.head(whole(etag=None)).receive(50).fail()
    rig.error(errors.ConnectionDroppedError, keep=False)


def test_what_comes_in_one_answer_needs_no_validator_as_long_as_it_holds():
    rig = fetching(40, etag=None)
    assert (rig.did, rig.state) == (["prepare"], State.FETCHING)
    assert rig.end().did == ["verify"]


def test_what_came_in_one_answer_without_a_validator_is_not_taken_up_where_it_ended():
    """The file may have changed in between, and nothing would show it."""
    rig = fetching(40, etag=None).receive(20).fail()
    assert rig.did == ["reset"]
    assert rig.after(0.5).asks == [Ask(0, 40)]
    assert rig.transfer.restarts == 1


def test_an_answer_without_a_validator_is_not_split():
    rig = fetching(40, etag=None)
    rig.now = 1.0
    rig.receive(10).fail().after(1.0).head(partial(0, 40, 40, None))  # now a rate is known
    rig.after(5.0).after(50.0)
    assert rig.asks == [Ask(0, 40)]
    assert rig.open[0][0].stop == 40


def test_a_server_that_sends_less_than_was_asked_for():
    rig = Rig().begin().head(partial(0, 25))
    assert rig.asks == [Ask(0, 40), Ask(25, 43, '"v1"')]
    rig.head(partial(25, 30), 1).end().end()
    assert rig.planner.done == 30
    assert rig.asks[0].start == 30
    rig.head(partial(30, rig.asks[0].stop))
    while rig.state is State.FETCHING:
        rig.end()
    assert rig.state is State.VERIFYING
    assert (rig.transfer.retries, rig.planner.done) == (0, 100)


def test_a_server_that_sends_less_and_gives_no_validator():
    """What would fit into one answer comes in several: these could not be told apart."""
    assert fetching(40, etag=None).state is State.FETCHING
    rig = Rig().begin().head(partial(0, 25, 40, etag=None))
    assert rig.did == ["reset", "open 0-None"]


def test_a_server_that_takes_no_if_range_is_asked_for_the_whole():
    rig = fetching().head(whole(), 1)
    assert rig.did == ["reset", "open 0-None"]
    assert rig.said[-1] == "fetching over one connection: the server does not understand If-Range"
    assert rig.head(whole()).end().state is State.VERIFYING


def test_a_stream_under_way_cannot_be_asked_for_as_a_whole():
    rig = fetching()
    rig.given = True
    for _ in range(3):
        rig.head(whole(), 1).after(3.0)
    error = rig.error(errors.RemoteProtocolError, keep=True)
    assert str(error) == "the server does not understand If-Range (3 times in a row)"


# Going on from a checkpoint.


def test_resume_under_a_strong_validator():
    rig = Rig().begin(left_over(), (0, 30), (60, 80))
    assert rig.asks == [Ask(30, 60, '"v1"')]
    assert rig.said == ["going on after 50 of 100 bytes"]
    rig.head(partial(30, 60))
    assert rig.did == ["prepare", "open 80-90"]
    rig.end().end()
    assert rig.end().did == ["verify"]
    assert (rig.transfer.from_checkpoint, rig.transfer.restarts) == (50, 0)


@pytest.mark.parametrize(
    ("identity", "claim"), [(left_over(validator=WEAK), CALLER), (left_over(validator=WEAK, claims=(SERVER,)), None)]
)
def test_resume_under_a_digest(identity, claim):
    rig = Rig(claim=claim).begin(identity, (0, 30))
    assert rig.asks == [Ask(30, 70)]
    rig.head(partial(30, 70, etag='W/"v1"'), claims=identity.claims)
    assert (rig.did, rig.transfer.claim) == (["prepare", "open 70-80"], claim or SERVER)


@pytest.mark.parametrize("validator", [WEAK, Validator(), Validator(None, "Sun, 06 Nov 1994 08:49:37 GMT")])
def test_a_checkpoint_that_nothing_vouches_for_is_thrown_away(validator):
    rig = Rig().begin(left_over(validator=validator), (0, 30))
    assert rig.did == ["reset", "open 0-40"]
    assert "cannot be trusted" in rig.said[0]
    assert (rig.transfer.from_checkpoint, rig.transfer.restarts) == (0, 0)


def test_a_digest_that_the_server_no_longer_gives_is_still_checked():
    rig = Rig().begin(left_over(validator=WEAK, claims=(SERVER,)), (0, 30))
    rig.head(partial(30, 70, etag='W/"v1"'))
    assert (rig.did, rig.transfer.claim) == (["prepare", "open 70-80"], SERVER)


def test_a_date_that_settled_after_the_checkpoint_vouches_for_nothing():
    """There may have been two versions in that second, and what is on disk may be of the first."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    fresh = left_over(validator=Validator(None, date), claims=(SERVER,))
    rig = Rig().begin(fresh, (0, 30))
    rig.head(partial(30, 70, etag=None, **{"last-modified": date, "date": "Sun, 06 Nov 1994 09:49:37 GMT"}))
    assert rig.transfer.claim == SERVER  # not the date, but the digest that the server gave then


def test_another_digest_than_the_last_time_is_another_version():
    promised = Claim(Digest("md5", GOOD), DigestSource.GOOG_HASH)
    rig = Rig().begin(left_over(validator=WEAK, claims=(promised,)), (0, 30))
    rig.head(partial(30, 70, etag='W/"v1"', **{"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}))
    assert rig.did == ["reset"]
    assert rig.transfer.restarts == 1


def test_a_checkpoint_without_bytes_is_thrown_away():
    """Its journal names a version; bytes of another one must not be recorded under that name."""
    rig = Rig().begin(left_over(), (0, 0))
    assert rig.did == ["reset", "open 0-40"]
    assert rig.asks == [Ask(0, 40)]


def test_all_was_there():
    rig = Rig(claim=CALLER).begin(left_over(), (0, 100))
    assert (rig.did, rig.state, rig.transfer.scheduler.sent) == (["prepare", "verify"], State.VERIFYING, 0)
    rig.finish(GOOD)
    assert (rig.state, rig.transfer.from_checkpoint) == (State.DONE, 100)


@pytest.mark.parametrize(
    "answer",
    [
        whole(etag='"v2"'),
        partial(30, 70, etag='"v2"'),
        partial(30, 70, 90),
        status(416, content_range="bytes */20"),
    ],
)
def test_changed_between_two_runs(answer):
    rig = Rig().begin(left_over(), (0, 30)).head(answer)
    assert rig.did == ["reset"]
    assert rig.said[-1].startswith('the remote file changed (was "v1", now ')
    assert rig.after(0.5).asks == [Ask(0, 40)]
    assert (rig.transfer.from_checkpoint, rig.transfer.restarts, rig.planner.done) == (0, 1, 0)
    rig.head(partial(0, 40, 60, '"v2"'))
    assert (rig.did[0], rig.planner.size) == ("prepare", 60)


def test_a_server_that_does_not_tell_its_version_any_more():
    rig = Rig().begin(left_over(), (0, 30)).head(partial(30, 70, etag=None))
    assert rig.did == ["reset", "open 0-None"]
    rig = Rig(claim=CALLER).begin(left_over(), (0, 30)).head(partial(30, 70, etag=None))
    assert rig.did == ["prepare", "open 70-80"]  # the digest will tell


def test_a_server_that_lost_its_ranges_between_two_runs():
    """The whole cannot go over a part that is there already: its digest may have been taken before."""
    rig = Rig(claim=CALLER).begin(left_over(validator=WEAK), (30, 60))
    assert rig.asks == [Ask(0, 30)]
    rig.head(whole(etag='W/"v1"'))
    assert rig.did == ["reset", "open 0-None"]
    assert rig.head(whole(etag='W/"v1"')).end().planner.done == 100


def test_a_bad_digest_on_resumed_bytes_costs_one_restart():
    rig = Rig(claim=CALLER).begin(left_over(), (0, 100))
    rig.feed(events.Verified(BAD))
    assert rig.did == ["reset", "open 0-40"]
    assert "the checkpoint was of no use" in rig.said[-1]
    rig.head(partial(0, 40))
    while rig.state is State.FETCHING:
        rig.end()
    rig.feed(events.Verified(BAD))
    error = rig.error(errors.DigestMismatchError, keep=False)
    assert (error.expected, error.actual, error.source) == (GOOD, BAD, "caller")
    assert rig.transfer.restarts == 1


# Digests and sizes.


def test_a_bad_digest():
    rig = fetching(40, claim=CALLER).end()
    rig.feed(events.Verified(BAD))
    assert rig.did == ["fail"]
    rig.error(errors.DigestMismatchError, keep=False)


def test_the_caller_s_claim_goes_before_the_server_s():
    rig = Rig(claim=CALLER).begin()
    prepare = rig.feed(events.HeadReceived(rig.open[0][0], partial(0, 40, 40), 0.0, (SERVER,)))[0]
    assert (prepare.claim, rig.transfer.claim) == (CALLER, CALLER)
    assert rig.end().finish(GOOD).state is State.DONE


def test_the_server_s_claim_is_checked_where_there_is_no_other():
    rig = Rig().begin().head(partial(0, 40, 40), claims=(SERVER,)).end()
    rig.feed(events.Verified(GOOD))
    assert rig.error(errors.DigestMismatchError, keep=False).source == "Content-MD5 header"


def test_a_digest_cannot_be_skipped():
    rig = fetching(40, claim=CALLER).end()
    with pytest.raises(AssertionError, match="nothing was hashed"):
        rig.feed(events.Verified(None))


@pytest.mark.parametrize("answer", [partial(0, 40), whole()])
def test_the_wrong_size_is_found_before_a_byte_is_taken(answer):
    rig = Rig(size=99).begin().head(answer)
    assert rig.did == ["fail"]
    error = rig.error(errors.SizeMismatchError, keep=True)
    assert (error.expected, error.actual, error.url) == (99, 100, URL)


def test_the_wrong_size_is_found_at_the_end_where_none_was_announced():
    rig = Rig(size=99).begin().head(whole(None)).receive(70).end()
    assert rig.error(errors.SizeMismatchError, keep=True).actual == 70


@pytest.mark.parametrize("durable", [(0, 100), (0, 30)])
def test_a_wrong_size_does_not_cost_the_checkpoint(durable):
    """The caller may have mistyped it, and will want to go on."""
    rig = Rig(size=99).begin(left_over(), durable)
    if rig.open:
        rig.head(partial(30, 70))
    rig.error(errors.SizeMismatchError, keep=True)


def test_the_right_size():
    assert Rig(size=40).begin().head(partial(0, 40, 40)).end().finish().state is State.DONE
    assert Rig(size=40).begin().head(whole(None)).receive(40).end().finish().state is State.DONE


# Changed on the way.


@pytest.mark.parametrize(
    "answer",
    [whole(etag='"v2"'), partial(40, 55, etag='"v2"'), partial(40, 55, 101), status(416)],
)
def test_changed_on_the_way(answer):
    rig = fetching().receive(20).head(answer, 1)
    assert (rig.did, rig.state, rig.planner.done) == (["reset"], State.PROBING, 0)
    assert rig.after(0.5).asks == [Ask(0, 40)]
    assert rig.transfer.restarts == 1


def test_a_part_that_does_not_tell_its_version():
    rig = fetching().receive(20).head(partial(40, 55, etag=None), 1)
    assert (rig.did, rig.planner.done) == (["reset", "open 0-None"], 0)
    assert rig.said[-1].endswith("the server does not tell of which version its parts are")


def test_a_file_that_goes_on_changing_is_asked_for_less_and_less_often():
    rig, pauses = fetching(policy=replace(PATIENCE, restarts=4)), []
    for version in range(2, 5):
        rig.head(partial(40, 55, etag=f'"v{version}"'), 1)
        pauses.append(rig.transfer.wake_at(rig.now) - rig.now)
        rig.now += pauses[-1]
        rig.after(0.0)
        if version < 4:
            rig.head(partial(0, 40, etag=f'"v{version}"'))
    assert pauses == [0.5, 1.0, 2.0]
    # One answer is of one version, whatever the server does meanwhile.
    assert rig.asks == [Ask()]
    assert rig.said[-1].endswith("starting anew over one connection")
    assert rig.head(whole(etag='"v9"')).end().state is State.VERIFYING


def test_a_file_that_goes_on_changing_is_given_up():
    rig = fetching(threads=1)
    for version in ("2", "3"):
        rig.end().head(partial(40, 80, etag=f'"{version}"')).after(8.0).head(partial(0, 40, etag=f'"{version}"'))
    rig.end()
    for _ in range(3):
        rig.head(partial(40, 80, etag='"4"')).after(8.0)
    rig.head(partial(40, 80, etag='"4"'))
    error = rig.error(errors.ResourceChangedError, keep=False)
    assert (error.was, error.now) == ('"3"', '"4", 100 bytes')
    assert str(error) == 'the remote file changed: it was "3", now it is "4", 100 bytes'


def test_a_stream_under_way_cannot_begin_anew():
    rig = fetching()
    rig.given = True
    for _ in range(3):
        rig.head(partial(40, 55, etag='"v2"'), 1)
        assert (rig.state, rig.asks) == (State.FETCHING, [Ask(0, 40)])  # perhaps it was a replica that lags behind
        rig.after(8.0)
        assert rig.asks[1] == Ask(40, 55, '"v1"')
    rig.head(partial(40, 55, etag='"v2"'), 1)
    assert rig.error(errors.ResourceChangedError, keep=False).was == '"v1"'


def test_a_stream_forgets_an_answer_of_another_version_when_a_right_one_comes():
    rig = fetching()
    rig.given = True
    for _ in range(3):
        for _ in range(3):
            rig.head(partial(40, 55, etag='"v2"'), 1).after(8.0)
        rig.head(partial(40, 55), 1)
    assert (rig.state, rig.transfer.restarts) == (State.FETCHING, 0)


def test_changes_do_not_wait_for_the_pauses_of_earlier_failures():
    rig = fetching(threads=3)
    assert len(rig.open) == 3
    silent = Failure(FailureKind.STALLED, "silence")
    rig.fail(silent, 1).fail(silent, 1).now = 0.1
    rig.receive(1).after(0.0).after(1.0)
    assert len(rig.open) == 3
    rig.fail(index=2).head(whole(etag='"v2"'), 1)
    assert rig.transfer.wake_at(rig.now) == rig.now + 0.5


# Failures, and patience.


def test_a_dropped_connection_is_taken_up_where_it_ended():
    rig = fetching(threads=1).receive(10).fail()
    assert (rig.did, rig.state, rig.transfer.scheduler.waiting(0.0)) == ([], State.FETCHING, True)
    assert rig.said == ["connection dropped; trying again in 0.5 s, giving up in 60 s"]
    assert rig.transfer.wake_at(0.0) == 0.5
    assert rig.after(0.5).asks == [Ask(10, 55, '"v1"')]
    assert not rig.transfer.scheduler.waiting(0.5)
    assert (rig.transfer.retries, rig.transfer.restarts) == (1, 0)


def test_what_fails_together_is_told_once():
    rig = fetching(threads=2).fail().fail()
    assert rig.said == ["connection dropped; trying again in 0.5 s, giving up in 60 s"]
    rig.now += 0.05
    rig.after(0.5).fail(REFUSED)
    assert [line.partition(";")[0] for line in rig.said] == ["connection dropped", "cannot connect"]


def test_an_outage_is_told_every_ten_seconds():
    rig = fetching(threads=1)
    told: dict[float, str] = {}
    while rig.state is not State.FAILED:
        rig.fail(REFUSED)
        told[rig.now] = rig.said[-1]
        rig.after((rig.transfer.wake_at(rig.now) or rig.now) - rig.now)
    assert len(rig.said) < rig.transfer.retries
    at = [next(now for now, line in told.items() if line == said) for said in rig.said]
    assert at[:3] == [0.0, 0.5, 1.5]
    assert all(10 <= later - earlier < 20 for earlier, later in pairwise(at[2:]))
    assert len(at) >= 6


def test_a_failure_after_the_last_byte_is_none():
    rig = fetching(40).receive(40).fail()
    assert (rig.did, rig.transfer.retries) == (["verify"], 0)


def test_a_failure_after_the_last_byte_of_a_piece_is_none():
    rig = fetching(threads=1).receive(40).fail()
    assert (rig.did, rig.transfer.retries) == (["open 40-70"], 0)


def test_pauses_grow_with_failures_in_a_row_and_a_byte_ends_the_row():
    rig, pauses = fetching(threads=1, policy=replace(PATIENCE, max_wait=1000.0)), []
    for number in range(7):
        rig.receive(number == 5).fail()
        pauses.append(rig.transfer.wake_at(rig.now) - rig.now)
        rig.after(pauses[-1])
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 0.5, 1.0]


def test_requests_that_were_under_way_together_fail_together():
    rig = fetching(threads=4)
    for now in (1.0, 1.1, 1.2, 1.3):
        rig.now = now
        rig.fail()
    assert rig.transfer.sources[0].attempts == 1
    assert rig.transfer.sources[0].resting == [1.5, 1.6, 1.7, 1.8]


def test_failures_that_come_one_after_the_other_are_counted():
    """A request sent after the last failure that counted counts, however late others of that time fail."""
    rig = fetching(threads=2)
    rig.now = 1.0
    rig.fail()  # the first; its like is sent again at 1.5
    rig.after(0.5)
    rig.now = 2.0
    rig.fail()  # this one was under way when the first failed
    rig.now = 3.0
    rig.fail()  # this one was not
    assert rig.transfer.sources[0].attempts == 2


def test_after_a_new_byte_any_failure_is_a_first_one():
    rig = fetching(threads=2)
    rig.now = 1.0
    rig.fail()
    rig.receive(1).after(0.1).fail()
    assert (rig.transfer.sources[0].attempts, rig.transfer.retries) == (1, 2)


def test_patience_begins_anew_with_each_byte_of_a_long_answer():
    rig = fetching(40)
    for now in (50.0, 100.0):
        rig.now = now
        rig.receive(10).after(0.0)
    rig.now = 110.0
    assert rig.fail().state is State.FETCHING  # sent 110 s ago, but the last byte came 10 s ago


def test_first_wait_ends_before_the_server_has_ever_answered():
    rig = Rig().begin()
    while rig.state is not State.FAILED:
        rig.fail(REFUSED)
        rig.after((rig.transfer.wake_at(rig.now) or rig.now) - rig.now)
    error = rig.error(errors.ConnectError, keep=True)
    assert (error.attempts, rig.now) == (6, 10.0)
    assert str(error) == "cannot connect (no new byte for 10 s, first_wait is 10 s)"


def test_who_left_a_checkpoint_has_answered():
    """A host name that was right once is not mistyped: an outage is waited for."""
    rig = Rig().begin(left_over(), (0, 30))
    while rig.state is not State.FAILED:
        rig.fail(REFUSED)
        rig.after((rig.transfer.wake_at(rig.now) or rig.now) - rig.now)
    assert rig.now == 60
    rig.error(errors.ConnectError, keep=True)


def test_max_wait_ends_without_a_new_byte():
    rig = fetching(threads=1)
    while rig.state is not State.FAILED:
        rig.fail()
        rig.after((rig.transfer.wake_at(rig.now) or rig.now) - rig.now)
    assert rig.now == 60
    assert rig.error(errors.ConnectionDroppedError, keep=True).attempts > 10


def test_patience_does_not_run_while_a_transfer_waits_for_its_turn():
    limiter = Limiter(1)
    assert limiter.grant(0.0)
    rig = Rig(limiter=limiter).begin().after(300.0)
    limiter.release()
    rig.after(1.0).fail(REFUSED)
    assert rig.state is State.PROBING


def test_patience_does_not_run_while_a_reader_rests():
    """All that has room is there: no byte can come."""
    rig = fetching(horizon=40, threads=1).end()
    assert rig.open == []
    rig.after(300.0).after(0.1)
    rig.horizon = 80
    rig.after(1.0).fail()
    assert rig.state is State.FETCHING


def test_patience_does_not_run_while_a_lease_is_held_up_by_the_reader():
    rig = fetching(horizon=40, threads=1).end()
    rig.horizon = 60
    rig.after(1.0).receive(20)
    assert (rig.open[0][0].position, rig.open[0][0].stop) == (60, 70)
    rig.after(0.1).after(300.0).fail()
    assert rig.state is State.FETCHING


def test_patience_runs_while_the_bytes_before_the_horizon_do_not_come():
    rig = fetching(horizon=60, threads=2)
    rig.head(partial(40, 55), 1).end(1)
    rig.receive(5, 1)
    assert rig.open[1][0].position == 60
    rig.after(0.1).after(61.0).fail()
    rig.error(errors.ConnectionDroppedError, keep=True)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (404, errors.NotFoundError),
        (410, errors.NotFoundError),
        (403, errors.AccessDeniedError),
        (400, errors.RequestError),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_refusals_that_will_not_pass(code, kind, late):
    rig = fetching() if late else Rig().begin()
    rig.receive(7 if late else 0).head(status(code), 1 if late else 0)
    assert rig.error(kind, keep=True).status == code


def test_503_is_waited_for_as_long_as_it_says():
    rig = Rig().begin().head(status(503, retry_after="7"))
    assert (rig.open, rig.transfer.wake_at(0.0), rig.transfer.scheduler.waiting(1.0)) == ([], 7.0, True)
    rig.after(7.3)
    assert rig.open == []
    assert rig.after(0.06).asks == [Ask(0, 40)]
    assert rig.said == ["HTTP status 503, the server asks to wait 7 s; trying again in 7.0 s, giving up in 60 s"]


def test_who_was_told_the_same_does_not_come_back_in_the_same_moment():
    """A Retry-After date is the same for thousands of clients; none comes before it."""
    ends = []
    for chance in (0.0, 0.5, 0.99):
        rig = Rig().begin()
        rig.transfer._rng = lambda chance=chance: chance
        rig.head(status(503, retry_after="40"))
        ends.append(rig.limiter.resume_at)
    assert ends == pytest.approx([40.0, 42.0, 43.96])


def test_a_wait_that_is_too_long_is_not_begun():
    rig = Rig().begin().head(status(429, retry_after="3600"))
    assert "asks to wait 3600 s" in str(rig.error(errors.TransferError, keep=True))
    assert rig.limiter.resume_at == 60.0  # others do not wait longer than anybody would


def test_a_transfer_that_begins_in_a_pause_says_so():
    limiter = Limiter(2)
    limiter.refused(0.0, 12.0)
    rig = Rig(limiter=limiter).begin()
    assert (rig.open, rig.said) == ([], ["the server asked for a pause, 12 s are left"])
    assert rig.after(12.0).asks == [Ask(0, 40)]


def test_a_server_that_refuses_gets_fewer_requests():
    rig = fetching(1000, threads=4)
    assert len(rig.open) == 4
    rig.head(status(503), 3).head(status(503), 2)
    assert (rig.limiter.limit, rig.limiter.active) == (2, 2)
    rig.after(0.5)
    assert len(rig.open) == 2


def test_other_failures_do_not_touch_the_limit():
    rig = fetching(1000, threads=4).fail(DROPPED).head(status(500), 2)
    assert rig.limiter.limit == 4


@pytest.mark.parametrize("failure", [REFUSED, DROPPED])
def test_no_connection_for_one_while_others_have_theirs_is_a_refusal(failure):
    rig = fetching(1000, threads=4).fail(failure, 3)
    assert rig.limiter.limit == 3


def test_after_several_failures_all_ask_one_at_a_time():
    limiter = Open(4)
    rig = Rig(limiter=limiter).begin()
    for _ in range(4):
        rig.head(status(500)).after(8.0)
    assert limiter.opens_at == 0.0
    rig.head(status(500))
    other = Rig(limiter=limiter).begin()
    assert (rig.open, other.open, other.said) == ([], [], [])
    assert other.transfer.wake_at(rig.now) == rig.transfer.wake_at(rig.now) == rig.now + 4.0
    other.now = rig.now
    other.after(4.0).head(partial(0, 40, 40))
    assert len(rig.after(4.0).open) == 1


def test_an_answer_against_the_rules_is_no_outage():
    rig = Rig().begin()
    for _ in range(2):
        rig.head(partial(7, 47)).after(3.0)
    assert rig.limiter._failures == 0


def test_a_server_that_breaks_the_rules():
    rig = Rig().begin()
    for _ in range(3):
        rig.head(partial(7, 47)).after(3.0)
    error = rig.error(errors.RemoteProtocolError, keep=True)
    assert str(error) == "wrong answer 206 bytes 7-46/100: asked for bytes 0-39 (3 times in a row)"


def test_a_wrong_answer_after_other_failures_is_the_first_one():
    rig = Rig().begin()
    for _ in range(3):
        rig.fail(REFUSED).after(2.0)
    rig.head(partial(7, 47))
    assert rig.state is State.PROBING
    assert rig.transfer.wake_at(rig.now) is not None


def test_wrong_answers_to_requests_under_way_together_are_one():
    rig = fetching(1000, threads=4)
    rig.now = 1.0
    for index in (3, 2, 1):
        rig.head(partial(7, 47, 1000), index)
    assert rig.state is State.FETCHING


def test_a_wrong_later_answer_is_asked_for_again():
    rig = fetching(threads=2).head(partial(41, 55), 1)
    assert (rig.open[0][0].start, len(rig.open)) == (0, 1)
    assert rig.after(0.5).asks[1] == Ask(40, 55, '"v1"')


def test_what_cannot_be_taken_up_begins_anew_as_often_as_allowed():
    rig = Rig(policy=replace(PATIENCE, restarts=1)).begin().head(whole()).receive(5).fail()
    assert (rig.did, rig.state) == (["reset"], State.PROBING)
    rig.after(1.0).head(whole()).receive(5).fail()
    assert rig.error(errors.ConnectionDroppedError, keep=False).attempts == 1


def test_a_failure_before_the_first_byte_costs_no_restart():
    rig = Rig().begin()
    for _ in range(4):
        rig.head(whole()).fail().after(8.0)
    assert (rig.transfer.restarts, rig.state) == (0, State.PROBING)


def test_a_stream_under_way_that_cannot_be_taken_up():
    rig = Rig().begin().head(whole()).receive(50)
    rig.given = True
    rig.fail()
    rig.error(errors.ConnectionDroppedError, keep=False)


# Readers.


def test_nothing_is_asked_for_that_has_no_room():
    rig = fetching(1000, threads=4, horizon=45)
    assert rig.asks[1:] == [Ask(40, 120, '"v1"')]
    rig.horizon = 120
    assert len(rig.after(0.1).open) == 2
    rig.horizon = 121
    assert len(rig.after(0.1).open) == 3


def blocked(**options) -> Rig:
    """Bytes 0-39 have to come again, 40-59 have come; the request for them waits for the reader, who is at 0."""
    rig = fetching(1000, threads=2, horizon=60, **options)
    return rig.receive(20, 1).fail(Failure(FailureKind.STATUS, "HTTP status 503", 503))


def test_a_request_that_waits_for_the_reader_gives_way_to_the_bytes_before_it():
    rig = blocked()
    assert (rig.limiter.limit, rig.limiter.active) == (1, 1)
    rig.after(1.0)  # needs a place, gets none
    rig.after(0.1)
    assert rig.asks == [Ask(0, 40, '"v1"')]
    assert rig.limiter.active == 1
    rig.end()
    assert rig.asks == []
    rig.horizon = 100
    assert rig.after(0.1).asks[0].start == 60


def test_a_request_that_waits_for_the_reader_gives_way_to_other_transfers():
    limiter = Limiter(1)
    rig = fetching(1000, threads=1, horizon=60, limiter=limiter).end().receive(20)
    other = Rig(threads=1, limiter=limiter).begin()
    assert other.open == []
    rig.after(0.1)
    assert (rig.open, limiter.active) == ([], 0)
    assert len(other.after(0.1).open) == 1
    other.head(partial(0, 40, 40)).end()
    rig.horizon = 100
    assert rig.after(0.1).asks[0].start == 60


def test_a_request_that_moves_does_not_give_way():
    limiter = Limiter(1)
    rig = fetching(1000, threads=1, horizon=60, limiter=limiter).end().receive(19)
    other = Rig(threads=1, limiter=limiter).begin()
    rig.after(0.1)
    assert (len(rig.open), other.after(0.1).open) == (1, [])


def test_nothing_gives_way_where_nobody_waits():
    rig = fetching(1000, threads=1, horizon=60).end().receive(20).after(0.1).after(0.1)
    assert len(rig.open) == 1


def test_an_answer_that_cannot_be_taken_up_lends_its_place_as_long_as_it_waits():
    limiter = Limiter(1)
    rig = Rig(threads=1, horizon=60, limiter=limiter).begin().head(whole(1000)).receive(60)
    other = Rig(threads=1, limiter=limiter).begin()
    rig.after(0.1).after(0.1)
    assert (len(rig.open), limiter.active) == (1, 0)
    assert len(other.after(0.1).open) == 1
    rig.horizon = 2000
    rig.end()
    assert (limiter.active, rig.state) == (1, State.VERIFYING)
    other.head(partial(0, 40, 40)).end()
    assert limiter.active == 0


def test_an_answer_that_goes_on_takes_its_place_back():
    limiter = Limiter(1)
    rig = Rig(threads=1, horizon=60, limiter=limiter).begin().head(whole(1000)).receive(60)
    other = Rig(threads=1, limiter=limiter).begin()
    rig.after(0.1)
    assert limiter.active == 0
    rig.horizon = 2000
    rig.after(0.1)
    assert limiter.active == 1
    assert other.after(0.1).open == []
    rig.receive(940).end()
    assert limiter.active == 0
    assert len(other.after(0.1).open) == 1


# Requests that are too many, and those that are too slow.


def test_requests_that_bring_nothing_are_ended():
    rig = fetching(100_000, threads=4)
    rig.planner._rate = 10.0
    rig.limiter._enter(_State.STANDING, 0.0, 2, "they brought nothing")
    rig.after(0.1)
    assert (len(rig.open), rig.limiter.active) == (2, 2)
    rig.limiter._enter(_State.GROWING, 0.0, 1, "")
    assert len(rig.after(0.1).open) == 2


def test_requests_that_end_soon_are_not_ended_before():
    rig = fetching(100_000, threads=4)
    rig.planner._rate = 1e6
    rig.limiter._enter(_State.STANDING, 0.0, 2, "they brought nothing")
    assert len(rig.after(0.1).open) == 4


def test_the_only_request_is_never_too_many():
    rig = fetching(100_000, threads=1)
    rig.planner._rate = 10.0
    rig.limiter.reclaim()
    rig.limiter._enter(_State.STANDING, 0.0, 1, "")
    assert len(rig.after(0.1).open) == 1


def test_a_request_that_hardly_moves_is_given_up_and_its_bytes_are_asked_for_again():
    rig = fetching(100, threads=2)
    rig.head(partial(40, 55), 1).receive(1, 1)
    rig.planner._rate = 100.0
    slow = rig.open[1][0]
    while len(rig.open) > 1 or slow in rig.planner.active:
        rig.receive(0).after(0.1)
        first = rig.open[0]
        if first[0] is not slow and first[0].remaining:
            rig.receive(first[0].remaining).end()
        assert rig.now < 20.0
    assert slow.dropped
    assert rig.state in (State.FETCHING, State.VERIFYING)


@pytest.mark.parametrize(("speed", "again"), [(16.0, True), (26.0, False)])
def test_nobody_waits_for_one_that_is_much_slower_than_the_others(speed, again):
    rig = fetching(54, threads=2)
    rig.head(partial(40, 54, 54), 1)
    slow = rig.open[1][0]
    rig.now, rig.planner._rate = 10.0, 100.0
    slow._speed, slow._seen, slow._moved = speed, (9.95, 40), 9.9
    rig.end()
    assert slow.dropped is again
    assert rig.asks == [Ask(40, 54, '"v1"')]
    assert rig.limiter.active == 1


@pytest.mark.parametrize(("speed", "again"), [(0.1, False), (0.0, True)])
def test_who_waits_for_his_turn_is_not_slow_but_who_does_not_move_at_all_is(speed, again):
    """The user's own limit makes all slow; connections that fall silent do so under it, too."""
    throttle = Throttle(1000.0)
    rig = fetching(54, threads=2, limiter=Open(2, throttle=throttle))
    rig.head(partial(40, 54, 54), 1)
    slow = rig.open[1][0]
    rig.now, rig.planner._rate = 10.0, 100.0
    slow._speed, slow._seen, slow._moved = speed, (9.95, 40), 9.9 if speed else 5.0
    throttle.spend(1000, rig.now)
    assert throttle.delay(rig.now)
    rig.end()
    assert slow.dropped is again


# What limits it.


def test_what_limits_it_is_known_while_bytes_are_fetched():
    rig = Rig(limiter=Limiter(4)).begin()
    assert rig.transfer.bound(0.0) is None
    rig.now = 0.5
    rig.head(partial(0, 40))
    assert rig.transfer.limited_by is None  # the wait for the first answer is nobody's limit
    assert rig.transfer.bound(0.5) is Bound.CEILING
    rig.after(1.0).end().end()
    assert rig.transfer.limited_by is Bound.CEILING


def test_a_server_that_cannot_send_parts_limits_it():
    rig = Rig().begin().head(whole())
    assert rig.transfer.bound(0.0) is Bound.SERVER


def test_a_server_that_refuses_limits_it():
    rig = fetching(limiter=Limiter(4))
    rig.head(status(503), 1)
    assert rig.transfer.bound(0.0) is Bound.SERVER


def test_the_user_s_own_limit_is_named_before_all_others():
    throttle = Throttle(10.0)
    rig = fetching(limiter=Open(2, throttle=throttle), horizon=0)
    throttle.spend(100, 0.0)
    assert throttle.delay(0.0)
    assert rig.transfer.bound(0.0) is Bound.LIMIT_RATE


def test_a_reader_limits_it_if_half_of_his_window_waits_for_him():
    rig = fetching(horizon=50)
    rig.receive(10, 1)
    assert rig.transfer.bound(0.0) is Bound.CEILING  # who is late is the connection for the first bytes
    rig.receive(24)
    assert rig.transfer.bound(0.0) is Bound.CEILING
    rig.receive(1)
    assert rig.transfer.bound(0.0) is Bound.READER
    rig.horizon = 51
    assert rig.transfer.bound(0.0) is Bound.CEILING


def test_a_disk_limits_it_if_writing_takes_most_of_the_time():
    rig = fetching()
    rig.writing = 0.6
    assert rig.after(0.1).transfer.bound(0.1) is Bound.CEILING, "too short to tell"
    assert rig.after(0.9).transfer.bound(1.0) is Bound.DISK
    rig.writing = 1.0
    assert rig.after(1.0).transfer.bound(2.0) is Bound.CEILING


def test_it_is_limited_by_what_it_waited_for_most():
    rig = fetching(horizon=50)
    rig.after(1.0).receive(30).after(3.0)
    assert rig.transfer.limited_by is Bound.READER
    rig.horizon = 100
    rig.after(2.5)
    assert rig.transfer.limited_by is Bound.CEILING


# The table.


EVENTS: dict[type, object] = {
    events.Begun: events.Begun(),
    events.HeadReceived: None,
    events.LeaseEnded: None,
    events.LeaseFailed: None,
    events.Ticked: events.Ticked(),
    events.Verified: events.Verified(None),
    events.Committed: events.Committed(),
    events.Aborted: events.Aborted(errors.StorageError("disk on fire")),
}


def in_state(state: State) -> Rig:
    """A rig that has got so far."""
    rig = fetching(40) if state is not State.PROBING else Rig().begin()
    if state in (State.VERIFYING, State.COMMITTING, State.DONE):
        rig.end()
    if state in (State.COMMITTING, State.DONE):
        rig.feed(events.Verified(None))
    if state is State.DONE:
        rig.feed(events.Committed())
    if state is State.FAILED:
        rig.feed(EVENTS[events.Aborted])
    assert rig.state is state
    return rig


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", State)
def test_what_may_happen_when(state, event):
    rig = in_state(state)
    lease = rig.open[0][0] if rig.open else Lease(0, 40, 0.0)
    happening = (
        EVENTS[event]
        or {
            events.HeadReceived: events.HeadReceived(lease, partial(0, 40, 40), 0.0),
            events.LeaseEnded: events.LeaseEnded(lease),
            events.LeaseFailed: events.LeaseFailed(lease, DROPPED),
        }[event]
    )
    if (state, event) in _TABLE:
        rig.transfer.handle(happening, 0.0)
    else:
        with pytest.raises(AssertionError, match=f"{event.__name__} cannot happen while {state.value}"):
            rig.transfer.handle(happening, 0.0)
        assert rig.state is state


@pytest.mark.parametrize("state", [State.PROBING, State.FETCHING, State.VERIFYING, State.COMMITTING])
def test_the_local_side_may_fail_at_any_time(state):
    rig = in_state(state)
    rig.feed(EVENTS[events.Aborted])
    assert str(rig.error(errors.StorageError, keep=True)) == "disk on fire"
    assert rig.limiter.active == 0
    assert rig.transfer.finished()


@pytest.mark.parametrize("state", State)
def test_a_tick_harms_nobody(state):
    rig = in_state(state)
    rig.feed(events.Ticked())
    assert (rig.did, rig.state) == ([], state)


@pytest.mark.parametrize("state", [State.VERIFYING, State.COMMITTING, State.DONE, State.FAILED])
def test_nothing_is_waited_for_when_all_is_there(state):
    assert in_state(state).transfer.wake_at(0.0) is None


def test_nothing_is_waited_for_while_requests_run():
    rig = fetching()
    assert (rig.transfer.wake_at(0.0), rig.transfer.scheduler.waiting(0.0)) == (None, False)


def test_who_abandons_a_transfer_gives_every_place_back():
    rig = fetching(1000, threads=4)
    assert rig.limiter.active == 4
    rig.transfer.abandon(1.0)
    assert (rig.transfer.state, rig.limiter.active) == (State.FAILED, 0)
    rig.transfer.abandon(2.0)  # and once more does no harm
    assert rig.limiter.active == 0


class TestPart:
    """A part of the file is wanted."""

    @pytest.fixture
    def rig(self):
        return Rig.of_part(50, 70)

    def test_no_digest_is_verified(self, rig):
        rig.feed(events.Begun())
        assert rig.asks == [Ask(50, 70)]
        rig.feed(
            events.HeadReceived(rig.open[0][0], partial(50, 70, **{"x-goog-hash": "md5=ICy5YqxZB1uWSwcVLSNLcA=="}), 0.0)
        )
        assert rig.transfer.claim is None
        receive(rig)
        assert rig.did == ["verify"]
        rig.feed(events.Verified(None))
        assert rig.did == ["commit"]

    def test_a_server_without_ranges_sends_what_comes_before_too(self, rig):
        rig.feed(events.Begun())
        rig.feed(events.HeadReceived(rig.open[0][0], whole(), 0.0))
        assert rig.did == ["reset", "open 0-None"]
        assert "does not answer ranges" in rig.said[-1]
        rig.feed(events.HeadReceived(rig.open[0][0], whole(), 0.0))
        assert rig.open[0][0].stop == 70
        receive(rig)
        assert rig.did == ["verify"]

    @pytest.mark.parametrize("size", [50, 49])
    def test_it_begins_behind_the_end(self, rig, size):
        rig.feed(events.Begun())
        rig.feed(events.HeadReceived(rig.open[0][0], status(416, content_range=f"bytes */{size}"), 0.0))
        assert isinstance(rig.failed.error, errors.RequestError)
        assert rig.failed.error.status == 416
        assert str(rig.failed.error) == f"the range begins at byte 50 of {size} bytes"

    def test_it_begins_behind_an_end_that_only_comes_to_light(self, rig):
        rig.feed(events.Begun())
        rig.feed(events.HeadReceived(rig.open[0][0], whole(None), 0.0))
        rig.feed(events.HeadReceived(rig.open[0][0], whole(None), 0.0))
        rig.open[0][0].position = 20
        rig.feed(events.LeaseEnded(rig.open.pop(0)[0]))
        assert rig.failed.error.status == 416

    def test_nothing_of_a_weak_version_is_put_together(self):
        rig = Rig.of_part(50, 99)
        rig.feed(events.Begun())
        rig.feed(events.HeadReceived(rig.open[0][0], partial(50, 90, etag='W/"v1"'), 0.0))
        assert rig.did == ["reset", "open 0-None"]

    def test_one_answer_may_be_of_a_weak_version(self, rig):
        rig.feed(events.Begun())
        rig.feed(events.HeadReceived(rig.open[0][0], partial(50, 70, etag='W/"v1"'), 0.0))
        assert rig.state is State.FETCHING


def receive(rig: Rig) -> None:
    """All that the first lease is to bring."""
    lease = rig.open.pop(0)[0]
    lease.position = lease.stop
    rig.feed(events.LeaseEnded(lease))


# Digests from elsewhere, and how much is asked of them.

MIB = 1 << 20
BESIDE = Claim(Digest("md5", GOOD), DigestSource.SIDECAR, "http://h/x.md5")
GUESS = Claim(Digest("md5", BAD, 2), DigestSource.S3_ETAG)
AMAZON = {"x-amz-request-id": "1"}


def finish(rig: Rig) -> Rig:
    while rig.open:
        rig.end()
    return rig


def promise(rig: Rig, *claims: Claim) -> Rig:
    rig.feed(events.Promised(claims))
    return rig


def test_a_late_promise_is_hashed_for_from_the_first_byte():
    rig = Rig().begin().head(partial(0, 40))
    (command,) = rig.feed(events.Promised((BESIDE,)))
    assert command == events.Expect(rig.transfer.resource, BESIDE)
    finish(rig)
    rig.feed(events.Verified(GOOD))
    assert (rig.state, rig.transfer.claim) == (State.COMMITTING, BESIDE)
    assert promise(rig, BESIDE).did == []


def test_a_promise_may_come_before_the_answer_and_is_of_that_version():
    rig = promise(Rig().begin(), BESIDE)
    assert rig.did == []
    commands = rig.feed(events.HeadReceived(rig.open[0][0], partial(0, 40), 0.0))
    assert events.Prepare(rig.transfer.resource, BESIDE) in commands
    rig.head(partial(40, 80, etag='"v2"'), 1)
    assert rig.state is State.PROBING
    rig.after(1).head(partial(0, 40, etag='"v2"'))
    assert rig.transfer.claim is None


def test_a_promise_while_verifying():
    rig = finish(Rig().begin().head(partial(0, 40)))
    assert rig.state is State.VERIFYING
    assert promise(rig, BESIDE).did == ["expect"]


def test_a_promise_replaces_nothing_better():
    rig = Rig(claim=CALLER).begin().head(partial(0, 40))
    assert promise(rig, BESIDE).did == []
    assert promise(Rig().begin().head(partial(0, 40)), *()).did == []
    none = Rig(verify="none").begin().head(partial(0, 40))
    assert promise(none, BESIDE).did == []
    assert none.transfer.claim is None


def test_a_reader_has_had_what_could_be_hashed():
    rig = Rig(horizon=1000).begin().head(partial(0, 40))
    assert promise(rig, BESIDE).did == []
    assert rig.transfer.claim is None


def test_a_late_promise_that_contradicts():
    rig = Rig().begin()
    rig.head(partial(0, 40), claims=(GUESS,))
    promise(rig, Claim(Digest("md5", GOOD), DigestSource.SIDECAR), Claim(Digest("md5", BAD), DigestSource.METALINK))
    assert isinstance(rig.failed.error, errors.DigestConflictError)


def test_require_fails_before_anything_is_written():
    rig = Rig(verify="require").begin().head(partial(0, 40))
    assert rig.did == ["fail"]
    assert isinstance(rig.failed.error, errors.UnverifiableError)
    assert rig.failed.keep, "what an earlier run left may be of use yet"
    assert rig.open == []


def test_require_is_content_with_a_digest():
    rig = finish(Rig(verify="require").begin().head(partial(0, 40), claims=(SERVER,)))
    rig.feed(events.Verified(BAD))
    assert rig.state is State.COMMITTING


def test_require_waits_for_a_promise_where_all_is_there_already():
    rig = Rig(verify="require").begin(left_over(), (0, 100))
    assert rig.state is State.VERIFYING
    promise(rig, BESIDE)
    rig.feed(events.Verified(GOOD))
    assert rig.state is State.COMMITTING
    rig = Rig(verify="require").begin(left_over(), (0, 100))
    rig.feed(events.Verified(None))
    assert isinstance(rig.failed.error, errors.UnverifiableError)


def test_none_does_not_trust_a_digest_to_hold_versions_apart():
    rig = Rig(verify="none").begin(left_over(validator=WEAK, claims=(SERVER,)), (0, 40))
    assert rig.did == ["reset", "open 0-40"]
    rig.head(partial(0, 40, etag=None), claims=(SERVER,))
    assert rig.asks == [Ask()], "over one connection"
    assert Rig(verify="none", claim=CALLER).begin(left_over(validator=WEAK), (0, 40)).asks == [Ask(40, 80)]


def multipart(verify: str = "auto") -> Rig:
    lines = (("content-length", str(9 * MIB)), ("etag", f'"{BAD}-2"'), *AMAZON.items())
    rig = Rig(verify=verify).begin()
    rig.head(Head(200, lines, URL))
    return finish(rig)


def test_a_guess_that_fits_is_a_proof():
    rig = multipart()
    assert rig.transfer.claim == GUESS
    rig.feed(events.Verified(BAD))
    assert (rig.state, rig.transfer.claim) == (State.COMMITTING, GUESS)


def test_a_guess_that_does_not_fit_shows_nothing():
    rig = multipart()
    rig.feed(events.Verified(GOOD))
    assert (rig.state, rig.transfer.claim) == (State.COMMITTING, None)
    assert rig.said[-1] == "the S3 ETag is of 2 parts, and no size of parts in use yields it: only the size is verified"


def test_a_guess_that_does_not_fit_is_too_little_if_more_is_required():
    rig = multipart("require")
    rig.feed(events.Verified(GOOD))
    assert isinstance(rig.failed.error, errors.UnverifiableError)
    assert rig.failed.keep


def test_a_guess_does_not_hold_versions_apart():
    lines = {"content-range": f"bytes 0-39/{9 * MIB}", "etag": f'W/"{BAD}-2"', **AMAZON}
    rig = Rig().begin().head(Head(206, tuple(lines.items()), URL), claims=(GUESS,))
    assert rig.asks == [Ask()]


def test_the_callers_digest_of_parts_must_fit_the_file():
    own = Claim(Digest("md5", GOOD, 7), DigestSource.CALLER)
    rig = Rig(claim=own).begin().head(partial(0, 40))
    assert isinstance(rig.failed.error, errors.UnverifiableError)
    assert "7 parts" in str(rig.failed.error)


def test_the_callers_digest_of_parts_decides():
    own = Claim(Digest("md5", GOOD, 2), DigestSource.CALLER)
    rig = Rig(claim=own).begin().head(whole(9 * MIB))
    finish(rig).feed(events.Verified(BAD))
    assert isinstance(rig.failed.error, errors.DigestMismatchError)


GONE = Failure(FailureKind.STATUS, "HTTP status 404", 404)


def with_another_that_is_aside() -> Rig:
    """Bytes 0-39 are there; the mirror was left out; then the lead is gone."""
    rig = fetching(mirrors=1)
    rig.head(partial(40, 50, etag='"other"'), next(n for n, (lease, _) in enumerate(rig.open) if lease.source == 1))
    assert "is left out" in rig.said[-1]
    rig.end()
    while rig.open and rig.failed is None and not any(lease.source for lease, _ in rig.open):
        rig.fail(GONE)
    return rig


def test_what_is_there_is_not_thrown_away_for_a_source_that_cannot_be_reached_either():
    rig = with_another_that_is_aside()
    assert rig.transfer.from_checkpoint == 0
    assert rig.planner.done == 40
    rig.fail(GONE)
    assert "no source is left" in str(rig.error(errors.NotFoundError, keep=True))


def test_what_is_there_is_thrown_away_for_a_source_that_answers():
    rig = with_another_that_is_aside()
    rig.head(partial(rig.asks[0].start, rig.asks[0].stop or 0, etag='"other"'))
    assert rig.said[-1] == "no other source has provably the same file; starting anew"
    assert (rig.did[:2], rig.planner.done) == (["reset", "open 0-40 of 1"], 0)


def test_an_endless_row_of_mirrors_is_not_followed():
    """A server with another version, and other mirrors, each time."""
    rig = Rig(threads=8).begin()
    for n in range(2):
        others = tuple(Place(f"http://m{n}/{each}", Open(2)) for each in range(2))
        rig.head(partial(0, 40, 400, etag=f'"v{n}"'), mirrors=others)
        index = next(i for i, (lease, _) in enumerate(rig.open) if lease.source == 0 and lease.answered is None)
        rig.head(partial(rig.asks[index].start, rig.asks[index].stop or 0, 400, etag='"x"'), index)
        assert rig.transfer.restarts == n + 1
        rig.after(10.0)
    assert len(rig.transfer.sources) == 3
