"""URLs become names on disk that are apart, inside, and harmless."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydraflow.snakemake.queries import fingerprint, is_pattern, local_suffix, objection

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("query", "suffix"),
    [
        ("https://host/dir/genome.fa.gz", "host/dir/genome.fa.gz"),
        ("https://HOST:443/a%20b.fa", "host/a%20b.fa"),
        ("http://host/x.fa", "host+80/x.fa"),
        ("http://127.0.0.1:8080/x.fa", "127.0.0.1+8080/x.fa"),
        ("https://user:word@host/x.fa", "host/x.fa"),
        ("https://host/{sample}.fa", "host/{sample}.fa"),
        ("https://host/{sample,[^/#?]+}.fa", "host/{sample,[^/#?]+}.fa"),
    ],
)
def test_plain_places(query, suffix):
    assert local_suffix(query) == suffix


@pytest.mark.parametrize(
    ("query", "pattern"),
    [
        (f"https://host/d/x.fa#sha256={SHA256}", r"host/d/~\w{16}/x.fa"),
        ("https://host/d/get.cgi?id=7", r"host/d/~\w{16}/get.cgi"),
        ("https://host", r"host/~\w{16}/download"),
        ("https://host/d/", r"host/d/~\w{16}/download"),
        ("https://host//d//x", r"host/_/d/_/~\w{16}/x"),
        ("https://host/../../etc/passwd", r"host/_./_./etc/~\w{16}/passwd"),
        ("https://host/entry", r"host/~\w{16}/entry"),
        ("https://host/entry/features", r"host/entry/~\w{16}/features"),
        ("https://bücher.example/x.fa", r"b_cher.example/~\w{16}/x.fa"),
        ("https://host/$(id);'x'.fa", r"host/~\w{16}/__id___x_.fa"),
        ("https://host/-rf", r"host/~\w{16}/_rf"),
        ("https://[::1]:8443/x.fa", r"_\+\+1_\+8443/~\w{16}/x.fa"),
        ("https://host/{a}?b={b}#size={c}", r"host/~\w{16}/{a}"),
        ("http://host:{port}/x.fa", r"host\+{port}/x.fa"),
        (f"https://host/{'x' * 300}.fa.gz", r"host/~\w{16}/x{194}.fa.gz"),
    ],
)
def test_places_of_their_own(query, pattern):
    assert re.fullmatch(pattern, local_suffix(query))


def test_what_differs_is_apart():
    queries = [
        "https://host/x",
        "http://host/x",
        "https://host:8443/x",
        "https://host/x/",
        "https://host//x",
        "https://host/.x",
        "https://host/_x",
        *(f"https://host/x?id={number}" for number in range(100)),
        *(f"https://host/x#size={number}" for number in range(100)),
        f"https://host/x#sha256={SHA256}",
        f"https://host/x#sha256={SHA256[::-1]}",
    ]
    assert len({local_suffix(query) for query in queries}) == len(queries)
    assert len({fingerprint(query) for query in queries}) == len(queries)


def test_signed_anew_is_the_same():
    signed = "https://host/x?versionId=3&X-Amz-Date=1&X-Amz-Signature="
    assert local_suffix(f"{signed}aaaa") == local_suffix(f"{signed}bbbb") != local_suffix("https://host/x?versionId=4")


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_never_leaves_the_prefix(path):
    query = f"https://host/{path}"
    if is_pattern(query):
        return
    names = PurePosixPath(local_suffix(query)).parts
    assert names[0] == "host"
    assert not {"..", ".", "/"} & set(names)
    # Private characters stand for wildcards in between; one that the URL has by itself is no danger.
    assert all(re.fullmatch(r"[A-Za-z0-9._~+=,@%\ue000-\uf8ff-]{1,200}", name) for name in names)


@pytest.mark.parametrize(
    "query",
    [
        "https://host/x",
        "http://host/x",
        "hydra+https://host/x",
        f"https://host/x#sha256={SHA256}&size=3",
        "https://host/{sample}#sha256={sum}",
        "https://host/x#anchor",
    ],
)
def test_no_objection(query):
    assert objection(query) is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("s3://bucket/x", "begins with https"),
        ("genome.fa", "begins with https"),
        ("https:///x", "not a URL"),
        ("https://host/x#sha256=12", "64 hexadecimal digits"),
        ("https://host/x#sha265=12", "unknown option 'sha265'"),
        ("https://host/x#stream=fifo", "needs a digest beside it"),
        ("https://host/x#crc32c=00000000&stream=fifo", "needs a digest beside it"),
        ("https://host/x#stream=socket", "'stream' in the URL's fragment is stream=fifo"),
    ],
)
def test_objection(query, reason):
    assert reason in objection(query)
