"""Connections that break, stall or cannot be made: what came is kept, what is missing is asked for again."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from hydraflow.adapters.sinks import HOLD_BACK
from hydraflow.errors import ConnectError, ConnectionDroppedError, StalledError
from hydraflow.models import Outcome
from lab.process import free_ports
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


@pytest.mark.parametrize("cut", ["drop", "reset"])
@pytest.mark.parametrize("after", [0, 1, 300_000, 4 * MIB - 1])
def test_a_cut_of_the_first_answer(origin, url, front, cut, after):
    rule = getattr(origin.when(request=1), cut)(after=after)
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert (got.result.retries, got.result.restarts) == (1, 0)
    assert origin.bytes_served() <= 1.1 * len(DATA)


@pytest.mark.parametrize("cut", ["drop", "reset"])
def test_every_second_answer_is_cut(origin, url, front, cut):
    rule = getattr(origin.when(every=2), cut)(after=50_000)
    got = front.get(url)
    assert rule.fired >= 1  # how often, depends on how many requests the machine's speed makes of it
    assert got.data == DATA
    assert got.result.retries == rule.fired
    assert origin.bytes_served() <= 1.1 * len(DATA)


def test_every_answer_is_cut(origin, url, front):
    """Patience is time without a byte: a transfer that moves is never given up."""
    rule = origin.when().drop(after=400_000)
    got = front.get(url)
    assert rule.fired >= 8
    assert got.data == DATA
    assert origin.bytes_served() <= 1.1 * len(DATA)


def test_cut_in_the_last_bytes(origin, url, front):
    # The first lease behind the probe: of a file a megabyte, of a stream, somebody waits for it, a quarter.
    length = MIB if front.name == "file" else MIB // 4
    rule = origin.when(range_start=4 * MIB).drop(after=length - 1)
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert origin.bytes_served() <= 1.1 * len(DATA)


@pytest.mark.parametrize("after", [0, 100_000])
def test_stall(origin, url, front, after):
    rule = origin.when(request=2).stall(after=after)
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert got.result.retries == 1
    assert origin.bytes_served() <= 1.1 * len(DATA) + 64 * 1024


def test_stall_before_the_head(origin, url, front):
    rule = origin.when(request=1).head_delay(30)
    begun = time.monotonic()
    assert front.get(url).data == DATA
    assert rule.fired == 1
    assert time.monotonic() - begun < 5


def test_nothing_but_stalls(origin, url, front):
    rule = origin.when().stall(after=0)
    front.settings = replace(front.settings, max_wait=0.8)
    error = front.refuse(url, StalledError)
    assert rule.fired >= error.attempts >= 2  # requests that were under way together fail together
    assert "0.3 s" in str(error)


def test_hang_up_before_the_head(origin, url, front):
    rule = origin.when(times=2).raw(b"")
    assert front.get(url).data == DATA
    assert rule.fired == 2


def test_nothing_but_hang_ups(origin, url, front):
    rule = origin.when().raw(b"")
    error = front.refuse(url, ConnectionDroppedError)
    assert rule.fired >= 2
    assert error.exit_code == 4


def test_broken_for_good_in_the_middle(origin, url, front):
    """A file's beginning is kept for another run; a stream's reader gets the beginning, and the error."""
    origin.when(request=1).slow(16 * MIB)
    rule = origin.when().raw(b"")
    front.settings = replace(front.settings, max_wait=0.5, sync_interval=0.1)
    front.refuse(url, ConnectionDroppedError, keeps=True)
    assert rule.fired >= 2
    origin.rules.clear()
    served = origin.bytes_served()
    assert served == 4 * MIB
    got = front.get(url)
    assert got.data == DATA
    if front.name == "file":
        assert (got.result.outcome, got.result.bytes_from_checkpoint) == (Outcome.RESUMED, 4 * MIB)
        assert origin.bytes_served() == len(DATA)
    else:
        assert front.received == DATA[: 4 * MIB]


def test_nobody_listens(front):
    begun = time.monotonic()
    error = front.refuse(f"http://127.0.0.1:{free_ports(1)[0]}/x", ConnectError)
    assert "refused" in str(error)
    assert 0.1 < time.monotonic() - begun < 3


def test_unknown_host(front):
    error = front.refuse("http://no-such-host.invalid/x", ConnectError)
    assert "no-such-host.invalid" in (error.url or "")


def test_outage(origin, url, front):
    """The host goes away in the middle and comes back on the same address."""
    origin.when().slow(6 * MIB)

    def blink():
        while origin.bytes_served() < MIB:
            time.sleep(0.01)
        origin.pause()
        time.sleep(0.4)
        origin.resume()

    thread = threading.Thread(target=blink)
    thread.start()
    got = front.get(url)
    thread.join()
    assert got.data == DATA
    assert got.result.retries >= 1
    assert got.result.restarts == 0
    assert origin.bytes_served() <= 1.1 * len(DATA) + 4 * 128 * 1024  # what was in the send buffers


def test_truncated_chunked(origin, url, front):
    rule = origin.when(request=2).truncated_chunked()
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert origin.bytes_served() <= 1.1 * len(DATA)


def test_short(origin, url, front):
    """Content-Length promises more than the range: the answer contradicts itself."""
    rule = origin.when(request=2).short(10)
    assert front.get(url).data == DATA
    assert rule.fired == 1


def test_the_tail_is_held_back_while_the_end_is_missing(origin, stream_front):
    """All but the last byte have come, and that one never comes: the reader must not have the rest of the tail."""
    data = noise(MIB)
    url = origin.add("/tail.bin", data)
    rule = origin.when(request=1).drop(after=len(data) - 1)
    origin.when().raw(b"")
    stream_front.settings = replace(stream_front.settings, max_wait=0.5)
    stream_front.refuse(url, ConnectionDroppedError)
    assert rule.fired == 1
    assert stream_front.received == data[: len(data) - HOLD_BACK]
