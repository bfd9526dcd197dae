"""RangeSet against a set of ints."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.ranges import RangeSet
from hydraflow.models import ByteRange

TOP = 40
bounds = st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(lambda pair: tuple(sorted(pair)))
steps = st.lists(st.tuples(st.sampled_from(["add", "subtract"]), bounds), max_size=25)


def build(history) -> tuple[RangeSet, set[int]]:
    ranges, model = RangeSet(), set()
    for operation, (start, stop) in history:
        getattr(ranges, operation)(start, stop)
        if operation == "add":
            model |= set(range(start, stop))
        else:
            model -= set(range(start, stop))
    return ranges, model


def offsets(ranges) -> list[int]:
    return [offset for each in ranges for offset in range(each.start, each.stop)]


@given(steps)
@settings(deadline=None)
def test_it_holds_what_a_set_would_hold(history):
    ranges, model = build(history)
    assert offsets(ranges) == sorted(model)
    assert ranges.total == len(model)
    assert bool(ranges) == bool(model)
    edges = sum(offset not in model and offset + 1 in model for offset in range(-1, TOP))
    assert len(ranges) == edges, "intervals that touch are one"
    assert ranges.prefix() == next(offset for offset in range(TOP + 1) if offset not in model)


@given(steps, bounds)
@settings(deadline=None)
def test_gaps_and_covers(history, interval):
    ranges, model = build(history)
    start, stop = interval
    missing = [offset for offset in range(start, stop) if offset not in model]
    gaps = ranges.gaps(start, stop)
    assert offsets(gaps) == missing
    assert all(gaps), "no gap is empty"
    assert all(before.stop < after.start for before, after in itertools.pairwise(gaps))
    assert ranges.covers(start, stop) == (not missing)


@given(steps, steps)
@settings(deadline=None)
def test_minus_leaves_both_alone(history, other_history):
    (ranges, model), (other, other_model) = build(history), build(other_history)
    assert offsets(ranges.minus(other)) == sorted(model - other_model)
    assert offsets(ranges) == sorted(model)
    assert offsets(other) == sorted(other_model)


@given(steps)
@settings(deadline=None)
def test_equal_sets_have_equal_intervals(history):
    ranges, model = build(history)
    assert ranges == RangeSet((offset, offset + 1) for offset in model)
    assert ranges == pickle.loads(pickle.dumps(ranges)) == copy.deepcopy(ranges)


def test_construction_in_any_order_from_pairs_and_ranges():
    ranges = RangeSet([(20, 30), ByteRange(0, 5), (5, 10), (9, 9)])
    assert list(ranges) == [ByteRange(0, 10), ByteRange(20, 30)]
    assert repr(ranges) == "RangeSet([(0, 10), (20, 30)])"
    assert eval(repr(ranges)) == ranges


def test_a_copy_is_independent():
    ranges = RangeSet([(0, 10)])
    twin = ranges.copy()
    twin.add(20, 30)
    assert list(ranges) == [ByteRange(0, 10)]
    assert twin != ranges


def test_sets_differ_if_either_end_does():
    ranges = RangeSet([(2, 5)])
    assert ranges != RangeSet([(2, 6)])
    assert ranges != RangeSet([(1, 5)])


def test_it_is_not_equal_to_other_things_and_not_hashable():
    assert RangeSet([(0, 1)]) != [ByteRange(0, 1)]
    with pytest.raises(TypeError, match="unhashable"):
        hash(RangeSet())


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (-2, -1)])
@pytest.mark.parametrize("method", ["add", "subtract", "gaps", "covers"])
def test_a_backwards_range_is_refused(method, start, stop):
    ranges = RangeSet([(0, 10)])
    with pytest.raises(ValueError, match=r"not a byte range: \[-?\d+, -?\d+\)"):
        getattr(ranges, method)(start, stop)
    assert list(ranges) == [ByteRange(0, 10)]


def test_offsets_of_large_files():
    ranges = RangeSet([(0, 2**63 - 1)])
    ranges.subtract(2**62, 2**62 + 1)
    assert ranges.total == 2**63 - 2
    assert ranges.gaps(0, 2**63 - 1) == [ByteRange(2**62, 2**62 + 1)]
