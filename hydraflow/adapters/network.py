"""The byte path: HTTP/1.1 from a non-blocking socket straight into the caller's memory.

httpx stays the client above (URLs, redirects, cookies, auth); this is a transport for it, made of public parts only.
h11 parses heads, and bodies of unusual framing.  A body with one plain Content-Length, which is every large one, passes
by h11: `recv_into` puts it where it belongs, in pieces as large as the socket gives, and an `SSLSocket` decrypts in
place.

Whether a connection is used again is decided strictly: the body ended exactly where its length said, h11 allows it, and
nothing more has come by the time of the next request.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohappyeyeballs
import h11
import httpx

from hydraflow.core.retry import Failure, FailureKind

__all__ = ["EXTENSION", "LATENCY", "Body", "DirectTransport", "TransportFailure"]

#: Key of a response's `extensions` that holds its `Body`.
EXTENSION = "hydraflow.body"
#: The same of the seconds from the request to the head.
LATENCY = "hydraflow.latency"

_HEAD_LIMIT = 64 << 10
_RECV = 64 << 10
#: The same while a head is awaited: what comes of the body with it is copied, and kept as long as the exchange lasts.
_RECV_HEAD = 16 << 10
_INFORMATIONAL_LIMIT = 16
_IDLE_SECONDS = 30.0
_EYEBALLS_DELAY = 0.25
#: A piece of a body is handed over when it is so large, or so many seconds after its first byte.
_PIECE = 256 << 10
_LINGER = 0.02


class TransportFailure(Exception):  # noqa: N818 - not an error of the product: the core decides what becomes of it
    """A request failed; `failure` is what the core needs to know of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _fail(kind: FailureKind, message: str) -> TransportFailure:
    return TransportFailure(Failure(kind, message))


def decryption(sock: ssl.SSLSocket) -> Callable[[int, Any], int]:
    """What puts at most so many decrypted bytes into a buffer, one record at a time.

    `SSLSocket.read` is a method in Python around that of the C object below it, and 65,000 calls for a GB make it 1 %
    of all CPU time.  Should there be no such object one day, the method does it.
    """
    below: Callable[[int, Any], int] | None = getattr(getattr(sock, "_sslobj", None), "read", None)
    return below or sock.read  # type: ignore[return-value]  # with a buffer it returns a number


class _Socket:
    """A non-blocking socket, plain or TLS, on an event loop. One reader and one writer at a time."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._read_some: Callable[[memoryview], int] = self._read
        if isinstance(sock, ssl.SSLSocket):
            self._read_some, self._decrypt = self._read_tls, decryption(sock)
        self._watching = False
        self._view = memoryview(b"")
        self._got = self._enough = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read_into(self, view: memoryview, enough: int = 1) -> int:
        """Fill `view` with at least `enough` bytes if they come quickly, with at least one otherwise; 0 at the end.

        Raises:
            TransportFailure: the connection broke, or nothing came in time.
        """
        self._view, self._got, self._enough = view, 0, enough
        try:
            if self._pump():
                return self._got
            self._waiter = self._loop.create_future()
            self._timer = self._loop.call_later(_LINGER if self._got else self.timeout, self._expire)
            if not self._watching:
                self._loop.add_reader(self._sock.fileno(), self._readable)
                self._watching = True
            await self._waiter
        except OSError as error:
            raise _fail(FailureKind.DROPPED, f"connection dropped: {_words(error)}") from error
        finally:
            self._waiter, self._view = None, memoryview(b"")
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        return self._got

    def _readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Nobody reads now: stop watching, or the loop would spin. The next read watches again.
            self._loop.remove_reader(self._sock.fileno())
            self._watching = False
            return
        before = self._got
        try:
            if self._pump():
                waiter.set_result(None)
            elif self._got and not before and self._timer is not None:
                self._timer.cancel()
                self._timer = self._loop.call_later(_LINGER, self._expire)
        except OSError as error:
            waiter.set_exception(error)

    def _pump(self) -> bool:
        """Read what is there; True when it is enough, or the end."""
        while True:
            wanted = len(self._view) - self._got
            try:
                count = self._read_some(self._view[self._got :])
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            self._got += count
            if count == 0 or self._got >= self._enough:
                return True
            if count < wanted:
                return False  # the socket is empty: spare the call that would say so

    def _read(self, view: memoryview) -> int:
        return self._sock.recv_into(view)

    def _read_tls(self, view: memoryview) -> int:
        """A TLS record has at most 16 KiB: read on until the memory is full or no more are there."""
        read, got, size = self._decrypt, 0, len(view)
        try:
            while got < size:
                count = read(size - got, view[got:])
                if count == 0:
                    break
                got += count
        except ssl.SSLWantReadError:
            if not got:
                raise
        return got

    def _expire(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            # If the process itself was stopped for so long, its timers come first, and bytes or an end lie there.
            there = self._got or self._pump() or self._got
        except OSError as error:
            waiter.set_exception(error)
            return
        if there:
            waiter.set_result(None)
        else:
            waiter.set_exception(_fail(FailureKind.STALLED, f"no byte came for {self.timeout:g} s"))

    # ── writing and the rest ─────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, data: bytes) -> None:
        """Write all of `data`, which is small: a request head."""
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[self._sock.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    await self._wait(writable=True)
        except OSError as error:
            raise _fail(FailureKind.DROPPED, f"connection dropped: {_words(error)}") from error

    async def handshake(self) -> None:
        """Do the TLS handshake."""
        assert isinstance(self._sock, ssl.SSLSocket)
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._wait(writable=False)
            except ssl.SSLWantWriteError:
                await self._wait(writable=True)
            else:
                return

    async def _wait(self, *, writable: bool) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        add, remove = (
            (self._loop.add_writer, self._loop.remove_writer)
            if writable
            else (self._loop.add_reader, self._loop.remove_reader)
        )
        add(self._sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
        try:
            async with asyncio.timeout(self.timeout):
                await ready
        except TimeoutError:
            raise _fail(FailureKind.STALLED, f"nothing moved for {self.timeout:g} s") from None
        finally:
            remove(self._sock.fileno())

    def quiet(self) -> bool:
        """Nothing has come since the last answer: neither an end nor bytes that nobody asked for."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close at once."""
        if self._sock.fileno() >= 0:
            if self._watching:
                self._loop.remove_reader(self._sock.fileno())
                self._watching = False
            self._sock.close()
            del self._read_some  # a method of its own: it would lie there until garbage is collected


class _Connection:
    """One HTTP/1.1 connection, which carries one exchange after the other."""

    def __init__(self, sock: _Socket) -> None:
        self._socket = sock
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self._at_end = False
        self.idle_since = 0.0

    def reusable(self, now: float) -> bool:
        """It may carry another exchange."""
        return now - self.idle_since < _IDLE_SECONDS and self._socket.quiet()

    async def exchange(self, request: httpx.Request) -> tuple[h11.Response, Body]:
        """Send a request without a body; its answer's head and body.

        Raises:
            TransportFailure: no head came, or not one of HTTP.
        """
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        try:
            head = self._h11.send(
                h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
            )
            self._h11.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise _fail(FailureKind.PROTOCOL, f"not a valid request: {error}") from error
        await self._socket.send(head or b"")
        response = await self._head()
        return response, Body(self, self._direct_length(request.method, response))

    async def _head(self) -> h11.Response:
        buffer, informational, since = memoryview(bytearray(_RECV_HEAD)), 0, math.inf
        while True:
            event = self.next_event()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse):
                informational += 1
                if informational > _INFORMATIONAL_LIMIT:
                    raise _fail(FailureKind.PROTOCOL, "too many informational answers (1xx)")
                since = math.inf
                continue
            self.check(since)
            self._h11.receive_data(await self.receive(buffer))
            since = min(since, time.monotonic())

    def check(self, since: float) -> None:
        """Framing that trickles is as good as silence.

        Raises:
            TransportFailure: nothing of use has come since then, for too long.
        """
        if time.monotonic() - since > self._socket.timeout:
            raise _fail(FailureKind.STALLED, f"nothing of use came for {self._socket.timeout:g} s")

    def _direct_length(self, method: str, response: h11.Response) -> int | None:
        """Length of a body that can be read directly; None leaves it to h11."""
        if method != "GET" or response.status_code not in (200, 206):
            return None
        fields = [name for name, _ in response.headers]
        if b"transfer-encoding" in fields or fields.count(b"content-length") != 1:
            return None
        return int(dict(response.headers)[b"content-length"])

    def next_event(self) -> Any:
        """What h11 makes of the bytes received so far."""
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            # A peer that goes away in the middle is a broken protocol to h11; to us, something to resume from.
            if self._at_end:
                raise _fail(FailureKind.DROPPED, "connection closed in the middle of an answer") from error
            # What follows the colon are the peer's own bytes.
            raise _fail(FailureKind.PROTOCOL, f"not HTTP/1.1: {str(error).partition(': ')[0]}") from error

    async def receive(self, buffer: memoryview) -> bytes:
        """Bytes from the socket, at most the buffer's size; empty at the end."""
        data = bytes(buffer[: await self._socket.read_into(buffer)])
        self._at_end = not data
        return data

    async def read_into(self, view: memoryview) -> int:
        """Body bytes past h11."""
        return await self._socket.read_into(view, min(len(view), _PIECE))

    def feed(self, data: bytes) -> None:
        """Bytes for h11."""
        self._h11.receive_data(data)

    @property
    def left_over(self) -> bytes:
        """Bytes that h11 has received behind the head."""
        return self._h11.trailing_data[0]

    @property
    def keeps_alive(self) -> bool:
        """Both sides want to go on using the connection."""
        return self._h11.our_state is h11.DONE

    @property
    def ended(self) -> bool:
        """h11 has seen the end of the body, and nothing behind it."""
        return self._h11.their_state is h11.DONE and self.keeps_alive and not self.left_over

    def close(self) -> None:
        """Close at once."""
        self._socket.close()


class Body(httpx.AsyncByteStream):
    """The body of an answer.

    Args:
        connection: it comes from there.
        length: its bytes, if it can be read past h11.
    """

    def __init__(self, connection: _Connection, length: int | None) -> None:
        self._connection = connection
        self._direct = length is not None
        self._left = length or 0
        self._clean = False
        self._chunk = memoryview(b"")
        self.on_close: Callable[[bool], None] = lambda _clean: None
        if length is not None:
            early = connection.left_over
            self._chunk = memoryview(early)[:length]
            self._poisoned = len(early) > length
            self._clean = length == 0
        else:
            self._poisoned = False

    async def read_into(self, view: memoryview) -> int:
        """Put the next bytes into `view` and return how many; 0 at the proper end of the body.

        Raises:
            TransportFailure: the body broke off, stalled, or its framing is wrong.
        """
        if not self._direct:
            return await self._read_framed(view)
        if not self._left:
            return 0
        view = view[: self._left]
        if self._chunk:
            count = self._hand_over(view)
        else:
            count = await self._connection.read_into(view)
            if not count:
                raise _fail(FailureKind.DROPPED, f"connection closed, {self._left:,} bytes before the end of the body")
        self._left -= count
        self._clean = not self._left
        return count

    async def _read_framed(self, view: memoryview) -> int:
        buffer, since = memoryview(b""), time.monotonic()
        while not self._chunk:
            if self._clean:
                return 0
            event = self._connection.next_event()
            if isinstance(event, h11.Data):
                self._chunk = memoryview(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._clean = True
            else:
                self._connection.check(since)
                buffer = buffer or memoryview(bytearray(_RECV))
                self._connection.feed(await self._connection.receive(buffer))
        return self._hand_over(view)

    def _hand_over(self, view: memoryview) -> int:
        count = min(len(view), len(self._chunk))
        view[:count] = self._chunk[:count]
        # Nothing at its end: an empty view of it would keep all of it.
        self._chunk = self._chunk[count:] or memoryview(b"")
        return count

    @property
    def _reusable(self) -> bool:
        if self._direct:
            return self._clean and not self._poisoned and self._connection.keeps_alive
        return self._clean and self._connection.ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        view = memoryview(bytearray(_RECV))
        while count := await self.read_into(view):
            yield bytes(view[:count])

    async def aclose(self) -> None:
        """Give the connection back, or close it if it cannot be used again."""
        on_close, self.on_close = self.on_close, lambda _clean: None
        on_close(self._reusable)


class DirectTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over connections of its own, kept open for the next request to the same origin.

    Args:
        connect_timeout: seconds for a connection, TLS included.
        read_timeout: seconds of silence after which a connection is given up.
        context: makes the TLS settings, at the first https request.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float, context: Callable[[], ssl.SSLContext]) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._context = context
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose `extensions[EXTENSION]` is the `Body`.

        Raises:
            TransportFailure: no answer came.
        """
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        connection = self._take(origin)
        if connection is not None:
            try:
                return await self._exchange(origin, connection, request)
            except TransportFailure as failure:
                # The server may have closed an idle connection just when it was used again: that is nobody's failure.
                if failure.failure.kind is not FailureKind.DROPPED:
                    raise
        return await self._exchange(origin, await self._connect(*origin), request)

    async def _exchange(
        self, origin: tuple[str, str, int], connection: _Connection, request: httpx.Request
    ) -> httpx.Response:
        asked = time.monotonic()
        try:
            response, body = await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        body.on_close = lambda clean: self._give_back(origin, connection, clean=clean)
        return httpx.Response(
            response.status_code,
            headers=list(response.headers.raw_items()),
            stream=body,
            extensions={
                "http_version": b"HTTP/" + response.http_version,
                EXTENSION: body,
                LATENCY: time.monotonic() - asked,
            },
        )

    def _take(self, origin: tuple[str, str, int]) -> _Connection | None:
        idle, now = self._idle.get(origin, []), time.monotonic()
        while idle:
            connection = idle.pop()
            if connection.reusable(now):
                return connection
            connection.close()
        return None

    def _give_back(self, origin: tuple[str, str, int], connection: _Connection, *, clean: bool) -> None:
        self._sweep(time.monotonic())
        if clean:
            connection.idle_since = time.monotonic()
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()

    def _sweep(self, now: float) -> None:
        """Close what has idled too long: a program that meets many servers does not keep a connection to each."""
        for origin, idle in list(self._idle.items()):
            while idle and now - idle[0].idle_since >= _IDLE_SECONDS:  # the oldest is the first
                idle.pop(0).close()
            if not idle:
                del self._idle[origin]

    async def _connect(self, scheme: str, host: str, port: int) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open(scheme, host, port)
        except TimeoutError:
            raise _fail(FailureKind.CONNECT, f"no connection in {self._connect_timeout:g} s") from None
        except UnicodeError as error:  # an empty or too long label: it cannot even be looked up
            raise _fail(FailureKind.PROTOCOL, "not a valid host name") from error
        except ssl.SSLCertVerificationError as error:
            raise _fail(FailureKind.CONNECT, f"cannot connect: certificate refused: {error.verify_message}") from error
        except OSError as error:
            raise _fail(FailureKind.CONNECT, f"cannot connect: {_words(error)}") from error

    async def _open(self, scheme: str, host: str, port: int) -> _Connection:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_EYEBALLS_DELAY, interleave=1)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme != "https":
                return _Connection(_Socket(sock, self._read_timeout))
            # Without suppress_ragged_eofs=False a cut connection would look like a proper end.
            sock = self._context().wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            secure = _Socket(sock, self._read_timeout)
            await secure.handshake()
        except BaseException:
            sock.close()
            raise
        return _Connection(secure)

    async def aclose(self) -> None:
        """Close the idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


def _words(error: OSError) -> str:
    """The system's own words, whatever the event loop has made of them; of several causes, each once."""
    if isinstance(error, (ssl.SSLError, socket.gaierror)):
        return error.strerror or str(error)
    # One error for all addresses of a host has their numbers in its text only.
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    words = ", ".join(dict.fromkeys(os.strerror(number) for number in numbers))
    return words or " ".join(str(error).split())[:200] or type(error).__name__
