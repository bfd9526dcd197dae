from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from hydraflow.models import Digest, DigestSource, FetchResult, Outcome, Verification
from hydraflow.prefect import FetchedFile

SHA256 = Digest("sha256", "ab" * 32)


def result(path: Path | None, digest: Digest | None = SHA256, **changes: object) -> FetchResult:
    values = {
        "url": "https://host/x.txt",
        "final_url": "https://mirror/x.txt",
        "path": path,
        "size": 6,
        "digest": digest,
        "verification": Verification.CALLER if digest else Verification.SIZE,
        "digest_source": DigestSource.FRAGMENT if digest else None,
        "etag": '"v1"',
        "last_modified": None,
        "outcome": Outcome.RESUMED,
        "bytes_from_network": 4,
        "bytes_from_checkpoint": 2,
        "requests": 1,
        "retries": 0,
        "restarts": 0,
        "peak_connections": 1,
        "http_version": "HTTP/1.1",
        "elapsed": 0.5,
    }
    return FetchResult(**(values | changes))


@pytest.fixture
def file(tmp_path: Path) -> FetchedFile:
    path = tmp_path / "x.txt"
    path.write_text("hello\n")
    return FetchedFile.of(result(path))


def test_is_a_path(file: FetchedFile) -> None:
    with open(file) as opened:  # noqa: PTH123 - the point of the test
        assert opened.read() == "hello\n"
    assert subprocess.run(["cat", file], check=True, stdout=subprocess.PIPE).stdout == b"hello\n"
    assert f"{file}" == str(file.path) == str(Path(file))


def test_says_what_happened(file: FetchedFile) -> None:
    assert (file.size, file.digest, file.outcome) == (6, str(SHA256), Outcome.RESUMED)
    assert (file.verification, file.digest_source) == (Verification.CALLER, DigestSource.FRAGMENT)
    assert (file.bytes_from_network, file.bytes_from_checkpoint, file.requests) == (4, 2, 1)
    assert (file.url, file.final_url) == ("https://host/x.txt", "https://mirror/x.txt")


def test_survives_json_and_pickle(file: FetchedFile) -> None:
    text = file.model_dump_json()
    assert FetchedFile.model_validate_json(text) == file
    assert len(text) < 1000
    assert pickle.loads(pickle.dumps(file)) == file


def test_cannot_be_changed(file: FetchedFile) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        file.size = 7  # type: ignore[misc]


def test_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FetchedFile.of(result(Path("data/x.txt"))).path == tmp_path / "data" / "x.txt"


@pytest.mark.parametrize(
    ("changes", "proof"),
    [
        ({}, "verified sha256 (url fragment)"),
        ({"digest_source": DigestSource.S3_ETAG, "digest": Digest("md5", "0" * 32)}, "verified md5 (S3 ETag)"),
        ({"digest": None, "verification": Verification.SIZE}, "size checked, no digest known"),
        (
            {"digest": None, "verification": Verification.NONE},
            "not verified: the server announced neither size nor digest",
        ),
    ],
)
def test_proof(changes: dict[str, object], proof: str) -> None:
    assert FetchedFile.of(result(Path("/x"), **changes)).proof == proof


def test_a_stream_is_no_file() -> None:
    with pytest.raises(ValueError, match="stream"):
        FetchedFile.of(result(None))
