"""What a lock says, what has changed since, and what is no lock."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from hydraflow.core import locks
from hydraflow.core.locks import Change, Lock, Locked
from hydraflow.errors import (
    ConfigurationError,
    DigestMismatchError,
    NotFoundError,
    ResourceChangedError,
    SizeMismatchError,
)
from hydraflow.models import Claim, Digest, DigestSource, Validator

OLD, NEW = "a" * 64, "b" * 64
FILE = Locked("x", "https://h/x", 5, Digest("sha256", OLD), '"1"', "Tue, 15 Nov 1994 12:45:26 GMT")
OTHER = Locked("a", "https://h/a?key=1", 6, Digest("md5", "0" * 32))
LOCK = Lock((FILE, OTHER), "data.lock")


def claim(value: str, algorithm: str = "sha256", parts: int = 0) -> Claim:
    return Claim(Digest(algorithm, value, parts), DigestSource.REPR_DIGEST)


def test_there_and_back():
    data = locks.encode([FILE, OTHER])
    assert locks.parse(data, "data.lock") == Lock((OTHER, FILE), "data.lock"), "sorted by name"
    assert data.endswith(b"}\n")
    assert b'"hydraflow-lock": 1' in data
    assert max(map(len, data.splitlines())) < 120, "one value on each line"


def test_what_is_not_known_is_passed_over():
    whole = json.loads(locks.encode([FILE]))
    whole["files"][0] |= {"colour": "red", "etag": 5}
    whole["made"] = "today"
    assert locks.parse(json.dumps(whole).encode()).files == (replace(FILE, etag=None),)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the lock is not a data lock"),
        (b"[" * 100_000, "not a data lock"),
        (b"[]", "not a data lock"),
        (b'{"files": []}', "not a data lock"),
        (b"\xff", "not a data lock"),
        (b'{"hydraflow-lock": 2, "files": []}', "is of version 2, known is 1"),
        (b'{"hydraflow-lock": 1}', "has no list of files"),
        (b'{"hydraflow-lock": 1, "files": ["https://h/x"]}', "file 1: name, url, size and digest are needed"),
        (b'{"hydraflow-lock": 1, "files": [1]}', "file 1: an object or a URL was expected"),
        (b'{"hydraflow-lock": 1, "files": [{"name": "../x", "url": "https://h/x"}]}', "is not a name for a file"),
    ],
)
def test_what_is_no_lock(data, message):
    with pytest.raises(ConfigurationError, match=message):
        locks.parse(data)


# ── found in it ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["https://h/x", "https://me:pw@h:443/x#size=5", f"https://H/x#sha256={OLD}"])
def test_a_url_is_found_whatever_its_credentials(url):
    assert LOCK.find(url) is FILE


def test_a_url_is_pinned_with_its_own_mirrors():
    assert (
        LOCK.pin("https://u:p@h/x#mirror=https://m/x")
        == f"https://u:p@h/x#sha256={OLD}&size=5&mirror=https%3A%2F%2Fm%2Fx"
    )
    assert LOCK.pin(f"https://h/x#sha256={OLD}") == f"https://h/x#sha256={OLD}&size=5"


def test_a_digest_of_another_kind_is_not_dropped_without_a_word():
    with pytest.raises(ConfigurationError, match=r"the URL has a md5, .* a sha256: one of them would go unchecked"):
        LOCK.pin("https://h/x#md5=" + "1" * 32)


def test_a_url_is_found_at_once_in_a_long_lock():
    files = [replace(FILE, name=f"{number}", url=f"https://h/{number}") for number in range(5000)]
    lock = Lock(tuple(files))
    begun = time.process_time()
    assert [lock.find(f"https://h/{number}").name for number in range(5000)] == [each.name for each in files]
    assert time.process_time() - begun < 2


def test_of_two_at_one_url_the_first_is_found():
    assert Lock((FILE, replace(FILE, name="z"))).find(FILE.url) is FILE


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://h/y", "https://h/y is not in data.lock"),
        (f"https://h/x#sha256={NEW}", f"two digests are given: sha256:{NEW} with the URL, sha256:{OLD} in data.lock"),
        ("https://h/x#size=6", "two sizes are given: 6 with the URL, 5 in data.lock"),
    ],
)
def test_what_the_lock_does_not_have(url, message):
    with pytest.raises(ConfigurationError, match=message):
        LOCK.find(url)


# ── compared ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TAG = Change("ETag", '"1"', '"2"')


@pytest.mark.parametrize(
    ("size", "claims", "now", "changes"),
    [
        (5, [], None, []),
        (None, [], Validator('"1"'), []),
        (6, [], Validator('"1"'), [Change("size", "5 bytes", "6 bytes")]),
        (6, [claim(NEW)], None, [Change("size", "5 bytes", "6 bytes"), Change("sha256", OLD, NEW)]),
        (5, [claim("0" * 32, "md5"), claim(OLD, parts=2)], Validator('"2"'), [TAG]),
        (5, [claim(OLD)], Validator('"2"'), []),  # the digest decides
        (5, [claim(NEW), claim(OLD)], None, []),
        (5, [], Validator(None, FILE.last_modified), []),
        (5, [], Validator(None, "now"), [Change("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT", "now")]),
        (5, [], Validator(), []),
    ],
)
def test_differences(size, claims, now, changes):
    assert FILE.differences(size, claims, now) == changes


def test_a_failure_is_told_as_a_change():
    wrong = DigestMismatchError("…", algorithm="sha256", expected=OLD, actual=NEW, source="manifest", url="https://h/x")
    meant = FILE.explain(wrong, "data.lock")
    assert isinstance(meant, ResourceChangedError)
    assert str(meant) == f"not the file that data.lock has locked: sha256 was {OLD}, is {NEW}"
    assert (meant.was, meant.now, meant.url) == (f"sha256 {OLD}", f"sha256 {NEW}", "https://h/x")
    short = FILE.explain(SizeMismatchError("…", expected=5, actual=6), "l")
    assert str(short) == "not the file that l has locked: size was 5 bytes, is 6 bytes"


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("404", status=404),
        SizeMismatchError("…", expected=7, actual=6),
        DigestMismatchError("…", algorithm="md5", expected=NEW, actual=OLD, source="me"),
    ],
)
def test_other_failures_stay(error):
    assert FILE.explain(error, "l") is error


def test_what_to_fetch():
    assert FILE.entry.target == f"https://h/x#sha256={OLD}&size=5"
    assert FILE.entry.name == "x"
