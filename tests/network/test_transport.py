"""The client around the byte path: certificates, proxies, redirects' credentials, cookies, addresses."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import trustme

from hydraflow import api, errors
from hydraflow.adapters import network
from hydraflow.settings import load
from tests.faults.origin import Origin

DATA = bytes(range(256)) * 40


def settings(**options):
    return load(**{"first_wait": 0.3, "max_wait": 1, "retry_delay": 0.05, "connect_timeout": 1, **options})


def read(url: str, **options) -> bytes:
    with api.stream(url, settings=settings(**options)) as stream:
        return b"".join(stream)


class Proxy:
    """A forward proxy that also tunnels (CONNECT); it writes down the first line of each request."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            line = head.split(b"\r\n")[0].decode()
            self.lines.append(line)
            method, target, _ = line.split(" ")
            if method == "CONNECT":
                host, port = target.rsplit(":", 1)
                server = socket.create_connection((host, int(port)))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                host, port = target.split("/")[2].split(":")
                server = socket.create_connection((host, int(port)))
                server.sendall(head.replace(target.encode(), b"/" + target.split("/", 3)[3].encode(), 1))
            with server:
                up = threading.Thread(target=_pump, args=(client, server), daemon=True)
                up.start()
                _pump(server, client)
                up.join()

    def close(self) -> None:
        self._server.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with Origin(tls=context) as origin:
        yield origin, context


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_http_goes_through_a_proxy(origin, proxy, monkeypatch, scheme) -> None:
    url = origin.add("/x", DATA)
    monkeypatch.setenv("http_proxy", scheme + proxy.url.removeprefix("http://"))
    assert read(url) == DATA
    assert proxy.lines == [f"GET {url} HTTP/1.1"]


def test_a_proxy_that_is_not_there_is_named(origin, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:t0psecret@127.0.0.1:9")
    with pytest.raises(errors.ConnectError, match=r"cannot connect through the proxy http://127\.0\.0\.1:9") as caught:
        read(origin.add("/x", DATA), max_wait=0)
    assert "t0psecret" not in str(caught.value)


def test_https_is_tunnelled_through_a_proxy(secure, authority, proxy, monkeypatch, tmp_path) -> None:
    url = secure[0].add("/x", DATA)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("https_proxy", proxy.url)
    assert read(url, ca_file=tmp_path / "ca.pem") == DATA
    assert proxy.lines == [f"CONNECT {url.split('/')[2]} HTTP/1.1"]


@pytest.mark.parametrize("proxy", ["ftp://u:s3cr3t@h:1", "http://u:s3cr3t@h:port", "socks5://u:s3cr3t@h:1"])
def test_a_proxy_that_cannot_be_used(origin, monkeypatch, proxy) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)  # it is no dependency
    with pytest.raises(errors.ConfigurationError, match="the proxy") as caught:
        read(origin.add("/x", DATA))
    assert "s3cr3t" not in str(caught.value)


def test_no_proxy_is_respected(origin, proxy, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(origin.add("/x", DATA)) == DATA
    assert proxy.lines == []


def test_certificate_of_an_unknown_authority_is_refused(secure) -> None:
    url = secure[0].add("/x", DATA)
    with pytest.raises(errors.ConnectError, match="certificate"):
        read(url)
    assert secure[0].requests() == []


def test_certificate_for_another_host_is_refused(authority, tmp_path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.org").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Origin(tls=context) as origin:
        url = origin.add("/x", DATA)
        with pytest.raises(errors.ConnectError, match="certificate"):
            read(url, ca_file=tmp_path / "ca.pem")


def test_own_authority_is_trusted(secure, authority, tmp_path) -> None:
    url = secure[0].add("/x", DATA)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert read(url, ca_file=tmp_path / "ca.pem") == DATA


def test_client_certificate_is_shown(secure, authority, tmp_path) -> None:
    origin, context = secure
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    url = origin.add("/x", DATA)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    with pytest.raises(errors.TransferError):
        read(url, ca_file=tmp_path / "ca.pem")
    assert read(url, ca_file=tmp_path / "ca.pem", client_cert=tmp_path / "me.pem") == DATA


def test_unusable_certificate_file_is_a_configuration_error(secure, tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(errors.ConfigurationError, match="ca_file"):
        read(secure[0].add("/x", DATA), ca_file=tmp_path / "ca.pem")


@pytest.mark.parametrize("decryption", [network.decryption, lambda sock: sock.read])
def test_a_cut_tls_connection_is_not_an_end(authority, tmp_path, monkeypatch, decryption) -> None:
    """A body that ends with the connection, cut without TLS's own end: a truncation attack looks like that."""
    monkeypatch.setattr(network, "decryption", decryption)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = socket.create_server(("127.0.0.1", 0))
    url = f"https://localhost:{server.getsockname()[1]}/x"

    def serve() -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            with context.wrap_socket(plain, server_side=True) as secured:
                secured.recv(65536)
                secured.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + DATA)
                os.close(secured.detach())

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(errors.TransferError):
        read(url, ca_file=tmp_path / "ca.pem")
    server.close()


def test_basic_auth_from_the_url(origin) -> None:
    url = origin.add("/x", DATA).replace("://", "://user:pass@")
    assert read(url) == DATA
    assert origin.requests()[0].headers["authorization"] == "Basic dXNlcjpwYXNz"


def test_cookies_of_a_redirect_are_kept(origin) -> None:
    url = origin.add("/x", DATA)
    origin.add("/login", b"")
    origin.when(path="/login").status(302, headers={"Location": url, "Set-Cookie": "session=1; Path=/"})
    assert read(origin.url + "/login") == DATA
    assert origin.requests("/x")[0].headers["cookie"] == "session=1"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_netrc_of_where_a_redirect_leads(origin, secure, authority, tmp_path, monkeypatch, scheme) -> None:
    """As at a login on another host; not in the clear, where who redirects may want the password to be seen."""
    (tmp_path / "netrc").write_text("machine localhost login anna password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    target = secure[0] if scheme == "https" else origin
    there = target.add("/y", DATA).replace("127.0.0.1", "localhost")
    origin.add("/x", b"")
    origin.when(path="/x").redirect(there)
    assert read(f"{origin.url}/x", ca_file=tmp_path / "ca.pem") == DATA
    sent = [request.headers.get("authorization") for request in (*origin.requests(), *secure[0].requests())]
    assert sent == [None, "Basic YW5uYTpzM2NyM3Q=" if scheme == "https" else None]


def test_a_host_with_a_dead_address_first_is_reached_by_the_other(origin) -> None:
    """`localhost` is ::1 too on most machines, and nothing listens there."""
    url = origin.add("/x", DATA)
    assert read(url.replace("127.0.0.1", "localhost")) == DATA


def test_an_unreachable_name_is_a_clear_error() -> None:
    with pytest.raises(errors.ConnectError, match="Name or service not known"):
        read("http://does-not-exist.invalid/x")


def test_libraries_do_not_log_our_urls_and_headers(origin, caplog) -> None:
    caplog.set_level(0)
    url = origin.add("/x", DATA) + "?token=SECRET"
    origin.when().status(200, body=DATA)
    with api.stream(url, headers={"Authorization": "Bearer SECRET"}, settings=settings()) as stream:
        assert b"".join(stream) == DATA
    assert origin.requests()[0].headers["authorization"] == "Bearer SECRET"
    assert "SECRET" not in caplog.text


def test_a_name_that_cannot_be_looked_up_is_one_line() -> None:
    """In a process of its own: the guard that keeps tests on loopback would answer in the resolver's place."""
    command = [sys.executable, "-m", "hydraflow", "-nu", f"http://{'ü' * 62}.org/x"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("hydraflow: error: no host can have this name: http://ü")
