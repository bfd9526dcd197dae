from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from hydraflow.core.manifests import Entry
from hydraflow.errors import ConfigurationError, StorageError
from hydraflow.prefect import manifests

MD5 = "0123456789abcdef" * 2
SHA256 = "0123456789abcdef" * 4
ENA = "run_accession\tfastq_ftp\tfastq_md5\tfastq_bytes\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "manifest"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("https://h/a\nhttps://h/b\n", ["https://h/a", "https://h/b"]),
        ("# a comment\n\n  https://h/a  \r\n", ["https://h/a"]),
        (
            f"https://h/a {MD5}\nhttps://h/b\tsha256:{SHA256}\n",
            [f"https://h/a#md5={MD5}", f"https://h/b#sha256={SHA256}"],
        ),
        (f"https://h/a#md5={MD5}", [f"https://h/a#md5={MD5}"]),
        (f"https://h/a#size=5 {MD5}", [f"https://h/a#md5={MD5}&size=5"]),
        (f"\ufeffurl,md5\nhttps://h/a,{MD5}\n", [f"https://h/a#md5={MD5}"]),
        (f'sample,url,sha256,size\none,"https://h/a,b",{SHA256},7\n', [f"https://h/a,b#sha256={SHA256}&size=7"]),
        (f"URL\tdigest\nhttps://h/a\tmd5:{MD5}\nhttps://h/b\t\n", [f"https://h/a#md5={MD5}", "https://h/b"]),
        ("url\nhttps://h/a\n", ["https://h/a"]),
        (
            f"{ENA}ERR1\th/a_1.gz;h/a_2.gz\t{MD5};{MD5[::-1]}\t1;2\n",
            [f"https://h/a_1.gz#md5={MD5}&size=1", f"https://h/a_2.gz#md5={MD5[::-1]}&size=2"],
        ),
        (f"{ENA}ERR1\t\t\t\nERR2\th/b.gz\t{MD5}\t3\n", [f"https://h/b.gz#md5={MD5}&size=3"]),
    ],
)
def test_files(tmp_path: Path, text: str, urls: list[str]) -> None:
    assert manifests.read(written(tmp_path, text)) == urls
    assert manifests.read(str(written(tmp_path, text))) == urls


def test_names_and_headers_of_other_forms_are_kept_for_many_files(tmp_path: Path) -> None:
    text = json.dumps([{"url": "https://h/a", "name": "run/x", "headers": {"X-A": "b"}, "size": 5}])
    assert manifests.items(written(tmp_path, text)) == [
        Entry("https://h/a", "run/x", size=5, headers=(("X-A", "b"),)),
    ]
    assert manifests.read(written(tmp_path, text)) == ["https://h/a#size=5"]


def test_columns_without_a_meaning_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hydraflow.prefect"):
        manifests.read(written(tmp_path, f"url,md5_wrong\nhttps://h/a,{MD5}\n"))
    assert "passed over, since it means nothing here: md5_wrong" in caplog.text


def test_lists() -> None:
    assert manifests.read(["https://h/a", SecretStr("https://h/b?sig=x")]) == ["https://h/a", "https://h/b?sig=x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "manifest lists no file"),
        ("# nothing\n", "manifest lists no file"),
        ("no_url\n", "manifest: line 1: this is not a URL"),
        ("https://h/a 123\n", "manifest: line 1: the URL has a space"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        manifests.read(written(tmp_path, text))


def test_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        manifests.read(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="not a URL"):
        manifests.read("https://h/a")
    with pytest.raises(ConfigurationError, match="only once"):
        manifests.read(iter(["https://h/a"]))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not a text in UTF-8"):
        manifests.read(tmp_path / "binary")
