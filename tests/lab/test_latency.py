"""The relay delays, keeps the bytes in order, and ends when either side does."""

from __future__ import annotations

import hashlib
import http.client
import time

import pytest

from lab.latency import Latency

ROUND_TRIP = 0.1


@pytest.fixture
def connection(nginx):
    with Latency(nginx.ports[0], round_trip=ROUND_TRIP) as relay:
        connection = http.client.HTTPConnection("127.0.0.1", relay.ports[0], timeout=10)
        yield connection
        connection.close()


def get(connection, name):
    start = time.monotonic()
    connection.request("GET", f"/{name}")
    body = connection.getresponse().read()
    return body, time.monotonic() - start


def test_delays_the_connection_and_every_request(connection):
    _, first = get(connection, "small.bin")
    _, second = get(connection, "small.bin")
    assert first >= 2 * ROUND_TRIP
    assert ROUND_TRIP <= second < first


def test_keeps_the_bytes_in_order(connection, samples):
    body, _ = get(connection, "sample.bin")
    assert hashlib.sha256(body).hexdigest() == samples.sha256["sample.bin"]


def test_passes_the_end_on(connection):
    connection.request("GET", "/small.bin", headers={"Connection": "close"})
    assert len(connection.getresponse().read()) == 1000
    assert connection.sock is None or connection.sock.recv(1) == b""


def test_serves_others_after_one_that_broke_off(connection, samples):
    connection.request("GET", "/sample.bin")
    connection.getresponse()
    connection.close()
    body, _ = get(connection, "small.bin")
    assert body == samples.read("small.bin")
