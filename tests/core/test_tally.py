"""Rates, shares and the time that is left, of one file and of all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hydraflow.core.tally import Meter, Tally
from hydraflow.errors import HydraError
from hydraflow.models import FetchResult, Outcome, Phase, Progress, Verification

AT = Progress("https://h/x", "x", Phase.TRANSFERRING, done=0, size=1000, connections=2)
DONE = FetchResult(
    "https://h/x", "https://h/x", None, 1000, None, Verification.SIZE, None, None, None, Outcome.FETCHED, 1000, 0, 1,
    0, 0, 1, "HTTP/1.1", 1.0,
)  # fmt: skip


def test_a_meter_forgets():
    meter = Meter()
    assert meter.rate(0, 0.0) is None
    for tick in range(41):
        meter.add(tick * 25, tick / 4)
    assert meter.rate(1000, 10.0) == pytest.approx(100.0)
    for tick in range(41, 81):  # it stands still
        meter.add(1000, tick / 4)
    assert meter.rate(1000, 20.0) == 0.0


def test_a_meter_is_not_asked_too_early():
    meter = Meter()
    meter.add(0, 1.0)
    meter.add(500, 1.1)
    assert meter.rate(500, 1.2) is None
    assert meter.rate(500, 1.5) == pytest.approx(1000.0)


def test_one_file():
    tally = Tally(1, None)
    tally.update(AT, 0.0)
    tally.update(replace(AT, done=100), 0.5)
    tally.update(replace(AT, done=200), 1.0)
    assert (tally.done, tally.received, tally.connections, tally.ended) == (200, 200, 2, 0)
    assert tally.rate(1.0) == pytest.approx(200.0)
    assert tally.left(1.0) == tally.running["x"].left(1.0) == pytest.approx(4.0)
    tally.finish("x", DONE, 2.0)
    assert (tally.done, tally.received, tally.ended, tally.running) == (1000, 1000, 1, {})
    assert tally.known_size == 1000


def test_what_a_checkpoint_had_is_no_speed():
    tally = Tally(1)
    tally.update(replace(AT, done=600, from_checkpoint=600), 0.0)
    tally.update(replace(AT, done=700, from_checkpoint=600), 1.0)
    assert tally.received == 100
    assert tally.rate(1.0) == pytest.approx(100.0)


def test_what_begins_anew_counts_again():
    tally = Tally(1)
    for at, done in enumerate((0, 500, 0, 300)):
        tally.update(replace(AT, done=done), float(at))
    assert (tally.done, tally.received) == (300, 800)


def test_the_last_words_of_a_file_are_not_its_news():
    tally = Tally(2)
    tally.update(AT, 0.0)
    tally.update(replace(AT, phase=Phase.FAILED), 0.1)
    tally.update(replace(AT, name="y", phase=Phase.DONE), 0.1)
    assert list(tally.running) == ["x"]
    tally.fail("x", HydraError("no"), 0.2)
    assert (tally.failed, tally.running, tally.done) == (1, {}, 0)


def test_a_notice_stays_while_it_waits():
    tally = Tally(1)
    tally.update(replace(AT, phase=Phase.WAITING, message="503; trying again"), 0.0)
    tally.update(replace(AT, phase=Phase.WAITING), 0.1)
    assert tally.running["x"].notice == "503; trying again"


def test_how_much_is_left_of_many():
    tally = Tally(3, None)
    tally.update(AT, 0.0)
    assert tally.known_size is None, "two have not been heard of"
    tally.update(replace(AT, name="y", size=None), 0.0)
    tally.finish("z", DONE, 1.0)
    assert tally.known_size is None, "one does not tell"
    assert tally.left(2.0) is None
    tally.update(replace(AT, name="y", size=2000), 1.0)
    assert tally.known_size == 4000
    assert Tally(3, 5).known_size == 5
    assert Tally().rate(0.0) is None


def test_time_left_is_not_negative_and_unknown_at_a_standstill():
    tally = Tally(1)
    tally.update(AT, 0.0)
    tally.update(AT, 1.0)
    assert tally.left(1.0) is None
    tally.update(replace(AT, done=2000), 2.0)
    assert tally.left(2.0) == 0.0


def test_of_many_files_without_sizes_the_time_is_told_by_their_number():
    """By the last of them: what was there already took no time, and says nothing of the rest."""
    tally = Tally(1000)
    for number in range(100):
        tally.finish(f"there{number}", DONE, 0.0)
    assert tally.left(0.1) is None
    for number in range(100):
        tally.finish(f"{number}", DONE, 1.0 + number / 10)
    assert tally.left(11.0) == pytest.approx(80.0, rel=0.05)


def test_a_few_files_tell_nothing_of_the_rest():
    tally = Tally(1000)
    for number in range(10):
        tally.finish(f"{number}", DONE, number / 10)
    assert tally.left(1.0) is None
