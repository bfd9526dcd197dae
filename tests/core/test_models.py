"""The nouns: their forms, their limits, and the way between processes."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.models import (
    ALGORITHMS,
    ByteRange,
    Claim,
    Digest,
    DigestSource,
    FetchResult,
    Head,
    Outcome,
    Phase,
    Progress,
    Resource,
    Validator,
    Verification,
)

MD5 = Digest("md5", "d41d8cd98f00b204e9800998ecf8427e")
CLAIM = Claim(MD5, DigestSource.CONTENT_MD5)
HEAD = Head(206, (("etag", '"a"'), ("x-goog-hash", "crc32c=AA"), ("x-goog-hash", "md5=BB")), "http://h/x")
RESULT = FetchResult(
    url="http://h/x",
    final_url="http://cdn/x",
    path=Path("download/x"),
    size=10,
    digest=MD5,
    verification=Verification.SERVER,
    digest_source=DigestSource.CONTENT_MD5,
    etag='"a"',
    last_modified=None,
    outcome=Outcome.RESUMED,
    bytes_from_network=4,
    bytes_from_checkpoint=6,
    requests=2,
    retries=1,
    restarts=0,
    peak_connections=1,
    http_version="HTTP/1.1",
    elapsed=0.25,
)
VALUES = [
    ByteRange(3, 7),
    MD5,
    CLAIM,
    Validator('"a"', "Sun, 06 Nov 1994 08:49:37 GMT", date_is_strong=True),
    HEAD,
    Resource("http://h/x", "http://cdn/x", 10, ranges=True, validator=Validator(), claims=(CLAIM,)),
    Progress("http://h/x", "x", Phase.WAITING, done=3),
    RESULT,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_travel(value):
    twin = pickle.loads(pickle.dumps(value))
    assert twin == value
    assert hash(twin) == hash(value)
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, None)
    assert not hasattr(value, "__dict__"), "slotted"


# Byte ranges.


def test_a_byte_range_counts_its_bytes():
    assert len(ByteRange(3, 7)) == 4
    assert not ByteRange(5, 5)
    assert ByteRange(1, 9) < ByteRange(2, 3)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (-2, -1)])
def test_a_byte_range_goes_forward(start, stop):
    with pytest.raises(ValueError, match="not a byte range"):
        ByteRange(start, stop)


# Digests.


@given(st.sampled_from(sorted(ALGORITHMS)), st.data())
@settings(deadline=None)
def test_a_digest_reads_what_it_writes(algorithm, data):
    size = ALGORITHMS[algorithm] // 8
    digest = Digest(algorithm, data.draw(st.binary(min_size=size, max_size=size)).hex())
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize("text", ["SHA-256:{}", " sha256: {} ", "Sha256:{}\n"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_digest_is_read_in_any_case(text, case):
    value = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    assert Digest.parse(text.format(case(value))) == Digest("sha256", value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d41d8cd98f00b204e9800998ecf8427e", "a digest is written ALGORITHM:HEX"),
        ("", "a digest is written ALGORITHM:HEX"),
        ("crc64:0123456789abcdef", "unknown digest algorithm 'crc64': choose one of md5, sha1"),
        (":d41d8cd98f00b204e9800998ecf8427e", "unknown digest algorithm ''"),
        ("md5:d41d8cd98f00b204e9800998ecf8427", "a md5 digest has 32 hexadecimal digits"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e0", "a md5 digest has 32 hexadecimal digits"),
        ("md5:g41d8cd98f00b204e9800998ecf8427e", "a md5 digest has 32 hexadecimal digits"),
        ("md5:\u0660" + "0" * 31, "a md5 digest has 32 hexadecimal digits"),
        ("md5:", "a md5 digest has 32 hexadecimal digits"),
        ("crc32c:0x12345", "a crc32c digest has 8 hexadecimal digits"),
    ],
)
def test_what_is_no_digest_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Digest.parse(text)


@pytest.mark.parametrize("value", ["D41D8CD98F00B204E9800998ECF8427E", "d41d8cd98f00b204e9800998ecf8427\n"])
def test_a_digest_itself_is_exact(value):
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        Digest("md5", value)


# Validators.


@pytest.mark.parametrize(
    ("validator", "strong", "if_range", "text"),
    [
        (Validator(), None, None, "no validator"),
        (Validator('"a"'), '"a"', '"a"', '"a"'),
        (Validator('W/"a"'), None, None, 'W/"a"'),
        (Validator(None, "date"), None, None, "date"),
        (Validator(None, "date", date_is_strong=True), None, "date", "date"),
        (Validator('W/"a"', "date", date_is_strong=True), None, None, 'W/"a"'),
        (Validator('"a"', "date", date_is_strong=True), '"a"', '"a"', '"a"'),
        (Validator('"W/"', "date"), '"W/"', '"W/"', '"W/"'),
    ],
)
def test_only_a_strong_validator_goes_into_if_range(validator, strong, if_range, text):
    assert (validator.strong_etag, validator.if_range, str(validator)) == (strong, if_range, text)
    assert validator.strong is (strong is not None or validator.date_is_strong)


# Heads.


def test_fields_of_several_lines_are_joined():
    assert HEAD.get("x-goog-hash") == "crc32c=AA, md5=BB"
    assert HEAD.get_all("x-goog-hash") == ["crc32c=AA", "md5=BB"]
    assert HEAD.get("etag") == '"a"'
    assert HEAD.get("date") is None
    assert HEAD.get_all("date") == []
    assert Head(200, (("etag", ""),), "http://h/").get("etag") == "", "empty is not absent"


# Results.


def test_a_result_is_json():
    values = json.loads(json.dumps(RESULT.as_dict()))
    assert values.keys() == {field.name for field in fields(FetchResult)}
    assert values["path"] == str(Path("download/x"))
    assert values["digest"] == "md5:d41d8cd98f00b204e9800998ecf8427e"
    assert values["digest_source"] == "Content-MD5 header"
    assert (values["verification"], values["outcome"]) == ("server", "resumed")
    assert values["elapsed"] == 0.25


def test_a_streamed_result_has_neither_path_nor_digest():
    values = {field.name: getattr(RESULT, field.name) for field in fields(FetchResult)}
    streamed = FetchResult(**{**values, "path": None, "digest": None, "digest_source": None})
    told = json.loads(json.dumps(streamed.as_dict()))
    assert (told["path"], told["digest"], told["digest_source"]) == (None, None, None)
