"""Which way a request goes: directly over HTTP/1.1, or by httpx's own transport for HTTP/2 and through proxies."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from hydraflow.adapters.network import DirectTransport, TransportFailure
from hydraflow.core import urls
from hydraflow.core.retry import Failure, FailureKind
from hydraflow.errors import ConfigurationError
from hydraflow.settings import Settings

__all__ = ["Router", "proxy_of"]


class _Ordinary(httpx.AsyncBaseTransport):
    """httpx's own connections, which are not used any more when a body of HTTP/2 has been left before its end.

    httpcore (1.0) does not tell the server so: what it goes on sending fills the window of all that come after on the
    same connection, and they stall.  The bodies that are under way come to their end; the last one closes it.

    Its timeouts are of single reads: one byte now and then would do.  Here a head has the time that all the steps to
    it may take, and each piece of a body that of one.
    """

    def __init__(self, transport: httpx.AsyncHTTPTransport, settings: Settings) -> None:
        self._transport = transport
        self._piece_timeout = settings.read_timeout
        # A proxy may have to be connected to and asked first.
        self._head_timeout = 2 * (settings.connect_timeout + settings.read_timeout)
        self._bodies = 0
        self.worn = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._bodies += 1
        try:
            async with _within(self._head_timeout):
                response = await self._transport.handle_async_request(request)
        except BaseException:
            await self._left(worn=False)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        shared = response.extensions["http_version"] == b"HTTP/2"
        response.stream = _Ordinarily(
            response.stream, self._piece_timeout, lambda ended: self._left(worn=shared and not ended)
        )
        return response

    async def _left(self, *, worn: bool) -> None:
        self._bodies -= 1
        self.worn = self.worn or worn
        if self.worn and not self._bodies:
            await self._transport.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TransportFailure(Failure(FailureKind.STALLED, f"nothing of use came for {seconds:g} s")) from None


class _Ordinarily(httpx.AsyncByteStream):
    """A body that tells, once, whether it has come to its end."""

    def __init__(self, stream: httpx.AsyncByteStream, timeout: float, left: Callable[[bool], Awaitable[None]]) -> None:
        self._stream, self._timeout, self._on_left = stream, timeout, left
        self._ended = self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            async with _within(self._timeout):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            yield chunk
        self._ended = True

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if not self._closed:
                self._closed = True
                await self._on_left(self._ended)


class Router(httpx.AsyncBaseTransport):
    """Picks the way of a request: directly over HTTP/1.1, or by httpx's own transport for HTTP/2 and proxies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._direct = DirectTransport(
            connect_timeout=settings.connect_timeout, read_timeout=settings.read_timeout, context=self._context
        )
        self._ordinary: dict[str | None, _Ordinary] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = proxy_of(request.url)
        if proxy is None and not (self._settings.http2 and request.url.scheme == "https"):
            return await self._direct.handle_async_request(request)
        ordinary = self._ordinary.get(proxy)
        if ordinary is None or ordinary.worn:
            ordinary = self._ordinary[proxy] = _Ordinary(self._make(proxy), self._settings)
        return await ordinary.handle_async_request(request)

    def _make(self, proxy: str | None) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0)
        try:
            return httpx.AsyncHTTPTransport(
                verify=self._context(), http2=self._settings.http2, proxy=proxy, limits=limits
            )
        except ImportError as error:
            what = f"a package for the proxy {urls.redact(proxy or '')} is missing"
            raise ConfigurationError(what, hint="pip install socksio") from error
        except (ValueError, httpx.InvalidURL) as error:
            what = f"cannot use the proxy {urls.redact(proxy or '')} that the environment names"
            raise ConfigurationError(what, hint="Write http://HOST:PORT.") from error

    def _context(self) -> ssl.SSLContext:
        # Reading the certificate bundle takes 35 ms: only those pay who use TLS.
        if self._tls is None:
            self._tls = _tls_context(self._settings)
        return self._tls

    async def rest(self) -> None:
        await self._direct.aclose()  # it closes those that idle, and opens others when asked

    async def aclose(self) -> None:
        await self.rest()
        for transport in self._ordinary.values():
            await transport.aclose()


def _tls_context(settings: Settings) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    try:
        if settings.ca_file is not None:
            context.load_verify_locations(settings.ca_file)
        if settings.client_cert is not None:
            context.load_cert_chain(settings.client_cert)
    except (OSError, ssl.SSLError) as error:
        name = "ca_file" if settings.client_cert is None else "ca_file or client_cert"
        raise ConfigurationError(f"cannot use the certificates of {name}: {error.strerror or error}") from error
    return context


_PROXY_VARIABLES = tuple(
    name for stem in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (stem, stem.upper())
)


@functools.lru_cache(maxsize=8)
def _proxies(variables: tuple[str | None, ...]) -> dict[str, str]:
    """The proxies of the environment; reading all of it for each request would cost more than the request."""
    del variables  # the cache's key
    return urllib.request.getproxies()


def proxy_of(url: httpx.URL) -> str | None:
    """The proxy that the environment names for a URL (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`)."""
    proxies = _proxies(tuple(os.environ.get(name) for name in _PROXY_VARIABLES))
    if not proxies or urllib.request.proxy_bypass(url.netloc.decode("ascii")):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    # Many are written without a scheme, and curl and wget take them.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
