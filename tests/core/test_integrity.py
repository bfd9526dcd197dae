"""Which digest is believed, known answers of each algorithm, and what a mismatch says."""

from __future__ import annotations

import hashlib
import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import integrity
from hydraflow.errors import DigestConflictError, DigestMismatchError
from hydraflow.models import ALGORITHMS, Claim, Digest, DigestSource, Verification

#: Digests of "123456789"; CRCs' are the check values of the CRC catalogues, MD5's and SHA's come from coreutils.
KNOWN = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha224": "9b3e61bf29f17c75572fae2e86e17809a4513d07c8a18152acf34521",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "sha384": "eb455d56d2c1a69de64e832011f3393d45f3fa31d6842f21af92d2fe469c499da5e3179847334a18479c8d1dedea1be3",
    "sha512": (
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a"
        "d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85"
    ),
}


def claim(algorithm: str, source: DigestSource) -> Claim:
    return Claim(Digest(algorithm, "0" * (ALGORITHMS[algorithm] // 4)), source)


def test_the_caller_comes_first():
    weak = claim("crc32c", DigestSource.CALLER)
    assert integrity.choose(weak, [claim("sha512", DigestSource.GOOG_HASH)], 1) is weak
    assert integrity.choose(weak, [], None) is weak


def test_nothing_announced_is_nothing_to_check():
    assert integrity.choose(None, [], 1) is None


def test_trust_goes_before_strength_and_strength_before_order():
    ranked = [
        claim("crc32c", DigestSource.FRAGMENT),
        *(claim(name, DigestSource.GOOG_HASH) for name in ("sha512", "sha384", "sha256", "sha224", "sha1", "md5")),
        claim("crc32c", DigestSource.GOOG_HASH),
        claim("md5", DigestSource.CONTENT_MD5),
        claim("md5", DigestSource.S3_ETAG),
    ]
    for better, worse in itertools.combinations(ranked, 2):
        assert integrity.choose(None, [worse, better], 1) is better
        assert integrity.choose(None, iter([better, worse]), 1) is better


def test_every_algorithm_is_known_here():
    assert KNOWN.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algorithm", KNOWN)
@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
def test_known_answers_from_any_buffer(algorithm, kind):
    running = integrity.hasher(algorithm)
    running.update(kind(b"1234"))
    running.update(kind(b""))
    running.update(kind(b"56789"))
    assert running.hexdigest() == KNOWN[algorithm]
    assert Digest(algorithm, running.hexdigest()), "it has the form of a digest"


def test_leading_zeros_of_a_crc_are_kept():
    assert integrity.hasher("crc32c").hexdigest() == "00000000"


@given(st.lists(st.binary(max_size=50), max_size=6))
@settings(deadline=None, max_examples=30)
def test_pieces_do_not_matter(pieces):
    running = integrity.hasher("crc32c")
    for piece in pieces:
        running.update(piece)
    at_once = integrity.hasher("crc32c")
    at_once.update(b"".join(pieces))
    assert running.hexdigest() == at_once.hexdigest()


def test_the_crc_library_is_loaded_only_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "awscrt", None)  # an import would fail
    running = integrity.hasher("sha256")
    running.update(b"123456789")
    assert running.hexdigest() == KNOWN["sha256"]
    with pytest.raises(ImportError):
        integrity.hasher("crc32c")


def test_a_policy_against_md5_is_told_that_this_is_no_security(monkeypatch):
    asked = []
    monkeypatch.setattr(hashlib, "new", lambda name, **options: asked.append((name, options)))
    integrity.hasher("md5")
    assert asked == [("md5", {"usedforsecurity": False})]


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="unknown digest algorithm 'sha3_256': choose one of md5, sha1"):
        integrity.hasher("sha3_256")  # hashlib would know it


@pytest.mark.parametrize(
    ("source", "worth"),
    [
        (DigestSource.CALLER, Verification.CALLER),
        (DigestSource.FRAGMENT, Verification.CALLER),
        (DigestSource.MANIFEST, Verification.CALLER),
        (DigestSource.CATALOGUE, Verification.CATALOGUE),
        (DigestSource.METALINK, Verification.SIDECAR),
        (DigestSource.SIDECAR, Verification.SIDECAR),
        (DigestSource.SIDECAR_HTTP, Verification.SIDECAR),
        (DigestSource.LINKED_ETAG, Verification.SERVER),
        (DigestSource.DIGEST, Verification.SERVER),
        (DigestSource.REPR_DIGEST, Verification.SERVER),
        (DigestSource.AMZ_CHECKSUM, Verification.SERVER),
        (DigestSource.CONTENT_DIGEST, Verification.SERVER),
        (DigestSource.GOOG_HASH, Verification.SERVER),
        (DigestSource.CONTENT_MD5, Verification.SERVER),
        (DigestSource.S3_ETAG, Verification.SERVER),
    ],
)
@pytest.mark.parametrize("framed", [True, False])
def test_what_a_verified_digest_is_worth(source, worth, framed):
    assert integrity.verification(claim("md5", source), framed) is worth


def test_every_source_has_a_worth():
    for source in DigestSource:
        worth = integrity.verification(claim("md5", source), False)
        assert worth not in (Verification.SIZE, Verification.NONE)


def test_without_a_digest_the_size_is_all_there_is():
    assert integrity.verification(None, True) is Verification.SIZE
    assert integrity.verification(None, False) is Verification.NONE


def test_the_right_digest_passes():
    promised = Claim(Digest("sha256", KNOWN["sha256"]), DigestSource.CALLER)
    assert integrity.check(promised, KNOWN["sha256"], "http://h/x") is None


def test_a_mismatch_shows_both_in_full_and_who_promised():
    promised = Claim(Digest("md5", "0" * 32), DigestSource.CONTENT_MD5)
    with pytest.raises(DigestMismatchError) as caught:
        integrity.check(promised, KNOWN["md5"], "http://h/x")
    error = caught.value
    assert str(error) == (f"md5 mismatch: expected {'0' * 32}, got {KNOWN['md5']} (promised by the Content-MD5 header)")
    assert (error.algorithm, error.expected, error.actual) == ("md5", "0" * 32, KNOWN["md5"])
    assert (error.source, error.url, error.exit_code) == ("Content-MD5 header", "http://h/x", 5)


def test_contradicting_claims_are_of_two_versions():
    one, two = Digest("md5", "1" * 32), Digest("md5", "2" * 32)
    goog, s3 = DigestSource.GOOG_HASH, DigestSource.S3_ETAG
    assert integrity.contradict([Claim(one, goog)], [Claim(two, goog)])
    assert integrity.contradict([Claim(one, goog), Claim(one, s3)], [Claim(one, goog), Claim(two, s3)])
    assert not integrity.contradict([Claim(one, goog)], [Claim(one, goog)])
    assert not integrity.contradict([Claim(one, goog)], [Claim(two, s3)])  # one of the two is wrong about this version
    assert not integrity.contradict([Claim(one, goog)], [Claim(Digest("crc32c", "3" * 8), goog)])
    assert not integrity.contradict([], [Claim(one, goog)])
    assert not integrity.contradict([Claim(one, goog)], [])


# Conflicts.


def digest(algorithm: str, digit: str, parts: int = 0, part_size: int = 0) -> Digest:
    return Digest(algorithm, digit * (ALGORITHMS[algorithm] // 4), parts, part_size)


def test_two_who_are_trusted_and_differ_are_an_error_that_shows_both():
    one = Claim(digest("md5", "1"), DigestSource.SIDECAR, "https://h/x.md5")
    two = Claim(digest("md5", "2"), DigestSource.CONTENT_MD5)
    with pytest.raises(DigestConflictError) as caught:
        integrity.choose(None, [two, one], 1, "http://h/x")
    assert str(caught.value) == (
        f"two different md5 digests are promised: {'1' * 32} by the checksum file https://h/x.md5, "
        f"{'2' * 32} by the Content-MD5 header"
    )
    assert (caught.value.url, caught.value.exit_code) == ("http://h/x", 5)
    assert "--digest" in caught.value.hint
    own = Claim(digest("md5", "3"), DigestSource.CALLER)
    assert integrity.choose(own, [one, two], 1) is own, "the caller decides"


def test_the_origin_need_not_fear_the_place_that_it_leads_to():
    linked = Claim(digest("sha256", "1"), DigestSource.LINKED_ETAG)
    cache = Claim(digest("sha256", "2"), DigestSource.REPR_DIGEST)
    assert integrity.choose(None, [cache, linked], 1) is linked


def test_different_algorithms_do_not_conflict():
    one, two = Claim(digest("md5", "1"), DigestSource.SIDECAR), Claim(digest("sha1", "2"), DigestSource.GOOG_HASH)
    parted = Claim(digest("md5", "3", 2), DigestSource.S3_ETAG)
    assert integrity.choose(None, [two, one, parted], 9 * MIB) is one


# Digests of parts.

MIB = 1 << 20


def of_parts(data: bytes, size: int, algorithm: str = "md5") -> str:
    """As S3 computes it."""
    parts = [hashlib.new(algorithm, data[at : at + size]).digest() for at in range(0, len(data), size)]
    return hashlib.new(algorithm, b"".join(parts)).hexdigest()


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [
        (20 * MIB, 3, [8 * MIB, 8_000_000, 10_000_000, 7 * MIB]),
        (20 * MIB, 4, [5 * MIB]),
        (9 * MIB, 2, [8 * MIB, 5 * MIB, 8_000_000]),
        (100, 1, [100]),
        (0, 1, [1]),
        (100, 2, []),
        (70 * MIB, 3, [25 * MIB, 32 * MIB, 25_000_000, 24 * MIB]),
        (22 * MIB, 2, [16 * MIB, 15 * MIB, 20 * MIB, 11 * MIB]),
        (10_000 * 13 * MIB, 10_000, [13 * MIB]),
        (None, 3, []),
    ],
)
def test_sizes_that_parts_may_have_had(size, parts, expected):
    assert list(integrity.part_sizes(digest("md5", "0", parts), size)) == expected


def test_a_size_that_is_told_is_the_only_one():
    assert integrity.part_sizes(digest("md5", "0", 3, 7 * MIB), 20 * MIB) == (7 * MIB,)
    assert integrity.part_sizes(digest("md5", "0", 3, 8 * MIB), 30 * MIB) == ()


@pytest.mark.parametrize("part_size", [5 * MIB, 8 * MIB, 8_000_000])
@pytest.mark.parametrize("piece", [1 << 20, 700_001])
def test_several_sizes_in_one_pass(part_size, piece):
    data = bytes(range(256)) * (9 * MIB // 256)
    promised = Digest("md5", of_parts(data, part_size), 2)
    running = integrity.verifier(promised, len(data))
    for at in range(0, len(data), piece):
        running.update(memoryview(data)[at : at + piece])
    assert running.hexdigest() == promised.value
    flipped = integrity.verifier(promised, len(data))
    flipped.update(b"#" + data[1:])
    assert flipped.hexdigest() != promised.value


def test_composite_checksums_of_other_algorithms():
    data = bytes(9 * MIB)
    promised = Digest("sha256", of_parts(data, 8 * MIB, "sha256"), 2, 8 * MIB)
    running = integrity.verifier(promised, len(data))
    running.update(data)
    assert running.hexdigest() == promised.value


def test_an_empty_file_of_one_part():
    promised = Digest("md5", "0" * 32, 1)
    running = integrity.verifier(promised, 0)
    assert running.hexdigest() == hashlib.md5(hashlib.md5(b"").digest()).hexdigest()


def test_parts_that_no_size_makes_cannot_be_verified():
    assert integrity.verifier(digest("crc32", "0"), None).hexdigest() == "00000000"
    with pytest.raises(ValueError, match="100 bytes do not make 2 parts"):
        integrity.verifier(digest("md5", "0", 2), 100)
    claim = Claim(digest("md5", "0", 2), DigestSource.S3_ETAG)
    assert integrity.choose(None, [claim], 100) is None
    assert integrity.choose(None, [claim], None) is None
    assert integrity.choose(None, [claim], 9 * MIB) is claim


def test_what_decides_goes_before_what_may_not():
    guess = Claim(digest("md5", "0", 2), DigestSource.S3_ETAG)
    late = Claim(digest("sha256", "0"), DigestSource.SIDECAR_HTTP)
    assert integrity.choose(None, [guess, late], 9 * MIB) is late
    assert not integrity.conclusive([guess])
    assert integrity.conclusive([guess, late])
    assert integrity.conclusive([Claim(digest("md5", "0", 2, 5 * MIB), DigestSource.S3_ETAG)])


def test_a_strangers_wrong_promise_can_be_set_aside():
    promised = Claim(digest("md5", "0"), DigestSource.SIDECAR, "https://h/x.md5")
    with pytest.raises(DigestMismatchError) as caught:
        integrity.check(promised, "1" * 32, "http://h/x")
    assert "checksum file https://h/x.md5" in str(caught.value)
    assert "--verify none" in caught.value.hint
    with pytest.raises(DigestMismatchError) as caught:
        integrity.check(Claim(digest("md5", "0"), DigestSource.CALLER), "1" * 32, "http://h/x")
    assert "--verify" not in caught.value.hint
