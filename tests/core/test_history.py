"""A bounded number of points, and rates that add up to what came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydraflow.core.history import History, Point


def test_points_come_in_steps():
    history = History(10.0)
    for tick in range(11):
        history.add(10.0 + tick / 20, tick * 100, 2)
    history.end(10.7, 1200)
    assert [round(point.at, 2) for point in history.points] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7]
    assert history.points[-1] == Point(pytest.approx(0.7), 1200, 0)
    rates = history.rates(0.2)
    assert [round(at, 2) for at, _ in rates] == [0.2, 0.4, 0.7]
    assert [rate for _, rate in rates] == pytest.approx([2000, 2000, 400 / 0.3])
    assert [round(at, 2) for at, _ in history.rates(0.4)] == [0.7]


def test_a_burst_at_the_end_is_no_rate_of_its_own():
    history = History(0.0)
    history.add(1.0, 1000, 1)
    history.add(2.0, 2000, 1)
    history.end(2.001, 3000)
    assert history.rates(1.0) == [(1.0, 1000.0), (2.001, pytest.approx(2000 / 1.001))]
    history = History(0.0)
    history.end(0.5, 1000)
    assert history.rates(1.0) == [(0.5, 2000.0)]


def test_an_end_at_once_adds_nothing():
    history = History(1.0)
    history.end(1.0, 5)
    assert history.points == [Point(0.0, 0, 0)]
    assert history.rates(1.0) == []


@given(st.integers(1, 5000), st.floats(0.05, 30.0))
def test_a_long_run_has_no_more_points_and_loses_no_bytes(ticks, pause):
    history = History(0.0)
    for tick in range(1, ticks + 1):
        history.add(tick * pause, tick, 1)
    history.end(ticks * pause + 1, ticks)
    assert len(history.points) <= 602
    assert history.points[0].at == 0
    total, before = 0.0, 0.0
    for at, rate in history.rates(pause * 3):
        total, before = total + rate * (at - before), at
    assert total == pytest.approx(ticks)
