"""The reorder window against a model: any order in, the right order out, and never stuck."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.reorder import Window


class Stream:
    """A window over some data, and what has left it."""

    def __init__(self, capacity: int, data: bytes, block: int = 7) -> None:
        self.window = Window(capacity, block)
        self.data = data
        self.out = bytearray()

    def put(self, start: int, most: int) -> int:
        """As much from `start` on as there is room for; how much that was."""
        room = self.window.room(start, min(most, len(self.data) - start))
        count = len(room)
        if not count:
            return 0
        room[:] = self.data[start : start + count]
        before = self.window.ready
        assert self.window.add(start, start + count) is (self.window.ready > before)
        return count

    def take(self, most: int, limit: int = 1 << 62) -> int:
        view = self.window.next(min(limit, self.window.head + most))
        self.out += view
        self.window.consume(len(view))
        return len(view)


def test_a_window_begins_empty():
    window = Window(10)
    assert (window.head, window.ready, window.horizon) == (0, 0, 10)
    assert not window.next(100)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_window_has_room(capacity):
    with pytest.raises(ValueError, match="at least 1 byte"):
        Window(capacity)


@pytest.mark.parametrize(
    ("offset", "room"),
    [(4, 2), (6, 6), (11, 1), (12, 2), (13, 1), (14, 0), (99, 0)],
)
def test_room_ends_at_the_horizon_and_at_a_block_s_end(offset, room):
    stream = Stream(10, bytes(99), block=6)
    stream.put(0, 4)
    assert stream.take(4) == 4
    assert stream.window.horizon == 14
    assert len(stream.window.room(offset, 99)) == room
    assert len(stream.window.room(offset, 1)) == min(room, 1)


def test_bytes_leave_in_order():
    window = Window(10)
    window.room(0, 10)[:] = bytes(range(10))
    assert window.add(6, 8) is False
    assert window.add(2, 4) is False
    assert not window.next(100)
    assert window.add(0, 2) is True
    assert [bytes(window.next(limit)) for limit in (100, 3, 0)] == [bytes((0, 1, 2, 3)), bytes((0, 1, 2)), b""]
    assert window.add(4, 6) is True
    assert window.ready == 8


def test_bytes_leave_in_pieces_at_a_block_s_end():
    stream = Stream(10, bytes(range(20)), block=6)
    assert [stream.put(0, 99), stream.put(6, 99), stream.take(8), stream.take(8)] == [6, 4, 6, 4]
    assert [stream.put(10, 99), stream.put(12, 99)] == [2, 6]
    assert [bytes(piece) for piece in stream.window.pieces(15)] == [bytes((10, 11)), bytes((12, 13, 14))]
    assert [stream.take(99), stream.take(99), stream.take(99)] == [2, 6, 0]
    assert stream.out == bytes(range(18))


def test_a_reader_that_keeps_up_needs_one_block_or_two():
    stream = Stream(1000, bytes(each % 251 for each in range(500)), block=10)
    memory = set()
    while len(stream.out) < 500:
        room = stream.window.room(len(stream.out), 4)
        memory.add(id(room.obj))
        assert stream.put(len(stream.out), 4) == stream.take(4)
    assert stream.out == stream.data
    assert len(memory) <= 2


def test_memory_is_bounded_by_the_capacity():
    stream = Stream(50, bytes(1000), block=10)
    memory = set()
    for _ in range(100):
        for offset in range(stream.window.head, stream.window.horizon):
            memory.add(id(stream.window.room(offset, 1).obj))
        stream.put(stream.window.ready, 3)
        stream.take(99)
    assert len(memory) <= 50 // 10 + 1


def test_the_same_bytes_again_change_nothing():
    window = Window(10)
    window.add(0, 5)
    assert window.add(0, 5) is False
    assert window.add(3, 5) is False
    assert window.ready == 5


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
    stream = Stream(capacity, bytes(each % 251 for each in range(size)))
    waiting = [list(piece) for piece in pieces]
    turn = 0
    while waiting or len(stream.out) < size:
        step = steps[turn % len(steps)]
        turn += 1
        moved = 0
        for piece in waiting:
            count = stream.put(piece[0], min(step, piece[1] - piece[0]))
            piece[0] += count
            moved += count
        waiting = [piece for piece in waiting if piece[0] < piece[1]]
        assert stream.window.room(stream.window.ready, 1) or stream.window.ready == stream.window.horizon
        moved += stream.take(step)
        assert moved, "nothing can arrive and nothing can leave"
        assert stream.window.head <= stream.window.ready <= stream.window.horizon
        assert stream.out == stream.data[: len(stream.out)]
    assert stream.out == stream.data


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
    assert window.room(window.head, 1)


def test_a_window_that_begins_later():
    window = Window(10, block=4, start=6)
    assert (window.head, window.horizon) == (6, 16)
    window.room(6, 3)[:2] = b"ab"
    assert window.add(6, 8)
    assert bytes(window.next(100)) == b"ab"
    window.consume(2)
    assert window.head == 8
    with pytest.raises(ValueError, match="outside"):
        window.add(5, 9)
