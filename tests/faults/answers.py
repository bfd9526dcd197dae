"""What an honest HTTP/1.1 server answers: ranges, If-Range, HEAD, 416 (RFC 9110 §13 and §14)."""

from __future__ import annotations

import email.utils
import http
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Answer", "Cut", "Framing", "Request", "Resource", "honest", "plain"]

Framing = Literal["length", "close", "chunked", "open"]
Cut = Literal["drop", "reset"]


def _always() -> bool:
    return True


_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Request:
    """A request head; names of `headers` in lower case."""

    method: str
    target: str
    version: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def keep_alive(self) -> bool:
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"

    @property
    def range_start(self) -> int | None:
        """First byte asked for; None without a Range that names one."""
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        return int(found[1]) if found and found[1] else None


@dataclass(slots=True)
class Resource:
    """A file of the origin. `etag` is sent as it is, quotes and `W/` included."""

    data: bytes
    etag: str | None = None
    last_modified: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    refuse_head: bool = False


@dataclass(slots=True)
class Answer:
    """An answer, and how it is delivered: the rules change it before it goes out.

    Attributes:
        start: offset in the resource of the first byte of `body`.
        framing: how the end of the body is told; "close" and "open" close the connection, "open" lacks the last chunk.
        cut_after: body bytes after which the connection ends, in the way that `cut` says.
        stall_after: body bytes after which nothing is sent for `stall_seconds` (None: for ever).
        rate: bytes per second.
        head_when, end_when: the head, or the end of the connection, comes only when this holds.
        raw: sent instead of everything else, then the connection is closed.
    """

    status: int
    headers: dict[str, str]
    body: bytes | memoryview = b""
    start: int = 0
    framing: Framing = "length"
    head_delay: float = 0.0
    cut: Cut = "drop"
    cut_after: int | None = None
    stall_after: int | None = None
    stall_seconds: float | None = None
    rate: float | None = None
    head_when: Callable[[], bool] = _always
    end_when: Callable[[], bool] = _always
    raw: bytes | None = None

    def head(self) -> bytes:
        phrase = http.HTTPStatus(self.status).phrase if self.status in set(http.HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def plain(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    """An answer that is not about a resource."""
    return Answer(status, {**_date(), "Content-Length": str(len(body)), **(headers or {})}, body)


def honest(request: Request, resource: Resource | None) -> Answer:
    """The right answer to `request`."""
    if resource is None:
        return plain(404, body=b"not found\n")
    if request.method not in ("GET", "HEAD") or (request.method == "HEAD" and resource.refuse_head):
        return plain(405, {"Allow": "GET" if resource.refuse_head else "GET, HEAD"})
    size = len(resource.data)
    wanted = _wanted(request, resource)
    if wanted == "unsatisfiable":
        return plain(416, {"Content-Range": f"bytes */{size}", **_described(resource)})
    start, stop = wanted or (0, size)
    headers = {**_date(), **_described(resource), "Content-Length": str(stop - start)}
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    body = memoryview(resource.data)[start:stop] if request.method == "GET" else b""
    return Answer(200 if wanted is None else 206, headers, body, start)


def _wanted(request: Request, resource: Resource) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """The half-open range to send; None for the whole."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    # Ranges are defined for GET alone (RFC 9110 §14.2); several at a time may be answered with the whole.
    if not (found and resource.ranges and request.method == "GET" and _unchanged(request, resource)):
        return None
    size = len(resource.data)
    first, last = found[1], found[2]
    if not first:
        length = min(int(last or 0), size)
        return (size - length, size) if length else "unsatisfiable"
    start, stop = int(first), min(int(last) + 1, size) if last else size
    return (start, stop) if start < stop else "unsatisfiable"


def _unchanged(request: Request, resource: Resource) -> bool:
    """If-Range holds, by strong comparison (RFC 9110 §13.1.5)."""
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    if condition.startswith('"'):
        return condition == resource.etag
    return not condition.startswith("W/") and condition == resource.last_modified


def _date() -> dict[str, str]:
    return {"Date": email.utils.formatdate(usegmt=True)}


def _described(resource: Resource) -> dict[str, str]:
    fields = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes" if resource.ranges else "none"}
    if resource.etag is not None:
        fields["ETag"] = resource.etag
    if resource.last_modified is not None:
        fields["Last-Modified"] = resource.last_modified
    return fields | resource.headers
