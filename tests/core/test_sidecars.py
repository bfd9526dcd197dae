"""Checksum files: every form, every decoy; and whatever else a server may send in their place."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import sidecars
from hydraflow.models import Digest

NAME = "genome.fa.gz"
MD5 = hashlib.md5(b"data").hexdigest()
SHA256 = hashlib.sha256(b"data").hexdigest()
OTHER = "0" * 32


def read(text: str | bytes, name: str = NAME, **options) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [str(digest) for digest in sidecars.digests_of(data, name, **options)]


RIGHT = {
    "gnu text": f"{MD5}  {NAME}\n",
    "gnu binary": f"{MD5} *{NAME}\n",
    "ncbi": f"{OTHER}  ./README.txt\n{MD5}  ./{NAME}\n{OTHER}  ./sub/{NAME}\n",
    "tab": f"{MD5}\t{NAME}\n",
    "bsd": f"MD5 ({NAME}) = {MD5}\n",
    "openssl": f"MD5({NAME})= {MD5}\n",
    "upper case": f"{MD5.upper()}  {NAME}\n",
    "crlf": f"{OTHER}  other\r\n{MD5}  {NAME}\r\n",
    "no end of line": f"{MD5}  {NAME}",
    "byte order mark": f"\ufeff{MD5}  {NAME}\n",
    "said twice": f"{MD5}  {NAME}\n{MD5} *./{NAME}\n",
    "among comments": f"# md5sums\n; of today\n\n{MD5}  {NAME}\n",
    "not all of it is utf-8": b"%s  caf\xe9\n%s  %s\n" % (OTHER.encode(), MD5.encode(), NAME.encode()),
}
SILENT = {
    "empty": "",
    "another file's": f"{MD5}  other.fa.gz\n",
    "longer name": f"{MD5}  {NAME}.tbi\n",
    "shorter name": f"{MD5}  genome.fa\n",
    "in a sub-directory": f"{MD5}  sub/{NAME}\n",
    "in the parent": f"{MD5}  ../{NAME}\n",
    "other case": f"{MD5}  Genome.fa.gz\n",
    "a space more": f"{MD5}  {NAME} \n",
    "three spaces": f"{MD5}   {NAME}\n",
    "two that differ": f"{MD5}  {NAME}\n{OTHER}  {NAME}\n",
    "two forms that differ": f"{MD5}  {NAME}\nMD5 ({NAME}) = {OTHER}\n",
    "a digit short": f"{MD5[:-1]}  {NAME}\n",
    "a digit more": f"{MD5}0  {NAME}\n",
    "no hexadecimal": f"{'g' * 32}  {NAME}\n",
    "in a comment": f"# {MD5}  {NAME}\n",
    "indented": f"  {MD5}  {NAME}\n",
    "bsd of another length": f"SHA256 ({NAME}) = {MD5}\n",
    "bsd unknown": f"WHIRLPOOL ({NAME}) = {'0' * 128}\n",
    "sum of Ensembl": f"54321 1234 {NAME}\n",
    "sum of cksum": f"3915528286 4 {NAME}\n",
    "html": f"<html><body><pre>{MD5}  {NAME}</pre></body></html>",
    "bare": f"{MD5}\n",
    "the name first": f"{NAME}  {MD5}\n",
    "nul": f"{MD5}  {NAME}\0\n",
    "swapped by a bidi mark": f"{MD5}  \u202e{NAME}\n",
    "two lines in one": f"{MD5}  {NAME}\u2028{OTHER}  x\n",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_right(text):
    assert read(text) == [f"md5:{MD5}"]
    assert read(text, algorithm="md5") == [f"md5:{MD5}"]
    assert read(text, algorithm="sha256") == []
    assert read(text, "another") == []


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_what_says_nothing_of_the_file(text):
    assert read(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{MD5}\n", True),
        (f"  {MD5}  \r\n", True),
        (f"{MD5}  /home/anna/data/{NAME}\n", True),
        (f"{MD5}  data\\{NAME}\n", True),
        (f"MD5 (data/{NAME}) = {MD5}\n", True),
        (f"{MD5}  other.fa.gz\n", False),
        (f"{MD5}\n{OTHER}\n", False),
        (f"{MD5} {OTHER}\n", False),
        (f"{MD5} x\n", False),
        (f"<a>{MD5}</a>\n", False),
    ],
)
def test_a_file_of_one_digest(text, found):
    assert read(text, algorithm="md5", alone=True) == ([f"md5:{MD5}"] if found else [])
    assert read(text, algorithm="sha1", alone=True) == []


def test_the_longest_digest_comes_first():
    assert read(f"{MD5}  {NAME}\n{SHA256}  {NAME}\n") == [f"sha256:{SHA256}", f"md5:{MD5}"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"\\{MD5}  a\\nb", "a\nb"),
        (f"\\{MD5}  a\\\\b", "a\\b"),
        (f"\\MD5 (a\\\\nb) = {MD5}", "a\\nb"),
        (f"{MD5}  a\\nb", "a\\nb"),
        (f"{MD5}  \u0065\u0301", "\u00e9"),
        (f"{MD5}  b (1) = c", "b (1) = c"),
        (f"MD5 (b) (1) = c) = {MD5}", "b) (1) = c"),
        (f"{MD5}  - x", "- x"),
    ],
)
def test_names_with_signs_in_them(line, name):
    assert read(line, name) == [f"md5:{MD5}"]


@pytest.mark.parametrize("tool", ["md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum"])
@pytest.mark.parametrize("tag", [[], ["--tag"], ["--binary"]], ids=["text", "tag", "binary"])
@pytest.mark.parametrize("name", [NAME, "with space (1) = x", "a\\b", "line\nbreak", "ü"])
def test_what_the_tools_write(tool, tag, name, tmp_path):
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    (tmp_path / name).write_bytes(b"data")
    (tmp_path / "other").write_bytes(b"decoy")
    listing = subprocess.run([tool, *tag, "other", name], cwd=tmp_path, capture_output=True, check=True).stdout
    algorithm = tool.removesuffix("sum")
    assert read(listing, name) == [f"{algorithm}:{hashlib.new(algorithm, b'data').hexdigest()}"]


def test_what_is_too_long_is_not_read():
    line = f"{MD5}  {NAME}\n".encode()
    assert read(line + b"#" * (sidecars.MAX_BYTES - len(line))) == [f"md5:{MD5}"]
    assert read(line + b"#" * sidecars.MAX_BYTES) == []


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode), st.text(max_size=20), st.booleans())
@settings(deadline=None)
def test_nothing_raises(data, name, alone):
    for digest in sidecars.digests_of(data, name, alone=alone):
        assert Digest.parse(str(digest)) == digest


lines = st.sampled_from([*RIGHT.values(), *SILENT.values()])


@given(st.lists(lines.map(lambda text: text if isinstance(text, bytes) else text.encode()), max_size=4))
@settings(deadline=None)
def test_no_mixture_yields_another_files_digest(texts):
    """Whatever stands around it: the file's own digest, one that a line names it with, or none."""
    found = read(b"\n".join(texts))
    assert found in ([], [f"md5:{MD5}"], [f"md5:{OTHER}"])


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (MD5, f"md5:{MD5}"),
        (f" {SHA256.upper()}\r\n", f"sha256:{SHA256}"),
        (f"{MD5}  {NAME}\n", None),
        (MD5[1:], None),
        ("", None),
        (" " * 1000 + MD5, None),
        ("0" * 33, None),
    ],
)
def test_a_digest_that_stands_alone(text, digest):
    found = sidecars.bare(text.encode())
    assert (None if found is None else str(found)) == digest
