"""What goes into the state machine of a transfer, and what comes out: see `transfer`."""

from __future__ import annotations

from dataclasses import dataclass

from hydraflow.core import retry
from hydraflow.core.journal import Identity
from hydraflow.core.planner import Lease
from hydraflow.core.ranges import RangeSet
from hydraflow.core.responses import Ask
from hydraflow.core.sources import Place
from hydraflow.errors import HydraError
from hydraflow.models import Claim, Head, Resource

__all__ = [
    "Aborted",
    "Begun",
    "Command",
    "Commit",
    "Committed",
    "Drop",
    "Event",
    "Expect",
    "Fail",
    "HeadReceived",
    "LeaseEnded",
    "LeaseFailed",
    "Notice",
    "Open",
    "Prepare",
    "Promised",
    "Reset",
    "Terms",
    "Ticked",
    "Verified",
    "Verify",
]


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Begun:
    """The destination is ours; this is what an earlier run left in it."""

    identity: Identity | None = None
    durable: RangeSet | None = None


@dataclass(frozen=True, slots=True)
class HeadReceived:
    """The answer to a lease's request has begun.

    `wall` is Unix time; `claims` come from another question asked; `latency` is seconds from the request to the answer,
    where that is known without what the connection took; `mirrors` are other places of the file that it names.
    """

    lease: Lease
    head: Head
    wall: float
    claims: tuple[Claim, ...] = ()
    latency: float | None = None
    mirrors: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """All of the lease is received, or the body of unknown length came to its proper end."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseFailed:
    """The request failed, at whatever position the lease has reached."""

    lease: Lease
    failure: retry.Failure


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed, a place at the origin is free, or the reader has made room (`horizon`)."""


@dataclass(frozen=True, slots=True)
class Promised:
    """Digests that are published elsewhere than in the answer, and were looked up meanwhile."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The digest of all bytes, in hexadecimal; None where there was none to compute."""

    actual: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The file stands at its name, or the last byte has left."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The local side failed."""

    error: HydraError


Event = Begun | HeadReceived | LeaseEnded | LeaseFailed | Ticked | Promised | Verified | Committed | Aborted


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request for the lease, to the source that it names."""

    lease: Lease
    ask: Ask


@dataclass(frozen=True, slots=True)
class Drop:
    """End the lease's request; no event of it is wanted any more."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the sink ready for this resource, and hash for this claim."""

    resource: Resource
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Expect:
    """Hash all bytes for this claim, those too that are there already."""

    resource: Resource
    claim: Claim


@dataclass(frozen=True, slots=True)
class Reset:
    """Throw away every byte received."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Finish the digest and report it."""

    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Give the verified file its name, or release the stream's last bytes."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person would like to know."""

    message: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It is over. `keep` says that the bytes on disk are worth another run."""

    error: HydraError
    keep: bool


Command = Open | Drop | Prepare | Expect | Reset | Verify | Commit | Notice | Fail


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller asks of a transfer.

    Attributes:
        url: redacted, for messages.
        claim: the caller's digest.
        size: the caller's size in bytes, of the whole file.
        threads: most leases at a time.
        retry: when to try again, and when to give up.
        start: first byte that is wanted.
        stop: offset behind the last byte that is wanted; None for the end of the file.
        verify: `require` takes nothing that no digest is known of, `none` believes no digest but the caller's.
    """

    url: str
    claim: Claim | None
    size: int | None
    threads: int
    retry: retry.Policy
    start: int = 0
    stop: int | None = None
    verify: str = "auto"

    @property
    def partial(self) -> bool:
        """A part of the file is wanted, whose digest nobody knows."""
        return self.start > 0 or self.stop is not None
