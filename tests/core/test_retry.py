"""Pauses, patience, and the errors that end it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow import errors
from hydraflow.core.retry import Failure, FailureKind, GiveUp, Policy, Retry, backoff, decide, error_for, notice

POLICY = Policy(delay=0.5, delay_max=30.0, first_wait=10.0, max_wait=600.0)
URL = "http://h/x"


def longest() -> float:
    return math.nextafter(1.0, 0.0)


def status(code: int, retry_after: float | None = None) -> Failure:
    return Failure(FailureKind.STATUS, f"HTTP status {code}", status=code, retry_after=retry_after)


def decided(failure: Failure, **changes):
    given_ = {"attempt": 1, "quiet": 0.0, "answered": True, "policy": POLICY, "rng": longest}
    return decide(failure, **{**given_, **changes})


# Pauses.


def test_the_pause_doubles_up_to_its_limit():
    pauses = [backoff(POLICY, attempt, lambda: 1.0) for attempt in range(1, 10)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_jitter_is_full_and_nothing_overflows(attempt, chance):
    whole = backoff(POLICY, attempt, lambda: 1.0)
    assert backoff(POLICY, attempt, lambda: chance) == chance * whole
    assert 0.5 <= whole <= 30


# Decisions.


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 509, 520, 524, 527, 529, 530])
def test_statuses_that_may_pass(code):
    assert isinstance(decided(status(code)), Retry)


@pytest.mark.parametrize("code", [204, 304, 400, 401, 403, 404, 407, 410, 416, 418, 451, 501, 505, 511, 519, 528, 599])
def test_statuses_that_will_not(code):
    assert decided(status(code)) == GiveUp("asking again would not help")


@pytest.mark.parametrize("kind", [FailureKind.CONNECT, FailureKind.DROPPED, FailureKind.STALLED])
def test_the_network_is_given_time_not_tries(kind):
    decision = decided(Failure(kind, "x"), attempt=10_000, quiet=500)
    assert decision == Retry(backoff(POLICY, 10_000, longest), 100)


def test_a_server_that_breaks_the_rules_gets_three_attempts():
    broken = Failure(FailureKind.PROTOCOL, "wrong Content-Range")
    assert [type(decided(broken, attempt=attempt)) for attempt in (1, 2, 3, 4)] == [Retry, Retry, GiveUp, GiveUp]
    assert decided(broken, attempt=3) == GiveUp("3 times in a row")


REFUSED = Failure(FailureKind.CONNECT, "refused")


def test_patience_is_short_until_the_server_has_answered():
    assert isinstance(decided(REFUSED, quiet=9.9, answered=False), Retry)
    assert decided(REFUSED, quiet=10.2, answered=False) == GiveUp("no new byte for 10 s, first_wait is 10 s")
    assert isinstance(decided(REFUSED, quiet=10.2, answered=True), Retry)
    assert decided(REFUSED, quiet=600.0, answered=True) == GiveUp("no new byte for 600 s, max_wait is 600 s")


def test_first_patience_is_never_the_longer_one():
    hasty = replace(POLICY, max_wait=3.0)
    assert isinstance(decided(REFUSED, quiet=2.9, answered=False, policy=hasty), Retry)
    assert decided(REFUSED, quiet=3.0, answered=False, policy=hasty) == GiveUp("no new byte for 3 s, max_wait is 3 s")


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("failure", [REFUSED, Failure(FailureKind.DROPPED, "x"), status(503), status(429, 1.0)])
@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_no_patience_at_all(answered, failure, chance):
    none = replace(POLICY, max_wait=0.0)
    assert decided(failure, answered=answered, policy=none, rng=lambda: chance) == GiveUp("max_wait is 0")


def test_the_last_try_is_made_when_patience_ends():
    """A pause that is too long is cut, or patience would end before its time."""
    assert decided(REFUSED, attempt=9, quiet=599.0) == Retry(1.0, 1.0)
    assert decided(REFUSED, attempt=9, quiet=9.5, answered=False) == Retry(0.5, 0.5)


@pytest.mark.parametrize(("code", "cap"), [(429, 120), (503, 120), (500, 30), (502, 30), (504, 30)])
def test_a_server_that_is_overloaded_gets_longer_pauses(code, cap):
    assert decided(status(code), attempt=50).delay == pytest.approx(cap)
    assert decided(status(code), attempt=1).delay == pytest.approx(0.5)


def test_the_server_s_wish_is_a_floor():
    assert decided(status(503, retry_after=7.0)) == Retry(7.0, 600)
    assert decided(status(503, retry_after=0.1)) == Retry(backoff(POLICY, 1, longest), 600)
    assert decided(status(503, retry_after=0.0)) == Retry(backoff(POLICY, 1, longest), 600)


def test_a_wish_that_fits_into_patience_is_kept_whatever_the_jitter():
    assert decided(status(429, retry_after=2.0), attempt=9, quiet=597.0) == Retry(3.0, 3.0)
    assert decided(status(429, retry_after=3.0), attempt=9, quiet=597.0) == Retry(3.0, 3.0)


def test_a_wish_beyond_patience_is_explained():
    reason = "the server asks to wait 86400 s, longer than max_wait (600 s) allows"
    assert decided(status(429, retry_after=86400.0)) == GiveUp(reason)
    assert decided(status(429, retry_after=11.0), answered=False) == GiveUp(
        "the server asks to wait 11 s, longer than first_wait (10 s) allows"
    )
    assert decided(status(429, retry_after=121.0), quiet=480.0) == GiveUp(
        "the server asks to wait 121 s, longer than the 120 s that are left of max_wait (600 s)"
    )


def test_the_wish_is_the_reason_as_long_as_there_is_patience_left():
    assert "the server asks to wait 5 s" in decided(status(503, retry_after=5.0), quiet=599.5).reason
    assert "no new byte for 600 s" in decided(status(503, retry_after=5.0), quiet=600.0).reason


@pytest.mark.parametrize("wish", [None, 0.0, 1.0, 1e9])
def test_patience_that_is_over_stays_over(wish):
    assert decided(status(503, retry_after=wish), quiet=700.0) == GiveUp("no new byte for 700 s, max_wait is 600 s")


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (0.3, "0 s"),
        (42.4, "42 s"),
        (119.4, "119 s"),
        (119.6, "2 min 0 s"),
        (889.0, "14 min 49 s"),
        (7199.0, "119 min 59 s"),
        (7200.0, "2 h 0 min"),
        (100_000.0, "27 h 46 min"),
    ],
)
def test_what_a_person_is_told(left, told):
    said = notice(Failure(FailureKind.CONNECT, "cannot connect: refused"), Retry(0.44, left))
    assert said == f"cannot connect: refused; trying again in 0.4 s, giving up in {told}"


failures = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    st.just("x"),
    st.sampled_from([None, 404, 429, 503]),
    st.none() | st.floats(0, 2**31),
)


@given(failures, st.integers(1, 100), st.floats(0, 2000), st.booleans(), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_no_pause_outlasts_patience_or_undercuts_the_wish(failure, attempt, quiet, answered, chance):
    patience = POLICY.max_wait if answered else POLICY.first_wait
    decision = decided(failure, attempt=attempt, quiet=quiet, answered=answered, rng=lambda: chance)
    if isinstance(decision, Retry):
        assert (failure.retry_after or 0.0) <= decision.delay <= decision.left == patience - quiet
    else:
        assert decision.reason


# Failures and errors.


def test_what_a_server_writes_cannot_reach_the_terminal():
    failure = Failure(FailureKind.PROTOCOL, "Content-Range \x1b[2J\x9b1m\n\u202ebytes é")
    assert failure.message == "Content-Range ?[2J?1m??bytes é"
    assert replace(failure, status=500).message == failure.message


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (400, errors.RequestError, "400 Bad Request"),
        (401, errors.AccessDeniedError, "401 Unauthorized"),
        (403, errors.AccessDeniedError, "403 Forbidden"),
        (404, errors.NotFoundError, "404 Not Found"),
        (407, errors.AccessDeniedError, "407 Proxy Authentication Required"),
        (410, errors.NotFoundError, "410 Gone"),
        (451, errors.RequestError, "451 Unavailable For Legal Reasons"),
        (499, errors.RequestError, "HTTP status 499"),
        (501, errors.RequestError, "501 Not Implemented"),
    ],
)
def test_refusals(code, kind, message):
    error = error_for(status(code), 1, URL, "asking again would not help")
    assert type(error) is kind
    assert (str(error), error.status, error.url, error.exit_code) == (message, code, URL, 3)


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_that_is_neither_yes_nor_no(code):
    error = error_for(status(code), 1, URL)
    assert type(error) is errors.RemoteProtocolError
    assert str(error).startswith(f"unexpected answer: {code} No")


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (Failure(FailureKind.CONNECT, "cannot connect: Connection refused"), errors.ConnectError, None),
        (Failure(FailureKind.DROPPED, "connection dropped"), errors.ConnectionDroppedError, None),
        (Failure(FailureKind.STALLED, "no byte came in time"), errors.StalledError, None),
        (status(503), errors.TransferError, "503 Service Unavailable"),
        (status(429), errors.TransferError, "429 Too Many Requests"),
        (status(524), errors.TransferError, "HTTP status 524"),
    ],
)
def test_patience_spent(failure, kind, message):
    text = message or failure.message
    error = error_for(failure, 7, URL)
    assert type(error) is kind
    assert (str(error), error.attempts, error.last, error.url, error.exit_code) == (text, 7, text, URL, 4)
    assert str(error_for(failure, 7, URL, "no new byte for 9 s")) == f"{text} (no new byte for 9 s)"


def test_broken_rules():
    error = error_for(Failure(FailureKind.PROTOCOL, "more bytes than announced"), 3, URL, "3 times in a row")
    assert type(error) is errors.RemoteProtocolError
    assert (str(error), error.url) == ("more bytes than announced (3 times in a row)", URL)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_an_error(kind):
    assert isinstance(error_for(Failure(kind, "x", 503), 1, URL), errors.HydraError)
