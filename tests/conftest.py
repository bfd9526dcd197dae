"""Fixtures for all tests: real servers, the faulty origin, and a guard that keeps everything on loopback."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from lab import certificates as lab_certificates
from lab.cable import Cable, CableError
from lab.caddy import Caddy
from lab.data import fasta, random_file
from lab.nginx import Nginx
from lab.process import MissingBinaryError, Server
from lab.shell import clean
from tests.faults.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.certificates import Certificates


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """The settings of whoever runs the tests do not reach them, nor the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - clean(os.environ).keys():
            patch.delenv(name)
        patch.setenv("DO_NOT_TRACK", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def heard_signals() -> None:
    """Under nohup, or in the background of a script, signals that tests send to their children would be ignored."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


# Nothing leaves the machine.


def _is_local(host: Any) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified  # servers resolve 0.0.0.0 to listen


def _is_name(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return True
    return False


@pytest.fixture(scope="session")
def strays() -> Iterator[list[str]]:
    """Attempts to leave loopback, all refused: a name is unknown, an address is an error of the test."""
    attempts: list[str] = []

    def refuse(host: Any) -> None:
        if _is_local(host):
            return
        if _is_name(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        attempts.append(str(host))
        raise AssertionError(f"a test tried to reach {host}: only loopback is allowed")

    def guarded_connect(real: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return real(self, address)

        return connect

    def guarded_host(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(host: Any, *args: Any, **options: Any) -> Any:
            refuse(host)
            return real(host, *args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded_connect(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", guarded_host(socket.getaddrinfo))
        _guard_uvloop(patch, refuse)
        yield attempts


def _guard_uvloop(patch: pytest.MonkeyPatch, refuse: Callable[[Any], None]) -> None:
    """uvloop speaks to the kernel itself, past Python's sockets."""
    create_connection, sock_connect, getaddrinfo = (
        getattr(uvloop.Loop, name) for name in ("create_connection", "sock_connect", "getaddrinfo")
    )

    async def guarded_create(self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        refuse(host)
        return await create_connection(self, factory, host, port, **options)

    async def guarded_sock(self: Any, sock: socket.socket, address: Any) -> Any:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address[0])
        return await sock_connect(self, sock, address)

    async def guarded_getaddrinfo(self: Any, host: Any, port: Any, **options: Any) -> Any:
        refuse(host)
        return await getaddrinfo(self, host, port, **options)

    patch.setattr(uvloop.Loop, "create_connection", guarded_create)
    patch.setattr(uvloop.Loop, "sock_connect", guarded_sock)
    patch.setattr(uvloop.Loop, "getaddrinfo", guarded_getaddrinfo)


@pytest.fixture(autouse=True)
def only_loopback(strays: list[str]) -> Iterator[None]:
    """Fail the test that tried to leave loopback, even if it swallowed the error."""
    strays.clear()
    yield
    assert not strays, f"tried to reach {', '.join(strays)}"


# Servers.


@dataclass(frozen=True)
class Samples:
    """Files that the session's servers serve, and the SHA-256 of each in hexadecimal.

    `sample.bin` (3 MiB), `small.bin` (1000 bytes), `empty.bin`, `genome.fa.gz` (1 MB; `records` sequences).
    """

    directory: Path
    sha256: dict[str, str]
    records: int

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    directory = tmp_path_factory.mktemp("served")
    sizes = {"sample.bin": 3 << 20, "small.bin": 1000, "empty.bin": 0}
    sums = {name: random_file(directory / name, size, seed=size) for name, size in sizes.items()}
    genome = fasta(directory / "genome.fa.gz", 1_000_000)
    return Samples(directory, {**sums, "genome.fa.gz": genome.sha256}, genome.records)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return lab_certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The certificates, and clients of this process and its children trust them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return certificates


@pytest.fixture
def origin() -> Iterator[Origin]:
    """The in-process origin that can lie in every way."""
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="session")
def nginx(samples: Samples) -> Iterator[Nginx]:
    """nginx with the samples, over HTTP/1.1."""
    yield from _serving(lambda: Nginx(samples.directory))


@pytest.fixture(scope="session")
def nginx_tls(samples: Samples, certificates: Certificates) -> Iterator[Nginx]:
    """nginx with the samples, over TLS and HTTP/1.1 (`tls_url`; take `trusted` too)."""
    yield from _serving(lambda: Nginx(samples.directory, tls=certificates))


@pytest.fixture(scope="session")
def caddy(samples: Samples, certificates: Certificates) -> Iterator[Caddy]:
    """Caddy with the samples, over TLS and HTTP/2 (`tls_url`; take `trusted` too)."""
    yield from _serving(lambda: Caddy(samples.directory, tls=certificates))


def _serving(make: Callable[[], Server]) -> Iterator[Any]:
    try:
        server = make()
    except MissingBinaryError as error:
        # In CI everything is there: a test that did not run would look like one that passed.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    with server:
        yield server


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Two hosts and a cable between them."""
    try:
        with Cable(names=True) as cable:
            yield cable
    except CableError as error:
        pytest.skip(f"OUTAGES ARE NOT TESTED: {error}")
