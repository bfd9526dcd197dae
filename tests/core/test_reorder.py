"""The reorder window against a model: any order in, the right order out, and never stuck."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.reorder import Window


class Ring:
    """A window with its bytes, as a stream has them."""

    def __init__(self, capacity: int, data: bytes) -> None:
        self.window = Window(capacity)
        self.data = data
        self.out = bytearray()
        self._bytes = bytearray(capacity)

    def put(self, start: int, most: int) -> int:
        """As much from `start` on as there is room for; how much that was."""
        count = min(most, self.window.room(start))
        if not count:
            return 0
        slot = self.window.slot(start)
        self._bytes[slot : slot + count] = self.data[start : start + count]
        before = self.window.ready
        assert self.window.add(start, start + count) is (self.window.ready > before)
        return count

    def take(self, most: int, limit: int = 1 << 62) -> int:
        begin, end = self.window.leave(limit)
        end = min(end, begin + most)
        self.out += self._bytes[begin:end]
        self.window.consume(end - begin)
        return end - begin


def test_a_window_begins_empty():
    window = Window(10, start=7)
    assert (window.head, window.ready, window.horizon, window.slot(7), window.slot(13)) == (7, 7, 17, 7, 3)
    assert window.leave(100) == (7, 7)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_window_has_room(capacity):
    with pytest.raises(ValueError, match="at least 1 byte"):
        Window(capacity)


@pytest.mark.parametrize(
    ("offset", "room"),
    [(4, 6), (9, 1), (10, 4), (13, 1), (14, 0), (99, 0)],
)
def test_room_ends_at_the_horizon_and_at_the_ring_s_end(offset, room):
    window = Window(10)
    window.add(0, 4)
    window.consume(4)
    assert window.horizon == 14
    assert window.room(offset) == room


def test_bytes_leave_in_order():
    window = Window(10)
    assert window.add(6, 8) is False
    assert window.add(2, 4) is False
    assert window.leave(100) == (0, 0)
    assert window.add(0, 2) is True
    assert (window.ready, window.leave(100), window.leave(3), window.leave(0)) == (4, (0, 4), (0, 3), (0, 0))
    assert window.add(4, 6) is True
    assert window.ready == 8


def test_bytes_leave_in_pieces_at_the_ring_s_end():
    ring = Ring(10, bytes(range(20)))
    assert [ring.put(0, 99), ring.take(8), ring.put(10, 99), ring.take(99), ring.take(99)] == [10, 8, 8, 2, 8]
    assert ring.out == bytes(range(18))


def test_the_same_bytes_again_change_nothing():
    window = Window(10)
    window.add(0, 5)
    assert window.add(0, 5) is False
    assert window.add(3, 5) is False
    assert (window.ready, window.leave(99)) == (5, (0, 5))


@pytest.mark.parametrize(("start", "stop"), [(3, 5), (14, 15), (13, 15), (0, 20)])
def test_bytes_without_room_are_an_error(start, stop):
    window = Window(10)
    window.add(0, 4)
    window.consume(4)
    with pytest.raises(ValueError, match=rf"\[{start}, {stop}\) is outside the window \[4, 14\)"):
        window.add(start, stop)


@pytest.mark.parametrize("count", [-1, 4, 10])
def test_only_what_is_there_can_leave(count):
    window = Window(10)
    window.add(0, 3)
    window.add(5, 9)
    with pytest.raises(ValueError, match=f"{count} bytes cannot leave, 3 are ready"):
        window.consume(count)


@st.composite
def _deliveries(draw):
    size = draw(st.integers(1, 200))
    cuts = sorted(draw(st.sets(st.integers(1, size), max_size=12)) | {0, size})
    pieces = draw(st.permutations(list(itertools.pairwise(cuts))))
    return size, pieces, draw(st.lists(st.integers(1, 50), min_size=1, max_size=8)), draw(st.integers(1, 250))


@given(_deliveries())
@settings(deadline=None, max_examples=200)
def test_any_order_of_arrival_gives_the_same_bytes(case):
    """Pieces arrive in any order and at any pace, each as soon as there is room; the reader takes what it may."""
    size, pieces, steps, capacity = case
    ring = Ring(capacity, bytes(each % 251 for each in range(size)))
    waiting = [list(piece) for piece in pieces]
    turn = 0
    while waiting or len(ring.out) < size:
        step = steps[turn % len(steps)]
        turn += 1
        moved = 0
        for piece in waiting:
            count = ring.put(piece[0], min(step, piece[1] - piece[0]))
            piece[0] += count
            moved += count
        waiting = [piece for piece in waiting if piece[0] < piece[1]]
        assert ring.window.room(ring.window.ready) or ring.window.ready == ring.window.horizon
        moved += ring.take(step)
        assert moved, "nothing can arrive and nothing can leave"
        assert ring.window.head <= ring.window.ready <= ring.window.horizon
        assert ring.out == ring.data[: len(ring.out)]
    assert ring.out == ring.data


@given(st.integers(1, 50), st.data())
@settings(deadline=None)
def test_the_next_byte_always_has_room(capacity, data):
    """Whatever else has arrived: what the reader waits for can come."""
    window = Window(capacity)
    for _ in range(data.draw(st.integers(0, 10))):
        start = data.draw(st.integers(window.ready, window.horizon))
        window.add(start, data.draw(st.integers(start, window.horizon)))
        window.consume(data.draw(st.integers(0, window.ready - window.head)))
    window.consume(window.ready - window.head)
    assert window.room(window.head) >= 1
