"""What a transfer was bound by."""

from __future__ import annotations

from hydraflow.core.bounds import Bounds
from hydraflow.models import Bound


def test_what_lasted_longest():
    bounds = Bounds(lambda: 0.0, 10.0)
    assert bounds.most is None
    bounds.note(Bound.LINK, 10.0)
    assert bounds.most is None, "no time has passed"
    bounds.note(Bound.LINK, 11.0)
    bounds.note(Bound.READER, 13.0)
    bounds.note(None, 20.0)
    bounds.note(Bound.LINK, 20.9)
    assert bounds.most is Bound.READER
    bounds.note(Bound.LINK, 21.1)
    assert bounds.most is Bound.LINK


def test_the_disk_is_judged_over_a_while():
    spent = 0.0
    bounds = Bounds(lambda: spent, 0.0)
    spent = 0.14
    bounds.watch(0.125)
    assert not bounds.disk
    bounds.watch(0.25)
    assert bounds.disk
    spent = 0.265
    bounds.watch(0.5)
    assert not bounds.disk, "half of the time is not most of it"
