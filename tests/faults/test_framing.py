"""Sizes and framings: empty, tiny, exactly one lease, one byte more; chunked, close-delimited, without ranges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hydraflow.errors import HydraError
from hydraflow.models import Verification
from tests.faults.fronts import MIB, noise

DATA = noise(5 * MIB)


@pytest.mark.parametrize("size", [0, 1, 2, 65_535, 65_536, 65_537, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 5 * MIB])
class TestSizes:
    def test_with_ranges(self, origin, front, size):
        url = origin.add("/x.bin", DATA[:size])
        got = front.get(url)
        assert got.data == DATA[:size]
        assert (got.result.size, got.result.verification) == (size, Verification.SIZE)
        assert origin.bytes_served() == size
        # What is behind the first request is shared by as many as pay, 256 KiB each at least.
        behind = size - 4 * MIB
        assert (behind > 0) <= len(origin.ledger) - 1 <= -(-behind // (256 << 10)) * (behind > 0)

    def test_without_ranges(self, origin, front, size):
        url = origin.add("/x.bin", DATA[:size], ranges=False)
        got = front.get(url)
        assert got.data == DATA[:size]
        assert (got.result.requests, got.result.verification) == (1, Verification.SIZE)
        assert origin.bytes_served() == size

    def test_chunked(self, origin, front, size):
        url = origin.add("/x.bin", DATA[:size], ranges=False)
        rule = origin.when().chunked()
        got = front.get(url)
        assert rule.fired == 1
        assert got.data == DATA[:size]
        assert (got.result.size, got.result.verification) == (size, Verification.SIZE)
        assert origin.bytes_served() == size

    def test_until_the_connection_closes(self, origin, front, size):
        url = origin.add("/x.bin", DATA[:size], ranges=False)
        rule = origin.when().no_length()
        got = front.get(url)
        assert rule.fired == 1
        assert got.data == DATA[:size]
        # Nobody can tell the end from a broken connection, and the result says so.
        assert (got.result.size, got.result.verification) == (size, Verification.NONE)


@pytest.mark.parametrize("framing", ["chunked", "no_length"])
def test_ranges_in_other_framings(origin, front, framing):
    url = origin.add("/x.bin", DATA)
    rule = getattr(origin.when(), framing)()
    got = front.get(url)
    assert rule.fired == len(origin.ledger) >= 2
    assert got.data == DATA
    assert origin.bytes_served() == len(DATA)


def test_ranges_ignored(origin, front):
    """200 to the first range: its body is the file, and is not asked for twice."""
    url = origin.add("/x.bin", DATA)
    rule = origin.when().ignore_range()
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert origin.bytes_served() == len(DATA)


def test_a_part_under_status_200(origin, front):
    """Some servers (gofakes3, and so `rclone serve s3`) send a part and its Content-Range, but 200 as for the whole.

    Taken at its word, the part would be a whole file, and the rest of it would never be missed.
    """
    url = origin.add("/x.bin", DATA)
    rule = origin.when()
    rule._add("ok", lambda answer: _as_whole(answer) if answer.status == 206 else None)
    assert front.get(url).data == DATA
    assert rule.fired >= 1


def _as_whole(answer):
    answer.status = 200
    return answer


def test_ranges_ignored_later(origin, file_front):
    """200 to a later range says that the file has changed (If-Range), whatever the server meant by it."""
    url = origin.add("/x.bin", noise(9 * MIB))
    rule = origin.when(request=3).ignore_range()
    assert file_front.get(url).data == noise(9 * MIB)
    assert rule.fired == 1


def test_truncated_without_ranges(origin, file_front):
    url = origin.add("/x.bin", DATA, ranges=False)
    rule = origin.when(request=1).truncated_chunked()
    got = file_front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert got.result.restarts == 1


def test_truncated_without_ranges_in_a_stream(origin, stream_front):
    """What was handed out cannot be taken back: the reader gets an error, not an end."""
    url = origin.add("/x.bin", DATA, ranges=False)
    rule = origin.when(request=1).slow(32 * MIB).truncated_chunked()
    stream_front.refuse(url, HydraError)
    assert rule.fired == 1
    assert stream_front.received == DATA[: len(stream_front.received)]


def test_always_truncated(origin, front):
    url = origin.add("/x.bin", DATA, ranges=False)
    rule = origin.when().truncated_chunked()
    front.refuse(url, HydraError)
    assert 1 <= rule.fired <= 6


@pytest.mark.parametrize("after", [100_000, 4 * MIB])
def test_cut_without_ranges(origin, file_front, after):
    url = origin.add("/x.bin", DATA, ranges=False)
    rule = origin.when(times=2).reset(after=after)
    got = file_front.get(url)
    assert rule.fired == 2
    assert got.data == DATA
    assert got.result.retries == 2


def test_window_smaller_than_a_lease(origin, stream_front):
    """A stream's window of 1 MB, and files far larger than it."""
    stream_front.settings = replace(stream_front.settings, buffer=1_000_000)
    data = noise(9 * MIB)
    url = origin.add("/x.bin", data)
    rule = origin.when(every=2).drop(after=100_000)
    assert stream_front.get(url).data == data
    assert rule.fired >= 1
    assert origin.bytes_served() <= 1.1 * len(data)
