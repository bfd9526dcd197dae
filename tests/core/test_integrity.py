"""Which digest is believed, known answers of each algorithm, and what a mismatch says."""

from __future__ import annotations

import hashlib
import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import integrity
from hydraflow.errors import DigestMismatchError
from hydraflow.models import ALGORITHMS, Claim, Digest, DigestSource, Verification

#: Digests of "123456789"; CRC-32C's is the check value of the CRC catalogues, MD5's and SHA's come from coreutils.
KNOWN = {
    "crc32c": "e3069283",
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
    assert integrity.choose(weak, [claim("sha512", DigestSource.GOOG_HASH)]) is weak
    assert integrity.choose(weak, []) is weak


def test_nothing_announced_is_nothing_to_check():
    assert integrity.choose(None, []) is None


def test_trust_goes_before_strength_and_strength_before_order():
    ranked = [
        claim("crc32c", DigestSource.FRAGMENT),
        *(claim(name, DigestSource.GOOG_HASH) for name in ("sha512", "sha384", "sha256", "sha224", "sha1", "md5")),
        claim("crc32c", DigestSource.GOOG_HASH),
        claim("md5", DigestSource.CONTENT_MD5),
        claim("md5", DigestSource.S3_ETAG),
    ]
    for better, worse in itertools.combinations(ranked, 2):
        assert integrity.choose(None, [worse, better]) is better
        assert integrity.choose(None, iter([better, worse])) is better


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
    monkeypatch.setitem(sys.modules, "google_crc32c", None)  # an import would fail
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
        assert integrity.verification(claim("md5", source), False) in (Verification.CALLER, Verification.SERVER)


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
