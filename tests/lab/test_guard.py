"""No test leaves loopback, whichever way it tries, and no setting of the user reaches a test."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
import uvloop

ELSEWHERE = "192.0.2.1"  # TEST-NET-1 (RFC 5737)


def by_socket() -> None:
    with socket.socket() as peer:
        peer.settimeout(1)
        peer.connect((ELSEWHERE, 80))


async def by_name(host: str) -> None:
    await asyncio.wait_for(asyncio.open_connection(host, 80), 1)


async def by_loop_socket() -> None:
    with socket.socket() as peer:
        peer.setblocking(False)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(peer, (ELSEWHERE, 80)), 1)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
class TestLoops:
    @pytest.mark.parametrize("attempt", [lambda: by_name(ELSEWHERE), by_loop_socket], ids=["host", "socket"])
    def test_addresses_are_refused(self, strays, factory, attempt):
        with asyncio.Runner(loop_factory=factory) as runner, pytest.raises(AssertionError, match="only loopback"):
            runner.run(attempt())
        assert ELSEWHERE in strays
        strays.clear()

    def test_names_are_unknown(self, factory):
        with asyncio.Runner(loop_factory=factory) as runner, pytest.raises(socket.gaierror, match="not known"):
            runner.run(by_name("hydraflow.example.org"))

    def test_loopback_is_open(self, factory, nginx):
        async def talk() -> bytes:
            reader, writer = await asyncio.open_connection("localhost", nginx.ports[0])
            writer.write(b"HEAD /small.bin HTTP/1.0\r\n\r\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(talk()) == b"HTTP/1.1 200 OK\r\n"


def test_sockets_are_refused(strays):
    with pytest.raises(AssertionError, match="only loopback"):
        by_socket()
    assert strays == [ELSEWHERE]
    strays.clear()


def test_environment_is_clean():
    left = [name for name in os.environ if name.startswith("HYDRAFLOW_") or name.lower().endswith("_proxy")]
    assert left == []
