"""Response headers: what the RFCs allow, what servers send, and what hostile ones might."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import headers
from hydraflow.core.headers import ContentRange, Likeness
from hydraflow.errors import RemoteProtocolError
from hydraflow.models import Head, Validator

MOMENT = "Sun, 06 Nov 1994 08:49:37 GMT"
EPOCH = 784111777.0
HUGE = 2**63 - 1


def head(*lines: tuple[str, str], status: int = 200) -> Head:
    return Head(status, lines, "http://h/x")


# Content-Range.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-0/1", ContentRange(0, 1, 1)),
        ("bytes 0-499/1234", ContentRange(0, 500, 1234)),
        ("bytes 734-1233/1234", ContentRange(734, 1234, 1234)),
        ("bytes 42-1233/*", ContentRange(42, 1234, None)),
        ("bytes */1234", ContentRange(None, None, 1234)),
        ("bytes */0", ContentRange(None, None, 0)),
        ("Bytes 0-1/2", ContentRange(0, 2, 2)),
        (" bytes 0-1/2\t", ContentRange(0, 2, 2)),
        ("bytes 007-8/9", ContentRange(7, 9, 9)),
        (f"bytes {HUGE - 1}-{HUGE - 1}/{HUGE}", ContentRange(HUGE - 1, HUGE, HUGE)),
        (f"bytes {HUGE - 1}-{HUGE - 1}/*", ContentRange(HUGE - 1, HUGE, None)),
        (f"bytes */{HUGE}", ContentRange(None, None, HUGE)),
    ],
)
def test_content_range(value, expected):
    assert headers.content_range(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None, "", "bytes", "bytes ", "bytes 0-1", "bytes 0-1/", "bytes /2", "bytes -1/2", "bytes 0-/2", "bytes */*",
        "bytes 5-4/10", "bytes 0-2/2", "bytes 2-2/2", "bytes 0-0/0", "bytes -1-1/2", "bytes 0--1/2", "bytes +0-1/2",
        "bytes 0-1/+2", "bytes 0-1/-2", "bytes 1_0-1_1/2_0", "bytes 0x0-0x1/2", "bytes 0.0-1/2", "bytes 0-1/2.0",
        "bytes \u0660-\u0661/\u0662", "bytes \uff10-\uff11/\uff12",
        "byte\u017f 0-1/2", "bits 0-1/2", "bytes=0-1/2", "bytes: 0-1/2", "bytes  0-1/2",
        "bytes 0 - 1/2", "bytes 0-1 / 2", "bytes 0-1/2, bytes 0-1/2", "bytes 0-1/2;", "bytes 0-1/2\n", "0-1/2",
        f"bytes 0-1/{HUGE + 1}", f"bytes */{HUGE + 1}", f"bytes {HUGE}-{HUGE}/*", f"bytes 0-{2**64}/*",
        "bytes 0-1/" + "9" * 5000, "bytes " + "9" * 5000 + "-1/2",
    ],
)  # fmt: skip
def test_not_a_content_range(value):
    assert headers.content_range(value) is None


@given(st.integers(0, HUGE), st.integers(0, HUGE), st.none() | st.integers(0, HUGE))
@settings(deadline=None)
def test_a_content_range_is_believed_only_if_it_can_be(first, last, total):
    part = headers.content_range(f"bytes {first}-{last}/{'*' if total is None else total}")
    possible = first <= last < (HUGE if total is None else total)
    assert part == (ContentRange(first, last + 1, total) if possible else None)


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        ("bytes 0-1/2", True),
        ("bytes 0-1/3", False),
        ("bytes 1-1/2", False),
        ("bytes 0-1/*", False),
        ("bytes */2", False),
    ],
)
def test_a_range_that_is_everything(value, whole):
    assert headers.content_range(value).whole is whole


# Content-Length.


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["0"], 0),
        (["42"], 42),
        ([" 42 "], 42),
        (["42", "42"], 42),
        (["42, 42,42"], 42),
        ([str(HUGE)], HUGE),
    ],
)
def test_content_length(lines, expected):
    assert headers.content_length(head(*(("content-length", line) for line in lines))) == expected


@pytest.mark.parametrize(
    "lines",
    [
        [""], ["-1"], ["+1"], ["1_0"], ["1.0"], ["0x1"], ["٤٢"], ["1 0"], ["42,"], ["42, 43"], ["42", "43"],
        ["42", "042"], ["nan"], [str(HUGE + 1)], ["9" * 5000], ["42\n"],
    ],
)  # fmt: skip
def test_a_wrong_content_length_is_an_error_of_the_server(lines):
    with pytest.raises(RemoteProtocolError, match="expected one number of bytes") as caught:
        headers.content_length(head(*(("content-length", line) for line in lines)))
    assert caught.value.url == "http://h/x"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_transfer_encoding_overrides_content_length():
    assert headers.content_length(head(("content-length", "x"), ("transfer-encoding", "chunked"))) is None


# Dates.


@pytest.mark.parametrize("value", [MOMENT, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_three_forms_of_one_date(value):
    assert headers.http_date(value) == EPOCH


@given(st.integers(0, 253402300799).map(lambda second: datetime.fromtimestamp(second, UTC)))
@settings(deadline=None)
def test_any_date_in_any_form(moment):
    expected = moment.timestamp()
    assert headers.http_date(moment.strftime("%a, %d %b %Y %H:%M:%S GMT")) == expected
    assert headers.http_date(moment.strftime(f"%a %b {moment.day:2} %H:%M:%S %Y")) == expected
    if moment.year < 2070:
        assert headers.http_date(moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")) == expected


def test_a_leap_second():
    assert headers.http_date("Sat, 31 Dec 2016 23:59:60 GMT") == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        None, "", "0", "now", "784111777", "1994-11-06T08:49:37Z", MOMENT.lower(), MOMENT + " ", " " + MOMENT,
        "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 06 Nov 1994 08:49:37",
        "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06 Nov 1994 08:49:99 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT", "Sun, 06-Nov-94 08:49:37 GMT", "Sun Nov 06 08:49:37 1994 GMT",
        "Sun Nov    08:49:37 1994", f"{MOMENT}, {MOMENT}",
    ],
)  # fmt: skip
def test_not_a_date(value):
    assert headers.http_date(value) is None


# Retry-After.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120\t", 120.0),
        ("0000000000000120", 120.0),
        ("86400", 86400.0),
        (str(2**31), 2.0**31),
        (str(2**31 + 1), 2.0**31),
        ("1" + "0" * 30, 2.0**31),
        ("9" * 5000, 2.0**31),
        (MOMENT, 100.0),
        ("Sun Nov  6 08:49:37 1994", 100.0),
        ("Sun, 06 Nov 1994 08:40:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 2.0**31),
    ],
)
def test_retry_after(value, expected):
    assert headers.retry_after(value, EPOCH - 100) == expected


@pytest.mark.parametrize(
    "value",
    [None, "", "-1", "+1", "1.5", "1e3", "nan", "inf", "Infinity", "1_000", "٣", "soon", "120, 120", "120 s", "0x10"],
)
def test_not_a_wish(value):
    assert headers.retry_after(value, EPOCH) is None


@given(st.text(max_size=40) | st.from_regex(r"[0-9eE+\-._ ]{1,40}", fullmatch=True))
@settings(deadline=None)
def test_a_wish_is_a_sane_number(value):
    wish = headers.retry_after(value, EPOCH)
    assert wish is None or (math.isfinite(wish) and 0 <= wish <= headers.MAX_PAUSE)


# Validators.


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', '""', 'W/""', '"a!#~\\"', '"W/"', '"d41d8\'-2"'])
def test_entity_tags(etag):
    assert headers.is_etag(etag)
    assert headers.validator(head(("etag", etag))) == Validator(etag=etag)


@pytest.mark.parametrize(
    "etag",
    [
        "",
        "a",
        '"a',
        'a"',
        "'a'",
        'w/"a"',
        'W/ "a"',
        "W/a",
        '"a b"',
        '"a"b"',
        '"a", "b"',
        '"\x7f"',
        '"\n"',
        '"é"',
        '"a"\n',
    ],
)
def test_not_an_entity_tag(etag):
    assert headers.validator(head(("etag", etag))) == Validator()


def test_two_tags_are_none():
    assert headers.validator(head(("etag", '"a"'), ("etag", '"b"'))).etag is None


@pytest.mark.parametrize(
    ("date", "strong"),
    [
        ("Sun, 06 Nov 1994 08:50:37 GMT", True),
        ("Sun, 06 Nov 1994 08:50:36 GMT", False),
        ("Sun Nov  6 09:49:37 1994", True),
        (MOMENT, False),
        ("Sun, 06 Nov 1994 08:49:36 GMT", False),
        ("yesterday", False),
        (None, False),
    ],
)
def test_a_modification_date_is_strong_one_minute_later(date, strong):
    lines = [("last-modified", MOMENT)] + ([] if date is None else [("date", date)])
    assert headers.validator(head(*lines)) == Validator(None, MOMENT, date_is_strong=strong)


def test_a_malformed_modification_date_is_dropped():
    assert headers.validator(head(("last-modified", "yesterday"), ("date", MOMENT))) == Validator()


T1, T2 = MOMENT, "Sun, 06 Nov 1994 08:49:38 GMT"
SAME, OTHER, UNKNOWN = Likeness
SETTLED = Validator(None, T1, date_is_strong=True)


@pytest.mark.parametrize(
    ("one", "two", "likeness"),
    [
        # Two strong tags decide alone.
        (Validator('"a"'), Validator('"a"'), SAME),
        (Validator('"a"'), Validator('"b"'), OTHER),
        (Validator('"a"', T1), Validator('"a"', T2), SAME),
        (Validator('"a"', T1), Validator('"b"', T1), OTHER),
        (Validator('"a"', T1, date_is_strong=True), Validator('"b"', T1, date_is_strong=True), OTHER),
        # One strong tag alone proves nothing.
        (Validator('"a"'), Validator(), UNKNOWN),
        (Validator('"a"', T1), Validator(), UNKNOWN),
        (Validator('"a"'), Validator(None, T1), UNKNOWN),
        (Validator('"a"', T1), Validator(None, T1), UNKNOWN),
        (Validator('"a"', T1), Validator(None, T2), OTHER),
        (Validator('"a"'), Validator('W/"a"'), UNKNOWN),
        (Validator('"a"', T1), Validator('W/"b"', T1), OTHER),
        (Validator('"a"', T1), Validator('W/"a"', T2), OTHER),
        # None is strong: what both have must agree, and even then it proves nothing.
        (Validator(), Validator(), UNKNOWN),
        (Validator('W/"a"'), Validator('W/"a"'), UNKNOWN),
        (Validator('W/"a"'), Validator('W/"b"'), OTHER),
        (Validator('W/"a"'), Validator(), UNKNOWN),
        (Validator('W/"a"', T1), Validator('W/"a"', T2), OTHER),
        (Validator('W/"a"', T1), Validator(None, T1), UNKNOWN),
        (Validator(None, T1), Validator(None, T1), UNKNOWN),
        (Validator(None, T1), Validator(None, T2), OTHER),
        (Validator(None, T1), Validator(), UNKNOWN),
        (Validator('W/"a"'), Validator(None, T1), UNKNOWN),
        (SETTLED, Validator(), UNKNOWN),
        (SETTLED, Validator('W/"a"'), UNKNOWN),
    ],
)
def test_likeness(one, two, likeness):
    assert headers.compare(one, two) is likeness
    assert headers.compare(two, one) is likeness
    assert headers.same_version(one, two) is (likeness is not OTHER)


@pytest.mark.parametrize("etag", [None, 'W/"a"', '"a"'])
def test_an_equal_date_proves_as_much_as_the_earlier_answer_makes_of_it(etag):
    """Two versions of one second: the later one is seen when its date has long settled, the earlier one was not."""
    assert headers.compare(SETTLED, Validator(etag, T1)) is SAME
    assert headers.compare(Validator(etag, T1), SETTLED) is UNKNOWN


# Content codings.


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        ([], None),
        ([("content-encoding", "")], None),
        ([("content-encoding", " Identity ")], None),
        ([("content-encoding", "GZIP")], "gzip"),
        ([("content-encoding", "gzip"), ("content-encoding", "br")], "gzip, br"),
    ],
)
def test_content_encoding(lines, encoding):
    assert headers.content_encoding(head(*lines)) == encoding


# Media types.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", "text/html"),
        ("Text/HTML; charset=utf-8", "text/html"),
        (" application/gzip ;x", "application/gzip"),
        ("multipart/byteranges; boundary=x", "multipart/byteranges"),
        ("application/vnd.api+json", "application/vnd.api+json"),
        ("", None),
        ("text", None),
        ("text/", None),
        ("/html", None),
        ("a/b/c", None),
        ("text/html, text/html", None),
        ("text /html", None),
        ("téxt/html", None),
    ],
)
def test_media_type(value, expected):
    assert headers.media_type(head(("content-type", value))) == expected


def test_no_media_type():
    assert headers.media_type(head()) is None


# Whatever a server sends.

NAMES = [
    "content-range", "content-length", "transfer-encoding", "etag", "last-modified", "date", "retry-after",
    "content-type", "content-encoding",
]  # fmt: skip
values = st.text(max_size=30) | st.sampled_from([MOMENT, "bytes 0-1/2", '"v1"', "2"])


@given(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=12), st.sampled_from([200, 206, 416, 503]))
@settings(deadline=None)
def test_nothing_raises_but_what_says_so(lines, status):
    answer = head(*lines, status=status)
    seen = headers.validator(answer)
    assert seen.etag is None or headers.is_etag(seen.etag)
    assert seen.last_modified is None or seen.last_modified == answer.get("last-modified")
    assert headers.same_version(seen, seen)
    media_type = headers.media_type(answer)
    assert media_type is None or media_type.isascii()
    try:
        assert (headers.content_length(answer) or 0) >= 0
    except RemoteProtocolError as error:
        assert str(error).isprintable()  # noqa: PT017 - it need not raise
