"""nginx, Caddy and rclone, in clear text, over TLS and over HTTP/2."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import fetch, probe
from hydraflow.errors import AccessDeniedError, ConnectError, NotFoundError
from hydraflow.models import DigestSource, Outcome, Verification
from lab.rclone import Rclone

NAMES = ("large.bin", "small.bin", "empty.bin", "with space+ü&.bin")


@pytest.fixture(params=NAMES)
def path(request):
    return f"/files/{quote(request.param)}"


class TestNginx:
    def test_clear_text(self, nginx, compare, path):
        got = compare(f"{nginx.url}{path}")
        assert got.file.http_version == "HTTP/1.1"
        assert got.file.verification is Verification.SIZE
        if "large" in path:
            assert got.file.peak_connections > 1

    @pytest.mark.usefixtures("trusted")
    def test_tls(self, nginx, compare, path):
        assert compare(f"{nginx.tls_url}{path}").file.http_version == "HTTP/1.1"

    @pytest.mark.usefixtures("trusted")
    def test_http2(self, nginx_http2, compare, path):
        got = compare(f"{nginx_http2.tls_url}{path}", http2=True)
        assert (got.file.http_version, got.streamed.http_version) == ("HTTP/2", "HTTP/2")

    @pytest.mark.usefixtures("trusted")
    def test_http2_is_not_offered_unless_asked_for(self, nginx_http2, compare):
        assert compare(f"{nginx_http2.tls_url}/files/small.bin").file.http_version == "HTTP/1.1"

    def test_certificate_of_nobody(self, nginx, tmp_path, monkeypatch):
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        strict = hydraflow_settings.load(first_wait=0.3, user_agent="interop/strict")
        with pytest.raises(ConnectError, match="certificate"):
            fetch(f"{nginx.tls_url}/files/small.bin", tmp_path / "x", settings=strict)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("trusted")
    def test_certificate_of_another_host(self, nginx, tmp_path):
        """The certificate is for localhost and 127.0.0.1; 127.0.0.2 is somebody else."""
        strict = hydraflow_settings.load(first_wait=0.3, user_agent="interop/other")
        with pytest.raises(ConnectError):
            fetch(nginx.tls_url.replace("localhost", "127.0.0.2") + "/files/small.bin", tmp_path / "x", settings=strict)

    def test_bytes_are_served_once(self, nginx, tmp_path):
        before = nginx.bytes_served()
        result = fetch(f"{nginx.url}/files/large.bin", tmp_path / "x")
        assert nginx.bytes_served() - before <= 1.1 * result.size
        served = nginx.bytes_served()
        assert fetch(f"{nginx.url}/files/large.bin", tmp_path / "x").outcome is Outcome.ALREADY_PRESENT
        assert nginx.bytes_served() - served <= 1

    def test_not_found(self, nginx, tmp_path):
        with pytest.raises(NotFoundError):
            fetch(f"{nginx.url}/files/none", tmp_path / "x")

    def test_probe(self, nginx, root):
        resource = probe(f"{nginx.url}/files/large.bin")
        assert resource.size == (root / "files" / "large.bin").stat().st_size
        assert resource.ranges
        assert resource.validator.strong_etag is not None


class TestCaddy:
    def test_clear_text(self, caddy, compare, path):
        assert compare(f"{caddy.url}{path}").file.http_version == "HTTP/1.1"

    @pytest.mark.usefixtures("trusted")
    def test_tls(self, caddy, compare, path):
        assert compare(f"{caddy.tls_url}{path}").file.http_version == "HTTP/1.1"

    @pytest.mark.usefixtures("trusted")
    def test_http2(self, caddy, compare, path):
        assert compare(f"{caddy.tls_url}{path}", http2=True).file.http_version == "HTTP/2"


class TestRclone:
    def test_each_protocol(self, rclone, root, compare, path):
        protocol, server = rclone
        got = compare(f"{server.url}{path}")
        if protocol == "s3":
            name = next(name for name in NAMES if path.endswith(quote(name)))
            md5 = hashlib.md5((root / "files" / name).read_bytes()).hexdigest()
            assert str(got.file.digest) == f"md5:{md5}"
            assert (got.file.verification, got.file.digest_source) == (Verification.SERVER, DigestSource.S3_ETAG)

    def test_password(self, root, tmp_path):
        with Rclone(root, "http", options=["--user", "anna", "--pass", "s3cr3t"]) as server:
            url = f"{server.url}/files/small.bin"
            with pytest.raises(AccessDeniedError):
                fetch(url, tmp_path / "x")
            inside = url.replace("http://", "http://anna:s3cr3t@")
            result = fetch(inside, tmp_path / "x")
        assert result.size == 1000
        assert "s3cr3t" not in repr(result)
