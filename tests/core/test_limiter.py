"""How many requests an origin gets: as many as pay, and as the server bears."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.limiter import CALM_MOST, FAILURES, FEW, START, Limiter
from hydraflow.core.throttle import Throttle
from hydraflow.models import Decision

MB = 1e6


def answered(ceiling: int = 8, latency: float = 0.1, **options: float) -> Limiter:
    """A limiter that has heard from its server, for whom `latency` is usual."""
    limiter = Limiter(ceiling, **options)
    limiter.succeeded(0.0, -latency)
    return limiter


def taken(limiter: Limiter, count: int, now: float = 0.0, who: object = None) -> Limiter:
    for _ in range(count):
        assert limiter.grant(now, who)
    return limiter


def refuse_one(limiter: Limiter, now: float, pause: float = 0.0, since: float | None = None) -> int:
    """One of the running requests is refused, which ends it; the new limit."""
    limiter.release()
    limiter.refused(now, pause, since)
    return limiter.limit


class Wire:
    """A link with endless demand: every 50 ms all places are taken, and `rate(n)` bytes per second come over n.

    With `hasty` requests that are too many end at once, otherwise never before there is another reason.
    """

    def __init__(self, limiter: Limiter, rate, *, demand: bool = True) -> None:
        self.limiter, self.rate, self.demand, self.now = limiter, rate, demand, 0.0

    def run(self, seconds: float) -> int:
        """The limit after so many seconds."""
        end = self.now + seconds
        while self.now < end:
            for _ in range(self.limiter.surplus):
                self.limiter.release()
            while self.limiter.grant(self.now, needed=self.demand):
                pass
            self.now += 0.05
            self.limiter.received(int(self.rate(self.limiter.active) * 0.05), self.now)
        return self.limiter.limit


def each(rate: float, most: float = 1e12):
    """So much for every connection, up to what the link gives."""
    return lambda count: min(count * rate, most)


# Places.


@pytest.mark.parametrize(("ceiling", "at_first"), [(3, 3), (16, 16), (128, 16)])
def test_before_the_server_has_answered_a_stage_of_files_may_ask(ceiling, at_first):
    limiter = taken(Limiter(ceiling), at_first)
    assert not limiter.grant(0.0)
    limiter.succeeded(0.1, 0.0)
    assert (limiter.active, limiter.limit) == (at_first, at_first)


def test_one_request_at_a_time_after_many_failures():
    limiter = taken(Limiter(16), 5)
    for number in range(5):
        limiter.release()
        limiter.failed(1.0, 2.0)
        assert limiter.limit == (1 if number == 4 else 16)
    taken(limiter, 1, 3.0)
    assert not limiter.grant(3.0)


def test_other_requests_wait_for_their_turn_and_take_no_place():
    limiter = Limiter(16, gap=0.3)
    assert [limiter.reserve(10.0) for _ in range(3)] == pytest.approx([10.0, 10.3, 10.6])
    assert not limiter.grant(10.7)
    assert limiter.grant(11.0)
    assert limiter.reserve(20.0) == 20.0
    assert limiter.active == 1
    limiter = Limiter(16)
    assert [limiter.reserve(5.0) for _ in range(3)] == [5.0] * 3


def test_a_place_given_back_can_be_taken_again():
    limiter = taken(answered(1), 1)
    assert not limiter.grant(0.0)
    limiter.release()
    assert limiter.grant(0.0)


def test_a_request_that_goes_on_counts_even_above_the_limit():
    limiter = taken(answered(1), 1)
    limiter.reclaim()
    assert (limiter.active, limiter.grant(0.0)) == (2, False)
    limiter.release()
    assert not limiter.grant(0.0)
    limiter.release()
    assert limiter.grant(0.0)


def test_who_needs_a_place_and_gets_none_is_heard():
    limiter = taken(answered(1), 1)
    assert not limiter.wanted
    assert not limiter.grant(0.0)
    assert not limiter.wanted  # it would only have been nice
    assert not limiter.grant(0.0, needed=True)
    assert limiter.wanted
    limiter.release()
    assert limiter.wanted
    assert limiter.grant(0.0)
    assert not limiter.wanted


@pytest.mark.parametrize("needed", [False, True])
def test_nobody_makes_room_for_a_request_that_has_to_wait_anyway(needed):
    limiter = taken(answered(2), 1)
    limiter.refused(0.0, 5.0)
    assert not limiter.grant(1.0, needed=needed)
    assert not limiter.wanted


def test_who_holds_more_leaves_the_next_place_to_who_waits():
    limiter = taken(taken(answered(4), 3, who="a"), 1, who="b")
    assert not limiter.grant(0.0, "b", needed=True)
    limiter.release("a")
    assert not limiter.grant(0.1, "a", needed=True)  # two against one
    assert limiter.grant(0.1, "b")
    limiter.release("a")
    assert limiter.grant(0.2, "a", needed=True)  # one against two


def test_who_has_gone_does_not_wait():
    limiter = taken(answered(2), 2, who="a")
    assert not limiter.grant(0.0, "b", needed=True)
    limiter.release("a")
    assert not limiter.grant(0.24, "a")
    assert limiter.grant(0.26, "a")


def test_who_gives_its_last_place_back_does_not_wait():
    limiter = taken(taken(answered(3), 2, who="a"), 1, who="b")
    assert not limiter.grant(0.0, "b", needed=True)
    limiter.release("b")
    assert limiter.grant(0.0, "a")


# The opening.


@pytest.mark.parametrize(("latency", "limit"), [(0.0, FEW), (0.005, FEW), (0.006, START), (1.0, START)])
def test_where_round_trips_are_dear_the_opening_is_bold(latency, limit):
    assert answered(128, latency).limit == limit


def test_nobody_gets_more_than_the_ceiling():
    assert answered(5).limit == 5
    assert Wire(answered(5, 0.0), each(MB)).run(30.0) == 5


def test_a_fast_link_that_one_connection_fills_gets_few():
    wire = Wire(answered(16, 0.001), each(1e9, 1e9))
    limits = [wire.run(0.05) for _ in range(600)]
    assert sum(limit > FEW for limit in limits) < 0.1 * len(limits)  # tries
    assert wire.limiter.bound == "link"


def test_connections_that_pay_are_opened_within_a_second():
    wire = Wire(answered(16, 0.001), each(30 * MB))
    assert wire.run(0.6) == 16
    assert wire.limiter.bound == "ceiling"
    assert [(one.limit, one.reason) for one in wire.limiter.decisions] == [
        (2, "the server answers"),
        (4, "nothing to compare with yet"),
        (16, "4 bring +100% over 2"),
    ]


def test_a_server_near_by_that_gives_little_is_asked_as_one_far_away():
    """It holds a rate: what that is, servers that send in bursts do not show in a fifth of a second."""
    wire = Wire(answered(16, 0.001), each(5 * MB))
    assert wire.run(0.3) == 16
    assert wire.run(5.0) == 16
    assert [(one.limit, one.reason) for one in wire.limiter.decisions] == [
        (2, "the server answers"),
        (16, "2 bring little for a server that is so near"),
    ]


def test_a_disk_near_by_that_is_slow_gets_few_in_the_end():
    wire = Wire(answered(16, 0.001), each(20 * MB, 20 * MB))
    assert wire.run(0.5) == 16
    assert wire.run(60.0) <= FEW


def test_decisions_say_when():
    assert list(answered(4).decisions) == []
    assert list(answered(32, 0.08).decisions) == []
    assert list(answered(4, 0.001).decisions) == [Decision(0.0, 2, "the server answers")]


def test_with_a_high_ceiling_it_grows_as_long_as_it_pays():
    wire = Wire(answered(128, 0.08), each(2 * MB, 125 * MB))
    assert wire.run(4.0) in (64, 128)
    limits = [wire.run(0.05) for _ in range(600)]
    assert sum(limit < 63 for limit in limits) < 0.1 * len(limits)


def test_nothing_grows_where_nobody_waits():
    assert Wire(answered(64, 0.05), each(MB), demand=False).run(60.0) <= START


def test_places_that_are_not_used_prove_nothing():
    limiter = taken(answered(64, 0.05), 3)
    for tick in range(200):
        limiter.received(1000, tick * 0.05)
        assert not limiter.grant(tick * 0.05, needed=True) or limiter.release() is None
    assert limiter.limit == START


# Later.


def test_a_link_that_becomes_another_is_tried_anew():
    wire = Wire(answered(16, 0.001), each(50 * MB, 50 * MB))
    wire.run(12.0)
    wire.rate = each(3 * MB)
    assert wire.run(8.0) == 16


def test_a_try_that_brings_nothing_is_repeated_ever_more_seldom():
    wire = Wire(answered(16, 0.001), each(50 * MB, 50 * MB))
    starts = []
    for _ in range(int(200 / 0.05)):
        before = wire.limiter.limit
        wire.run(0.05)
        if wire.limiter.limit > before:
            starts.append(wire.now)
    assert len(starts) < 14
    assert starts[-1] - starts[-2] > 30.0


def test_connections_that_do_not_pay_any_more_are_shed_down_to_one():
    wire = Wire(answered(16, 0.05), each(5 * MB))
    assert wire.run(5.0) == 16
    wire.rate = each(80 * MB, 80 * MB)
    limits = [wire.run(1.0) for _ in range(60)]
    assert min(limits) == 1
    assert any(one.reason == "fewer bring as much" for one in wire.limiter.decisions)


def test_connections_that_pay_are_kept():
    wire = Wire(answered(16, 0.05), each(5 * MB))
    limits = [wire.run(0.05) for _ in range(int(300 / 0.05))]
    assert sum(limit < 16 for limit in limits) < 0.05 * len(limits)
    assert min(limits) >= 14
    assert wire.limiter.decisions[-1].reason == "14 bring -12% over 16"


def test_requests_that_bring_nothing_are_too_many():
    limiter = answered(16, 0.001)
    wire = Wire(limiter, each(50 * MB, 50 * MB))
    wire.run(0.1)
    while limiter.surplus == 0:
        wire.run(0.05)
        assert wire.now < 2.0
    assert limiter.active > limiter.limit == 2


# Short requests.


def test_those_that_wait_for_short_requests_begin():
    limiter = taken(answered(32, 0.05), START, who="all")
    for who in range(40):
        assert not limiter.grant(0.1, who, needed=True)
    limiter.ended(0.2, 0.0, 0.1)
    assert limiter.limit == 2 * START


def crowded() -> Limiter:
    """A limiter whose ceiling is 16, and which has 32 places because many short requests wait."""
    limiter = Limiter(16, crowd=32)
    limiter.succeeded(0.0, -0.05)
    taken(limiter, 16, who="all")
    for who in range(40):
        assert not limiter.grant(0.1, who, needed=True)
    limiter.ended(0.2, 0.0, 0.1)
    return limiter


def test_a_crowd_of_short_requests_may_be_larger():
    limiter = crowded()
    assert limiter.limit == 32
    limiter.ended(0.3, 0.2, 0.25)
    assert limiter.limit == 32


def test_the_first_long_request_ends_a_crowd():
    limiter = crowded()
    limiter.ended(1.0, 0.2, 0.25)
    assert limiter.limit == 16
    limiter.ended(1.1, 0.2, 0.25)
    assert (limiter.limit, limiter.surplus) == (16, 0)


def test_a_crowd_is_no_larger_than_the_server_bears():
    limiter = crowded()
    for who in range(4):
        taken(limiter, 1, 0.3, who)
    for _ in range(12):
        limiter.release("all")
    limiter.refused(0.4, 0.0, 0.3)
    assert limiter.limit == 8
    limiter.ended(0.5, 0.4, 0.45)
    assert limiter.limit == 8


@pytest.mark.parametrize(
    ("what", "now", "answered_at", "waiting"),
    [
        ("nobody waits", 0.2, 0.1, []),
        ("the one who waits has a place", 0.2, 0.1, ["all"]),
        ("it was not short", 0.6, 0.1, ["other"]),
        ("it was never answered", 0.2, None, ["other"]),
    ],
)
def test_who_does_not_wait_for_short_requests(what, now, answered_at, waiting):
    limiter = taken(answered(32, 0.05), START, who="all")
    for who in waiting:
        assert not limiter.grant(now, who, needed=True)
    limiter.ended(now, 0.0, answered_at)
    assert limiter.limit == START, what


# Refusals.


def test_a_refusal_costs_one_place():
    assert refuse_one(taken(answered(8), 8), 5.0) == 7


def test_a_server_that_bears_fewer_gets_what_it_bears():
    limiter = taken(answered(8), 4)
    assert limiter.grant(5.0)
    assert refuse_one(limiter, 5.0) == 4
    assert (limiter.bound, limiter.decisions[-1].reason) == ("server", "the server refuses more than 4")


def test_the_last_place_is_never_taken_away():
    limiter = taken(answered(8), 1)
    assert [refuse_one(limiter, 5.0), limiter.grant(9.0), refuse_one(limiter, 9.0)] == [1, True, 1]


def test_a_burst_of_refusals_finds_what_the_server_bears():
    limiter = taken(answered(8), 8)
    assert [refuse_one(limiter, 5.0, since=0.0) for _ in range(6)] == [7, 6, 5, 4, 3, 2]
    assert limiter.active == 2


def test_a_burst_that_leaves_nothing_is_one_event():
    limiter = taken(answered(8), 8)
    assert [refuse_one(limiter, 5.0, since=0.0) for _ in range(8)][-1] == 4
    taken(limiter, 4, 6.0)
    assert [refuse_one(limiter, 7.0, since=6.0) for _ in range(4)][-1] == 2


def test_retry_after_holds_every_request_back_and_is_never_shortened():
    limiter = taken(answered(8), 3)
    refuse_one(limiter, 5.0, pause=4.0)
    refuse_one(limiter, 5.5, pause=1.0)
    assert limiter.resume_at == limiter.opens_at == 9.0
    limiter.release()
    assert [limiter.grant(8.99), limiter.grant(9.0)] == [False, True]


def test_a_server_that_asks_all_to_wait_is_asked_by_one_then_by_half_of_them():
    limiter = taken(answered(8), 8)
    for _ in range(8):
        refuse_one(limiter, 5.0, pause=4.0, since=0.0)
    taken(limiter, 1, 9.0)
    assert not limiter.grant(9.0, needed=True)
    limiter.succeeded(9.2, 9.0)
    taken(limiter, 3, 9.2)
    assert not limiter.grant(9.2, needed=True)


def test_a_server_that_asks_some_to_wait_keeps_the_others():
    limiter = taken(answered(8), 8)
    refuse_one(limiter, 5.0, pause=4.0, since=0.0)
    assert limiter.limit == 7


# How soon they come.


def alone_and_refused(limiter: Limiter, now: float) -> None:
    taken(limiter, 1, now)
    refuse_one(limiter, now + 0.01, since=now)


def test_one_refusal_is_not_yet_a_rule():
    limiter = answered(8)
    alone_and_refused(limiter, 0.0)
    assert limiter.grant(0.01)


def test_where_even_one_alone_is_refused_they_come_more_seldom():
    limiter, gaps = answered(8), []
    alone_and_refused(limiter, 0.0)
    for _ in range(9):
        now = limiter.opens_at + 0.05
        alone_and_refused(limiter, now)
        gaps.append(limiter.opens_at - now - 0.01)
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])


def test_who_is_refused_beside_others_does_not_come_too_soon_but_too_many():
    limiter = taken(answered(8), 8)
    for now in (1.0, 2.0, 3.0):
        refuse_one(limiter, now, since=now)
    limiter.release()
    assert limiter.grant(3.0)


def paced_down(gaps: int = 2) -> Limiter:
    """A limiter that has been refused until it leaves 0.1 s or more between two requests."""
    limiter = answered(8)
    for number in range(1 + gaps):
        alone_and_refused(limiter, float(number))
    return limiter


def asked_for(limiter: Limiter, start: float, seconds: float) -> list[float]:
    """When requests of 10 ms, of which there is no end, are sent."""
    sent, ticks = [], int(seconds / 0.01)
    for now in (start + 0.01 * tick for tick in range(ticks)):
        if limiter.active:
            limiter.received(1000, now)
            limiter.release()
        if limiter.grant(now, needed=True):
            limiter.succeeded(now, now - 0.01)
            sent.append(now)
    return sent


def test_requests_keep_their_distance():
    sent = asked_for(paced_down(), 10.0, 2.0)
    assert [b - a for a, b in itertools.pairwise(sent)] == pytest.approx([0.2] * (len(sent) - 1), abs=0.011)


def test_peace_brings_them_closer_until_there_is_no_distance_any_more():
    sent = asked_for(paced_down(), 3.0, 400.0)
    gaps = [b - a for a, b in itertools.pairwise(sent)]
    assert all(later <= earlier + 0.011 for earlier, later in itertools.pairwise(gaps))
    assert gaps[0] == pytest.approx(0.2, abs=0.011)
    assert gaps[-1] <= 0.011


def test_a_distance_that_nobody_minds_is_not_what_peace_shortens():
    """Who has all its places taken needs more of them, not sooner ones."""
    wire = Wire(paced_down(), each(MB))
    wire.now = 10.0
    assert wire.run(38.0) == 2
    assert wire.limiter._gap == 0.2


def test_the_user_s_distance_is_kept_from_the_first_request_on():
    limiter = Limiter(16, gap=0.3)
    sent = asked_for(limiter, 0.0, 30.0)
    assert [b - a for a, b in itertools.pairwise(sent)] == pytest.approx([0.3] * (len(sent) - 1), abs=0.011)


def test_peace_does_not_shorten_the_user_s_distance():
    limiter = answered(8, gap=0.1)
    for number in range(3):
        alone_and_refused(limiter, float(number))
    sent = asked_for(limiter, 3.0, 400.0)
    gaps = [b - a for a, b in itertools.pairwise(sent)]
    assert gaps[0] == pytest.approx(0.4, abs=0.011)
    assert gaps[-1] == pytest.approx(0.1, abs=0.011)
    alone_and_refused(slow := answered(8, gap=60.0), 0.0)
    alone_and_refused(slow, 100.0)
    assert slow.opens_at >= 160.0


def test_a_later_retry_after_counts_too():
    limiter = taken(answered(8), 3)
    refuse_one(limiter, 5.0)
    refuse_one(limiter, 5.5, pause=10.0)
    assert limiter.resume_at == 15.5


def test_peace_brings_the_places_back_one_by_one():
    wire = Wire(answered(4), each(MB))
    taken(wire.limiter, 4)
    assert [refuse_one(wire.limiter, 0.0, since=-1.0) for _ in range(2)] == [3, 2]
    limits = [wire.run(1.0) for _ in range(41)]
    assert sorted(limits[:29]) == limits[:29]
    assert [limits[:29].count(limit) for limit in (2, 3)] == pytest.approx([10, 10], abs=1)
    assert wire.limiter.bound == "ceiling"


def test_a_server_that_refuses_again_is_left_in_peace_for_longer():
    limiter = answered(8)
    wire = Wire(limiter, each(MB))
    taken(limiter, 4)
    refuse_one(limiter, 0.0)
    tries = []
    while wire.now < 400.0:
        if wire.run(0.05) > 3 and limiter.active > 3:
            tries.append(wire.now)
            refuse_one(limiter, wire.now, since=wire.now)
    waits = [b - a for a, b in itertools.pairwise(tries)]
    assert waits[:3] == pytest.approx([20.0, 40.0, 80.0], abs=0.5)
    assert max(waits) < CALM_MOST + 0.5


def test_a_server_that_refuses_before_it_ever_answered_is_approached_slowly():
    limiter = taken(Limiter(8), 1)
    assert refuse_one(limiter, 0.0) == 1
    limiter.succeeded(1.0, 0.5)
    wire = Wire(limiter, each(MB))
    assert [wire.run(9.0), wire.run(2.0), wire.run(11.0)] == [1, 2, 3]


# Failures.


def broken(limiter: Limiter, now: float = 5.0, delay: float = 2.0) -> Limiter:
    for _ in range(FAILURES):
        limiter.failed(now, delay)
    return limiter


def test_several_failures_in_a_row_leave_one_request_at_a_time():
    limiter = answered(8)
    for _ in range(FAILURES - 1):
        limiter.failed(5.0, 2.0)
    assert limiter.limit == 8
    limiter.failed(5.0, 2.0)
    assert (limiter.limit, limiter.opens_at, limiter.resume_at) == (1, 7.0, 0.0)
    assert limiter.decisions[-1].reason == f"{FAILURES} failures in a row"
    assert [limiter.grant(6.9), limiter.grant(7.0), limiter.grant(7.0)] == [False, True, False]
    limiter.received(10, 7.1)  # what still runs changes nothing
    assert limiter.limit == 1


def test_the_first_success_ends_it():
    limiter = taken(broken(answered(8)), 1, 7.0)
    limiter.succeeded(7.5, 7.0)
    assert (limiter.limit, limiter.opens_at) == (8, 0.0)


def test_failures_with_successes_between_them_are_not_in_a_row():
    limiter = answered(8)
    for _ in range(3 * FAILURES):
        limiter.failed(5.0, 2.0)
        limiter.succeeded(5.0, 4.9)
    assert limiter.limit == 8


def test_where_bytes_come_some_failures_are_no_outage():
    limiter = answered(8)
    for _ in range(3 * FAILURES):
        limiter.failed(5.0, 2.0)
        limiter.received(1, 5.0)
    assert limiter.limit == 8


def test_each_probe_that_fails_makes_all_wait():
    limiter = taken(broken(answered(8)), 1, 7.0)
    limiter.release()
    limiter.failed(8.0, 3.0)
    assert [limiter.grant(10.9), limiter.grant(11.0)] == [False, True]


# Anything may happen.


@given(
    st.integers(1, 40),
    st.lists(
        st.tuples(
            st.sampled_from(["grant", "grant", "end", "refuse", "fail", "receive"]),
            st.floats(0, 3),
            st.floats(0, 5),
            st.sampled_from("abc"),
        ),
        max_size=80,
    ),
)
@settings(deadline=None)
def test_limits_hold_whatever_happens(ceiling, steps):
    limiter, now, held = Limiter(ceiling), 0.0, []
    for what, wait, pause, who in steps:
        now += wait
        if what == "grant":
            free = len(held) < limiter.limit and now >= limiter.opens_at
            granted = limiter.grant(now, who, needed=pause > 1)
            assert free or not granted
            assert granted or not free or who in held  # only who has some leaves one to others
            held += [who] * granted
        elif what == "receive":
            limiter.received(int(pause * MB), now)
        elif held:
            limiter.release(held.pop())
            if what == "end":
                limiter.succeeded(now, now - pause / 10)
                limiter.ended(now, now - pause, now - pause / 2)
            elif what == "refuse":
                limiter.refused(now, pause, now - pause)
            else:
                limiter.failed(now, pause)
        assert limiter.active == len(held)
        assert 1 <= limiter.limit <= ceiling
        assert 0 <= limiter.surplus <= limiter.active
        assert all(0 < one.limit <= ceiling and one.reason for one in limiter.decisions)


# News.


def test_a_decision_is_news_once():
    limiter = Limiter(8)
    assert limiter.news() is None
    limiter.succeeded(1.0, 0.999)
    assert limiter.news() == limiter.decisions[-1] == Decision(1.0, 2, "the server answers")
    assert limiter.news() is None


# The user's own limit.


class Throttled(Wire):
    """A wire whose bytes pass a throttle of so many bytes per second."""

    def __init__(self, rate, most: float, ceiling: int = 16) -> None:
        self.throttle, self.most = Throttle(most), most
        super().__init__(Limiter(ceiling, throttle=self.throttle), self._slower)
        self._rate = rate
        self.limiter.succeeded(0.0, -0.1)

    def _slower(self, count: int) -> float:
        if self.throttle.delay(self.now):
            return 0.0
        self.throttle.spend(int(self._rate(count) * 0.05), self.now)
        return self._rate(count)


def test_a_limit_that_one_connection_reaches_gets_no_second_one():
    wire = Throttled(each(10 * MB), 5 * MB)
    assert [wire.run(0.5) for _ in range(60)] == [1] * 60


def test_a_limit_that_takes_several_connections_gets_those():
    limit = Throttled(each(MB), 5 * MB).run(30.0)
    assert 5 <= limit <= 8


def test_a_limit_that_the_link_cannot_reach_changes_nothing_in_the_end():
    assert Throttled(each(MB, 100 * MB), 1000 * MB).run(30.0) == Wire(answered(16), each(MB)).run(30.0) == 16


def test_short_requests_open_no_more_than_the_limit_needs():
    throttle = Throttle(1000.0)
    limiter = Limiter(16, throttle=throttle)
    limiter.succeeded(0.0, -0.1)
    taken(limiter, 1, who="a")
    assert not limiter.grant(0.1, "b", needed=True)
    throttle.spend(1000, 0.1)
    assert throttle.delay(0.1)
    limiter.ended(0.2, 0.0, 0.1)
    assert limiter.limit == 1
    assert not limiter.grant(5.0, "b", needed=True)
    limiter.ended(5.0, 4.8, 4.9)
    assert limiter.limit == 2


def test_peace_brings_no_more_than_the_limit_needs():
    wire = Throttled(each(10 * MB), 5 * MB)
    wire.limiter.refused(0.0)
    assert wire.run(60.0) == 1
