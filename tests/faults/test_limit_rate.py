"""`limit_rate` with real sockets: it is kept, needs few connections, and is nobody's silence."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from hydraflow.api import fetch, fetch_all
from hydraflow.models import FetchResult
from tests.faults.fronts import MIB, noise

DATA = noise(6 * MIB)  # more than the first request asks for
RATE = 4_000_000
SLACK = 1.2  # seconds that a busy machine may take besides: at half the rate all of it would take longer


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


def limited(front, rate=RATE, **changes):
    front.settings = replace(front.settings, threads=16, limit_rate=rate, **changes)
    return front


def test_the_rate_is_kept_over_one_connection(origin, url, front):
    begun = time.monotonic()
    got = limited(front).get(url)
    seconds = time.monotonic() - begun
    assert got.data == DATA
    assert len(DATA) / RATE - 0.22 <= seconds <= 1.05 * len(DATA) / RATE + SLACK
    assert got.result.peak_connections == origin.peak_requests == 1


def test_the_server_is_slowed_down_by_tcp(origin, front):
    """What is not read yet is not sent yet, but for what the sockets hold."""
    url, sent = origin.add("/x.bin", noise(24 * MIB)), []

    def watch(progress):
        if progress.done:
            sent.append(origin.bytes_served() - progress.done)

    limited(front, 3 * RATE).get(url, on_progress=watch)
    assert len(sent) > 5
    assert max(sent) < 8 * MIB


def test_a_turn_that_is_awaited_is_no_stall(origin, front):
    """Each piece comes after a longer pause than the server may be silent."""
    url = origin.add("/small.bin", DATA[:2000])
    got = limited(front, 1000, read_timeout=0.05, max_wait=1).get(url)
    assert got.data == DATA[:2000]
    assert got.result.retries == 0
    assert got.result.elapsed >= 1.5


def test_a_server_that_is_silent_is_one_all_the_same(origin, url, front):
    rule = origin.when(request=1).stall(after=MIB // 2)
    got = limited(front).get(url)
    assert rule.fired == 1
    assert got.data == DATA
    assert got.result.retries >= 1
    assert got.result.elapsed <= 1.05 * len(DATA) / RATE + SLACK


def test_several_files_share_it(origin, settings, tmp_path):
    settings = replace(settings, limit_rate=RATE)
    begun = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        urls = [origin.add(f"/{n}.bin", DATA[n * MIB :][:MIB]) for n in range(4)]
        results = list(pool.map(lambda url: fetch(url, tmp_path / url[-5:], settings=settings), urls))
    seconds = time.monotonic() - begun
    assert 4 * MIB / RATE - 0.22 <= seconds <= 1.05 * 4 * MIB / RATE + SLACK
    assert sum(result.retries for result in results) == 0
    assert origin.peak_requests <= 4


def test_requests_of_many_files_keep_their_distance(origin, settings, tmp_path):
    """Whatever the number of files, connections and retries."""
    settings = replace(settings, request_rate=20)
    urls = [origin.add(f"/{n}.bin", DATA[:1000]) for n in range(12)]
    origin.when(request=3).status(500)
    begun = time.monotonic()
    outcomes = fetch_all(urls, tmp_path, settings=settings)
    assert all(isinstance(outcome, FetchResult) for outcome in outcomes)
    assert len(origin.ledger) == 13
    assert time.monotonic() - begun >= 12 / 20
