"""How many requests an origin gets: up at once, down on refusals, up again in peace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.limiter import Limiter


def answered(ceiling: int = 8) -> Limiter:
    limiter = Limiter(ceiling)
    limiter.succeeded(0.0)
    return limiter


def taken(limiter: Limiter, count: int, now: float = 0.0) -> Limiter:
    for _ in range(count):
        assert limiter.grant(now)
    return limiter


def refuse_one(limiter: Limiter, now: float, pause: float = 0.0) -> int:
    """One of the running requests is refused, which ends it; the new limit."""
    limiter.release()
    limiter.refused(now, pause)
    return limiter.limit


def test_one_request_until_the_server_has_answered():
    limiter = taken(Limiter(3), 1)
    assert not limiter.grant(0.0)
    limiter.succeeded(0.1)
    taken(limiter, 2, 0.1)
    assert not limiter.grant(0.1)
    assert (limiter.active, limiter.limit) == (3, 3)


def test_a_place_given_back_can_be_taken_again():
    limiter = taken(answered(1), 1)
    assert not limiter.grant(0.0)
    limiter.release()
    assert limiter.grant(0.0)


def test_a_refusal_costs_one_place():
    assert refuse_one(taken(answered(8), 8), 5.0) == 7


def test_a_server_that_bears_fewer_gets_what_it_bears():
    limiter = taken(answered(8), 4)
    assert limiter.grant(5.0)
    assert refuse_one(limiter, 5.0) == 4


def test_the_last_place_is_never_taken_away():
    limiter = taken(answered(8), 1)
    assert [refuse_one(limiter, 5.0), limiter.grant(9.0), refuse_one(limiter, 9.0)] == [1, True, 1]


def test_a_burst_of_refusals_finds_what_the_server_bears():
    limiter = taken(answered(8), 8)
    assert [refuse_one(limiter, 5.0) for _ in range(6)] == [7, 6, 5, 4, 3, 2]
    assert limiter.active == 2


def test_retry_after_holds_every_request_back_and_is_never_shortened():
    limiter = taken(answered(8), 3)
    refuse_one(limiter, 5.0, pause=4.0)
    refuse_one(limiter, 5.5, pause=1.0)
    assert limiter.resume_at == 9.0
    limiter.release()
    assert [limiter.grant(8.99), limiter.grant(9.0)] == [False, True]


def test_a_later_retry_after_counts_too():
    limiter = taken(answered(8), 3)
    refuse_one(limiter, 5.0)
    refuse_one(limiter, 5.5, pause=10.0)
    assert limiter.resume_at == 15.5


def test_peace_brings_the_places_back_one_by_one():
    limiter = taken(answered(4), 3)
    refuse_one(limiter, 5.0)
    assert limiter.limit == 2
    limits = []
    for now in (14.9, 15.0, 24.9, 25.0, 35.0, 45.0):
        limiter.succeeded(now)
        limits.append(limiter.limit)
    assert limits == [2, 3, 3, 4, 4, 4]


def test_a_server_that_refuses_before_it_ever_answered_is_approached_slowly():
    limiter = taken(Limiter(8), 1)
    assert refuse_one(limiter, 0.0) == 1
    limits = []
    for now in (1.0, 9.0, 10.0, 20.0):
        limiter.succeeded(now)
        limits.append(limiter.limit)
    assert limits == [1, 1, 2, 3]


@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.sampled_from(["grant", "end", "refuse"]), st.floats(0, 3), st.floats(0, 5)), max_size=60),
)
@settings(deadline=None)
def test_limits_hold_whatever_happens(ceiling, steps):
    limiter, now, model = Limiter(ceiling), 0.0, 0
    for what, wait, pause in steps:
        now += wait
        if what == "grant":
            free = model < limiter.limit and now >= limiter.resume_at
            assert limiter.grant(now) is free
            model += free
        elif model:
            model -= 1
            limiter.release()
            limiter.succeeded(now) if what == "end" else limiter.refused(now, pause)
        assert limiter.active == model
        assert 1 <= limiter.limit <= ceiling


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
