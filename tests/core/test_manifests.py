"""Lists of files in every form; and what must not be taken for one."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import manifests, urls
from hydraflow.core.manifests import Entry, parse
from hydraflow.errors import ConfigurationError
from hydraflow.models import Digest
from tests.core.test_metalink import V3, V4

MD5, SHA256 = "0" * 32, "a" * 64
A, B = "https://h/a.gz", "https://h/b.gz"
DA, DB = Digest("md5", MD5), Digest("sha256", SHA256)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("# nothing\n\n", []),
        (A, [Entry(A)]),
        (f"# two\n{A}\r\n\n{B}#md5={MD5}&size=5\n", [Entry(A), Entry(B, digest=DA, size=5)]),
        (f"\ufeff{A}\n", [Entry(A)]),
        (f"{A}\n{A}\n", [Entry(A)]),
        (f"{A}#mirror={B}\n", [Entry(A, mirrors=(B,))]),
        (f"{A} {MD5}\n{B}\tSHA-256:{SHA256}\n", [Entry(A, digest=DA), Entry(B, digest=DB)]),
        (f"{A}#size=5  {MD5}\n", [Entry(A, digest=DA, size=5)]),
        # aria2
        (f"{A}\t{B}\t\n  out=x.gz\n  checksum=md5={MD5}\n", [Entry(A, "x.gz", DA, mirrors=(B,))]),
        (f"{A}\n\tdir=./sub\n{B}\n dir=s/\n out=n\n split=4\n", [Entry(A, "sub/a.gz"), Entry(B, "s/n")]),
        (f"{A}\n dir=.\n{B}\n dir=./\n out=n\n", [Entry(A), Entry(B, "n")]),
        (f"{A}\n  header=X-A: b:c\n", [Entry(A, headers=(("X-A", "b:c"),))]),
        (f"  {A}\n  {B}", [Entry(A), Entry(B)]),
        # tables
        (f"url\tmd5\tsize\tname\n{A}\t{MD5.upper()}\t1,000\tx/y\n", [Entry(A, "x/y", DA, 1000)]),
        (f"URL,sha-256,md5sum,mirror\n{A},{SHA256},{MD5},{B} {B}2\n", [Entry(A, "", DB, None, (B, f"{B}2"))]),
        (f'"name","url"\n"./a,b",{A}\n\n,{B}\n', [Entry(A, "a,b"), Entry(B)]),
        (f"digest\turl\nmd5:{MD5}\t{A}\n{SHA256}\t{B}\n#\n\t{A}2\n",
         [Entry(A, "", DA), Entry(B, "", DB), Entry(f"{A}2")]),
        (f"url\tsize\n{A}\n", [Entry(A)]),
        (f"url;md5\n{A};{MD5}\n", [Entry(A, "", DA)]),
        (f'url, name\n{A}, "x"\n', [Entry(A, "x")]),
        (f"url,md5,note,note\n{A},{MD5},1,2\n", [Entry(A, "", DA)]),
        # JSON
        (json.dumps([A, {"url": B, "size": 3, "mirrors": [A], "headers": {"X": "y"}}]),
         [Entry(A), Entry(B, size=3, mirrors=(A,), headers=(("X", "y"),))]),
        (json.dumps({"files": [{"uri": A, "sha256": SHA256, "md5": None}]}), [Entry(A, "", DB)]),
        (json.dumps({"url": A}), [Entry(A)]),
        (f'{{"url": "{A}", "name": "x", "path": "d/x", "outcome": "fetched", "etag": null}}\n\n{{"url": "{B}"}}\n',
         [Entry(A, "x"), Entry(B)]),
        (f'{{"url": "{A}", "hint": "\u2028\x85"}}\r\n{{"url": "{B}"}}', [Entry(A), Entry(B)]),
    ],
)  # fmt: skip
def test_forms(text, entries):
    assert parse(text.encode()).entries == tuple(entries)
    assert set(parse(text.encode()).ignored) <= {"note"}


def test_metalink():
    assert parse(V3.encode()).entries == (
        Entry("https://one.example/x.fa.gz", "x.fa.gz", Digest("md5", "8d777f385d3dfec8815d20f7496026dc"), 4,
              ("https://two.example/x.fa.gz",)),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="there is no http or https URL of 'y'"):
        parse(V4.encode())
    with pytest.raises(ConfigurationError, match="root element is 'html'"):
        parse(b"<html/>")
    nameless = b'<metalink xmlns="urn:x"><file><url>https://h/a</url></file></metalink>'
    assert parse(nameless).entries == (Entry("https://h/a"),)


def test_the_european_nucleotide_archive():
    head = "run_accession\tfastq_ftp\tfastq_md5\tfastq_bytes\n"
    row = f"ERR1\tftp.x/a_1.fq.gz;ftp.x/a_2.fq.gz\t{MD5};{'1' * 32}\t10;20\n"
    assert parse((head + row + "ERR2\t\t\t\n").encode()).entries == (
        Entry("https://ftp.x/a_1.fq.gz", "", DA, 10),
        Entry("https://ftp.x/a_2.fq.gz", "", Digest("md5", "1" * 32), 20),
    )
    bare = parse(b"submitted_ftp\nftp://ftp.x/a;http://h/b\n").entries
    assert bare == (Entry("https://ftp.x/a"), Entry("http://h/b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://h/x", r"line 1: the scheme 'ftp' is not supported"),
        (f"{A}\nnot a URL\n", r"line 2: the URL has a space"),
        (f"{A} 12345678\n", r"line 1: .*digest"),
        (f"{A} 123\n", r"line 1: the URL has a space"),
        (f"{A}#md5={'1' * 32} {MD5}\n", r"line 1: two different md5 digests"),
        (" out=x\n", r"line 1: an option stands before the first URL"),
        (f"{A}\n checksum=md5=12\n", r"line 2: a md5 digest has 32 hexadecimal digits"),
        (f"{A}\n out=../x\n", r"line 2: '\.\./x' is not a name for a file below the output directory"),
        (f"{A}\n dir=/etc\n{B}", r"line 2: '/etc' is not a name"),
        (f"{A}\n dir=../x\n out=y\n", r"line 2: '\.\./x' is not a name"),
        (f"{A}\n dir=.ssh\n", r"line 2: '\.ssh' is not a name"),
        (f"url,md5,md5\n{A},{MD5},\n", r"line 1: the heading 'md5' stands there twice"),
        (f"url,name,Name\n{A},x,y\n", r"line 1: the heading 'Name' stands there twice"),
        (f"fastq_ftp\tfastq_md5\nh/a;h/b\t{MD5}\n", r"line 2: 2 files, and the md5 of 1"),
        (f'[{{"url": "{A}", "headers": {{"X": 1}}}}]', r"file 1: a text was expected, not 1"),
        (f'[{{"url": "{A}", "size": {"9" * 5000}}}]', r"it is not JSON: Exceeds the limit"),
        (f"url,name\n{A},/x\n", r"line 2: '/x' is not a name"),
        (f"url,name\n{A},a\n{B},.ssh/x\n", r"line 3: '\.ssh/x' is not a name"),
        (f"url,size\n{A},much\n", r"line 2: size: one number of bytes was expected, not 'much'"),
        (f"url,size\n{A}#size=1,2\n", r"line 2: size: one number"),
        (f"url,md5\n{A},zz\n", r"line 2: a md5 digest has 32"),
        (f"url,md5\n{A}#md5={'1' * 32},{MD5}\n", r"line 2: two different md5 digests"),
        (f"url,md5\n,{MD5}\n", r"line 2: there is no URL"),
        (f"url,md5\n{A},{MD5},x\n", r"line 2: 3 cells under 2 headings"),
        ('url,name\n"a"b,c\n', r"line 2: "),
        (f"name\turl\nx\t{A}\nx\n", r"line 3: there is no URL"),
        ("[1]", r"file 1: an object or a URL was expected"),
        ('[{"url": 1}]', r"file 1: a text was expected, not 1"),
        ('[{"url": "https://h/a", "size": true}]', r"file 1: size"),
        ('{"url": ', r"it is not JSON"),
        ('{"url": "https://h/a"}\n{', r"it is not JSON"),
        ("[" * 100_000, r"it is not JSON"),
    ],
)
def test_what_cannot_be_understood(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse(text.encode())


def test_bytes_that_are_no_text_and_too_many():
    with pytest.raises(ConfigurationError, match="not a text in UTF-8: byte 3 is wrong"):
        parse(b"ab\xff")
    with pytest.raises(ConfigurationError) as caught:
        parse(f"url\n{A}".encode("utf-16"))
    assert caught.value.hint == "Save it as UTF-8."
    with pytest.raises(ConfigurationError, match="has at most 67,108,864 bytes"):
        parse(bytes(manifests.MAX_BYTES + 1))


def test_columns_without_a_meaning_are_named():
    assert parse(f"url,sample,md5_wrong\n{A},s1,{MD5}\n".encode()).ignored == ("sample", "md5_wrong")
    assert parse(f'[{{"url": "{A}", "headers": "no", "colour": 1}}]'.encode()).ignored == ("headers", "colour")


def test_no_secret_is_shown():
    with pytest.raises(ConfigurationError) as caught:
        parse(b"https://me:t0psecret@h/a#colour=1")
    assert "t0psecret" not in str(caught.value)


entries = st.builds(
    Entry,
    st.just(A),
    st.sampled_from(["", "x", "d/x.gz"]),
    st.sampled_from([None, DA, DB, Digest("md5", MD5, 5, 8_388_608)]),
    st.none() | st.integers(0, 10**15),
    st.sampled_from([(), (B,), (B, "https://h/c?a=b&c=%20d")]),
    st.sampled_from([(), (("X-A", "b"),)]),
)


@given(entries)
def test_there_and_back(entry):
    assert parse(json.dumps([entry.as_dict()]).encode()).entries == (entry,)
    target = urls.parse(entry.target)
    assert (target.url, target.digest, target.size) == (entry.url, entry.digest, entry.size)
    assert tuple(value for _, value in target.options) == entry.mirrors


SAMPLES = [
    f"{A}\t{B}\n  out=x.gz\n  dir=d\n  checksum=md5={MD5}\n",
    f"url\tmd5\tsize\tname\n{A}\t{MD5}\t10\tx\n",
    f"run\tfastq_ftp\tfastq_md5\nE\th/a;h/b\t{MD5};{MD5}\n",
    json.dumps([{"url": A, "digest": f"md5:{MD5}", "name": "x", "mirrors": [B]}]),
]


@settings(max_examples=300)
@given(st.sampled_from(SAMPLES), st.integers(0, 120), st.integers(0, 10), st.binary(max_size=5) | st.just(b"\n\t,;"))
def test_spoilt_lists_raise_one_error_and_choose_no_place(sample, at, length, piece):
    data = sample.encode()
    try:
        found = parse(data[:at] + piece + data[at + length :]).entries
    except ConfigurationError:
        return
    for entry in found:
        assert not entry.name.startswith("/")
        assert ".." not in entry.name.split("/")
        assert "\0" not in entry.name


def test_a_long_list_is_read_at_once():
    """Each line costs some 20 µs; the time is that of this process, and five times what a slow machine takes."""
    rows = "".join(f"https://h/file{number}.bin\t{MD5}\t{number}\td/f{number}\n" for number in range(10_000))
    begun = time.process_time()
    assert len(parse(f"url\tmd5\tsize\tname\n{rows}".encode()).entries) == 10_000
    assert time.process_time() - begun < 2


def test_mirrors_of_the_caller_are_asked_first():
    assert Entry(A, mirrors=(B,)).with_mirrors([f"{A}?2#size=5"]).mirrors == (f"{A}?2", B)
    with pytest.raises(ConfigurationError):
        Entry(A).with_mirrors(["ftp://h/x"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f'{{"url": "{A}"}}\n\n{{"url" "{B}"}}\n', "line 3: it is not JSON: Expecting ':' delimiter at column"),
        (f"{A}\n  header=bad\n", "line 2: header=: 'Name: value' was expected"),
        (f"{A},{MD5}\n", "line 1: a digest stands behind a comma"),
        (f"{A}|md5:{MD5}\n", "line 1: a digest stands behind a comma"),
        (f"sample,file_url,md5\ns1,{A},{MD5}\n", "line 1: this is no URL, and no head of a table"),
        (f'{{"url": "{A}", "ok": false}}\n', "file 1: a failure as --json prints it"),
    ],
)
def test_what_is_nearly_right_is_told(text, complaint):
    with pytest.raises(ConfigurationError) as caught:
        parse(text.encode())
    assert str(caught.value).startswith(complaint)
