"""Servers that break the rules: no byte of a wrong answer is believed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from hydraflow.errors import DigestMismatchError, RemoteProtocolError, ResourceChangedError, SizeMismatchError
from hydraflow.models import Verification
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


@pytest.mark.parametrize("request_number", [1, 2])
@pytest.mark.parametrize("shift", [-1, 1, 4096])
def test_wrong_content_range(origin, url, front, request_number, shift):
    if request_number == 1 and shift < 0:
        shift = 7
    rule = origin.when(request=request_number).wrong_range(shift=shift)
    assert front.get(url).data == DATA
    assert rule.fired == 1


@pytest.mark.parametrize("request_number", [1, 2])
@pytest.mark.parametrize("shift", [1, 4096, MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_other_bytes_than_asked_for(origin, url, front, request_number, shift, chunked):
    """A cache that rounds ranges, say: the Content-Range tells, also where no Content-Length does."""
    rule = origin.when(request=request_number).elsewhere(shift)
    if chunked:
        rule.chunked()
    assert front.get(url).data == DATA
    assert rule.fired == 1


def test_always_a_wrong_content_range(origin, url, front):
    rule = origin.when().wrong_range(shift=1)
    error = front.refuse(url, RemoteProtocolError)
    assert rule.fired == 3  # once is an accident
    assert "bytes 1-4194304" in str(error)


def test_wrong_total_later(origin, url, front):
    """Another total is another version, as far as anybody can tell: nothing of the two is mixed."""
    rule = origin.when(request=2).wrong_total(by=-5)
    assert front.get(url).data == DATA
    assert rule.fired == 1


def test_always_a_wrong_total_later(origin, url, stream_front):
    rule = origin.when(range_start=4 * MIB).wait(head=stream_front.reading).wrong_total(by=5)
    stream_front.settings = replace(stream_front.settings, threads=1, read_timeout=5)
    error = stream_front.refuse(url, ResourceChangedError)
    assert stream_front.received == DATA[: len(stream_front.received)]
    assert error.now == f'"v1", {len(DATA) + 5} bytes'
    assert rule.fired == 4


def test_always_a_total_that_is_too_small(origin, url, front):
    """It would be a truncated file."""
    rule = origin.when().wrong_total(by=-5)
    front.refuse(url, DigestMismatchError, digest=f"sha256:{SHA256}")
    assert rule.fired >= 1


def test_always_a_total_that_is_too_large(origin, url, front):
    """The last bytes can never come, and the server's 416 says that the file is shorter."""
    rule = origin.when().wrong_total(by=5)
    if front.name == "file":
        got = front.get(url)
        assert (got.data, got.result.restarts) == (DATA, 3)  # in the end as a whole, without any total
    else:
        front.refuse(url, ResourceChangedError)
        assert front.received == DATA[: len(front.received)]
    assert rule.fired >= 1


@pytest.mark.parametrize("announced", [True, False])
def test_extra_bytes(origin, url, front, announced):
    rule = origin.when(request=2).extra(5, announced=announced)
    assert front.get(url).data == DATA
    assert rule.fired == 1


@pytest.mark.parametrize("announced", [True, False])
def test_extra_bytes_at_the_end(origin, front, announced):
    data = noise(1000)
    url = origin.add("/small.bin", data)
    rule = origin.when(request=1).extra(5, announced=announced)
    assert front.get(url).data == data
    assert rule.fired == 1
    assert front.get(origin.add("/next.bin", data), overwrite=True).data == data if front.name == "file" else True


@pytest.mark.parametrize("size", [1000, 4 * MIB, 5 * MIB])
class TestChunksWithoutTheRightEnd:
    """All bytes of a range have come, in chunks without a Content-Length, and then the framing breaks."""

    def test_more_than_was_asked_for(self, origin, front, size):
        url = origin.add("/chunks.bin", noise(size))
        rule = origin.when(request=1).extra(5).chunked()
        assert front.get(url).data == noise(size)
        assert rule.fired == 1

    def test_too_few(self, origin, front, size):
        """A proper end, and a Content-Range that promised more."""
        url = origin.add("/chunks.bin", noise(size))
        rule = origin.when(request=1).chunked()
        rule._add("too few", lambda answer: setattr(answer, "body", answer.body[:-10]) or answer)
        got = front.get(url)
        assert (got.data, got.result.retries) == (noise(size), 1)
        assert rule.fired == 1

    def test_cut(self, origin, front, size):
        url = origin.add("/chunks.bin", noise(size))
        rule = origin.when(request=1).extra(5).chunked().drop(after=min(size, 4 * MIB))
        assert front.get(url).data == noise(size)
        assert rule.fired == 1

    def test_stall(self, origin, front, size):
        url = origin.add("/chunks.bin", noise(size))
        rule = origin.when(request=1).extra(5).chunked().stall(after=min(size, 4 * MIB))
        assert front.get(url).data == noise(size)
        assert rule.fired == 1


def test_garbage(origin, url, front):
    rule = origin.when(request=2).garbage()
    assert front.get(url).data == DATA
    assert rule.fired == 1


def test_nothing_but_garbage(origin, url, front):
    rule = origin.when().garbage()
    error = front.refuse(url, RemoteProtocolError)
    assert rule.fired == 3
    assert error.exit_code == 4
    assert "not HTTP/1.1: illegal status line" in str(error)
    assert "bytearray" not in str(error)


def test_endless_head(origin, url, front):
    rule = origin.when().raw(b"HTTP/1.1 206 Partial Content\r\n" + b"X-Filler: 0123456789abcdef\r\n" * 10_000)
    front.refuse(url, RemoteProtocolError)
    assert rule.fired == 3


def test_a_multipart_answer(origin, url, front):
    body = b"--x\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789\r\n--x--\r\n"
    rule = origin.when().status(206, headers={"Content-Type": "multipart/byteranges; boundary=x"}, body=body)
    front.refuse(url, RemoteProtocolError)
    assert rule.fired == 3


def test_a_multipart_answer_that_claims_to_be_a_part(origin, url, front):
    """With a Content-Range of what was asked for, and a body of just that length: still not the bytes."""
    rule = origin.when(request=2)
    rule._add("multipart", lambda answer: answer.headers.update({"Content-Type": "multipart/byteranges"}) or answer)
    rule._add("framed", lambda answer: setattr(answer, "body", b"--x\r\n" + bytes(answer.body)[5:]) or answer)
    assert front.get(url).data == DATA
    assert rule.fired == 1


def test_compressed_though_not_asked_for(origin, front):
    """The request says identity; what comes all the same is kept as it comes, never decoded into other bytes."""
    data = noise(1000)
    url = origin.add("/small.bin", data, headers={"Content-Encoding": "gzip"})
    assert front.get(url, digest=f"sha256:{hashlib.sha256(data).hexdigest()}").data == data
    assert origin.ledger[0].headers["accept-encoding"] == "identity"


class TestFlippedBit:
    @pytest.mark.parametrize("offset", [0, 5 * MIB, 9 * MIB - 1])
    def test_digest_given(self, origin, url, front, offset):
        rule = origin.when().flip(offset)
        error = front.refuse(url, DigestMismatchError, digest=f"sha256:{SHA256}")
        assert rule.fired >= 1
        assert (error.algorithm, error.expected, error.source) == ("sha256", SHA256, "caller")
        damaged = bytearray(DATA)
        damaged[offset] ^= 1
        assert error.actual == hashlib.sha256(damaged).hexdigest()
        if front.name == "stream":
            assert not front.had_the_end_of(DATA)

    def test_in_the_fragment(self, origin, url, front):
        rule = origin.when().flip(77)
        error = front.refuse(f"{url}#sha256={SHA256}", DigestMismatchError)
        assert rule.fired >= 1
        assert error.source == "url fragment"

    def test_small_stream_is_withheld_whole(self, origin, stream_front):
        data = noise(50_000)
        url = origin.add("/small.bin", data)
        rule = origin.when().flip(5)
        stream_front.refuse(url, DigestMismatchError, digest=f"md5:{hashlib.md5(data).hexdigest()}")
        assert rule.fired == 1
        assert stream_front.received == b""

    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
    def test_right_digest(self, origin, url, front, algorithm):
        digest = f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}"
        got = front.get(url, digest=digest)
        assert got.data == DATA
        assert (str(got.result.digest), got.result.verification) == (digest, Verification.CALLER)


class TestSize:
    def test_right(self, origin, url, front):
        assert front.get(f"{url}#size={len(DATA)}").data == DATA

    @pytest.mark.parametrize("wrong", [len(DATA) - 1, len(DATA) + 1, 0])
    def test_wrong(self, origin, url, front, wrong):
        error = front.refuse(url, SizeMismatchError, size=wrong)
        assert (error.expected, error.actual, error.exit_code) == (wrong, len(DATA), 5)
        assert len(origin.ledger) == 1

    def test_wrong_where_the_server_does_not_tell(self, origin, front):
        data = noise(300_000)
        url = origin.add("/x", data, ranges=False)
        rule = origin.when().chunked()
        error = front.refuse(url, SizeMismatchError, size=300_001)
        assert rule.fired == 1
        assert error.actual == 300_000
        if front.name == "stream":
            assert not front.had_the_end_of(data)
