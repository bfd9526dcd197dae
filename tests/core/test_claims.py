"""Digests in an answer's header: right, malformed, of something else, and of the answers that redirected here."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import claims
from hydraflow.models import ALGORITHMS, Claim, Digest, DigestSource, Head

DATA = b"data"
MD5 = hashlib.md5(DATA).digest()
SHA256 = hashlib.sha256(DATA).digest()
SHA512 = hashlib.sha512(DATA).digest()
MD5_64 = base64.b64encode(MD5).decode()
SHA256_64 = base64.b64encode(SHA256).decode()
SHA512_64 = base64.b64encode(SHA512).decode()
CRC_64 = "4waSgw=="  # CRC-32C of 123456789


def head(*lines: tuple[str, str], status: int = 200, redirects: tuple[Head, ...] = ()) -> Head:
    return Head(status, lines, "http://h/x", redirects=redirects)


# Google, Content-MD5 and S3's ETag.

GOOG_MD5 = Claim(Digest("md5", MD5.hex()), DigestSource.GOOG_HASH)
GOOG_CRC = Claim(Digest("crc32c", "e3069283"), DigestSource.GOOG_HASH)
CONTENT_MD5 = Claim(Digest("md5", MD5.hex()), DigestSource.CONTENT_MD5)
S3_MD5 = Claim(Digest("md5", MD5.hex()), DigestSource.S3_ETAG)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"crc32c={CRC_64}", f"md5={MD5_64}"], (GOOG_MD5, GOOG_CRC)),
        ([f"crc32c={CRC_64},md5={MD5_64}"], (GOOG_MD5, GOOG_CRC)),
        ([f"md5={MD5_64} ,\tcrc32c={CRC_64}"], (GOOG_MD5, GOOG_CRC)),
        ([f"crc32c={CRC_64}"], (GOOG_CRC,)),
        ([f"md5={MD5_64}", f"md5={MD5_64}"], (GOOG_MD5,)),
        ([f"md5={MD5_64}", f"md5={base64.b64encode(bytes(16)).decode()}", f"crc32c={CRC_64}"], (GOOG_CRC,)),
        ([f"md5={CRC_64}", f"crc32c={CRC_64}"], (GOOG_CRC,)),
        ([f"sha999={MD5_64}"], ()),
        ([f"MD5 {MD5_64}"], ()),
        (["md5="], ()),
        (["md5=é"], ()),
        ([f"md5={MD5_64[:-2]}"], ()),
        ([f"md5={MD5_64[:4]} {MD5_64[4:]}"], ()),
        ([""], ()),
    ],
)
@pytest.mark.parametrize("status", [200, 206])
def test_goog_hash(lines, expected, status):
    assert claims.announced(head(*(("x-goog-hash", line) for line in lines), status=status)) == expected


@pytest.mark.parametrize(
    ("stored", "sent", "believed"),
    [
        (None, None, True),
        ("identity", None, True),
        ("gzip", "gzip", True),
        ("gzip", None, False),
        ("gzip", "br", False),
    ],
)
def test_a_hash_of_what_is_stored_is_not_one_of_what_is_sent(stored, sent, believed):
    lines = [("x-goog-hash", f"md5={MD5_64}")]
    lines += [] if stored is None else [("x-goog-stored-content-encoding", stored)]
    lines += [] if sent is None else [("content-encoding", sent)]
    assert claims.announced(head(*lines)) == ((GOOG_MD5,) if believed else ())


@pytest.mark.parametrize(
    ("status", "content_range", "believed", "ambiguous"),
    [
        (200, None, True, False),
        (200, "bytes 0-1/9", True, False),
        (206, "bytes 0-8/9", True, False),
        (206, "bytes 0-1/9", False, True),
        (206, "bytes 1-8/9", False, True),
        (206, "bytes 0-8/*", False, True),
        (206, None, False, True),
        (206, "nonsense", False, True),
        (416, "bytes 0-8/9", False, False),
        (404, None, False, False),
    ],
)
def test_content_md5_speaks_of_what_is_enclosed(status, content_range, believed, ambiguous):
    lines = [("content-md5", MD5_64)] + ([] if content_range is None else [("content-range", content_range)])
    assert claims.announced(head(*lines, status=status)) == ((CONTENT_MD5,) if believed else ())
    assert claims.ambiguous(head(*lines, status=status)) is ambiguous


@pytest.mark.parametrize("value", ["", "x", MD5.hex(), MD5_64[:-1], CRC_64, f"{MD5_64}, {MD5_64}", "é" * 22 + "=="])
def test_a_malformed_content_md5_is_nothing_to_ask_about(value):
    assert claims.announced(head(("content-md5", value))) == ()
    part = head(("content-md5", value), ("content-range", "bytes 0-1/9"), status=206)
    assert claims.ambiguous(part) is False


def test_no_content_md5_is_nothing_to_ask_about():
    assert claims.ambiguous(head(("content-range", "bytes 0-1/9"), status=206)) is False


AMAZON = ("x-amz-request-id", "4442587FB7D0A2F9")


@pytest.mark.parametrize(
    "mark", [AMAZON, ("x-amz-id-2", "x"), ("server", "AmazonS3"), ("server", " amazons3")], ids=lambda mark: mark[1]
)
@pytest.mark.parametrize("etag", [f'"{MD5.hex()}"', f'"{MD5.hex().upper()}"'])
@pytest.mark.parametrize("status", [200, 206])
def test_an_etag_of_s3_is_an_md5(mark, etag, status):
    assert claims.announced(head(("etag", etag), mark, status=status)) == (S3_MD5,)


@pytest.mark.parametrize(
    "etag",
    [f'W/"{MD5.hex()}"', MD5.hex(), f'"{MD5.hex()[:-1]}"', f'"{"g" * 32}"', f'"{MD5.hex()}0"'],
)
def test_other_etags_of_s3_are_not(etag):
    assert claims.announced(head(("etag", etag), AMAZON)) == ()


@pytest.mark.parametrize(
    ("line", "believed"),
    [
        (("x-amz-server-side-encryption", "AES256"), True),
        (("x-amz-server-side-encryption", "aws:kms"), False),
        (("x-amz-server-side-encryption", "aws:kms:dsse"), False),
        (("x-amz-server-side-encryption", " AWS:KMS"), False),
        (("x-amz-server-side-encryption-customer-algorithm", "AES256"), False),
        (("x-amz-storage-class", "STANDARD_IA"), True),
        (("x-amz-storage-class", "EXPRESS_ONEZONE"), False),
    ],
)
def test_encrypted_objects_have_opaque_etags(line, believed):
    assert claims.announced(head(("etag", f'"{MD5.hex()}"'), AMAZON, line)) == ((S3_MD5,) if believed else ())


@pytest.mark.parametrize("lines", [[], [("server", "nginx")], [("server", "AmazonS3-like")]])
def test_an_etag_of_another_server_is_no_md5(lines):
    assert claims.announced(head(("etag", f'"{MD5.hex()}"'), *lines)) == ()


def test_the_most_trusted_comes_first():
    lines = [
        ("etag", f'"{MD5.hex()}"'),
        AMAZON,
        ("content-md5", MD5_64),
        ("x-goog-hash", f"crc32c={CRC_64},md5={MD5_64}"),
    ]
    announced = claims.announced(head(*lines))
    assert announced == (GOOG_MD5, GOOG_CRC, CONTENT_MD5, S3_MD5)
    order = list(DigestSource)
    assert [order.index(claim.source) for claim in announced] == sorted(
        order.index(claim.source) for claim in announced
    )


# RFC 9530, and RFC 3230 before it.

REPR_256 = Claim(Digest("sha256", SHA256.hex()), DigestSource.REPR_DIGEST)
REPR_512 = Claim(Digest("sha512", SHA512.hex()), DigestSource.REPR_DIGEST)
REPR_MD5 = Claim(Digest("md5", MD5.hex()), DigestSource.REPR_DIGEST)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"sha-256=:{SHA256_64}:"], (REPR_256,)),
        ([f"sha-256=:{SHA256_64}:, sha-512=:{SHA512_64}:"], (REPR_512, REPR_256)),
        ([f"sha-256=:{SHA256_64}:", f"md5=:{MD5_64}:"], (REPR_256, REPR_MD5)),
        ([f"sha-256=:{SHA256_64}:;q=1"], (REPR_256,)),
        ([f"unixsum=:AAAA:, sha-256=:{SHA256_64}:"], (REPR_256,)),
        # the last of equal names holds (RFC 9651 §3.2)
        ([f"sha-256=:{base64.b64encode(bytes(32)).decode()}:, sha-256=:{SHA256_64}:"], (REPR_256,)),
        ([f"sha-256={SHA256_64}"], ()),
        ([f"sha-256=:{SHA256_64}"], ()),
        ([f'sha-256="{SHA256_64}"'], ()),
        ([f"sha-256=:{MD5_64}:"], ()),
        (["sha-256=(:AAAA:)"], ()),
        (["sha-256"], ()),
        (["sha-256=:é:"], ()),
        (["sha-256=1, 💥"], ()),
        ([""], ()),
    ],
)
@pytest.mark.parametrize("status", [200, 206])
def test_repr_digest(lines, expected, status):
    assert claims.announced(head(*(("repr-digest", line) for line in lines), status=status)) == expected


@pytest.mark.parametrize(
    ("value", "algorithms"),
    [
        (f"SHA-256={SHA256_64}", ["sha256"]),
        (f"sha-256={SHA256_64},MD5={MD5_64}", ["sha256", "md5"]),
        (f"SHA-256={SHA256_64},SHA-256={base64.b64encode(bytes(32)).decode()}", []),
        ("SHA-256=", []),
        ("crc32c=e3069283", []),
        ("nonsense", []),
    ],
)
def test_instance_digest(value, algorithms):
    found = claims.announced(head(("digest", value), status=206))
    assert [claim.digest.algorithm for claim in found] == algorithms
    assert all(claim.source is DigestSource.DIGEST for claim in found)


@pytest.mark.parametrize(
    ("status", "content_range", "bodiless", "believed"),
    [
        (200, None, False, True),
        (206, "bytes 0-8/9", False, True),
        (206, "bytes 0-1/9", False, False),
        (206, None, False, False),
        (200, None, True, False),
    ],
)
def test_content_digest_is_of_what_is_enclosed(status, content_range, bodiless, believed):
    lines = [("content-digest", f"sha-256=:{SHA256_64}:")]
    lines += [] if content_range is None else [("content-range", content_range)]
    expected = (Claim(Digest("sha256", SHA256.hex()), DigestSource.CONTENT_DIGEST),) if believed else ()
    assert claims.announced(head(*lines, status=status), bodiless=bodiless) == expected


@pytest.mark.parametrize("coding", ["gzip", "br", "x-made-up"])
@pytest.mark.parametrize(
    "line",
    [
        ("repr-digest", f"sha-256=:{SHA256_64}:"),
        ("content-digest", f"sha-256=:{SHA256_64}:"),
        ("digest", f"SHA-256={SHA256_64}"),
        ("content-md5", MD5_64),
    ],
    ids=lambda line: line[0],
)
def test_a_digest_of_the_coded_body_is_not_one_of_the_file(coding, line):
    assert claims.announced(head(line, ("content-encoding", "identity"))) != ()
    assert claims.announced(head(line, ("content-encoding", coding))) == ()


# Checksums of S3.


@pytest.mark.parametrize(
    ("name", "raw"),
    [("sha256", SHA256), ("sha1", hashlib.sha1(DATA).digest()), ("crc32", b"1234"), ("crc32c", b"1234"),
     ("crc64nvme", b"12345678")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "suffix", "parts"),
    [
        ("FULL_OBJECT", "", 0),
        (None, "", 0),
        ("COMPOSITE", "-3", 3),
        (None, "-3", 3),
        ("COMPOSITE", "", None),
        ("FULL_OBJECT", "-3", None),
        ("COMPOSITE", "-0", None),
        ("COMPOSITE", "-99999", None),
        (None, "-x", None),
        (None, "!", None),
    ],
)
def test_amz_checksum(name, raw, kind, suffix, parts):
    lines = [(f"x-amz-checksum-{name}", base64.b64encode(raw).decode() + suffix)]
    lines += [] if kind is None else [("x-amz-checksum-type", kind)]
    expected = () if parts is None else (Claim(Digest(name, raw.hex(), parts), DigestSource.AMZ_CHECKSUM),)
    assert claims.announced(head(*lines)) == expected
    assert claims.announced(head(*lines, ("content-range", "bytes 0-1/9"), status=206)) == ()


def test_the_checksum_of_the_object_goes_before_that_of_its_parts():
    lines = [
        ("etag", f'"{MD5.hex()}-3"'),
        AMAZON,
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
    ]
    assert [str(claim.digest) for claim in claims.announced(head(*lines))] == [
        f"crc64nvme:{'0' * 16}",
        "crc32:00000000",
        f"md5:{MD5.hex()}-3",
    ]


@pytest.mark.parametrize(
    ("suffix", "parts"), [("-1", 1), ("-2", 2), ("-10000", 10_000), ("-10001", None), ("-0", None)]
)
def test_an_etag_of_parts(suffix, parts):
    expected = () if parts is None else (Claim(Digest("md5", MD5.hex(), parts), DigestSource.S3_ETAG),)
    assert claims.announced(head(("etag", f'"{MD5.hex()}{suffix}"'), AMAZON)) == expected


@pytest.mark.parametrize(
    ("content_range", "count", "size", "expected"),
    [
        ("bytes 0-7/20", "3", 20, 8),
        ("bytes 0-9/20", "3", 20, 0),  # would be two parts
        ("bytes 0-7/20", "2", 20, 0),
        ("bytes 0-7/20", None, 20, 0),
        ("bytes 0-7/21", "3", 20, 0),
        ("bytes 8-15/20", "3", 20, 0),
        ("bytes 0-7/20", "3", None, 0),
        (None, "3", 20, 0),
    ],
)
def test_the_size_of_parts(content_range, count, size, expected):
    lines = [] if count is None else [("x-amz-mp-parts-count", count)]
    lines += [] if content_range is None else [("content-range", content_range)]
    assert claims.part_size(head(*lines, status=206), Digest("md5", "0" * 32, 3), size) == expected
    assert claims.part_size(head(*lines, status=200), Digest("md5", "0" * 32, 3), size) == 0


# Answers that redirect.

LINKED = Claim(Digest("sha256", SHA256.hex()), DigestSource.LINKED_ETAG)
HUB = [("x-linked-etag", f'"{SHA256.hex()}"'), ("x-linked-size", "4")]


def test_hugging_face_tells_the_digest_where_it_redirects():
    hub = head(*HUB, status=302)
    assert claims.announced(head(redirects=(hub,))) == (LINKED,)
    assert claims.linked_size(head(redirects=(hub,))) == 4
    assert claims.announced(head(redirects=(hub, head(status=302)))) == (LINKED,)
    assert claims.announced(head(*HUB)) == (), "only of a redirect"
    assert claims.linked_size(head(*HUB)) is None


@pytest.mark.parametrize("value", ["", '"' + "a" * 40 + '"', f'W/"{SHA256.hex()}"', f'"{SHA256.hex()}0"', "x"])
def test_other_linked_etags_are_none(value):
    hub = head(("x-linked-etag", value), ("x-linked-size", "4"), status=302)
    assert claims.announced(head(redirects=(hub,))) == ()
    assert claims.linked_size(head(redirects=(hub,))) is None


@pytest.mark.parametrize("value", ["", "-1", "4.0", "9" * 30])
def test_malformed_linked_sizes(value):
    hub = head(HUB[0], ("x-linked-size", value), status=302)
    assert claims.linked_size(head(redirects=(hub,))) is None


@pytest.mark.parametrize(
    ("link", "believed"),
    [
        ("<http://m/x>; rel=duplicate", True),
        ('<http://m/x.meta4>; rel="describedby"; type="application/metalink4+xml"', True),
        ("<http://m/x>; rel=alternate", False),
        ("", False),
    ],
)
def test_a_download_redirector_tells_the_files_digest(link, believed):
    hub = head(("link", link), ("digest", f"SHA-256={SHA256_64}"), ("content-md5", MD5_64), status=302)
    expected = (Claim(Digest("sha256", SHA256.hex()), DigestSource.DIGEST),) if believed else ()
    assert claims.announced(head(redirects=(hub,))) == expected


def test_the_origins_word_comes_before_that_of_the_place_it_leads_to():
    hub = head(*HUB, status=302)
    found = claims.announced(head(("repr-digest", f"sha-256=:{SHA512_64[:43]}=:"), redirects=(hub,)))
    assert found[0] == LINKED


# Whatever a server sends.

NAMES = [
    "x-goog-hash", "x-goog-stored-content-encoding", "content-encoding", "content-md5", "x-amz-request-id", "server",
    "x-amz-server-side-encryption", "etag", "content-range", "repr-digest", "content-digest", "digest", "link",
    "x-linked-etag", "x-linked-size", "x-amz-checksum-sha256", "x-amz-checksum-crc64nvme", "x-amz-checksum-type",
    "x-amz-mp-parts-count",
]  # fmt: skip
values = st.text(max_size=40) | st.sampled_from([
    "bytes 0-1/2", f"md5={MD5_64}", f'"{MD5.hex()}"', f'"{MD5.hex()}-2"', MD5_64, "2", f"sha-256=:{SHA256_64}:",
    f"SHA-256={SHA256_64}", "AmazonS3", SHA256.hex(), f"{SHA256_64}-2", "COMPOSITE", "<http://h/y>; rel=duplicate",
])  # fmt: skip
lines_of = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=12)


@given(lines_of, lines_of, st.sampled_from([200, 206, 416, 503]), st.booleans())
@settings(deadline=None)
def test_nothing_raises(lines, before, status, bodiless):
    answer = head(*lines, status=status, redirects=(head(*before, status=302),))
    for claim in claims.announced(answer, bodiless=bodiless):
        assert Digest.parse(str(claim.digest)) == claim.digest
        assert claim.digest.algorithm in ALGORITHMS
        assert claims.part_size(answer, claim.digest, 2) >= 0
    assert claims.ambiguous(answer) in (True, False)
    assert (claims.linked_size(answer) or 0) >= 0
