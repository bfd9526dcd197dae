"""Leases: every byte is missing, leased or received, and in one of them only."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.planner import MIB, Lease, LeasePolicy, Planner
from hydraflow.core.ranges import RangeSet

POLICY = LeasePolicy(first=40, smallest=10, least=2, largest=100, seconds=4.0, patience=0.5, hedge=0.02)


def planner(size: int | None = None, received: list[tuple[int, int]] | None = None, **options) -> Planner:
    made = Planner(POLICY, **options)
    if size is not None:
        made.resolve(size, RangeSet(received or []))
    return made


def span(lease: Lease | None) -> tuple[int, int | None] | None:
    return None if lease is None else (lease.start, lease.stop)


def fetched(plan: Planner, lease: Lease, now: float, count: int | None = None) -> None:
    """The lease receives `count` bytes, by default all, and ends."""
    lease.position += lease.remaining if count is None else count
    plan.finish(lease, now)


def check(plan: Planner) -> None:
    """The partition of the file."""
    pieces = [(each.start, each.stop) for each in (*plan._missing, *plan._received)]
    for lease in plan.active:
        stop = lease.position if lease.stop is None else lease.stop
        assert lease.start <= lease.position <= stop
        pieces.append((lease.start, stop))
    pieces = sorted(piece for piece in pieces if piece[0] < piece[1])
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(pieces)), f"overlap: {pieces}"
    assert sum(stop - start for start, stop in pieces) == (plan.size or 0) or plan.size is None
    assert plan.done == plan.received.total


# Answers that end early.


def test_what_an_answer_does_not_bring_is_missing_again():
    plan = planner(100)
    lease = plan.next(0.0, 1)
    assert span(lease) == (0, 50)
    plan.shorten(lease, 60)
    assert span(lease) == (0, 50)
    plan.shorten(lease, 30)
    assert span(lease) == (0, 30)
    check(plan)
    assert plan.next(0.0, 1).start == 30
    check(plan)


def test_a_lease_without_an_end_has_nothing_to_give_back():
    plan = planner()
    lease = plan.probe(0.0, whole=True)
    plan.shorten(lease, 30)
    assert span(lease) == (0, None)


# The first lease.


def test_the_probe_is_the_head_of_the_file():
    plan = planner()
    assert span(plan.probe(0.0, whole=False)) == (0, 40)
    assert plan.next(0.0, 4) is None  # nothing is known yet
    assert (plan.size, plan.complete, plan.done) == (None, False, 0)


def test_the_probe_can_be_all():
    plan = planner()
    lease = plan.probe(0.0, whole=True)
    assert (span(lease), lease.remaining) == ((0, None), None)
    lease.position = 30
    assert (plan.done, plan.complete) == (30, False)
    plan.finish(lease, 1.0)
    plan.resolve(30)
    assert plan.complete


@pytest.mark.parametrize(("size", "stop"), [(1000, 40), (40, 40), (25, 25), (0, 0)])
def test_the_size_cuts_the_probe(size, stop):
    plan = planner()
    lease = plan.probe(0.0, whole=False)
    plan.resolve(size)
    assert span(lease) == (0, stop)
    check(plan)


def test_the_size_ends_a_lease_without_end():
    plan = planner()
    lease = plan.probe(0.0, whole=True)
    plan.resolve(1000)
    assert span(lease) == (0, 1000)
    check(plan)


@pytest.mark.parametrize(
    ("received", "first"),
    [([(0, 30)], (30, 70)), ([(20, 30), (50, 60)], (0, 20)), ([(0, 95)], (95, 100)), ([(0, 56)], (56, 100))],
)
def test_a_resumed_file_is_probed_at_its_first_gap(received, first):
    plan = planner(100, received)
    assert span(plan.probe(0.0, whole=False)) == first
    check(plan)


def test_all_received_before():
    plan = planner(100, [(0, 100)])
    assert (plan.complete, plan.done, plan.next(0.0, 4)) == (True, 100, None)
    with pytest.raises(AssertionError, match="needs no probe"):
        plan.probe(0.0, whole=False)


def test_an_empty_file_is_complete():
    assert planner(0).complete
    assert planner(0).next(0.0, 4) is None


def test_reset_forgets_everything_but_the_link():
    plan = planner(1000)
    fetched(plan, plan.next(0.0, 4), 1.0)
    plan.next(1.0, 4)
    plan.reset()
    assert (plan.size, plan.active, plan.done, plan.received, plan.complete) == (None, [], 0, RangeSet(), False)
    assert span(plan.probe(1.0, whole=False)) == (0, 40)


# Lengths.


@pytest.mark.parametrize(
    ("size", "workers", "length"),
    [
        (10_000, 1, 80),  # nothing measured: twice the first
        (100, 1, 50),  # a share of what is missing
        (100, 8, 10),  # never below the smallest
        (14, 8, 14),  # a last piece that is not worth a request of its own goes along
        (15, 8, 10),
    ],
)
def test_length_before_anything_is_measured(size, workers, length):
    assert span(planner(size).next(0.0, workers)) == (0, length)


@pytest.mark.parametrize(("rate", "length"), [(1, 40), (20, 80), (24, 96), (25, 100), (1000, 100)])
def test_length_by_rate(rate, length):
    plan = planner(100_000)
    lease = plan.next(0.0, 1)
    fetched(plan, lease, lease.remaining / rate)
    following = plan.next(99.0, 1)
    assert following.stop - following.start == length


def test_the_rate_is_smoothed():
    plan = planner(100_000)
    fetched(plan, plan.next(0.0, 1), 80 / 10)
    lease = plan.next(8.0, 1)
    fetched(plan, lease, 8.0 + lease.remaining / 50)
    assert plan.next(99.0, 1).remaining == pytest.approx(4 * (0.7 * 10 + 0.3 * 50), abs=1)


def test_a_lease_without_a_byte_says_nothing_of_the_rate():
    plan = planner(100_000)
    fetched(plan, plan.next(0.0, 1), 80 / 10)
    fetched(plan, plan.next(8.0, 1), 1000.0, count=0)
    assert plan._rate == 10


@pytest.mark.parametrize(
    ("window", "rate", "length"),
    [(100, None, 2), (100, 0.1, 2), (100, 4.0, 4), (100, 40.0, 40), (100, 1000.0, 50), (6, 1000.0, 10)],
)
def test_in_a_stream_leases_are_short_and_fill_the_window_together(window, rate, length):
    plan = planner(100_000, window=window)
    plan._rate = rate or 0.0
    assert plan.next(0.0, 2).remaining == length


@pytest.mark.parametrize(("latency", "length"), [(0.0, 40), (1.0, 75), (10.0, 100)])
def test_a_request_is_worth_its_answers_latency(latency, length):
    plan = planner(1000)
    plan._rate, plan._latencies = 25.0, {0: latency}
    assert plan.next(0.0, 100).remaining == max(length, 10) if latency else 10


def test_a_slow_sources_latency_is_its_own():
    """Or else the quick one, which gets the rest, would be asked for pieces that are worth that of the slow one."""
    plan = planner(1000)
    for source, latency in ((0, 0.1), (1, 10.0)):
        lease = plan.next(0.0, 100)
        lease.source, lease.answered = source, latency
        fetched(plan, lease, latency)
    plan._rate = 100.0
    assert plan.next(20.0, 100).remaining == 30  # three latencies of the quick one


def test_the_last_piece_is_not_left_alone():
    plan = planner(84, [(0, 40)])
    assert span(plan.next(0.0, 1)) == (40, 62)
    assert span(plan.next(0.0, 1)) == (62, 73)
    assert span(plan.next(0.0, 1)) == (73, 84)


def test_gaps_are_filled_in_order():
    plan = planner(1000, [(5, 500), (510, 900)])
    assert [span(plan.next(0.0, 2)) for _ in range(3)] == [(0, 5), (500, 510), (900, 925)]
    check(plan)


def test_what_a_failed_lease_left_comes_first():
    plan = planner(1000)
    first, second = plan.next(0.0, 4), plan.next(0.0, 4)
    fetched(plan, first, 1.0, count=7)
    assert span(plan.next(1.0, 4)) == (7, 47)
    assert (first.stop, second in plan.active) == (80, True)
    check(plan)


def test_remaining_and_rate():
    lease = Lease(10, 50, since=2.0)
    assert (lease.remaining, lease.rate(4.0)) == (40, 0.0)
    lease.position = 30
    assert (lease.remaining, lease.rate(4.0)) == (20, 10.0)
    assert lease.rate(2.0) == 20 / 1e-3  # no time has passed: fast, not infinite


# A stream's horizon.


@pytest.mark.parametrize(("horizon", "expected"), [(0, None), (1, (0, 80)), (80, (0, 80)), (None, (0, 80))])
def test_no_lease_begins_where_a_window_has_no_room(horizon, expected):
    assert span(planner(10_000).next(0.0, 1, horizon)) == expected


@pytest.mark.parametrize(
    ("size", "received", "horizon", "missing"),
    [
        (100, [], None, True),
        (100, [], 0, False),
        (100, [(0, 20)], 20, False),
        (100, [(0, 20)], 21, True),
        (100, [(0, 100)], None, False),
    ],
)
def test_what_could_be_asked_for_now(size, received, horizon, missing):
    assert planner(size, received).wants(horizon) is missing


def test_a_first_answer_is_wanted_once():
    plan = planner()
    assert plan.wants()
    plan.probe(0.0, whole=False)
    assert not plan.wants()


# Splits.


def busy(rate: float, *positions: tuple[int, int], now: float = 10.0, size: int = 200) -> Planner:
    """All is leased; `positions` are (bytes received, length) of the running leases, sent at 0; `rate` was measured."""
    plan = planner(size)
    plan._rate = rate
    at = 0
    for got, length in positions:
        lease = Lease(at, at + length, 0.0)
        lease.position += got
        lease.answered, lease._speed, lease._moved = 0.0, got / now, now
        plan._missing.subtract(at, at + length)
        plan.active.append(lease)
        at += length
    plan._received.add(at, size)
    plan._missing.subtract(at, size)
    check(plan)
    assert now > POLICY.patience
    return plan


def test_the_slowest_lease_is_split_in_proportion_to_the_rates():
    plan = busy(3.0, (40, 100), (10, 100))  # 4/s with 60 to go; 1/s with 90 to go
    assert span(plan.next(10.0, 4)) == (110 + 90 // 4, 200)
    assert [span(lease) for lease in plan.active[:2]] == [(0, 100), (100, 132)]
    check(plan)


def test_a_lease_that_stands_still_keeps_the_least():
    plan = busy(10.0, (0, 100), size=100)
    assert span(plan.next(10.0, 4)) == (2, 100)
    check(plan)


def test_of_a_fast_one_the_new_lease_gets_half():
    plan = busy(0.001, (40, 100), size=100)
    assert span(plan.next(10.0, 4)) == (70, 100)
    check(plan)


def test_what_comes_until_the_new_lease_is_answered_stays_with_the_old_one():
    plan = busy(4.0, (40, 100), size=100)
    plan._latencies = {0: 2.0}
    assert span(plan.next(10.0, 4)) == (40 + (60 + 16) // 2, 100)


@pytest.mark.parametrize(
    ("what", "rate", "leases"),
    [
        ("nothing was measured", 0.0, [(0, 100)]),
        ("too little is left", 3.0, [(1, 4)]),
        ("it will be over soon", 3.0, [(900, 920)]),
        ("nothing is running", 3.0, []),
    ],
)
def test_no_split_without_gain(what, rate, leases):
    plan = busy(rate, *leases, size=sum(length for _, length in leases))
    assert plan.next(10.0, 4) is None, what
    check(plan)


def test_a_new_lease_is_as_fast_as_the_others_until_it_has_had_time():
    plan = busy(100.0, (10, 50), size=50)
    plan.active[0].answered = 9.8
    assert plan.next(10.0, 4) is None  # 1/s as it seems, 100/s as it will be
    plan.active[0].answered = 9.7
    assert plan.next(10.0, 4) is not None


# Stragglers.


def test_how_fast_a_lease_is_of_late():
    plan = planner(1000)
    lease = plan.next(0.0, 1)
    plan.observe(1.0)
    assert [lease.pace(now, 0.5, 0.5) for now in (1.9, 2.0)] == [None, 0.0]  # it has not been answered
    assert lease.pace(0.5, 0.5, 0.0) == 0.0
    lease.answered = 2.0
    assert lease.pace(2.2, 0.5, 0.0) is None
    lease.position += 20
    plan.observe(2.05)  # too early
    assert lease._speed == 0.0
    plan.observe(3.0)
    assert lease.pace(3.0, 0.5, 0.0) == 20.0
    plan.observe(3.4)
    assert lease.pace(3.4, 0.5, 0.0) == pytest.approx(12.0)
    assert lease.pace(3.5, 0.5, 0.0) == 0.0  # silent for so long
    plan.observe(9.5, horizon=lease.position)  # the reader's turn
    assert lease.pace(9.5, 0.5, 0.0) == pytest.approx(12.0)


def test_a_young_lease_is_as_fast_as_it_was_last():
    """TCP begins slowly: who doubles with each round trip is no straggler, but one who slows down is not soon one."""
    plan = planner(100_000)
    lease = plan.next(0.0, 1)
    lease.stop, lease.answered, paces = 100_000, 0.0, []
    for step, count in enumerate((10, 20, 40, 80, 160, 160, 10), 1):
        lease.position += count
        plan.observe(0.2 * step)
        paces.append(lease.pace(0.2 * step, 0.2, 0.0))
    assert paces[:6] == pytest.approx([50, 100, 200, 400, 800, 800])
    assert 150 < paces[6] < 800


# Streams: the reader waits for the first byte that is not there.


def streamed(*leases: tuple[int, int], rate: float = 5.0, size: int = 1000) -> Planner:
    """The same as `busy`, for a stream, with bytes left that nobody has been asked for."""
    plan = busy(rate, *leases)
    plan._window = 100_000
    plan._missing.add(200, size)
    plan.size = size
    return plan


def test_the_first_lease_is_taken_over_before_what_lies_ahead():
    plan = streamed((1, 100), (50, 100))  # 0.1/s with 99 to go
    first = plan.next(10.0, 4)
    assert span(first) == (1 + 2, 100)
    check(plan)
    assert span(plan.next(10.0, 4))[0] == 200  # what is left of it is too little for another one


def test_a_lease_that_is_not_first_is_not_taken_over_while_there_is_more():
    plan = streamed((99, 100), (1, 100))
    assert plan.next(10.0, 4).start == 200


@pytest.mark.parametrize(
    "change",
    [
        {"answered": 9.9},  # nothing can be said of it yet
        {"stop": 5},  # it will be over soon
    ],
)
def test_the_first_lease_is_left_alone(change):
    plan = streamed((1, 5 if "stop" in change else 100), (50, 100))
    for name, value in change.items():
        setattr(plan.active[0], name, value)
    plan.active[0]._speed = 9.0
    assert plan.next(10.0, 4).start == 200


def test_a_file_goes_ahead_first():
    plan = streamed((1, 100), (50, 100))
    plan._window = None
    assert plan.next(10.0, 4).start == 200


def test_in_a_stream_no_connection_is_closed_on_suspicion():
    """A split ends a connection before its time; what is new may be fast."""
    plan = busy(10.0, (40, 100), (0, 1000), size=1100)
    plan.active[1].answered = 9.9
    assert plan.latest(10.0) is plan.active[1]
    plan._window = 100_000
    assert plan.latest(10.0) is plan.active[0]


def late(got: int = 10, length: int = 20, rate: float = 5.0, size: int = 1000) -> Planner:
    """One lease runs since 0, at `got` / 10 s, where others have had `rate`."""
    return busy(rate, (got, length), size=size)


def test_who_hardly_moves_is_given_up():
    plan = late()
    assert plan.straggler(10.0) is plan.active[0]


@pytest.mark.parametrize(
    ("what", "plan", "horizon"),
    [
        ("it is not that slow", late(got=13), None),
        ("it will be over soon", late(got=39, length=40, rate=16.0), None),
        ("it waits for the reader", late(), 10),
        ("nothing is running", busy(5.0), None),
    ],
)
def test_who_is_not_given_up(what, plan, horizon):
    assert plan.straggler(10.0, horizon) is None, what


def test_who_has_just_begun_or_has_no_end_is_not_given_up():
    plan = late()
    plan.active[0].answered = 9.8
    assert plan.straggler(10.0) is None
    plan.active[0].answered, plan.active[0].stop = 0.0, None
    assert plan.straggler(10.0) is None


def test_only_so_much_is_asked_for_twice():
    plan = late(got=0, size=1000)
    assert [plan.straggler(10.0) is None for _ in range(12)] == [False] * 10 + [True] * 2  # 2 % of 1000, 2 each
    small = late(got=0, size=30)
    assert [small.straggler(10.0) is None for _ in range(3)] == [False, False, True]  # twice at least


@pytest.mark.parametrize(("trickle", "limit"), [(50_000.0, 13.0), (5_000.0, 13.0), (0.5, 13.0)])
def test_nobody_waits_for_a_connection_that_trickles(trickle, limit):
    """64 MiB over one connection that trickles and three that bring 2 MB/s each: 11.2 s for those three alone."""
    rates, latency, step = (2e6, 2e6, 2e6, trickle), 0.1, 0.05
    plan, now, requests = Planner(LeasePolicy()), 0.0, 0
    plan.resolve(64 * MIB)
    at_work: dict[Lease, int] = {}
    while not plan.complete:
        plan.observe(now)
        for worker in set(range(4)) - set(at_work.values()):
            lease = plan.next(now, 4)
            if lease is None and (given_up := plan.straggler(now)):
                plan.finish(given_up, now)
                del at_work[given_up]
                lease = plan.next(now, 4)
            if lease is not None:
                at_work[lease] = worker
                requests += 1
        now += step
        assert now < limit
        for lease, worker in list(at_work.items()):
            if now - lease.since > latency:
                lease.answered = lease.answered or now
                lease.position = min(lease.stop, lease.position + int(rates[worker] * step))
            if not lease.remaining:
                plan.finish(lease, now)
                del at_work[lease]
    assert requests < 100


def test_a_lease_of_unknown_end_is_not_split():
    plan = planner()
    plan._rate = 3.0
    plan.probe(0.0, whole=True)
    plan.size = 100  # as if it had become known in no other way
    assert plan.next(10.0, 4) is None


def test_a_split_does_not_begin_where_there_is_no_room():
    cut = busy(2.0, (100, 100), (10, 100)).next(10.0, 4).start
    assert busy(2.0, (100, 100), (10, 100)).next(10.0, 4, cut) is None
    plan = busy(2.0, (100, 100), (10, 100))
    assert span(plan.next(10.0, 4, cut + 1)) == (cut, 200)
    check(plan)


def test_who_waits_for_the_reader_is_not_split():
    assert busy(2.0, (100, 100), (10, 100)).next(10.0, 4, 110) is None


# Anything may happen.


_STEPS = st.lists(
    st.tuples(st.sampled_from(["next", "next", "next", "move", "move", "end", "fail"]), st.integers(0, 10**6)),
    max_size=80,
)


@given(st.integers(0, 2000), st.lists(st.integers(0, 2000), max_size=6), st.integers(1, 6), _STEPS, st.booleans())
@settings(deadline=None, max_examples=300)
def test_every_byte_is_in_one_place_and_is_planned_once(size, cuts, workers, steps, windowed):
    bounds = sorted(min(cut, size) for cut in cuts)
    received = [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=False)]
    plan, now = planner(size, received), 0.0
    fetched_bytes = plan.done
    for what, number in steps:
        now += (number % 97) / 50
        horizon = number % (size + 50) if windowed else None
        running = plan.active[number % len(plan.active)] if plan.active else None
        if what == "next" and len(plan.active) < workers:
            lease = plan.next(now, workers, horizon)
            assert lease is None or (lease.start < lease.stop <= size and lease.position == lease.start)
            assert lease is None or horizon is None or lease.start < horizon
            assert lease is not None or not plan.wants(horizon)
        elif what == "move" and running is not None:
            count = number % (running.remaining + 1)
            running.position += count
            fetched_bytes += count
        elif what == "end" and running is not None:
            fetched_bytes += running.remaining
            fetched(plan, running, now)
        elif what == "fail" and running is not None:
            plan.finish(running, now)
        check(plan)
        assert plan.done == fetched_bytes
    while not plan.complete:
        lease = plan.active[0] if plan.active else plan.next(now, workers)
        fetched_bytes += lease.remaining
        fetched(plan, lease, now)
        check(plan)
    assert fetched_bytes == size == plan.done


@given(st.integers(0, 5000), st.integers(1, 8), st.integers(200, 10_000))
@settings(deadline=None)
def test_a_calm_transfer_needs_few_requests(size, workers, rate):
    """All connections equally fast: no more requests than smallest pieces, and no piece smaller than half of one."""
    plan, now, requests = planner(size), 0.0, 0
    while not plan.complete:
        while len(plan.active) < workers and (lease := plan.next(now, workers)):
            requests += 1
            assert lease.remaining >= min(size, POLICY.smallest // 2)
        first = min(plan.active, key=lambda lease: lease.remaining)
        took = first.remaining
        now += took / rate
        for lease in plan.active:
            lease.position += took
        for lease in [lease for lease in plan.active if not lease.remaining]:
            plan.finish(lease, now)
        check(plan)
    assert requests <= size // POLICY.smallest + 1


def test_the_default_sizes_are_sane():
    policy = LeasePolicy()
    assert 0 < policy.least <= policy.smallest <= policy.first <= policy.largest == 64 * MIB


# Where it stands.


def test_the_front_is_the_first_byte_that_is_not_there():
    planner = Planner(LeasePolicy(first=100, smallest=10))
    assert planner.front == 0
    first = planner.probe(0.0, whole=False)
    first.position = 30
    assert planner.front == 30
    planner.resolve(200)
    second = planner.next(0.0, 2)
    assert second is not None
    first.position = first.stop
    assert planner.front == second.position == 100
    planner.finish(first, 1.0)
    planner.finish(second, 1.0)
    assert planner.front == 100
    planner.resolve(200, RangeSet([(0, 200)]))
    assert planner.front == 200


class TestPart:
    @pytest.mark.parametrize(
        ("stop", "asked", "end"), [(None, (50, 90), 200), (60, (50, 60), 60), (999, (50, 90), 200)]
    )
    def test_only_what_is_wanted_is_asked_for(self, stop, asked, end):
        plan = planner(start=50, stop=stop)
        lease = plan.probe(0.0, whole=False)
        assert span(lease) == asked
        assert plan.end is None
        plan.resolve(200)
        assert plan.end == end
        pieces = []
        while lease is not None:
            pieces.append((lease.start, lease.stop))
            assert not plan.complete
            fetched(plan, lease, 1.0)
            lease = plan.next(1.0, 1)
        assert pieces[0][0] == 50
        assert pieces[-1][1] == end
        assert plan.complete

    def test_from_the_beginning_where_there_are_no_ranges(self):
        plan = planner(start=50, stop=60)
        lease = plan.probe(0.0, whole=True)
        assert span(lease) == (0, None)
        plan.resolve(200)
        assert span(lease) == (0, 60)
        fetched(plan, lease, 1.0)
        assert plan.complete
