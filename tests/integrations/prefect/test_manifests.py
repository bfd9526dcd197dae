from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

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
        (f"https://h/a#size=5 {MD5}", [f"https://h/a#size=5&md5={MD5}"]),
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


def test_lists() -> None:
    assert manifests.read(["https://h/a", SecretStr("https://h/b?sig=x")]) == ["https://h/a", "https://h/b?sig=x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no file"),
        ("# nothing\n", "lists no file"),
        ("no url\n", "not a URL: 'no'"),
        ("https://h/a 123\n", "not a digest: '123'"),
        ("\0\xff", "not a URL"),
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
    with pytest.raises(ConfigurationError, match="not a text"):
        manifests.read(tmp_path / "binary")
