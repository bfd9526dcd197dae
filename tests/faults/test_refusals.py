"""Servers that say no: for now (503, 429), or for good (404, 403)."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from hydraflow.errors import AccessDeniedError, NotFoundError, RemoteProtocolError, RequestError, TransferError
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)
SMALL = noise(1000)


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_refusal_that_passes(origin, front, status):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when(request=1).status(status, body=b"not now")
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == SMALL
    assert (got.result.requests, got.result.retries) == (2, 1)


@pytest.mark.parametrize("status", [429, 503])
def test_refusals_in_the_middle(origin, url, front, status):
    rule = origin.when(every=2).status(status)
    got = front.get(url)
    assert rule.fired >= 1
    assert got.data == DATA
    assert origin.bytes_served() <= 1.1 * len(DATA)


def test_a_server_that_bears_two_at_a_time(origin, url, front):
    """The answer to 'too many' is fewer requests, and the file all the same."""
    origin.when(busy=2).status(429)
    origin.when().slow(8 * MIB)  # so that more than two are tried before it is over
    got = front.get(url)
    assert got.data == DATA
    refused = [record for record in origin.requests() if record.status == 429]
    assert 1 <= len(refused) <= 20
    assert origin.bytes_served("/x.bin") <= 1.1 * len(DATA)


def test_retry_after_is_kept(origin, front):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when(request=1).status(503, headers={"Retry-After": "1"})
    begun = time.monotonic()
    assert front.get(url).data == SMALL
    assert rule.fired == 1
    assert 1.0 <= time.monotonic() - begun < 5


def test_retry_after_that_is_too_long(origin, front):
    """There is no point in sleeping when patience will have run out by then."""
    url = origin.add("/small.bin", SMALL)
    rule = origin.when().status(503, headers={"Retry-After": "3600"})
    begun = time.monotonic()
    error = front.refuse(url, TransferError)
    assert (rule.fired, len(origin.ledger)) == (1, 1)
    assert "3600 s" in str(error)
    assert time.monotonic() - begun < 3


def test_503_for_ever(origin, front):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when().status(503)
    front.settings = replace(front.settings, max_wait=0.5)
    error = front.refuse(url, TransferError)
    assert "503 Service Unavailable" in str(error)
    assert rule.fired == error.attempts >= 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (410, NotFoundError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (400, RequestError),
        (451, RequestError),
        (501, RequestError),
    ],
)
def test_a_refusal_for_good_is_asked_for_once(origin, front, status, kind):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when().status(status, body=b"<html>never data</html>")
    error = front.refuse(url, kind)
    assert (error.status, error.exit_code) == (status, 3)
    assert (rule.fired, len(origin.ledger)) == (1, 1)


def test_not_found_in_the_middle(origin, url, front):
    """The file is gone while it is being fetched: what came is kept, nothing is called done."""
    origin.when(request=1).slow(30 * MIB)
    rule = origin.when().head_delay(0.1).status(404)
    error = front.refuse(url, NotFoundError, keeps=True)
    assert rule.fired >= 1
    assert error.status == 404
    if front.name == "stream":
        assert front.received == DATA[: len(front.received)]


def test_204(origin, front):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when().status(204)
    error = front.refuse(url, RemoteProtocolError)
    assert rule.fired == 1
    assert "204" in str(error)


def test_304_was_not_asked_for(origin, front):
    url = origin.add("/small.bin", SMALL)
    rule = origin.when().status(304)
    front.refuse(url, RemoteProtocolError)
    assert rule.fired == 1


def test_416_to_a_valid_range(origin, front):
    """Some servers answer 416 to every range: the whole is asked for, without one."""
    url = origin.add("/small.bin", SMALL)
    rule = origin.when(request=1).status(416)
    got = front.get(url)
    assert rule.fired == 1
    assert got.data == SMALL
    assert [record.range for record in origin.ledger] == ["bytes=0-4194303", None]


def test_head_is_never_needed(origin, front):
    url = origin.add("/small.bin", SMALL, refuse_head=True)
    assert front.get(url).data == SMALL
    assert [record.method for record in origin.ledger] == ["GET"]


@pytest.mark.parametrize("host", ["xn--", "[v1.a]"])
def test_a_host_that_cannot_be_one(front, host):
    """It looks like one to us, and not to those who have to ask it."""
    assert "bad URL" in str(front.refuse(f"http://{host}/x.bin", RemoteProtocolError))
