"""What becomes of a request that failed: try again after a pause, or give up.

Patience is a length of time without a new byte, not a number of tries: a transfer that moves is never given up.
Pure: time and randomness are arguments.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from hydraflow.errors import (
    AccessDeniedError,
    ConnectError,
    ConnectionDroppedError,
    HydraError,
    NotFoundError,
    RemoteProtocolError,
    RequestError,
    StalledError,
    TransferError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Failure", "FailureKind", "GiveUp", "Policy", "Retry", "backoff", "decide", "error_for", "notice"]

#: Statuses that may pass (RFC 9110 §15.5, §15.6; RFC 6585 §4; RFC 8470 §5.2), and those of CDNs for a faulty origin.
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504, 509, *range(520, 528), 529, 530})
#: Those that ask for fewer requests.
OVERLOADED = frozenset({429, 503})
PROTOCOL_ATTEMPTS = 3  # a server that breaks the rules thrice in a row means it
_RESPITE = 4


class FailureKind(enum.Enum):
    """How a request failed."""

    CONNECT = "connect"  # no connection could be made
    DROPPED = "dropped"  # the connection ended too early
    STALLED = "stalled"  # no byte came for too long
    PROTOCOL = "protocol"  # the answer breaks HTTP's rules, or is not the one asked for
    STATUS = "status"  # the server said no


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that came to nothing, or to less than asked.

    Attributes:
        message: one line of printable text without secrets; whatever else a server put in is replaced by `?`.
        status: HTTP status code of a `STATUS` failure.
        retry_after: seconds that the server asks to wait.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", "".join(c if c.isprintable() else "?" for c in self.message))


@dataclass(frozen=True, slots=True)
class Policy:
    """When to try again, and when to give up.

    Attributes:
        delay: seconds of the first pause; it doubles with each attempt.
        delay_max: seconds of the longest pause, before a Retry-After; an overloaded server gets `_RESPITE` times that.
        first_wait: seconds of patience while the server has never answered, now or to a run before, at most `max_wait`.
        max_wait: seconds of patience without a new byte, once it has; 0 for none.
        restarts: how often a transfer may begin anew.
    """

    delay: float
    delay_max: float
    first_wait: float
    max_wait: float
    restarts: int = 5


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again after `delay` seconds; `left` seconds of patience are left now."""

    delay: float
    left: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Asking again would not help, or there was enough of it; `reason` ends a sentence that began with the failure."""

    reason: str


def backoff(policy: Policy, attempt: int, rng: Callable[[], float], *, longest: float | None = None) -> float:
    """Seconds to pause after the `attempt`-th failure in a row (from 1): exponential, with full jitter.

    `rng` gives uniform random numbers in [0, 1); `longest` overrides the policy's longest pause.
    """
    return rng() * min(longest or policy.delay_max, policy.delay * 2.0 ** min(attempt - 1, 64))


def decide(
    failure: Failure, *, attempt: int, quiet: float, answered: bool, policy: Policy, rng: Callable[[], float]
) -> Retry | GiveUp:
    """Try again or not.

    Args:
        failure: what happened now.
        attempt: how many requests have failed in a row, this one included.
        quiet: seconds since the last new byte, or since the start.
        answered: the server has ever answered, in this run or one before.
        policy: pauses and patience.
        rng: uniform random numbers in [0, 1).
    """
    if failure.kind is FailureKind.STATUS and failure.status not in RETRYABLE:
        return GiveUp("asking again would not help")
    if failure.kind is FailureKind.PROTOCOL and attempt >= PROTOCOL_ATTEMPTS:
        return GiveUp(f"{attempt} times in a row")
    name = "max_wait" if answered or policy.max_wait < policy.first_wait else "first_wait"
    patience: float = getattr(policy, name)
    left, asked = patience - quiet, failure.retry_after or 0.0
    if asked > left > 0:
        limit = f"{name} ({patience:g} s)"
        allowed = f"{limit} allows" if left >= patience else f"the {left:.0f} s that are left of {limit}"
        return GiveUp(f"the server asks to wait {asked:.0f} s, longer than {allowed}")
    if left <= 0:
        return GiveUp(f"no new byte for {quiet:.0f} s, {name} is {patience:g} s" if patience else f"{name} is 0")
    longest = policy.delay_max * (_RESPITE if failure.status in OVERLOADED else 1)
    # Neither jitter nor a long pause spoils the last try: it is made when patience ends.
    return Retry(max(asked, min(backoff(policy, attempt, rng, longest=longest), left)), left)


def notice(failure: Failure, decision: Retry) -> str:
    """What a person wants to know of a failure that is not the end: what happened, what comes, for how long."""
    wish = f", the server asks to wait {failure.retry_after:.0f} s" if failure.retry_after else ""
    return f"{failure.message}{wish}; trying again in {decision.delay:.1f} s, giving up in {_span(decision.left)}"


def _span(seconds: float) -> str:
    """A length of time for people: `42 s`, `14 min 50 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


_TRANSFER_ERRORS = {
    FailureKind.CONNECT: ConnectError,
    FailureKind.DROPPED: ConnectionDroppedError,
    FailureKind.STALLED: StalledError,
    FailureKind.STATUS: TransferError,
}
_PROXY_HINT = "Give the proxy its name and password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT."
_REQUEST_ERRORS = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    410: NotFoundError,
}


def error_for(failure: Failure, attempts: int, url: str, reason: str = "") -> HydraError:
    """The error to raise when `attempts` requests in a row have failed and the last one like this.

    Args:
        failure: the last failure.
        attempts: how many failed in a row.
        url: redacted.
        reason: why it was given up (`GiveUp.reason`), added to the message of errors that may pass.
    """
    text = failure.message if failure.status is None else _phrase(failure.status)
    if failure.kind is FailureKind.STATUS and failure.status not in RETRYABLE:
        return _refusal(failure.status or 0, text, url)
    message = f"{text} ({reason})" if reason else text
    if failure.kind is FailureKind.PROTOCOL:
        return RemoteProtocolError(message, url=url)
    return _TRANSFER_ERRORS[failure.kind](message, attempts=attempts, last=text, url=url)


def _refusal(status: int, text: str, url: str) -> HydraError:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return AccessDeniedError(text, status=status, url=url, hint=_PROXY_HINT)
    if status >= HTTPStatus.BAD_REQUEST:
        return _REQUEST_ERRORS.get(status, RequestError)(text, status=status, url=url)
    return RemoteProtocolError(f"unexpected answer: {text}", url=url)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP status {status}"
