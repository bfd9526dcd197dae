"""The lab's servers serve, stop, die and come back on the same ports."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest

from lab.nginx import Nginx
from lab.process import MissingBinaryError, Server, ServerError, free_ports, listening, script
from lab.rclone import Rclone

ROOT = Path(__file__).parents[2]


def get(url: str, range_: str | None = None, context: ssl.SSLContext | None = None) -> bytes:
    request = urllib.request.Request(url, headers={"Range": range_} if range_ else {})
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        return response.read()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def eventually(condition, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done


class TestNginx:
    def test_serves_and_counts(self, samples, nginx):
        before = len(nginx.access_log)
        assert sha256(get(f"{nginx.url}/sample.bin")) == samples.sha256["sample.bin"]
        assert get(f"{nginx.url}/small.bin", "bytes=10-19") == samples.read("small.bin")[10:20]
        assert eventually(lambda: len(nginx.access_log) == before + 2)
        whole, part = nginx.access_log[before:]
        assert (whole.method, whole.uri, whole.status, whole.body_bytes_sent, whole.range) == (
            "GET",
            "/sample.bin",
            200,
            3 << 20,
            "",
        )
        assert (part.status, part.body_bytes_sent, part.range, part.protocol) == (206, 10, "bytes=10-19", "HTTP/1.1")
        assert nginx.bytes_served() >= (3 << 20) + 10

    def test_tls(self, samples, nginx_tls, certificates):
        context = ssl.create_default_context(cafile=str(certificates.authority))
        assert sha256(get(f"{nginx_tls.tls_url}/sample.bin", context=context)) == samples.sha256["sample.bin"]

    def test_clients_trust_it_where_a_test_asks_for_that(self, samples, nginx_tls, trusted):
        assert httpx.get(f"{nginx_tls.tls_url}/small.bin").content == samples.read("small.bin")

    def test_no_tls_url_without_tls(self, nginx):
        with pytest.raises(ValueError, match="without tls"):
            _ = nginx.tls_url

    def test_http2(self, samples, certificates):
        context = ssl.create_default_context(cafile=str(certificates.authority))
        with (
            Nginx(samples.directory, tls=certificates, http2=True) as server,
            httpx.Client(http2=True, verify=context) as client,
        ):
            answer = client.get(f"{server.tls_url}/small.bin")
            assert (answer.http_version, answer.content) == ("HTTP/2", samples.read("small.bin"))

    def test_limit_of_connections(self, samples):
        with Nginx(samples.directory, limit_rate="500k", limit_conn=1, limit_status=429) as server:
            with urllib.request.urlopen(f"{server.url}/sample.bin", timeout=10) as first:
                first.read(1)
                with pytest.raises(urllib.error.HTTPError) as refused:
                    get(f"{server.url}/small.bin")
            assert refused.value.code == 429
            refused.value.close()

    def test_directives(self, samples):
        directives = "location /old { return 302 /small.bin; }"
        with Nginx(samples.directory, server_directives=directives) as server:
            assert get(f"{server.url}/old") == samples.read("small.bin")

    def test_kill_cuts_and_start_comes_back(self, samples):
        with Nginx(samples.directory, limit_rate="1m", workers=2) as server:
            url = f"{server.url}/sample.bin"
            with urllib.request.urlopen(url, timeout=10) as answer:
                answer.read(1000)
                assert eventually(lambda: server.bytes_sent() >= 1000)  # the kernel counts after it has sent
                assert server.bytes_sent() < 3 << 20
                server.kill()
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    answer.read()
            with pytest.raises(urllib.error.URLError, match="refused"):
                get(url)
            server.start()
            assert f"{server.url}/sample.bin" == url
            assert get(url, "bytes=0-9") == samples.read("sample.bin")[:10]

    def test_a_configuration_error_is_told(self, tmp_path):
        with pytest.raises(ServerError, match="unknown directive"), Nginx(tmp_path, server_directives="nonsense on;"):
            pytest.fail("it must not start")


class TestOthers:
    def test_caddy(self, samples, caddy, certificates):
        assert sha256(get(f"{caddy.url}/sample.bin")) == samples.sha256["sample.bin"]
        context = ssl.create_default_context(cafile=str(certificates.authority))
        with httpx.Client(http2=True, verify=context) as client:
            answer = client.get(f"{caddy.tls_url}/small.bin", headers={"Range": "bytes=10-19"})
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 206)
        assert answer.content == samples.read("small.bin")[10:20]

    @pytest.mark.parametrize("protocol", ["http", "webdav", "s3"])
    def test_rclone(self, samples, protocol):
        served = samples.directory.parent if protocol == "s3" else samples.directory
        path = f"{samples.directory.name}/small.bin" if protocol == "s3" else "small.bin"
        try:
            server = Rclone(served, protocol)
        except MissingBinaryError as error:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
        with server:
            assert get(f"{server.url}/{path}") == samples.read("small.bin")
            assert get(f"{server.url}/{path}", "bytes=10-19") == samples.read("small.bin")[10:20]


class TestProcess:
    def test_ports_are_distinct_and_free(self):
        ports = free_ports(5)
        assert len(set(ports)) == 5
        assert not any(map(listening, ports))

    def test_missing_script(self):
        with pytest.raises(MissingBinaryError, match="no-such-program"):
            script("no-such-program")

    def test_server_that_never_listens(self):
        class Mute(Server):
            start_deadline = 0.3

            def command(self):
                return [sys.executable, "-c", "import time; print('mute', flush=True); time.sleep(60)"]

        with pytest.raises(ServerError, match=r"not ready after 0\.3 s: mute"), Mute():
            pytest.fail("it must not be ready")

    def test_everything_is_gone_afterwards(self, samples):
        with Nginx(samples.directory) as server:
            pid, directory = server.pid, server.directory
            server.start()
            assert server.pid == pid
        assert not server.running
        assert not directory.exists()
        assert not listening(server.ports[0])
        with pytest.raises(ServerError, match="not running"):
            _ = server.pid

    def test_outlives_the_thread_that_started_it(self, samples):
        server = Nginx(samples.directory)
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        time.sleep(0.2)  # time for a signal of the kernel to do harm
        with server:
            assert get(f"{server.url}/small.bin") == samples.read("small.bin")

    @pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
    def test_dies_with_its_parent(self, samples):
        code = (
            "import os, pathlib, signal, sys; from lab.nginx import Nginx\n"
            "server = Nginx(pathlib.Path(sys.argv[1])).start()\n"
            "print(server.ports[0], server.directory, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
        )
        parent = subprocess.run(
            [sys.executable, "-c", code, samples.directory], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        assert parent.returncode == -signal.SIGKILL
        port, directory = parent.stdout.split()
        assert eventually(lambda: not listening(int(port)))
        assert Path(directory).is_dir()
        subprocess.run(["rm", "-r", directory], check=True)
