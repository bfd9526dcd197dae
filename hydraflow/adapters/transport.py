"""HTTP by httpx: a request for some bytes becomes a checked head and a body that is read into the caller's buffer.

httpx stays the client (redirects' URLs, cookies, auth from the URL, proxies, HTTP/2); plain HTTP/1.1 goes over our own
byte path below it (`network`).  httpx's errors are mapped here to `TransportFailure`s, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx

from hydraflow import __version__
from hydraflow.adapters import netrc
from hydraflow.adapters.network import EXTENSION, LATENCY, Body, TransportFailure
from hydraflow.adapters.routing import Router, proxy_of
from hydraflow.core import urls
from hydraflow.core.responses import Ask
from hydraflow.core.retry import Failure, FailureKind
from hydraflow.models import Head
from hydraflow.settings import Settings

__all__ = ["Response", "Route", "Transport", "TransportFailure"]

_MAX_REDIRECTS = 10
_HEADERS = "hydraflow.headers"
_BODIES = (200, 206)
#: Answers that may only mean that a redirect's target (a signed URL, a mirror) is no longer good.
_STALE = (401, 403, 404, 410)
#: So many requests in a row to the target of a redirect come to nothing before the way to it is asked for again.
_MISSES = 3
_BROKEN = 500
#: What a redirect or a refusal has to say, in bytes, and the seconds it has for it.
_FEW, _SHORT = 64 << 10, 0.25


class Response:
    """An answer whose head has come: read the body with `read_into` until it returns 0."""

    def __init__(self, head: Head, response: httpx.Response) -> None:
        self.head = head
        #: Seconds from the request to its answer, where that is known without what the connection took.
        self.latency: float | None = response.extensions.get(LATENCY)
        body = response.extensions.get(EXTENSION)
        self._body: Body | _Chunks = body if isinstance(body, Body) else _Chunks(response)

    async def read_into(self, view: memoryview) -> int:
        """Put the next body bytes into `view` and return how many; 0 is the proper end of the body.

        Raises:
            TransportFailure: the body broke off or stalled.
        """
        return await self._body.read_into(view)

    async def finish(self) -> None:
        """Read the end of a body whose bytes have all come, so that the connection can be used again.

        Raises:
            TransportFailure: there are more bytes than were asked for, or the framing is broken.
        """
        if await self.read_into(memoryview(bytearray(1))):
            raise TransportFailure(Failure(FailureKind.PROTOCOL, "the body is longer than the range asked for"))


class _Chunks:
    """A body that httpx reads in its ordinary way: over HTTP/2, or through a proxy."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_raw()
        self._left = memoryview(b"")

    async def read_into(self, view: memoryview) -> int:
        while not self._left:
            with _border():
                chunk = await anext(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


@dataclass(frozen=True, slots=True)
class _Hop:
    url: str
    headers: Mapping[str, str]


class Route:
    """The way to a resource: its URL, and for the time of one transfer the target of the URL's redirects.

    The target is asked directly until it refuses, since a signed URL may run out, or fails again and again, since who
    redirects may know of another one by then.  It is nobody else's to use: it may be worth as much as the credentials
    that it was got with.

    Args:
        url: as the caller gave it.
        headers: of the caller; never sent to another origin.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.origin = _Hop(url, headers)
        self.target: _Hop | None = None
        #: Heads of the answers that led to the target: they may say more of the file than the target does.
        self.redirects: tuple[Head, ...] = ()
        self._misses = 0

    def leave(self, target: _Hop) -> None:
        """Ask for the way again; nothing happens if somebody else has done so."""
        if self.target is target:
            self.target, self._misses = None, 0

    def note(self, target: _Hop, *, works: bool) -> None:
        """What came of a request to the target."""
        self._misses = 0 if works else self._misses + 1
        if self._misses >= _MISSES:
            self.leave(target)


class Transport:
    """All connections of an engine. Must be used from the engine's event loop only."""

    def __init__(self, settings: Settings) -> None:
        _silence_libraries()
        self._downgrades = settings.insecure_redirects
        self._user_agent = settings.user_agent or f"hydraflow/{__version__}"
        self._router = Router(settings)
        self._client = httpx.AsyncClient(
            transport=self._router,
            timeout=httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout, pool=None),
            trust_env=False,
        )
        # httpx would log and decode by its own defaults; bytes must arrive as they are stored.
        self._client.headers.clear()

    async def rest(self) -> None:
        """Close the connections that nothing is using; those through proxies and of HTTP/2 close by themselves."""
        await self._router.rest()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @asynccontextmanager
    async def open(self, route: Route, ask: Ask, method: str = "GET") -> AsyncIterator[Response]:
        """Send a request and follow its redirects; leaving the context ends the request.

        Raises:
            TransportFailure: no head came.
        """
        response = await self._follow(method, route, ask)
        try:
            if response.history and response.status_code in _BODIES:
                route.target = _Hop(str(response.url), response.extensions[_HEADERS])
                route.redirects = tuple(_head(each) for each in response.history)
            redirects = route.redirects if route.target is not None else ()
            yield Response(_head(response, redirects), response)
            if method == "HEAD" or response.status_code not in _BODIES:
                await _pass_over(response)
        finally:
            await response.aclose()
            del response.stream  # which refers to the response: both would lie there until garbage is collected

    async def _follow(self, method: str, route: Route, ask: Ask) -> httpx.Response:
        """Ask the target that is known, or for the way to it."""
        known = route.target
        if known is None:
            return await self._send(method, route.origin, ask)
        try:
            response = await self._send(method, known, ask)
        except TransportFailure:
            route.note(known, works=False)
            raise
        if response.status_code not in _STALE:
            route.note(known, works=response.status_code < _BROKEN)
            return response
        await _pass_over(response)
        route.leave(known)
        return await self._send(method, route.origin, ask)

    async def _send(self, method: str, hop: _Hop, ask: Ask) -> httpx.Response:
        request = self._request(method, hop, ask)
        history: list[httpx.Response] = []
        while True:
            with _border():
                response = await self._client.send(request, stream=True)
            if response.next_request is None:
                response.history = history
                response.extensions[_HEADERS] = hop.headers
                return response
            await _pass_over(response)
            history.append(response)
            if len(history) > _MAX_REDIRECTS:
                raise _refuse(f"more than {_MAX_REDIRECTS} redirects")
            hop = self._next_hop(request.url, response.next_request.url, hop.headers)
            request = self._request(method, hop, ask)

    def _next_hop(self, was: httpx.URL, to: httpx.URL, headers: Mapping[str, str]) -> _Hop:
        """Where a redirect leads; the caller's headers and password go along as long as it stays with one origin."""
        if to.scheme not in ("http", "https"):
            raise _refuse(f"redirect to a {to.scheme}:// URL refused")
        if was.scheme == "https" and to.scheme == "http" and not self._downgrades:
            raise _refuse("redirect from https to http refused (HYDRAFLOW_INSECURE_REDIRECTS=1 allows it)")
        if urls.origin(str(was)) != urls.origin(str(to)):
            # Whom a stranger names gets a password of netrc only where nobody else can read it.
            return _Hop(str(to), netrc.authorized(str(to), {}) if to.scheme == "https" else {})
        return _Hop(str(to if to.userinfo else to.copy_with(userinfo=was.userinfo)), headers)

    def _request(self, method: str, hop: _Hop, ask: Ask) -> httpx.Request:
        fields = {"User-Agent": self._user_agent, "Accept": "*/*", **hop.headers, "Accept-Encoding": "identity"}
        if ask.stop is not None:
            fields["Range"] = f"bytes={ask.start}-{ask.stop - 1}"
            if ask.if_range is not None:
                fields["If-Range"] = ask.if_range
        with _border():
            return self._client.build_request(method, hop.url, headers=fields)


async def _pass_over(response: httpx.Response) -> None:
    """End an answer that is not wanted; one that is short is read, so that its connection can be used again."""
    rest, view = Response(_head(response), response), memoryview(bytearray(_FEW))
    try:
        with suppress(TransportFailure, TimeoutError):
            async with asyncio.timeout(_SHORT):
                while view and (count := await rest.read_into(view)):
                    view = view[count:]
    finally:
        await response.aclose()


def _refuse(message: str) -> TransportFailure:
    return TransportFailure(Failure(FailureKind.PROTOCOL, message))


class _NotOurs(logging.Filter):
    """Drops what libraries log of our requests: URLs and headers with credentials in them.

    It looks at the thread, so that a host program that uses the same libraries keeps its own logs.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in _SILENT_THREADS


_SILENT_THREADS: set[int | None] = set()
_LOUD = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "hpack.hpack",
    "hpack.table",
)


def _silence_libraries() -> None:
    if not _SILENT_THREADS:
        for name in _LOUD:
            logging.getLogger(name).addFilter(_NotOurs())
    _SILENT_THREADS.add(threading.get_ident())


def _head(response: httpx.Response, redirects: tuple[Head, ...] = ()) -> Head:
    fields = tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in response.headers.raw)
    return Head(response.status_code, fields, urls.redact(str(response.url)), response.http_version, redirects)


class _border:  # noqa: N801 - reads as a statement
    """Foreign errors become `TransportFailure`s; cancellation passes."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failure = None if error is None else _failure(error)
        if failure is not None:
            raise TransportFailure(failure) from error


_KINDS: tuple[tuple[tuple[type[BaseException], ...], FailureKind, str], ...] = (
    ((httpx.ConnectTimeout,), FailureKind.CONNECT, "no connection in time"),
    ((httpx.ConnectError, httpx.ProxyError), FailureKind.CONNECT, "cannot connect"),
    # UnicodeError is what `idna` raises of a host's name.
    ((httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError), FailureKind.PROTOCOL, "bad URL"),
    ((httpx.TimeoutException,), FailureKind.STALLED, "no byte came in time"),
    # A peer that closes too early is a protocol error to h11; to us it is a dropped connection, which can be resumed.
    ((httpx.RemoteProtocolError,), FailureKind.DROPPED, "connection broke"),
    ((httpx.TransportError,), FailureKind.DROPPED, "connection dropped"),
    ((httpx.StreamError, OSError), FailureKind.DROPPED, "connection dropped"),
)


def _failure(error: BaseException) -> Failure | None:
    if isinstance(error, asyncio.CancelledError):
        return None
    for kinds, kind, text in _KINDS:
        if isinstance(error, kinds):
            detail, way = _detail(error), _way(error) if kind is FailureKind.CONNECT else ""
            return Failure(kind, f"{text}{way}: {detail}" if detail else f"{text}{way}")
    return None


def _way(error: BaseException) -> str:
    """Who could not be reached, if that may be somebody else than the host of the URL."""
    try:
        proxy = proxy_of(error.request.url) if isinstance(error, httpx.RequestError) else None
    except RuntimeError:  # it knows of no request
        return ""
    return f" through the proxy {urls.redact(proxy)}" if proxy else ""


def _detail(error: BaseException) -> str:
    """One line, no secrets: the system's own words where there are some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200]
