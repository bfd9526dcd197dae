"""The user's own limit of bytes per second: kept on average, smooth, and shared by turns."""

from __future__ import annotations

import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.throttle import BURST, GRAIN, MEMORY, ROUND, Throttle

RATE = 1e6
Taken = tuple[float, int]


def greedy(throttle: Throttle, readers: int, seconds: float, link: float = 1e12, since: float = 0.0) -> list[Taken]:
    """What so many readers take, who have all they are allowed to over a link of so many bytes per second."""
    throttle.readers = readers
    taken, order = [], itertools.count()
    events = [(since, next(order), 0) for _ in range(readers)]  # when a reader has read so many bytes
    while events[0][0] < since + seconds:
        now, _, piece = heapq.heappop(events)
        throttle.spend(piece, now)
        taken.append((now, piece))
        piece = throttle.piece
        heapq.heappush(events, (now + throttle.delay(now) + piece * readers / link, next(order), piece))
    return taken


def received(taken: list[Taken], start: float, stop: float) -> int:
    return sum(count for at, count in taken if start <= at < stop)


@pytest.mark.parametrize("readers", [1, 3, 16])
@pytest.mark.parametrize("rate", [1e3, 1e6, 1e9])
def test_the_rate_is_kept(rate, readers):
    taken = greedy(Throttle(rate), readers, 10.0)
    assert received(taken, 0.0, 10.0) == pytest.approx(10 * rate, rel=0.05)


@given(st.sampled_from([1, 2, 16, 128]), st.floats(1e4, 1e9), st.lists(st.floats(0.0, 3.0), max_size=4))
@settings(deadline=None, max_examples=30)
def test_no_burst_is_worth_more_than_a_quarter_of_a_second(readers, rate, rests):
    throttle, taken, begun = Throttle(rate), [], 0.0
    for rest in (*rests, 0.0):
        taken += greedy(throttle, readers, 0.5, since=begun)
        begun += 0.6 + rest
    for start in (0.0, *(at for at, _ in taken[::7])):
        for span in (0.01, 0.2, 1.0):
            assert received(taken, start, start + span) <= rate * (span + 0.25) + 2 * readers


def test_who_reads_more_than_a_piece_pays_for_it():
    """Whatever has come has come: the debt is not forgiven."""
    throttle = Throttle(RATE)
    throttle.spend(int(3 * RATE), 0.0)
    assert throttle.delay(1.0) == pytest.approx(2.0 - BURST)
    assert throttle.delay(2.0) == pytest.approx(1.0 - BURST)


def test_a_rest_is_worth_little():
    throttle = Throttle(RATE)
    throttle.spend(1, 0.0)
    throttle.spend(int(BURST * RATE), 1000.0)
    assert throttle.delay(1000.0) == 0.0
    throttle.spend(int(0.5 * RATE), 1000.0)
    assert throttle.delay(1000.0) == pytest.approx(0.5)


def test_the_shortest_waits_are_put_off_not_given_away():
    throttle = Throttle(RATE)
    throttle.spend(int((BURST + GRAIN / 2) * RATE), 0.0)
    assert throttle.delay(0.0) == 0.0
    throttle.spend(int(GRAIN * RATE), 0.0)
    assert throttle.delay(0.0) == pytest.approx(1.5 * GRAIN, rel=0.01)


def test_all_readers_together_have_one_round_in_hand():
    throttle = Throttle(RATE)
    assert throttle.piece == ROUND * RATE
    throttle.readers = 16
    assert 16 * throttle.piece == pytest.approx(ROUND * RATE)
    assert Throttle(1.0).piece == 1


def test_it_binds_while_somebody_has_waited_for_it_of_late():
    throttle = Throttle(RATE)
    assert not throttle.binds(0.0)
    throttle.spend(int(RATE), 0.0)
    assert not throttle.binds(0.0)  # nobody has noticed
    wait = throttle.delay(0.0)
    assert throttle.binds(0.0)
    assert throttle.binds(wait + MEMORY - 0.01)
    assert not throttle.binds(wait + MEMORY + 0.01)


def test_a_link_that_is_slower_is_not_held_up():
    throttle = Throttle(RATE)
    taken = greedy(throttle, 8, 10.0, link=RATE / 2)
    assert received(taken, 0.0, 10.0) == pytest.approx(10 * RATE / 2, rel=0.05)
    assert not throttle.binds(10.0)
