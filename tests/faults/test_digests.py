"""Digests that servers announce: believed where they speak of the whole file, and then they must hold."""

from __future__ import annotations

import base64
import hashlib

import google_crc32c
import pytest

from hydraflow.errors import DigestMismatchError
from hydraflow.models import DigestSource, Verification
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)
MD5 = hashlib.md5(DATA)
CRC32C = google_crc32c.value(DATA).to_bytes(4, "big")
ZERO = base64.b64encode(bytes(16)).decode()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class TestContentMd5:
    def test_right(self, origin, front):
        url = origin.add("/x.bin", DATA, headers={"Content-MD5": b64(MD5.digest())})
        got = front.get(url)
        assert got.data == DATA
        assert (got.result.verification, got.result.digest_source) == (Verification.SERVER, DigestSource.CONTENT_MD5)
        assert str(got.result.digest) == f"md5:{MD5.hexdigest()}"

    def test_wrong(self, origin, front):
        url = origin.add("/x.bin", DATA, headers={"Content-MD5": ZERO})
        error = front.refuse(url, DigestMismatchError)
        assert (error.algorithm, error.source, error.actual) == ("md5", "Content-MD5 header", MD5.hexdigest())
        if front.name == "stream":
            assert not front.had_the_end_of(DATA)

    def test_of_the_part(self, origin, front):
        """RFC 1864 lets a 206 bear the part's own; it is not mistaken for the whole's, which HEAD is asked for."""
        url = origin.add("/x.bin", DATA)
        rule = origin.when(method="GET")
        rule._add(
            "part",
            lambda answer: answer.headers.update({"Content-MD5": b64(hashlib.md5(answer.body).digest())}) or answer,
        )
        got = front.get(url)
        assert rule.fired >= 2
        assert got.data == DATA
        assert got.result.verification is Verification.SIZE

    def test_head_refused(self, origin, front):
        url = origin.add("/x.bin", DATA, headers={"Content-MD5": ZERO}, refuse_head=True)
        got = front.get(url)
        assert got.data == DATA
        assert got.result.verification is Verification.SIZE

    @pytest.mark.parametrize("value", ["nonsense", "AAAA", ""])
    def test_malformed_is_no_promise(self, origin, front, value):
        url = origin.add("/x.bin", DATA[:1000], headers={"Content-MD5": value})
        assert front.get(url).data == DATA[:1000]

    def test_the_caller_knows_better(self, origin, front):
        url = origin.add("/x.bin", DATA, headers={"Content-MD5": ZERO})
        got = front.get(url, digest=f"sha256:{hashlib.sha256(DATA).hexdigest()}")
        assert got.data == DATA
        assert got.result.verification is Verification.CALLER


class TestGoogHash:
    @pytest.mark.parametrize(
        ("value", "digest"),
        [
            (f"crc32c={b64(CRC32C)},md5={b64(MD5.digest())}", f"md5:{MD5.hexdigest()}"),
            (f"crc32c={b64(CRC32C)}", f"crc32c:{CRC32C.hex()}"),
        ],
    )
    def test_right(self, origin, front, value, digest):
        url = origin.add("/x.bin", DATA, headers={"x-goog-hash": value})
        got = front.get(url)
        assert got.data == DATA
        assert (str(got.result.digest), got.result.digest_source) == (digest, DigestSource.GOOG_HASH)

    @pytest.mark.parametrize("value", [f"md5={ZERO}", "crc32c=AAAAAA=="])
    def test_wrong(self, origin, front, value):
        url = origin.add("/x.bin", DATA, headers={"x-goog-hash": value})
        error = front.refuse(url, DigestMismatchError)
        assert error.source == "x-goog-hash header"
        if front.name == "stream":
            assert not front.had_the_end_of(DATA)


S3 = {"x-amz-request-id": "0123", "Server": "AmazonS3"}


class TestS3Etag:
    def test_right(self, origin, front):
        url = origin.add("/x.bin", DATA, etag=f'"{MD5.hexdigest()}"', headers=S3)
        got = front.get(url)
        assert got.data == DATA
        assert (got.result.verification, got.result.digest_source) == (Verification.SERVER, DigestSource.S3_ETAG)

    def test_wrong(self, origin, front):
        url = origin.add("/x.bin", DATA, etag=f'"{"0" * 32}"', headers=S3)
        error = front.refuse(url, DigestMismatchError)
        assert error.source == "S3 ETag"
        if front.name == "stream":
            assert not front.had_the_end_of(DATA)

    @pytest.mark.parametrize(
        ("etag", "extra"),
        [
            (f'"{"0" * 32}-2"', {}),
            (f'"{"0" * 32}"', {"x-amz-server-side-encryption": "aws:kms"}),
            (f'W/"{"0" * 32}"', {}),
        ],
    )
    def test_what_is_no_md5_is_no_promise(self, origin, front, etag, extra):
        url = origin.add("/x.bin", DATA[:1000], etag=etag, headers=S3 | extra)
        got = front.get(url)
        assert got.data == DATA[:1000]
        assert got.result.verification is Verification.SIZE

    def test_flipped_on_the_way(self, origin, front):
        url = origin.add("/x.bin", DATA, etag=f'"{MD5.hexdigest()}"', headers=S3)
        rule = origin.when().flip(6 * MIB)
        front.refuse(url, DigestMismatchError)
        assert rule.fired == 1
