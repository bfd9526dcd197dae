"""Metalink files of both versions; and XML that means harm."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import metalink
from hydraflow.models import Digest

MD5, SHA256 = hashlib.md5(b"data").hexdigest(), hashlib.sha256(b"data").hexdigest()

V4 = f"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <published>2024-01-01T00:00:00Z</published>
  <file name="x.fa.gz">
    <size>4</size>
    <hash type="md5">{MD5.upper()}</hash>
    <hash type="sha-256"> {SHA256} </hash>
    <hash type="sha-256-of-mine">{SHA256}</hash>
    <pieces length="2" type="sha-256"><hash>{"0" * 64}</hash><hash>{"1" * 64}</hash></pieces>
    <url location="de" priority="2">https://two.example/x.fa.gz</url>
    <url priority="1">http://one.example/x.fa.gz</url>
    <url>ftp://three.example/x.fa.gz</url>
    <url>https://four.example/x.fa.gz</url>
  </file>
  <file name="y"><hash type="md5">{"0" * 32}</hash></file>
</metalink>"""

V3 = f"""<metalink version="3.0" xmlns="http://www.metalinker.org/">
<files><file name="x.fa.gz"><size>4</size>
<verification><hash type="md5">{MD5}</hash>
<pieces type="sha1" length="2"><hash piece="0">{"0" * 40}</hash></pieces></verification>
<resources><url type="https" preference="50">https://two.example/x.fa.gz</url>
<url type="https" preference="100">https://one.example/x.fa.gz</url></resources>
</file></files></metalink>"""


def test_version_4():
    first, second = metalink.parse(V4.encode())
    assert first == metalink.File(
        "x.fa.gz",
        4,
        (Digest("sha256", SHA256), Digest("md5", MD5)),
        ("http://one.example/x.fa.gz", "https://two.example/x.fa.gz", "https://four.example/x.fa.gz"),
    )
    assert second == metalink.File("y", None, (Digest("md5", "0" * 32),), ())


def test_version_3():
    assert metalink.parse(V3.encode()) == (
        metalink.File(
            "x.fa.gz", 4, (Digest("md5", MD5),), ("https://one.example/x.fa.gz", "https://two.example/x.fa.gz")
        ),
    )


@pytest.mark.parametrize(
    "body",
    [
        f'<hash type="md5">{MD5}</hash><hash type="md5">{"0" * 32}</hash>',
        f'<hash type="sha-256">{MD5}</hash>',
        '<hash type="md5"></hash>',
        f'<hash type="md5">{"g" * 32}</hash>',
        f"<hash>{MD5}</hash>",
        f'<hash type="md5"><b>{MD5}</b></hash>',
        f'<other><hash type="md5">{MD5}</hash></other>',
    ],
)
def test_digests_that_say_nothing(body):
    (file,) = metalink.parse(f'<metalink><file name="x">{body}</file></metalink>'.encode())
    assert file.digests == ()


@pytest.mark.parametrize("size", ["", "-1", "4.0", "1" * 30, "x"])
def test_sizes_that_say_nothing(size):
    (file,) = metalink.parse(f'<metalink><file name="x"><size>{size}</size></file></metalink>'.encode())
    assert file.size is None


def test_a_file_without_a_name_is_nobodys():
    assert [file.name for file in metalink.parse(b"<metalink><file/></metalink>")] == [""]


BOMB = """<!DOCTYPE metalink [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<metalink><file name="x"><size>&b;</size></file></metalink>"""
OUTSIDE = """<!DOCTYPE metalink [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<metalink><file name="&x;"/></metalink>"""


@pytest.mark.parametrize(
    "text",
    [
        "", "no xml", "<metalink>", "<metalink><file></metalink>", "<html/>", BOMB, OUTSIDE,
        "<!DOCTYPE metalink SYSTEM 'http://127.0.0.1/x.dtd'><metalink/>",
        "<metalink>" + "<a>" * 100_000 + "</a>" * 100_000 + "</metalink>",
        '<?xml version="1.0" encoding="made-up"?><metalink/>',
    ],
)  # fmt: skip
def test_what_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        metalink.parse(text.encode())


def test_what_is_too_long_is_refused():
    with pytest.raises(ValueError, match="at most"):
        metalink.parse(V4.encode() + b" " * metalink.MAX_BYTES)


def test_urls_are_bounded():
    many = "".join(f"<url>https://h/{n}</url>" for n in range(3000))
    (file,) = metalink.parse(f'<metalink><file name="x">{many}</file></metalink>'.encode())
    assert len(file.urls) == 1000


pieces = st.lists(
    st.sampled_from(
        ["<metalink>", "</metalink>", '<file name="x">', "</file>", '<hash type="md5">', MD5, "</hash>", "<size>", "4",
         "</size>", "&amp;", "&x;", "<!--", "-->", "<![CDATA[", "]]>", "<?x?>", '<url priority="1">', "</url>", "\0"]
    )
    | st.text(max_size=5),
    max_size=30,
).map("".join)  # fmt: skip


@given(
    st.binary(max_size=200) | pieces.map(str.encode) | pieces.map(lambda text: f"<metalink>{text}</metalink>".encode())
)
@settings(deadline=None)
def test_nothing_but_value_errors(data):
    try:
        files = metalink.parse(data)
    except ValueError:
        return
    for file in files:
        assert all(Digest.parse(str(digest)) == digest for digest in file.digests)
        assert all(url.startswith("http") for url in file.urls)
