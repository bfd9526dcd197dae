"""An HTTP/1.1 origin in this process that is honest until told otherwise, with a ledger of requests.

::

    with Origin() as origin:
        url = origin.add("/x.bin", data)
        cut = origin.when(request=3).drop(after=100_000)
        ...
        assert cut.fired == 1 and origin.bytes_served() <= 1.1 * len(data)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.faults.answers import Answer, Request, Resource, honest
from tests.faults.rules import Rule

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine

__all__ = ["Origin", "Record"]

_HOST = "127.0.0.1"
_CHUNK = 16 << 10  # bytes written at a time
_TICK = 0.02  # seconds between two looks at whether the client is still there
_FOREVER = 3600.0
_SEND_BUFFER = 64 << 10  # small, so that a client which reads slowly is not sent megabytes that it never takes


@dataclass(slots=True)
class Record:
    """A line of the ledger; it is there from the moment when the request head has come.

    Attributes:
        n: number of the request, from 1.
        headers: as received, names in lower case.
        status: 0 while there is none, or where the answer was no HTTP.
        body_bytes_sent: body bytes handed to the kernel until now.
        fault: names of the faults that altered the answer, joined by `+`.
        connection: number of the connection, from 1.
    """

    n: int
    method: str
    path: str
    headers: dict[str, str]
    connection: int
    status: int = 0
    body_bytes_sent: int = 0
    fault: str | None = None

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class Origin:
    """The origin: a context manager with a thread and an event loop of its own.

    Attributes:
        ledger: every request, in the order in which they came.
        peak_connections: most connections open at a time.
        peak_requests: most requests in flight at a time.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.ledger: list[Record] = []
        self.rules: list[Rule] = []
        self.peak_connections = 0
        self.peak_requests = 0
        self._tls = tls
        self._resources: dict[str, Resource] = {}
        self._in_flight = 0
        self._accepted = 0
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin", daemon=True)
        self._port = 0

    # For tests: what it serves and how it lies.

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{_HOST}:{self._port}" if self._tls is None else f"https://localhost:{self._port}"

    def add(self, path: str, data: bytes, *, etag: str | None = '"v1"', **options: Any) -> str:
        """Serve `data` at `path`; gives its URL. Options: `last_modified`, `headers`, `ranges`, `refuse_head`."""
        self._resources[path] = Resource(data, etag, **options)
        return self.url + path

    def when(self, **conditions: Any) -> Rule:
        """A new rule (see `Rule` for the conditions). The first rule that is due for a request applies to it."""
        rule = Rule(**conditions)
        self.rules.append(rule)
        return rule

    def pause(self) -> None:
        """Refuse connections and cut the live ones, as if the host were gone."""
        self._call(self._close())

    def resume(self) -> None:
        """Accept connections again, on the same port."""
        self._call(self._listen())

    # For tests: what happened.

    def requests(self, path: str | None = None, *, method: str | None = None) -> list[Record]:
        """Records of this path and method; None: of all."""
        wanted = [(path, "path"), (method, "method")]
        return [r for r in list(self.ledger) if all(w is None or w == getattr(r, name) for w, name in wanted)]

    def bytes_served(self, path: str | None = None) -> int:
        """Body bytes handed to the kernel, unfinished answers included."""
        return sum(record.body_bytes_sent for record in self.requests(path))

    # Life.

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, _HOST, self._port, ssl=self._tls, backlog=512)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        # A connection accepted just now must get its task before it can be cut.
        await asyncio.sleep(0.01)
        for task, writer in list(self._writers.items()):
            _abort(writer)
            task.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        # What was accepted meanwhile becomes a connection of its own some turns of the loop later.
        for _ in range(5):
            await asyncio.sleep(0)
            for writer in list(self._writers.values()):
                _abort(writer)

    # A connection.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        self._accepted += 1
        self.peak_connections = max(self.peak_connections, len(self._writers))
        try:
            await self._converse(reader, writer, self._accepted)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went, or talks no HTTP
        except asyncio.CancelledError:
            pass  # the origin is closing; asyncio would report the cancellation as an error
        finally:
            del self._writers[task]
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        # `drain` returns when everything is with the kernel: then a cut cuts exactly where the rule says.
        # (asyncio's TLS transport would wait for ever with 0.)
        writer.transport.set_write_buffer_limits(high=0 if self._tls is None else 1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        more = True
        while more:
            request = _parse(await reader.readuntil(b"\r\n\r\n"))
            self._in_flight += 1
            self.peak_requests = max(self.peak_requests, self._in_flight)
            try:
                answer, record = self._answer(request, connection)
                more = await _Delivery(reader, writer, record).send(answer) and request.keep_alive
            finally:
                self._in_flight -= 1

    def _answer(self, request: Request, connection: int) -> tuple[Answer, Record]:
        record = Record(len(self.ledger) + 1, request.method, request.path, dict(request.headers), connection)
        self.ledger.append(record)
        resource = self._resources.get(request.path)
        # Every rule counts every request, so that the order of rules does not change what "the third" means.
        due = [rule for rule in self.rules if rule.due(request, self._in_flight)]
        rule = due[0] if due else None
        prepared = rule is not None and resource is not None and rule.prepare(request, resource)
        answer = honest(request, resource)
        if rule is not None and (rule.alter(answer) or prepared):
            rule.fired += 1
            record.fault = "+".join(rule.names)
        record.status = answer.status if answer.raw is None else 0
        return answer, record


class _Delivery:
    """Sends one answer the way that it says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: Record) -> None:
        self._reader = reader
        self._writer = writer
        self._record = record

    async def send(self, answer: Answer) -> bool:
        """Send it; say whether the connection lives on."""
        await self._pause(answer.head_delay)
        await self._wait(answer.head_when)
        if answer.raw is not None:
            await self._write(answer.raw)
            return False
        if answer.framing in ("chunked", "open"):
            answer.headers["Transfer-Encoding"] = "chunked"
        elif answer.framing == "close":
            answer.headers["Connection"] = "close"
        await self._write(answer.head())
        await self._body(answer)
        await self._wait(answer.end_when)
        if answer.cut_after is not None:
            if answer.cut == "reset":
                _abort(self._writer)
            return False
        if answer.framing == "chunked" and self._record.method != "HEAD":
            await self._write(b"0\r\n\r\n")
        return answer.framing in ("length", "chunked")

    async def _body(self, answer: Answer) -> None:
        body = memoryview(answer.body)
        end = len(body) if answer.cut_after is None else answer.cut_after
        if answer.framing == "open":
            end //= 2
        step = _CHUNK if answer.rate is None else max(1, min(_CHUNK, int(answer.rate / 20)))
        sent = 0
        while sent < end:
            if sent == answer.stall_after:
                await self._pause(_FOREVER if answer.stall_seconds is None else answer.stall_seconds)
            until = min(sent + step, end)
            if answer.stall_after is not None and sent < answer.stall_after:
                until = min(until, answer.stall_after)
            if answer.rate is not None:
                await self._pause((until - sent) / answer.rate)
            await self._piece(body[sent:until], chunked=answer.framing in ("chunked", "open"))
            sent = until

    async def _piece(self, piece: memoryview, *, chunked: bool) -> None:
        # Counted before it goes out: who has received a byte must find it in the ledger.
        self._record.body_bytes_sent += len(piece)
        await self._write(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)) if chunked else piece)

    async def _write(self, data: bytes | memoryview) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._pause(_TICK)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for a client that is gone."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            if self._reader.at_eof():
                raise ConnectionResetError("the client went")
            await asyncio.sleep(min(left, _TICK))


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, version = first.split(" ")
    fields = (line.partition(":") for line in lines)
    return Request(method, target, version, {name.lower(): value.strip() for name, _, value in fields})


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: nothing in the send buffer is delivered any more."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
