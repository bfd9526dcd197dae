"""Names from strangers: every trick, and what becomes of it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import names
from hydraflow.models import Head


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x.fastq.gz", "x.fastq.gz"),
        ("with space.txt", "with space.txt"),
        ("ü.txt", "ü.txt"),
        ("u\u0308.txt", "ü.txt"),
        ("../../etc/passwd", "__.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\Windows\\x", "C:_Windows_x"),
        ("a\0b", "a_b"),
        ("a\nb\r\tc", "a_b__c"),
        ("\x1b[31mred", "_[31mred"),
        ("\x9b31mred", "_31mred"),
        ("gpj.\u202eexe", "gpj._exe"),
        ("a\u2066b\u200fc\ufeff", "a_b_c_"),
        ("a\u2028b\u00a0c", "a_b_c"),
        (".bashrc", "_bashrc"),
        ("-rf", "_rf"),
        ("..-x", "_x"),
        ("", "download"),
        (" . ", "download"),
        ("..", "download"),
        ("x.", "x_"),
        ("x. .", "x_"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("lpt¹", "_lpt¹"),
        ("console.txt", "console.txt"),
        ("com10", "com10"),
        ("\ud800x", "_x"),
        ("a" * 300 + ".bam", "a" * 196 + ".bam"),
        ("a" * 199 + ". " + "b" * 9, "a" * 199 + "_"),
    ],
)
def test_safe(text, name):
    assert names.safe(text) == name


@given(st.text(max_size=300))
@settings(deadline=None)
def test_always_safe(text):
    name = names.safe(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0")
    assert name.isprintable()
    assert name[0] not in ".- "
    assert name[-1] not in ". "
    assert len(name.encode()) <= 200
    assert unicodedata.is_normalized("NFC", name)
    assert names.safe(name) == name


def disposition(*values: str) -> str | None:
    return names.announced(Head(200, tuple(("content-disposition", value) for value in values), "http://h/x"))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("attachment; filename=x.gz", "x.gz"),
        ('attachment; filename="a b; c.gz"', "a b; c.gz"),
        ('attachment; filename="a \\"b\\".gz"', 'a "b".gz'),
        ("inline;FileName=x.gz;size=3", "x.gz"),
        ("attachment; filename*=UTF-8''%e2%82%ac.gz", "€.gz"),
        ("attachment; filename*=utf-8'en'a%20b.gz", "a b.gz"),
        ("attachment; filename*=iso-8859-1''%e9.gz", "é.gz"),
        ("attachment; filename=x.gz; filename*=UTF-8''y.gz", "y.gz"),
        ("attachment; filename*=UTF-8''y.gz; filename=x.gz", "y.gz"),
        ("attachment; filename=x.gz; filename*=UTF-8''%ff", "x.gz"),
        ("attachment; filename=x.gz; filename*=utf-7''+AAA-", "x.gz"),
        ("attachment; filename=x.gz; filename*=nonsense", "x.gz"),
        ("attachment; filename=x.gz; filename=y.gz", "x.gz"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2f..%2fetc%2fpasswd", "passwd"),
        ('attachment; filename="C:\\\\x\\\\y.gz"', "y.gz"),
        ("attachment; filename*=UTF-8''a%00b%1b%5b31m.gz", "a_b_[31m.gz"),
        ("attachment; filename*=UTF-8''x%e2%80%aegz.exe", "x_gz.exe"),
        ('attachment; filename=".bashrc"', "_bashrc"),
        ('attachment; filename="\u00c3\u00a9.gz"', "é.gz"),
        ('attachment; filename="\u00e9.gz"', "é.gz"),
        ("attachment; filename=%41.gz", "%41.gz"),
        ('attachment; filename=".."', None),
        ('attachment; filename=""', None),
        ('attachment; filename="x', None),
        ('attachment; filename="a/"', None),
        ("attachment", None),
        ("filename=x.gz", None),
        ("; filename=x.gz", None),
        ("", None),
    ],
)
def test_content_disposition(value, name):
    assert disposition(value) == name


def test_no_content_disposition():
    assert disposition() is None


@given(st.lists(st.sampled_from(["attachment", ";", " ", "filename", "*", "=", '"', "\\", "UTF-8''", "%", "41", "x"])
                | st.text(max_size=5), max_size=20).map("".join))  # fmt: skip
@settings(deadline=None)
def test_whatever_a_server_sends_as_a_name(value):
    name = disposition(value)
    assert name is None or names.safe(name) == name


@pytest.mark.parametrize("name", ["download", "content", "Content", "12345", "get.php", "x.cgi", "files"])
def test_names_that_say_nothing(name):
    assert names.is_vague(name)


@pytest.mark.parametrize("name", ["README", "SHA256SUMS", "x.gz", "nt", "contents", "1.gz", "content.zip"])
def test_names_that_say_something(name):
    assert not names.is_vague(name)


@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [
        ("content", "application/zip", "content.zip"),
        ("123", "text/csv", "123.csv"),
        ("get.php", "application/zip", "get.php"),
        ("content", "application/octet-stream", "content"),
        ("content", None, "content"),
    ],
)
def test_suffixes_by_type(name, media_type, expected):
    assert names.with_suffix(name, media_type) == expected
