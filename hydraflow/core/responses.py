"""What an answer to a ranged GET means: the file's facts, more of the same file, another file, or a refusal.

Every 206 is checked against what was asked: unit, first byte, last byte, total and validator (RFC 9110 §14.4, §15.3.7).
A server that lies is found out here, before one byte of its body is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from hydraflow.core import claims, headers, integrity
from hydraflow.core.headers import ContentRange, Likeness
from hydraflow.core.retry import Failure, FailureKind
from hydraflow.errors import RemoteProtocolError
from hydraflow.models import Head, Resource, Validator

__all__ = ["Ask", "Changed", "Facts", "Refused", "Unranged", "admit", "introduce", "part_stop", "size"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for: bytes `[start, stop)`, `stop` None for a plain GET of the whole.

    `if_range` is the validator sent along, so that a changed file answers 200 instead of a piece of another version.
    """

    start: int = 0
    stop: int | None = None
    if_range: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """A usable first answer. `empty` says that the resource has no bytes, whatever the body holds."""

    resource: Resource
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Unranged:
    """The server cannot do ranges here: ask again for the whole."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The answer belongs to another version of the resource; `now` describes it."""

    now: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer is of no use."""

    failure: Failure


def introduce(head: Head, ask: Ask, *, url: str, final_url: str, now: float) -> Facts | Unranged | Changed | Refused:
    """Read the first answer of a transfer. `now` is Unix time, for Retry-After dates."""
    try:
        verdict = _introduce(head, ask, url, final_url, now)
    except RemoteProtocolError as error:
        return Refused(Failure(FailureKind.PROTOCOL, str(error)))
    promised = claims.linked_size(head)
    size = verdict.resource.size if isinstance(verdict, Facts) else None
    if None not in (promised, size) and promised != size:
        return Refused(_wrong(head, f"{size} bytes, where the redirect promises {promised}"))
    return verdict


def _introduce(head: Head, ask: Ask, url: str, final_url: str, now: float) -> Facts | Unranged | Changed | Refused:
    length = headers.content_length(head)
    if head.status == 200:
        if ask.stop is not None and head.get("content-range") is not None:
            # Seen with rclone's S3 server: Content-Length is the part's, and would pass for the size of the whole.
            return Unranged("the server answers 200 where it sends a part")
        if ask.if_range is not None or ask.start:
            return _instead(ask, headers.validator(head), length)
        if headers.media_type(head) == "multipart/byteranges":
            return Refused(Failure(FailureKind.PROTOCOL, "a multipart/byteranges body was not asked for"))
        return Facts(_resource(head, url, final_url, length, ranges=False), empty=length == 0)
    if head.status == 206 and ask.stop is not None:
        return _introduce_part(head, ask, ask.stop, url, final_url)
    if head.status == 416 and ask.stop is not None:
        part = headers.content_range(head.get("content-range"))
        if ask.start:
            return Changed("a shorter file" if part is None else f"{part.total} bytes")
        if part is not None and part.total == 0:
            return Facts(_resource(head, url, final_url, 0, ranges=True), empty=True)
        return Unranged("the server answers 416 to a valid range")
    return Refused(_status(head, now))


def _introduce_part(head: Head, ask: Ask, stop: int, url: str, final_url: str) -> Facts | Unranged | Refused:
    part = _range(head)
    if part is None:
        return Refused(_wrong(head, "no valid Content-Range"))
    if part.total is None:
        return Unranged("the server does not tell the size in Content-Range")
    misfit = _misfit(head, ask.start, min(stop, part.total), part)
    if misfit is not None:
        return misfit
    return Facts(_resource(head, url, final_url, part.total, ranges=True))


def admit(head: Head, ask: Ask, resource: Resource, *, now: float) -> Unranged | Changed | Refused | None:
    """Check a later answer to a ranged request against what is known; None means that its body may be used.

    The part may be shorter than what was asked for; see `part_stop`.
    """
    assert ask.stop is not None, "a whole file is never asked for twice: it begins anew"
    if head.status == 200:
        if ask.if_range is not None:
            return _instead(ask, headers.validator(head), None)
        return Refused(Failure(FailureKind.PROTOCOL, "the server stopped answering range requests"))
    if head.status == 416:
        return _shrunk(head, resource)
    if head.status != 206:
        return Refused(_status(head, now))
    part = _range(head)
    if part is None:
        return Refused(_wrong(head, "no valid Content-Range"))
    return _another(head, part.total, resource) or _misfit(head, ask.start, ask.stop, part)


def size(head: Head) -> int | None:
    """Bytes of the whole file by an answer of 200 or 206; None if it does not tell."""
    part = headers.content_range(head.get("content-range"))
    if head.status == 206:
        return None if part is None else part.total
    try:
        return headers.content_length(head)
    except RemoteProtocolError:
        return None


def part_stop(head: Head) -> int | None:
    """First offset behind the part in a 206 that was let in; None for other answers."""
    part = _range(head) if head.status == 206 else None
    return None if part is None else part.stop


def _shrunk(head: Head, resource: Resource) -> Changed | Refused:
    """What it means that the file does not reach as far as it was said to (RFC 9110 §15.5.17)."""
    part = headers.content_range(head.get("content-range"))
    if part is not None and part.total == resource.size:
        return Refused(_wrong(head, "the range is inside of the file"))
    return Changed("a shorter file" if part is None else f"{part.total} bytes")


def _another(head: Head, total: int | None, resource: Resource) -> Unranged | Changed | None:
    """What speaks against the part being one of the resource as it is known."""
    seen = headers.validator(head)
    likeness = headers.compare(resource.validator, seen)
    if total not in (None, resource.size) or likeness is Likeness.OTHER:
        return Changed(_describe(seen, total))
    if headers.content_encoding(head) != resource.encoding:
        return Changed(f"{_describe(seen, total)}, encoded as {headers.content_encoding(head) or 'plain bytes'}")
    if integrity.contradict(resource.claims, claims.announced(head)):
        return Changed(f"{_describe(seen, total)}, with another digest")
    if likeness is Likeness.UNKNOWN and resource.validator.strong:
        # If-Range may have been overlooked, and then these bytes may be of any version.
        return Unranged("the server does not tell of which version its parts are")
    return None


def _misfit(head: Head, start: int, stop: int, part: ContentRange) -> Refused | None:
    """The part does not begin `[start, stop)`, or the body is not the part."""
    # It may end earlier: a server may send less than was asked for (RFC 9110 §15.3.7), and the rest is asked for again.
    assert part.stop is not None
    if part.start != start or part.stop > stop:
        return Refused(_wrong(head, f"asked for bytes {start}-{stop - 1}"))
    try:
        length = headers.content_length(head)
    except RemoteProtocolError as error:
        return Refused(Failure(FailureKind.PROTOCOL, str(error)))
    if length is not None and length != part.stop - start:
        return Refused(_wrong(head, f"Content-Length is {length}"))
    return None


def _range(head: Head) -> ContentRange | None:
    """The range that a 206 holds; None if that is not one range of bytes (RFC 9110 §15.3.7.1)."""
    part = headers.content_range(head.get("content-range"))
    several = headers.media_type(head) == "multipart/byteranges"
    return None if part is None or part.start is None or several else part


def _instead(ask: Ask, seen: Validator, size: int | None) -> Unranged | Changed:
    """What it means that the whole came instead of the part that was asked for (RFC 9110 §13.1.5)."""
    if ask.if_range is not None and seen.if_range == ask.if_range:
        return Unranged("the server does not understand If-Range")
    return Changed(_describe(seen, size))


def _resource(head: Head, url: str, final_url: str, size: int | None, *, ranges: bool) -> Resource:
    return Resource(
        url=url,
        final_url=final_url,
        size=size,
        ranges=ranges,
        validator=headers.validator(head),
        claims=claims.announced(head),
        media_type=headers.media_type(head),
        framed=size is not None or head.http_version == "HTTP/2" or head.get("transfer-encoding") is not None,
        http_version=head.http_version,
        encoding=headers.content_encoding(head),
    )


def _describe(validator: Validator, size: int | None) -> str:
    return str(validator) if size is None else f"{validator}, {size} bytes"


def _wrong(head: Head, detail: str) -> Failure:
    return Failure(FailureKind.PROTOCOL, f"wrong answer {head.status} {head.get('content-range') or ''}: {detail}")


def _status(head: Head, now: float) -> Failure:
    # Both dates by the server's clock, where it tells it: ours may have jumped.
    dated = headers.http_date(head.get("date"))
    pause = headers.retry_after(head.get("retry-after"), now if dated is None else dated)
    return Failure(FailureKind.STATUS, f"HTTP status {head.status}", status=head.status, retry_after=pause)
