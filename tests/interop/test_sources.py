"""Digests as real servers announce and publish them: S3 of rclone and moto, files beside files on nginx and Caddy."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import fetch, stream
from hydraflow.errors import DigestMismatchError, UnverifiableError
from hydraflow.models import DigestSource, Verification
from lab.moto import Moto, s3_client
from lab.process import MissingBinaryError
from lab.rclone import Rclone
from tests.core.test_integrity import of_parts
from tests.faults.fronts import noise
from tests.interop.conftest import _missing, _serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
PART = 5 * MIB
_turn = itertools.count()


def policies(verify: str, **options: Any):
    return hydraflow_settings.load(
        threads=4, user_agent=f"sources/{next(_turn)}", first_wait=2, verify=verify, **options
    )


@pytest.fixture(scope="module")
def data() -> bytes:
    return noise(9 * MIB + 7, seed=9)


def client(url: str) -> Any:
    try:
        return s3_client(url)
    except MissingBinaryError as error:
        _missing(str(error))


def upload_in_parts(s3: Any, key: str, data: bytes, size: int, **options: Any) -> None:
    upload = s3.create_multipart_upload(Bucket="bucket", Key=key, **options)["UploadId"]
    checksum = options.get("ChecksumAlgorithm")
    parts = []
    for number, at in enumerate(range(0, len(data), size), 1):
        extra = {} if checksum is None else {"ChecksumAlgorithm": checksum}
        done = s3.upload_part(
            Bucket="bucket", Key=key, UploadId=upload, PartNumber=number, Body=data[at : at + size], **extra
        )
        sums = {name: value for name, value in done.items() if name.startswith("Checksum") and name != "ChecksumType"}
        parts.append({"PartNumber": number, "ETag": done["ETag"], **sums})
    s3.complete_multipart_upload(Bucket="bucket", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def get(url: str, path: Path, data: bytes, verify: str = "require", **options: Any):
    """By both ways; what they rest on must be the same."""
    result = fetch(url, path / f"file{next(_turn)}", settings=policies(verify), **options)
    assert result.path.read_bytes() == data
    with stream(url, settings=policies(verify), **options) as opened:
        assert b"".join(opened) == data
    assert opened.result.digest_source is result.digest_source
    return result


# S3.

CHECKSUMS = ["SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"]


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    yield from _serving(Moto)


@pytest.fixture(scope="module")
def objects(moto, data) -> str:
    """A public bucket of one object for each way to upload it."""
    s3 = client(moto.url)
    s3.create_bucket(Bucket="bucket")
    public = {"ACL": "public-read"}
    s3.put_object(Bucket="bucket", Key="plain", Body=data, **public)
    for name in CHECKSUMS:
        s3.put_object(
            Bucket="bucket", Key=name, Body=data, ChecksumAlgorithm=name, ServerSideEncryption="aws:kms", **public
        )
    upload_in_parts(s3, "parts", data, PART, **public)
    upload_in_parts(s3, "full", data, PART, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT", **public)
    return f"{moto.url}/bucket"


def test_an_object_in_one_piece(objects, data, tmp_path):
    result = get(f"{objects}/plain", tmp_path, data)
    assert (result.verification, result.digest_source) == (Verification.SERVER, DigestSource.S3_ETAG)
    assert result.digest.value == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("name", CHECKSUMS)
def test_checksums_of_objects_whose_etag_is_none(objects, data, tmp_path, name):
    """Encrypted by a key of its own; S3 tells the checksum if it is asked."""
    result = get(f"{objects}/{name}", tmp_path, data)
    assert (result.digest_source, result.digest.algorithm) == (DigestSource.AMZ_CHECKSUM, name.lower())


def test_an_object_in_parts(objects, data, tmp_path):
    result = get(f"{objects}/parts", tmp_path, data)
    assert (result.digest_source, result.digest.parts) == (DigestSource.S3_ETAG, 2)
    assert result.digest.value == of_parts(data, PART)


def test_an_object_in_parts_with_a_checksum_of_the_whole(objects, data, tmp_path):
    result = get(f"{objects}/full", tmp_path, data)
    assert (result.digest_source, result.digest.algorithm) == (DigestSource.AMZ_CHECKSUM, "crc32")
    assert result.digest.parts == 0


@pytest.fixture(scope="module")
def rclone_s3(tmp_path_factory, data) -> Iterator[tuple[Path, str]]:
    root = tmp_path_factory.mktemp("s3")
    for server in _serving(lambda: Rclone(root, "s3", writable=True)):
        s3 = client(server.url)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="one", Body=data)
        upload_in_parts(s3, "parts", data, PART)
        yield root, f"{server.url}/bucket"


@pytest.mark.parametrize("key", ["one", "parts"])
def test_rclone(rclone_s3, data, tmp_path, key):
    _, url = rclone_s3
    result = get(f"{url}/{key}", tmp_path, data)
    assert result.verification is Verification.SERVER


# Files beside files.


@pytest.fixture(scope="module")
def published(root, data) -> str:
    """A directory of data with checksum files of several kinds, one of them wrong."""
    directory = root / "published"
    directory.mkdir()
    digests = {name: hashlib.new(name, data).hexdigest() for name in ("md5", "sha256")}
    for name in ("own.bin", "bare.bin", "sums.bin", "ncbi.bin", "wrong.bin", "none.bin"):
        (directory / name).write_bytes(data)
    (directory / "own.bin.sha256").write_text(f"{digests['sha256']}  own.bin\n")
    (directory / "bare.bin.md5").write_text(f"{digests['md5']}\n")
    (directory / "SHA256SUMS").write_text(f"{'0' * 64}  other.bin\n{digests['sha256']} *sums.bin\n")
    (directory / "md5checksums.txt").write_text(f"{'0' * 32}  ./sub/ncbi.bin\n{digests['md5']}  ./ncbi.bin\n")
    (directory / "wrong.bin.sha256").write_text(f"{'0' * 64}  wrong.bin\n")
    return "/published"


@pytest.fixture(params=["nginx", "caddy"])
def server(request) -> str:
    return request.getfixturevalue(request.param).url


@pytest.mark.parametrize("name", ["own.bin", "bare.bin", "sums.bin", "ncbi.bin"])
def test_checksum_files(server, published, data, tmp_path, name):
    result = get(f"{server}{published}/{name}", tmp_path, data)
    assert (result.verification, result.digest_source) == (Verification.SIDECAR, DigestSource.SIDECAR_HTTP)


def test_a_wrong_checksum_file(server, published, data, tmp_path):
    with pytest.raises(DigestMismatchError, match=r"wrong\.bin\.sha256"):
        fetch(f"{server}{published}/wrong.bin", tmp_path / "x", settings=policies("require"))
    result = get(f"{server}{published}/wrong.bin", tmp_path, data, verify="none")
    assert result.verification is Verification.SIZE


def test_no_checksum_file(server, published, data, tmp_path):
    with pytest.raises(UnverifiableError):
        fetch(f"{server}{published}/none.bin", tmp_path / "x", settings=policies("require"))
    assert get(f"{server}{published}/none.bin", tmp_path, data, verify="auto").verification is Verification.SIZE


@pytest.mark.usefixtures("trusted")
def test_over_tls(nginx, published, data, tmp_path):
    result = get(f"{nginx.tls_url}{published}/own.bin", tmp_path, data)
    assert result.digest_source is DigestSource.SIDECAR
