"""The journal: whatever is cut off, flipped or made up, replay tells a prefix of the truth and never a lie."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core.journal import Identity, Replay, encode_durable, encode_header, encode_resource, replay
from hydraflow.core.ranges import RangeSet
from hydraflow.models import ByteRange, Claim, Digest, DigestSource, Validator

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
CLAIM = Claim(Digest("md5", "d41d8cd98f00b204e9800998ecf8427e"), DigestSource.CONTENT_MD5)
IDENTITY = Identity(
    url="https://h/é?v=1",
    size=1000,
    validator=Validator('"a"', MODIFIED, date_is_strong=True),
    claims=(CLAIM, Claim(Digest("crc32c", "e3069283"), DigestSource.GOOG_HASH)),
    part="part-1f2e3d4c",
)
OTHER = Identity("http://h/", 50, Validator(), (), "p")


def frame(kind: bytes, payload: bytes) -> bytes:
    """A frame as the module's picture shows it, made by other means."""
    return len(payload).to_bytes(4, "big") + zlib.crc32(kind + payload).to_bytes(4, "big") + kind + payload


def build(records) -> tuple[bytes, list[Replay]]:
    """A journal of identities and lists of ranges, and what each prefix of its frames says."""
    data, identity, durable = encode_header(), None, RangeSet()
    truths = [Replay(None, RangeSet(), 0), Replay(None, RangeSet(), len(data))]
    for record in records:
        if isinstance(record, Identity):
            identity, durable = record, RangeSet()
            data += encode_resource(record)
        else:
            for each in record:
                durable.add(each.start, each.stop)
            data += encode_durable(record)
        truths.append(Replay(identity, durable.copy(), len(data)))
    return data, truths


SAMPLE = [
    IDENTITY,
    [ByteRange(0, 100)],
    [ByteRange(100, 150), ByteRange(700, 1000)],
    OTHER,
    [ByteRange(7, 50)],
    [ByteRange(0, 7)],
]


def test_the_bytes_are_those_of_the_picture():
    assert encode_header() == b"HYDRAJ1\n"
    assert encode_durable([ByteRange(1, 2), ByteRange(3, 2**40)]) == frame(b"D", struct.pack(">4Q", 1, 2, 3, 2**40))
    fields = {
        "url": "http://h/",
        "size": 50,
        "etag": None,
        "last_modified": None,
        "date_is_strong": False,
        "claims": [],
        "part": "p",
    }
    assert encode_resource(OTHER) == frame(b"R", json.dumps(fields, separators=(",", ":")).encode())


def test_what_is_written_is_read():
    data, truths = build(SAMPLE)
    assert replay(data) == truths[-1]
    assert replay(data) == Replay(OTHER, RangeSet([(0, 50)]), len(data))
    one, _ = build(SAMPLE[:3])
    assert replay(one) == Replay(IDENTITY, RangeSet([(0, 150), (700, 1000)]), len(one))


def test_a_new_resource_is_a_fresh_start():
    data, _ = build([IDENTITY, [ByteRange(0, 10)], IDENTITY])
    assert replay(data) == Replay(IDENTITY, RangeSet(), len(data))


def test_a_cut_at_every_byte_tells_the_last_whole_frame():
    data, truths = build(SAMPLE)
    for cut in range(len(data) + 1):
        assert replay(data[:cut]) == max((t for t in truths if t.valid_length <= cut), key=lambda t: t.valid_length)


def test_a_cut_journal_can_be_continued_at_its_valid_length():
    data, _ = build(SAMPLE[:3])
    found = replay(data[:-1])
    assert replay(data[: found.valid_length] + encode_durable([ByteRange(500, 600)])).durable == RangeSet(
        [(0, 100), (500, 600)]
    )


def test_every_flipped_bit_tells_a_prefix():
    data, truths = build(SAMPLE)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        found = replay(bytes(damaged))
        assert found in truths
        assert found.valid_length <= bit // 8, "the damaged frame is not believed"


@pytest.mark.parametrize("tail", [bytes(9), bytes(4096), b"\xff" * 4096, b"HYDRAJ1\n", encode_header() * 2])
def test_a_tail_that_the_file_system_made_up_is_not_believed(tail):
    data, truths = build(SAMPLE)
    assert replay(data + tail) == truths[-1]


intervals = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted).map(lambda pair: ByteRange(*pair))
histories = st.lists(st.lists(intervals, max_size=5) | st.just(IDENTITY), max_size=8).map(
    lambda rest: [IDENTITY, *rest]
)


@given(histories, st.data())
@settings(deadline=None)
def test_any_history_cut_anywhere(history, data):
    journal, truths = build(history)
    cut = data.draw(st.integers(0, len(journal)))
    found = replay(journal[:cut])
    assert found == [truth for truth in truths if truth.valid_length <= cut][-1]
    assert replay(journal[: found.valid_length]) == found


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_survived(junk, with_magic):
    data = (encode_header() if with_magic else b"") + junk
    found = replay(data)
    assert 0 <= found.valid_length <= len(data)
    assert found.identity is not None or not found.durable


@given(st.binary(max_size=100), st.sampled_from([b"R", b"D", b"X", b"\0"]))
@settings(deadline=None)
def test_any_payload_with_a_right_checksum_is_survived(payload, kind):
    start = encode_header() + encode_resource(IDENTITY)
    found = replay(start + frame(kind, payload))
    assert found.identity == IDENTITY
    assert all(0 <= each.start < each.stop <= IDENTITY.size for each in found.durable)
    assert found.valid_length == len(start) or found.durable


# Frames that are whole, and lie.


def believed(tail: bytes) -> bool:
    data = encode_header() + encode_resource(IDENTITY) + encode_durable([ByteRange(0, 10)])
    found = replay(data + tail + encode_durable([ByteRange(20, 30)]))
    if found.valid_length == len(data):
        assert found == Replay(IDENTITY, RangeSet([(0, 10)]), len(data)), "nothing after the lie is believed"
        return False
    return True


def pairs(*offsets: int) -> bytes:
    return frame(b"D", struct.pack(f">{len(offsets)}Q", *offsets))


def test_the_probe_of_these_tests_works():
    assert believed(pairs(40, 50))
    assert believed(encode_resource(IDENTITY))


@pytest.mark.parametrize(
    "tail",
    [
        pairs(),
        pairs(5, 5),
        pairs(6, 5),
        pairs(0, 1001),
        pairs(1001, 1002),
        pairs(2**64 - 2, 2**64 - 1),
        pairs(40, 50, 60, 50),
        pairs(40, 50, 60),
        frame(b"D", bytes(15)),
        frame(b"D", bytes(17)),
        frame(b"d", struct.pack(">2Q", 40, 50)),
        frame(b"\0", b""),
        frame(b"D", struct.pack(">2Q", 40, 50) * 65537),
    ],
)
def test_durable_ranges_that_cannot_be(tail):
    assert not believed(tail)


def test_durable_ranges_of_nothing():
    data = encode_header() + encode_durable([ByteRange(0, 10)])
    assert replay(data) == Replay(None, RangeSet(), len(encode_header()))


def resource(**changes) -> bytes:
    payload = encode_resource(IDENTITY)[9:]
    fields = {**json.loads(payload), **changes}
    return frame(b"R", json.dumps({key: value for key, value in fields.items() if value != "absent"}).encode())


def test_a_resource_may_be_written_otherwise():
    assert believed(resource())
    assert believed(resource(etag=None, last_modified=None, claims=[]))
    assert believed(resource(size=2**63 - 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1}, {"size": 2**63}, {"size": 1e3}, {"size": "1000"}, {"size": True}, {"size": None},
        {"size": "absent"}, {"extra": 1}, {"url": None}, {"url": 3},
        {"etag": "a"}, {"etag": '"a"\r\nX: y'}, {"etag": 3}, {"etag": '"é"'},
        {"last_modified": "yesterday"}, {"last_modified": 0}, {"last_modified": MODIFIED + "\r\nX: y"},
        {"date_is_strong": 1}, {"date_is_strong": None},
        {"claims": None}, {"claims": {}}, {"claims": ["ab"]}, {"claims": [[]]}, {"claims": [["md5:00", "S3 ETag"]]},
        {"claims": [["crc32c:e3069283", "hearsay"]]}, {"claims": [["crc32c:e3069283", []]]},
        {"claims": [["crc32c:e3069283", "S3 ETag", 1]]}, {"claims": [[3, "S3 ETag"]]},
        {"part": ""}, {"part": "."}, {"part": ".."}, {"part": ".part"}, {"part": "a/b"}, {"part": "/etc/passwd"},
        {"part": "../x"}, {"part": "a" * 65}, {"part": "a\0"}, {"part": "a\n"}, {"part": "é"}, {"part": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_resource_that_cannot_be(changes):
    assert not believed(resource(**changes))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"{}", b"3", b'"x"', b"NaN", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
        b'{"size":' + b"9" * 5000 + b"}",
    ],
    ids=lambda payload: repr(payload[:8]),
)  # fmt: skip
def test_a_resource_that_is_none(payload):
    assert not believed(frame(b"R", payload))


def test_a_frame_longer_than_allowed_is_not_believed():
    blank = encode_resource(IDENTITY)[9:].ljust(1 << 20)
    assert believed(frame(b"R", blank))
    assert not believed(frame(b"R", blank + b" "))


@pytest.mark.parametrize("data", [b"", b"HYDRAJ1", b"HYDRAJ2\n", b"hydraj1\n", b"\0" * 100, b"{}" * 50])
def test_what_is_no_journal(data):
    assert replay(data) == Replay(None, RangeSet(), 0)


# What is written.


def test_no_bytes_need_no_record():
    assert encode_durable([]) == encode_durable([ByteRange(5, 5)]) == b""


def test_many_ranges_take_several_frames():
    ranges = [ByteRange(2 * index, 2 * index + 1) for index in range(65_537)]
    data = encode_header() + encode_resource(replace(IDENTITY, size=10**6))
    assert replay(data + encode_durable(ranges)).durable == RangeSet(ranges)
    assert encode_durable(ranges)[:9] == encode_durable(ranges[:65_536])[:9]


@pytest.mark.parametrize("part", ["", ".x", "a/b", "a" * 65, "a b"])
def test_an_identity_names_its_part_safely(part):
    with pytest.raises(ValueError, match="not the name of a part file"):
        replace(IDENTITY, part=part)


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_an_identity_of_any_possible_size_travels(size):
    identity = replace(IDENTITY, size=size)
    assert replay(encode_header() + encode_resource(identity)).identity == identity


@pytest.mark.parametrize("size", [-1, 2**63])
def test_an_identity_has_a_size(size):
    with pytest.raises(ValueError, match="not a size in bytes"):
        replace(IDENTITY, size=size)


def test_a_resource_that_does_not_fit_is_not_written():
    room = (1 << 20) - len(encode_resource(replace(IDENTITY, url=""))[9:])
    longest = replace(IDENTITY, url="x" * room)
    assert replay(encode_header() + encode_resource(longest)).identity == longest
    with pytest.raises(ValueError, match="at most 1048576 bytes, not 1048577"):
        encode_resource(replace(IDENTITY, url="x" * (room + 1)))
