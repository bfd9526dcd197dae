"""Response headers to typed facts.

Whatever a server sends, nothing here raises, except where it says so: a field that is malformed counts as absent.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from hydraflow.errors import RemoteProtocolError
from hydraflow.models import Head, Validator

__all__ = [
    "MAX_SIZE",
    "ContentRange",
    "Likeness",
    "compare",
    "content_encoding",
    "content_length",
    "content_range",
    "http_date",
    "is_etag",
    "media_type",
    "retry_after",
    "same_version",
    "validator",
]

MAX_SIZE = 2**63 - 1  # what a file system can address
MAX_PAUSE = 2.0**31  # seconds; longer waits are cut to this, about 68 years (compare RFC 9111 §1.2.2)


# ── sizes and ranges ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Content-Range of a byte range, half open; `start` and `stop` are None for an unsatisfied range (`*/N`)."""

    start: int | None
    stop: int | None
    total: int | None

    @property
    def whole(self) -> bool:
        """The range is the complete representation."""
        return self.start == 0 and self.stop == self.total


_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/(?:([0-9]{1,19})|\*)", re.ASCII | re.IGNORECASE)


def content_range(value: str | None) -> ContentRange | None:
    """Read a Content-Range field (RFC 9110 §14.4): `bytes a-b/total`, `bytes a-b/*` or `bytes */total`."""
    match = _CONTENT_RANGE.fullmatch((value or "").strip(" \t"))
    if match is None:
        return None
    first, last, total = (None if digits is None else int(digits) for digits in match.groups())
    if total is not None and total > MAX_SIZE:
        return None
    if first is None or last is None:
        return None if total is None else ContentRange(None, None, total)
    if not first <= last < (MAX_SIZE if total is None else total):
        return None
    return ContentRange(first, last + 1, total)


_LENGTH = re.compile(r"[0-9]{1,19}")


def content_length(head: Head) -> int | None:
    """Bytes of the body as announced (RFC 9110 §8.6); several equal values count as one.

    None if there is no such field, or where Transfer-Encoding overrides it (RFC 9112 §6.3).

    Raises:
        RemoteProtocolError: values differ, or one is no number of bytes.
    """
    value = head.get("content-length")
    if value is None or head.get_all("transfer-encoding"):
        return None
    lengths = {part.strip(" \t") for part in value.split(",")}
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length) or int(length) > MAX_SIZE:
        raise RemoteProtocolError(f"Content-Length is {value[:60]!r}, expected one number of bytes", url=head.url)
    return int(length)


# ── dates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATE_FORMS = (
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_PIVOT = 70  # two-digit years from here on are of the last century, as POSIX has it: the clock is not known here


def http_date(value: str | None) -> float | None:
    """Unix time of an HTTP-date in any of its three forms (RFC 9110 §5.6.7)."""
    match = next(filter(None, (form.fullmatch(value or "") for form in _DATE_FORMS)), None)
    if match is None:
        return None
    year, day, hour, minute, second = (int(match[name]) for name in ("year", "day", "hour", "minute", "second"))
    if len(match["year"]) == 2:
        year += 1900 if year >= _PIVOT else 2000
    leap = int(second == 60)
    try:
        moment = datetime(year, _MONTHS.index(match["month"]) + 1, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + leap


_SECONDS = re.compile(r"[0-9]+")


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait as asked by Retry-After (RFC 9110 §10.2.3), at least 0 and at most `MAX_PAUSE`.

    A date in the past means 0; what is neither a number of seconds nor a date means None. `now` is Unix time.
    """
    text = (value or "").strip(" \t")
    if _SECONDS.fullmatch(text):
        return MAX_PAUSE if len(text.lstrip("0")) > 10 else min(float(text), MAX_PAUSE)
    moment = http_date(text)
    return None if moment is None else min(max(moment - now, 0.0), MAX_PAUSE)


# ── validators ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Without obs-text: a tag that is not ASCII cannot be sent back in a way that all servers understand.
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


def is_etag(value: str) -> bool:
    """The text is an entity tag (RFC 9110 §8.8.3) in ASCII."""
    return _ETAG.fullmatch(value) is not None


#: Seconds by which Date must be later than Last-Modified. One would do if both came from the same clock, which nobody
#: knows of a file server behind a web server; so it is a minute, as RFC 7232 §2.2.2 had it.
_SETTLED = 60


def validator(head: Head) -> Validator:
    """What the answer says of its version; malformed fields count as absent.

    Last-Modified is a strong validator if it was old enough when the origin answered (RFC 9110 §8.8.2.2).
    """
    etag, modified = head.get("etag"), head.get("last-modified")
    changed, date = http_date(modified), http_date(head.get("date"))
    return Validator(
        etag=etag if etag is not None and is_etag(etag) else None,
        last_modified=None if changed is None else modified,
        date_is_strong=changed is not None and date is not None and date - changed >= _SETTLED,
    )


class Likeness(enum.Enum):
    """What two validators say of the versions that they came with."""

    SAME = "same"  # proved
    OTHER = "other"  # proved
    UNKNOWN = "unknown"


def compare(was: Validator, now: Validator) -> Likeness:
    """Compare the validator of an earlier answer with that of a later one.

    Two strong tags decide alone (RFC 9110 §8.8.3.2).  Otherwise any difference shows another version, and an equal
    modification date proves the same one if it was a strong validator in the earlier answer: a date that was settled
    only later may stand for two versions of one second.
    """
    if was.strong_etag and now.strong_etag:
        return Likeness.SAME if was.strong_etag == now.strong_etag else Likeness.OTHER
    if _differ(_opaque(was), _opaque(now)) or _differ(was.last_modified, now.last_modified):
        return Likeness.OTHER
    dated = was.date_is_strong and now.last_modified is not None
    return Likeness.SAME if dated else Likeness.UNKNOWN


def same_version(was: Validator, now: Validator) -> bool:
    """The two may be of one version of a resource: nothing shows the contrary."""
    return compare(was, now) is not Likeness.OTHER


def _differ(one: str | None, two: str | None) -> bool:
    return None not in (one, two) and one != two


def _opaque(of: Validator) -> str | None:
    return None if of.etag is None else of.etag.removeprefix("W/")


# ── content coding ───────────────────────────────────────────────────────────────────────────────────────────────────


def content_encoding(head: Head) -> str | None:
    """The codings of the representation (RFC 9110 §8.4) in lower case; None for plain bytes."""
    text = (head.get("content-encoding") or "").strip(" \t").lower()
    return None if text in ("", "identity") else text


# ── media type ───────────────────────────────────────────────────────────────────────────────────────────────────────

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 §5.6.2
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")


def media_type(head: Head) -> str | None:
    """`type/subtype` in lower case, without parameters (RFC 9110 §8.3.1)."""
    text = (head.get("content-type") or "").partition(";")[0].strip(" \t")
    return text.lower() if _MEDIA_TYPE.fullmatch(text) else None
