"""Hostile and unusual framing on the byte path: never a wrong byte, never a forged answer, never a hang."""

from __future__ import annotations

import ast
import asyncio
import inspect
import itertools
import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import httpx
import pytest

from hydraflow.adapters import network, transport
from hydraflow.adapters.network import EXTENSION, DirectTransport, TransportFailure
from hydraflow.core.retry import FailureKind
from hydraflow.settings import load

BODY = b"the very bytes" * 10
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED"


@dataclass
class Scripted:
    """A server that answers the n-th request with the n-th piece of raw bytes, whatever was asked; b"" hangs up.

    `step` cuts what it sends into pieces, each in a segment of its own, `pause` seconds apart; `hang_up` closes behind
    each answer; `unasked` is sent a moment after each answer.
    """

    answers: list[bytes]
    step: int = 1 << 20
    pause: float = 0.0
    hang_up: bool = False
    unasked: bytes = b""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/x"
        self.client = httpx.AsyncClient(
            transport=DirectTransport(connect_timeout=2, read_timeout=0.5, context=httpx.create_ssl_context),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers[len(self.requests) - 1]
                for begin in range(0, len(answer), self.step):
                    writer.write(answer[begin : begin + self.step])
                    await writer.drain()
                    if self.step < len(answer):
                        await asyncio.sleep(self.pause)
                if self.hang_up or not answer:
                    break
                if self.unasked:
                    await asyncio.sleep(0.02)
                    writer.write(self.unasked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def get(self, view_size: int = 1 << 16) -> tuple[int, bytes]:
        async with self.client.stream("GET", self.url) as response:
            body, got = response.extensions[EXTENSION], bytearray()
            view = memoryview(bytearray(view_size))
            while count := await body.read_into(view):
                got += view[:count]
            return response.status_code, bytes(got)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("view", [1, 13, 1 << 16])
@pytest.mark.parametrize(
    "answer",
    [
        OK + BODY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + BODY,
        # The same length twice is one length (RFC 9112 §6.3).
        OK[:-2] + b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
        # Transfer-Encoding overrides Content-Length (RFC 9112 §6.3).
        OK[:-2] + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked", "informational", "length twice", "length and chunked"],
)
async def body_arrives(answer: bytes, step: int, view: int) -> None:
    async with Scripted([answer, answer], step=step) as server:
        assert await server.get(view) == (200, BODY)
        assert await server.get(view) == (200, BODY)
        assert len(server.requests) == 2


def run(coroutine_function):
    """Async tests without a plugin: one loop each, in debug mode, so that a forgotten task or socket is an error."""

    def test(*args, **kwargs):
        asyncio.run(coroutine_function(*args, **kwargs), debug=True)

    test.__signature__ = inspect.signature(coroutine_function)
    test.pytestmark = getattr(coroutine_function, "pytestmark", [])
    return test


test_body_arrives_however_it_is_cut = run(body_arrives)


@run
async def test_connection_is_used_again() -> None:
    async with Scripted([OK + BODY] * 5) as server:
        for _ in range(5):
            assert await server.get() == (200, BODY)
        assert server.connections == 1


@pytest.mark.parametrize("extra", [FORGED, b"x", b"\r\n"], ids=["forged answer", "one byte", "line end"])
@run
async def test_bytes_behind_the_body_are_never_an_answer(extra: bytes) -> None:
    async with Scripted([OK + BODY + extra, OK + BODY]) as server:
        assert await server.get() == (200, BODY)
        assert await server.get() == (200, BODY)
        assert server.connections == 2, "the connection was used again in spite of unasked bytes"


@run
async def test_bytes_that_come_later_unasked_are_never_an_answer() -> None:
    async with Scripted([OK + BODY, OK + BODY], unasked=FORGED) as server:
        assert await server.get() == (200, BODY)
        await asyncio.sleep(0.1)
        assert await server.get() == (200, BODY)
        assert server.connections == 2


@run
async def test_forged_answer_behind_an_empty_body() -> None:
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with Scripted([empty + FORGED, OK + BODY]) as server:
        assert await server.get() == (200, b"")
        assert await server.get() == (200, BODY)


@run
async def test_a_body_left_early_ends_the_connection() -> None:
    async with Scripted([OK + BODY, OK + BODY]) as server:
        async with server.client.stream("GET", server.url) as response:
            view = memoryview(bytearray(5))
            assert await response.extensions[EXTENSION].read_into(view) == 5
        assert await server.get() == (200, BODY)
        assert server.connections == 2


@run
async def test_idle_connection_closed_by_the_server_costs_nothing() -> None:
    async with Scripted([OK + BODY, OK + BODY], hang_up=True) as server:
        assert await server.get() == (200, BODY)
        assert await server.get() == (200, BODY)


@run
async def test_idle_connection_closed_just_when_it_is_used_again_costs_nothing() -> None:
    async with Scripted([OK + BODY, b"", OK + BODY]) as server:
        assert await server.get() == (200, BODY)
        assert await server.get() == (200, BODY)
        assert (server.connections, len(server.requests)) == (2, 3)


@run
async def test_a_dead_address_is_passed_over() -> None:
    async with Scripted([OK + BODY]) as server:
        loop = asyncio.get_running_loop()
        find = loop.getaddrinfo

        async def find_two(_host: str, port: int, **options: Any) -> list[Any]:
            return await find("127.0.0.2", port, **options) + await find("127.0.0.1", port, **options)

        loop.getaddrinfo = find_two  # type: ignore[assignment]
        assert await server.get() == (200, BODY)


@run
async def test_close_is_respected() -> None:
    closing = OK[:-2] + b"Connection: close\r\n\r\n" + BODY
    async with Scripted([closing, closing]) as server:
        assert await server.get() == (200, BODY)
        assert await server.get() == (200, BODY)
        assert server.connections == 2


@run
async def test_body_without_length_ends_with_the_connection() -> None:
    async with Scripted([b"HTTP/1.1 200 OK\r\n\r\n" + BODY], hang_up=True) as server:
        assert await server.get() == (200, BODY)


REFUSED = {
    "different lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "lengths in a list": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcdef",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabcdef",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nabcde",
    "hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nabcde",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nabcde",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcde",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nabcde",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 40_000,
    "flood of 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + OK + BODY,
    "flood of 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2000 + OK + BODY,
}


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize("name", REFUSED)
@run
async def test_broken_framing_is_refused(name: str, step: int) -> None:
    async with Scripted([REFUSED[name], OK + BODY], step=step) as server:
        with pytest.raises(TransportFailure) as caught:
            await server.get()
        assert caught.value.failure.kind is FailureKind.PROTOCOL, caught.value.failure
        assert await server.get() == (200, BODY), "the next request must not see what is left of the broken answer"


CUT = {
    "in the head": OK[:20],
    "behind the head": OK,
    "in the body": OK + BODY[:-1],
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabcde",
    "before the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    "a length of 2^63": b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nabcde",
    "at once": b"",
}


@pytest.mark.parametrize("name", CUT)
@run
async def test_early_close_is_a_dropped_connection(name: str) -> None:
    async with Scripted([CUT[name], OK + BODY], hang_up=True) as server:
        with pytest.raises(TransportFailure) as caught:
            await server.get()
        assert caught.value.failure.kind is FailureKind.DROPPED, caught.value.failure


@pytest.mark.parametrize("name", ["in the head", "behind the head", "in the body", "in a chunk"])
@run
async def test_silence_is_a_stall(name: str) -> None:
    async with Scripted([CUT[name]]) as server:
        with pytest.raises(TransportFailure) as caught:
            await server.get()
        assert caught.value.failure.kind is FailureKind.STALLED, caught.value.failure


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, CHUNKED + b"1;" + b"x" * 1000], ids=["head", "chunk"]
)
@run
async def test_framing_that_trickles_is_a_stall(answer: bytes) -> None:
    async with Scripted([answer], step=5, pause=0.05) as server:
        with pytest.raises(TransportFailure) as caught:
            await asyncio.wait_for(server.get(), 5)
    assert caught.value.failure.kind is FailureKind.STALLED


FLOOD = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, CHUNKED + b"1;" + b"x" * 1000, FLOOD],
    ids=["head", "chunk", "early hints"],
)
@run
async def test_nor_does_it_hold_up_who_goes_through_a_proxy(answer: bytes, monkeypatch) -> None:
    """httpx reads there, whose timeouts are of single reads."""
    async with Scripted([answer], step=5, pause=0.02) as server:
        monkeypatch.setenv("http_proxy", server.url)
        router = transport.Router(load(connect_timeout=0.1, read_timeout=0.2))
        with pytest.raises(TransportFailure) as caught:
            async with asyncio.timeout(5), httpx.AsyncClient(transport=router, trust_env=False) as client:
                await client.get("http://elsewhere.test/x")
    assert caught.value.failure.kind is FailureKind.STALLED
    assert caught.value.failure.message.startswith("nothing of use came")


@run
async def test_interim_answers_are_signs_of_life() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    async with Scripted([interim * 8 + OK + BODY], step=len(interim), pause=0.15) as server:
        assert await server.get() == (200, BODY)


@run
async def test_a_slow_body_is_handed_over_as_it_comes() -> None:
    """A link of a few bytes a second must not look dead: the first bytes come up long before the read timeout."""
    async with Scripted([OK + BODY[:10]]) as server, server.client.stream("GET", server.url) as response:
        begun = asyncio.get_running_loop().time()
        assert await response.extensions[EXTENSION].read_into(memoryview(bytearray(1 << 16))) == 10
        assert asyncio.get_running_loop().time() - begun < 0.45


@pytest.mark.parametrize("module", [network, transport])
def test_only_public_parts_of_other_libraries_are_used(module) -> None:
    """What httpx and h11 do not promise may change any day: nothing with a leading underscore is touched."""
    tree = ast.parse(inspect.getsource(module))
    foreign = {"httpx", "httpcore", "h11", "ssl", "aiohappyeyeballs", "response", "request", "to", "was"}
    private = [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in foreign and node.attr.startswith("_")
    ]
    imports = itertools.chain.from_iterable(
        (alias.name for alias in node.names)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in foreign
    )
    assert private == []
    assert [name for name in imports if name.startswith("_")] == []


def test_the_one_private_part_is_still_there() -> None:
    """If a new Python has moved it, TLS costs 1 % more and works: then drop `decryption`, or look for where it went."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        httpx.create_ssl_context().wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False) as sock,
    ):
        assert network.decryption(sock) == sock._sslobj.read


def test_without_it_the_public_one_is_used() -> None:
    public = SimpleNamespace(read=lambda most, view: 0)
    assert network.decryption(public) is public.read
