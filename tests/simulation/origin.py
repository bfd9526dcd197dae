"""A server in virtual time: versions of a file, validators, ranges, and every kind of bad day."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from hydraflow.core.retry import Failure, FailureKind
from hydraflow.models import Digest, Head

if TYPE_CHECKING:
    from random import Random

    from hydraflow.core.responses import Ask

EPOCH = 1_700_000_000.0  # Unix time of the virtual time 0
URL = "http://h/x"


@dataclass(frozen=True, slots=True)
class Version:
    """What the server has from the time `since` on; `number` tells its validators from those of other versions."""

    number: int
    content: bytes
    since: float


@dataclass(frozen=True, slots=True)
class Traits:
    """How a server behaves. Chances are per request; the defaults are those of a good one.

    Attributes:
        ranges: it answers them, up to the time `ranges_until`.
        etag: `strong`, `weak`, `constant` (weak, and the same for all versions), or `none`.
        date: Last-Modified is `strong` (with Date), `weak` (without), or `none`.
        total: Content-Range tells the size.
        if_range: it looks at If-Range; `never` means that it takes no validator for its own.
        bears: requests at a time; what is more gets 503.
        pause: Retry-After of a 503, in seconds.
        rate: bytes per second of each connection.
        rude: the connection breaks behind the last byte.
        outage: nobody answers from the first to the second time.
        status: answers nothing but this.
    """

    ranges: bool = True
    ranges_until: float = 1e9
    sized: bool = True
    total: bool = True
    etag: str = "strong"
    date: str = "strong"
    if_range: str = "yes"
    announces: bool = False
    bears: int = 1000
    pause: int | None = None
    latency: float = 0.05
    rate: float = 1000.0
    drop: float = 0.0
    stall: float = 0.0
    refuse: float = 0.0
    unreachable: float = 0.0
    lie: float = 0.0
    rude: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    status: int | None = None


@dataclass(slots=True)
class Reply:
    """A head and a body; after `cut` bytes of it the connection goes as `end` says."""

    head: Head
    body: bytes
    cut: int
    end: Failure | None


class Origin:
    """Serves one file."""

    def __init__(self, rng: Random, traits: Traits, versions: list[Version]) -> None:
        self.traits = traits
        self.versions = versions
        self.active = 0
        self.faults = 0
        self.lies = 0
        self.requests = 0
        self._rng = rng

    def current(self, now: float) -> Version:
        return max((each for each in self.versions if each.since <= now), key=lambda each: each.since)

    def changes(self) -> int:
        return len(self.versions) - 1

    def answer(self, ask: Ask, now: float) -> Reply | Failure:
        """What comes back for a request that has been sent at `now`."""
        self.requests += 1
        traits = self.traits
        if traits.outage[0] <= now < traits.outage[1] or self._rng.random() < traits.unreachable:
            self.faults += 1
            return Failure(FailureKind.CONNECT, "cannot connect")
        if traits.status is not None:
            self.faults += traits.status >= 500
            return self._refusal(traits.status)
        if self.active > traits.bears or self._rng.random() < traits.refuse:
            self.faults += 1
            return self._refusal(503)
        return self._break(self._honest(ask, self.current(now), now))

    def _refusal(self, status: int) -> Reply:
        pause = () if self.traits.pause is None else (("retry-after", str(self.traits.pause)),)
        return Reply(Head(status, (("content-length", "0"), *pause), URL), b"", 0, None)

    def _honest(self, ask: Ask, version: Version, now: float) -> Reply:
        size, fields = len(version.content), self._fields(version, now)
        ranges = self.traits.ranges and now < self.traits.ranges_until
        if ask.stop is None or not ranges or not self._matches(ask, version):
            length = (("content-length", str(size)),) if self.traits.sized else (("transfer-encoding", "chunked"),)
            return _whole(200, (*length, *fields), version.content)
        if ask.start >= size:
            return _whole(416, (("content-range", f"bytes */{size}"), ("content-length", "0")), b"")
        stop = min(ask.stop, size)
        part = f"bytes {ask.start}-{stop - 1}/{size if self.traits.total else '*'}"
        fields = (("content-range", part), ("content-length", str(stop - ask.start)), *fields)
        return _whole(206, fields, version.content[ask.start : stop])

    def _matches(self, ask: Ask, version: Version) -> bool:
        if ask.if_range is None or self.traits.if_range == "ignored":
            return True
        own = (_etag(self.traits, version), _date(self.traits, version))
        return self.traits.if_range == "yes" and ask.if_range in own

    def _fields(self, version: Version, now: float) -> tuple[tuple[str, str], ...]:
        etag, date = _etag(self.traits, version), _date(self.traits, version)
        fields = [("etag", etag)] if etag else []
        fields += [("last-modified", date)] if date else []
        fields += [("date", formatdate(EPOCH + now, usegmt=True))] if self.traits.date == "strong" else []
        if self.traits.announces:
            fields.append(("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(version.content).digest()).decode()}"))
        return tuple(fields)

    def _break(self, reply: Reply) -> Reply:
        """The same reply, with luck; otherwise a lie, or a connection that does not last."""
        chance, traits = self._rng.random(), self.traits
        if chance < traits.lie and reply.head.status == 206:
            self.lies += 1
            fields = dict(reply.head.headers)
            fields["content-range"] = self._rng.choice(("bytes 0-0/1", "nonsense", "bytes 1-1/*", ""))
            reply.head = replace(reply.head, headers=tuple(fields.items()))
        elif chance < traits.lie + traits.drop + traits.stall:
            self.faults += 1
            dropped = chance < traits.lie + traits.drop
            reply.cut = self._rng.randrange(len(reply.body) + 1)
            reply.end = _DROPPED if dropped else _STALLED
        return reply


_DROPPED = Failure(FailureKind.DROPPED, "connection dropped")
_STALLED = Failure(FailureKind.STALLED, "no byte came in time")


def _whole(status: int, fields: tuple[tuple[str, str], ...], body: bytes) -> Reply:
    return Reply(Head(status, fields, URL), body, len(body), None)


def _etag(traits: Traits, version: Version) -> str | None:
    tags = {"strong": f'"v{version.number}"', "weak": f'W/"v{version.number}"', "constant": 'W/"v"'}
    return tags.get(traits.etag)


def _date(traits: Traits, version: Version) -> str | None:
    return None if traits.date == "none" else formatdate(EPOCH - 1000 + 5 * version.number, usegmt=True)


def md5(content: bytes) -> Digest:
    return Digest("md5", hashlib.md5(content).hexdigest())


# ── chance ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_versions(rng: Random, largest: int, changes: int) -> list[Version]:
    """A history of a file. Versions differ wholly or in one piece, mostly have one size, and may come back."""
    size = rng.choice((0, 1, *(rng.randrange(each) for each in (400, 400, largest, largest, largest, largest))))
    versions = [Version(0, bytes([65]) * size, 0.0)]
    for number in range(1, changes + 1):
        since = versions[-1].since + rng.choice((0.3, 2.0, 10.0)) * rng.random()
        if number > 1 and rng.random() < 0.2:
            versions.append(replace(versions[-2], since=since))
            continue
        versions.append(Version(number, _edited(rng, versions[-1].content, 65 + number), since))
    return versions


def _edited(rng: Random, content: bytes, letter: int) -> bytes:
    kind = rng.random()
    if kind < 0.4 and content:  # a piece in the middle
        start = rng.randrange(len(content))
        stop = rng.randint(start + 1, len(content))
        return content[:start] + bytes([letter]) * (stop - start) + content[stop:]
    size = len(content) if kind < 0.8 else rng.randrange(2 * len(content) + 2)
    return bytes([letter]) * size


def draw_traits(rng: Random) -> Traits:
    """A server with a few vices; every third has none."""
    traits = Traits(
        latency=rng.choice((0.001, 0.05, 0.5)),
        rate=rng.choice((300.0, 3000.0, 30_000.0)),
        etag=rng.choice(("strong", "strong", "weak", "constant", "none")),
        date=rng.choice(("strong", "weak", "none")),
        announces=rng.random() < 0.2,
        ranges=rng.random() < 0.85,
        sized=rng.random() < 0.8,
    )
    if rng.random() < 1 / 3:
        return traits
    vices: dict[str, tuple[Any, ...]] = {
        "bears": (1, 2, 3),
        "pause": (0, 1, 5),
        "drop": (0.1, 0.5, 0.9),
        "stall": (0.05, 0.3),
        "refuse": (0.1, 0.5),
        "unreachable": (0.1, 0.5),
        "lie": (0.1, 1.0),
        "rude": (0.3,),
        "total": (False,),
        "ranges_until": (0.5, 3.0),
        "if_range": ("ignored", "never"),
        "outage": ((0.0, 5.0), (1.0, 9.0), (0.0, 300.0), (2.0, 300.0)),
        "status": (404, 403, 500),
    }
    chosen = rng.sample(sorted(vices), rng.randint(1, 4))
    if "status" in chosen and rng.random() < 0.7:
        chosen.remove("status")
    return replace(traits, **{name: rng.choice(vices[name]) for name in chosen})
