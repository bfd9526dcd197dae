"""What an answer to a ranged GET means: status × fields × what was asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.responses import Ask, Changed, Facts, Refused, Unranged, admit, introduce, part_stop, size
from hydraflow.core.retry import Failure, FailureKind
from hydraflow.models import Claim, Digest, DigestSource, Head, Resource, Validator

URL, FINAL = "http://h/x", "http://cdn/y"
V1 = Validator('"v1"')
WHOLE, FIRST, LATER = Ask(), Ask(0, 40), Ask(40, 80)
RESUMED = Ask(40, 80, '"v1"')
AGAIN = Ask(0, 40, '"v1"')
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def head(status: int, *, http_version: str = "HTTP/1.1", **fields: str) -> Head:
    lines = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return Head(status, lines, FINAL, http_version)


def part(content_range: str, **fields: str) -> Head:
    return head(206, content_range=content_range, **fields)


def introduced(answer: Head, ask: Ask) -> Facts | Unranged | Changed | Refused:
    return introduce(answer, ask, url=URL, final_url=FINAL, now=0.0)


def summary(verdict: Facts | Unranged | Changed | Refused | None) -> tuple[object, ...]:
    """A verdict in few words."""
    match verdict:
        case Facts(resource, empty):
            return ("facts", resource.size, resource.ranges, *(["empty"] if empty else []))
        case Unranged():
            return ("unranged",)
        case Changed(now=now):
            return ("changed", now)
        case Refused(failure):
            return ("refused", failure.kind.value, *([failure.status] if failure.status else []))
    return ("admitted",)


PROTOCOL = ("refused", "protocol")


# The first answer.


@pytest.mark.parametrize(
    ("ask", "answer", "expected"),
    [
        # 200: the whole, or another version than the one asked for.
        (WHOLE, head(200, content_length="100"), ("facts", 100, False)),
        (WHOLE, head(200), ("facts", None, False)),
        (WHOLE, head(200, transfer_encoding="chunked", content_length="100"), ("facts", None, False)),
        (WHOLE, head(200, content_length="0"), ("facts", 0, False, "empty")),
        (FIRST, head(200, content_length="100"), ("facts", 100, False)),
        (FIRST, head(200, content_length="0"), ("facts", 0, False, "empty")),
        (FIRST, head(200, content_length="many"), PROTOCOL),
        (FIRST, head(200, content_type="multipart/byteranges; boundary=b"), PROTOCOL),
        (LATER, head(200, content_length="100", etag='"v2"'), ("changed", '"v2", 100 bytes')),
        (LATER, head(200), ("changed", "no validator")),
        (RESUMED, head(200, content_length="100", etag='"v2"'), ("changed", '"v2", 100 bytes')),
        (AGAIN, head(200, content_length="100", last_modified=DATE), ("changed", f"{DATE}, 100 bytes")),
        # 200 of the very version: If-Range is not understood, and asking once more would not help.
        (RESUMED, head(200, content_length="100", etag='"v1"'), ("unranged",)),
        (AGAIN, head(200, etag='"v1"'), ("unranged",)),
        # 206
        (FIRST, part("bytes 0-39/100"), ("facts", 100, True)),
        (FIRST, part("bytes 0-39/100", content_length="40"), ("facts", 100, True)),
        (FIRST, part("bytes 0-39/40"), ("facts", 40, True)),
        (FIRST, part("bytes 0-24/25"), ("facts", 25, True)),
        (RESUMED, part("bytes 40-79/100", etag='"v2"'), ("facts", 100, True)),  # the caller compares validators
        (RESUMED, part("bytes 40-59/60"), ("facts", 60, True)),
        (FIRST, part("bytes 0-39/*"), ("unranged",)),
        (FIRST, part("bytes 0-38/100"), ("facts", 100, True)),  # less than was asked for
        (FIRST, part("bytes 0-38/100", content_length="40"), PROTOCOL),
        (FIRST, part("bytes 0-40/100"), PROTOCOL),
        (FIRST, part("bytes 1-39/100"), PROTOCOL),
        (LATER, part("bytes 0-39/100"), PROTOCOL),
        (FIRST, part("bytes 0-39/100", content_length="41"), PROTOCOL),
        (FIRST, part("bytes 0-39/100", content_length="-1"), PROTOCOL),
        (FIRST, part("bytes */100"), PROTOCOL),
        (FIRST, part("items 0-39/100"), PROTOCOL),
        (FIRST, head(206), PROTOCOL),
        (FIRST, head(206, content_type="multipart/byteranges; boundary=b"), PROTOCOL),
        (FIRST, part("bytes 0-39/100", content_type="Multipart/Byteranges; boundary=b"), PROTOCOL),
        (WHOLE, part("bytes 0-99/100"), ("refused", "status", 206)),
        # 416
        (FIRST, head(416, content_range="bytes */0"), ("facts", 0, True, "empty")),
        (FIRST, head(416, content_range="bytes */100"), ("unranged",)),
        (FIRST, head(416), ("unranged",)),
        (LATER, head(416, content_range="bytes */30"), ("changed", "30 bytes")),
        (RESUMED, head(416, content_range="bytes */0"), ("changed", "0 bytes")),
        (RESUMED, head(416), ("changed", "a shorter file")),
        (WHOLE, head(416), ("refused", "status", 416)),
        # the rest
        *[(ask, head(status), ("refused", "status", status)) for ask in (WHOLE, FIRST, RESUMED)
          for status in (201, 204, 304, 400, 403, 404, 429, 500, 503)],
    ],
)  # fmt: skip
def test_the_first_answer(ask, answer, expected):
    assert summary(introduced(answer, ask)) == expected


def test_the_facts_of_a_resource():
    answer = part(
        "bytes 0-39/100",
        etag='"v1"',
        last_modified=DATE,
        content_type="Text/Plain; charset=utf-8",
        x_goog_hash="md5=jXd/OF09/siBXSD3SWAm3A==",
    )
    claim = Claim(Digest("md5", "8d777f385d3dfec8815d20f7496026dc"), DigestSource.GOOG_HASH)
    assert introduced(answer, FIRST) == Facts(
        Resource(
            URL, FINAL, 100, ranges=True, validator=Validator('"v1"', DATE), claims=(claim,), media_type="text/plain"
        )
    )


@pytest.mark.parametrize(
    ("answer", "framed"),
    [
        (head(200, content_length="1"), True),
        (head(200, transfer_encoding="chunked"), True),
        (head(200, http_version="HTTP/2"), True),
        (head(200), False),
        (head(200, http_version="HTTP/1.0"), False),
    ],
)
def test_whether_the_end_of_a_body_can_be_told(answer, framed):
    verdict = introduced(answer, WHOLE)
    assert isinstance(verdict, Facts)
    assert (verdict.resource.framed, verdict.resource.http_version) == (framed, answer.http_version)


@pytest.mark.parametrize(
    ("value", "pause"), [("7", 7.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0), ("soon", None), (None, None)]
)
@pytest.mark.parametrize("ask", [FIRST, LATER])
def test_a_refusal_says_how_long_to_wait(ask, value, pause):
    answer = head(503, **({} if value is None else {"retry_after": value}))
    expected = Refused(Failure(FailureKind.STATUS, "HTTP status 503", 503, pause))
    assert introduced(answer, ask) == expected
    assert admit(answer, ask, known(), now=0.0) == expected


def test_a_pause_is_measured_by_the_server_s_clock():
    answer = head(503, retry_after="Thu, 01 Jan 1970 00:01:40 GMT", date="Thu, 01 Jan 1970 00:01:30 GMT")
    assert introduced(answer, FIRST).failure.retry_after == 10.0


def test_a_wrong_answer_is_quoted():
    verdict = introduced(part("bytes 7-46/100"), FIRST)
    assert verdict == Refused(Failure(FailureKind.PROTOCOL, "wrong answer 206 bytes 7-46/100: asked for bytes 0-39"))
    assert "wrong answer 206 : no valid Content-Range" in str(introduced(head(206), FIRST))
    assert "Content-Length is 9" in str(introduced(part("bytes 0-39/100", content_length="9"), FIRST))


# Later answers.


def known(size: int = 100, validator: Validator = V1) -> Resource:
    return Resource(URL, FINAL, size, ranges=True, validator=validator)


NEXT = Ask(40, 80, '"v1"')
BLIND = Ask(40, 80)


@pytest.mark.parametrize(
    ("ask", "answer", "expected"),
    [
        (NEXT, part("bytes 40-79/100", etag='"v1"'), ("admitted",)),
        (NEXT, part("bytes 40-79/*", etag='"v1"'), ("admitted",)),
        (NEXT, part("bytes 40-79/100", etag='"v1"', content_length="40"), ("admitted",)),
        (NEXT, part("bytes 40-79/100", etag='"v2"'), ("changed", '"v2", 100 bytes')),
        (NEXT, part("bytes 40-79/*", etag='"v2"'), ("changed", '"v2"')),
        (NEXT, part("bytes 40-79/101", etag='"v1"'), ("changed", '"v1", 101 bytes')),
        (NEXT, part("bytes 40-59/60", etag='"v1"'), ("changed", '"v1", 60 bytes')),
        # A part of any version, for all that it says: If-Range may have been overlooked.
        (NEXT, part("bytes 40-79/100"), ("unranged",)),
        (NEXT, part("bytes 40-79/100", etag='W/"v1"'), ("unranged",)),
        (NEXT, part("bytes 40-79/100", last_modified=DATE), ("unranged",)),
        (NEXT, part("bytes 40-79/100", etag='"v1"', content_encoding="gzip"),
         ("changed", '"v1", 100 bytes, encoded as gzip')),
        (NEXT, part("bytes 40-79/100", etag='"v1"', content_type="multipart/byteranges; boundary=b"), PROTOCOL),
        (NEXT, part("bytes 40-78/100", etag='"v1"'), ("admitted",)),
        (NEXT, part("bytes 40-80/100", etag='"v1"'), PROTOCOL),
        (NEXT, part("bytes 39-79/100", etag='"v1"'), PROTOCOL),
        (NEXT, part("bytes 0-39/100", etag='"v1"'), PROTOCOL),
        (NEXT, part("bytes 40-79/100", etag='"v1"', content_length="39"), PROTOCOL),
        (NEXT, part("bytes 40-79/100", etag='"v1"', content_length="1, 2"), PROTOCOL),
        (NEXT, part("nothing", etag='"v1"'), PROTOCOL),
        (NEXT, part("bytes */100", etag='"v1"'), PROTOCOL),
        (NEXT, head(206, etag='"v1"'), PROTOCOL),
        (NEXT, head(200, etag='"v2"', content_length="100"), ("changed", '"v2"')),
        (NEXT, head(200), ("changed", "no validator")),
        (NEXT, head(200, etag='"v1"'), ("unranged",)),
        (BLIND, head(200, etag='"v1"'), PROTOCOL),
        (BLIND, head(200), PROTOCOL),
        (NEXT, head(416, content_range="bytes */30"), ("changed", "30 bytes")),
        (NEXT, head(416, content_range="bytes */100"), PROTOCOL),
        (BLIND, head(416), ("changed", "a shorter file")),
        *[(NEXT, head(status), ("refused", "status", status)) for status in (204, 304, 404, 412, 429, 503)],
    ],
)  # fmt: skip
def test_a_later_answer(ask, answer, expected):
    assert summary(admit(answer, ask, known(), now=0.0)) == expected


@pytest.mark.parametrize(
    ("was", "fields", "admitted"),
    [
        (Validator(), {}, True),
        (Validator(), {"etag": '"v2"'}, True),  # pieces are only put together under a digest
        (Validator('W/"v1"'), {"etag": 'W/"v1"'}, True),
        (Validator('W/"v1"'), {"etag": 'W/"v2"'}, False),
        (Validator('W/"v1"'), {}, True),
        (Validator(None, DATE), {"last_modified": DATE}, True),
        (Validator(None, DATE), {"last_modified": "Mon, 07 Nov 1994 08:49:37 GMT"}, False),
    ],
)
def test_versions_are_told_apart_by_all_that_is_known(was, fields, admitted):
    verdict = admit(part("bytes 40-79/100", **fields), BLIND, known(validator=was), now=0.0)
    assert (verdict is None) is admitted
    assert verdict is None or isinstance(verdict, Changed)


OTHER_DATE = "Mon, 07 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("was", "fields", "expected"),
    [
        (Validator('"v1"', DATE, date_is_strong=True), {"last_modified": DATE}, ("admitted",)),
        (Validator('"v1"', DATE), {"last_modified": DATE}, ("unranged",)),
        (Validator('W/"v1"', DATE, date_is_strong=True), {"etag": 'W/"v1"', "last_modified": DATE}, ("admitted",)),
        (Validator('W/"v1"', DATE, date_is_strong=True), {"etag": 'W/"v1"'}, ("unranged",)),
        (Validator(None, DATE, date_is_strong=True), {"last_modified": DATE}, ("admitted",)),
        (Validator(None, DATE, date_is_strong=True), {"last_modified": DATE, "etag": '"new"'}, ("admitted",)),
        (Validator(None, DATE, date_is_strong=True), {}, ("unranged",)),
        (Validator(None, DATE, date_is_strong=True), {"etag": '"v1"'}, ("unranged",)),
        (Validator(None, DATE, date_is_strong=True), {"last_modified": OTHER_DATE},
         ("changed", f"{OTHER_DATE}, 100 bytes")),
    ],
)  # fmt: skip
def test_what_is_strong_must_be_proved_by_each_part(was, fields, expected):
    verdict = admit(part("bytes 40-79/100", **fields), Ask(40, 80, was.if_range), known(validator=was), now=0.0)
    assert summary(verdict) == expected


@pytest.mark.parametrize(
    ("answer", "stop"),
    [(part("bytes 40-59/100"), 60), (part("bytes 40-59/*"), 60), (head(206), None), (head(200), None),
     (head(200, content_range="bytes 40-59/100"), None)],
)  # fmt: skip
def test_where_a_part_ends(answer, stop):
    assert part_stop(answer) == stop


def test_another_digest_is_another_version():
    """Where no validator tells them apart, the server's own digest may."""
    first = introduced(part("bytes 0-39/100", x_goog_hash="md5=jXd/OF09/siBXSD3SWAm3A=="), FIRST)
    assert isinstance(first, Facts)
    for md5, expected in [("jXd/OF09/siBXSD3SWAm3A==", "admitted"), ("AAAAAAAAAAAAAAAAAAAAAA==", "changed")]:
        verdict = admit(part("bytes 40-79/100", x_goog_hash=f"md5={md5}"), BLIND, first.resource, now=0.0)
        assert summary(verdict)[0] == expected


def test_a_coding_that_was_there_from_the_beginning_stays():
    first = introduced(part("bytes 0-39/100", etag='"v1"', content_encoding="gzip"), FIRST)
    assert isinstance(first, Facts)
    assert first.resource.encoding == "gzip"
    later = part("bytes 40-79/100", etag='"v1"', content_encoding="gzip")
    assert admit(later, NEXT, first.resource, now=0.0) is None
    plain = admit(part("bytes 40-79/100", etag='"v1"'), NEXT, first.resource, now=0.0)
    assert summary(plain) == ("changed", '"v1", 100 bytes, encoded as plain bytes')


def test_the_whole_is_never_asked_for_twice():
    with pytest.raises(AssertionError, match="begins anew"):
        admit(head(200), WHOLE, known(), now=0.0)


# Anything else.

_FIELDS = st.dictionaries(
    st.sampled_from(["content_range", "content_length", "etag", "last_modified", "content_type", "retry_after"]),
    st.sampled_from(
        ["bytes 0-39/100", "bytes 40-79/100", "bytes 40-99/100", "bytes */0", "40", "100", '"v1"', 'W/"v1"', DATE, "x"]
    )
    | st.text(max_size=20),
)


@given(st.sampled_from([200, 206, 416, 304, 404, 503]), _FIELDS, st.sampled_from([WHOLE, FIRST, LATER, RESUMED, AGAIN]))
@settings(deadline=None, max_examples=500)
def test_no_answer_is_taken_for_bytes_that_were_not_asked_for(status, fields, ask):
    answer = head(status, **fields)
    verdict = introduced(answer, ask)
    if isinstance(verdict, Facts) and not verdict.empty:
        whole = status == 200 and ask.start == 0 and ask.if_range is None
        size = verdict.resource.size
        assert whole or (status == 206 and within(answer, ask, size))
    if ask.stop is not None and admit(answer, ask, known(), now=0.0) is None:
        assert status == 206
        assert within(answer, ask, 100) or within(answer, ask, "*")


def within(answer: Head, ask: Ask, total: int | str | None) -> bool:
    """The answer is a part that begins where it was asked to, and ends there at the latest."""
    stops = range(ask.start + 1, ask.stop + 1)
    return answer.get("content-range") in (f"bytes {ask.start}-{stop - 1}/{total}" for stop in stops)


@pytest.mark.parametrize("ask", [Ask(0, 40), Ask(40, 80), Ask(40, 80, '"v1"')])
def test_a_part_that_calls_itself_the_whole_is_never_taken_for_it(ask):
    fields = (("content-range", f"bytes {ask.start}-{ask.stop - 1}/1000"), ("content-length", "40"), ("etag", '"v1"'))
    verdict = introduce(Head(200, fields, "http://x/"), ask, url="http://x/", final_url="http://x/", now=0.0)
    assert isinstance(verdict, Unranged)


# The size, and what a redirect says of it.


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        (200, (("content-length", "5"),), 5),
        (200, (), None),
        (200, (("content-length", "x"),), None),
        (206, (("content-range", "bytes 0-1/7"), ("content-length", "2")), 7),
        (206, (("content-range", "bytes 0-1/*"),), None),
        (206, (("content-length", "2"),), None),
    ],
)
def test_the_size_of_the_whole(status, lines, expected):
    assert size(Head(status, lines, URL)) == expected


@pytest.mark.parametrize(("told", "believed"), [("5", True), ("6", False), ("x", True)])
def test_the_size_that_the_redirect_promises(told, believed):
    hub = Head(302, (("x-linked-etag", "a" * 64), ("x-linked-size", told)), URL)
    verdict = introduce(
        Head(200, (("content-length", "5"),), FINAL, redirects=(hub,)), Ask(), url=URL, final_url=FINAL, now=0.0
    )
    assert isinstance(verdict, Facts) is believed
    if not believed:
        assert "5 bytes, where the redirect promises 6" in verdict.failure.message
