"""What is measured: the suites, and the work that one of them gives to a client."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.link import Link

__all__ = ["GB", "MANY_FILES", "MANY_SIZE", "ROUND_TRIP", "SUITES", "Far", "Job", "Mode", "Suite"]

GB = 1_000_000_000
MANY_FILES = 200
MANY_SIZE = 100_000  # bytes of each
ROUND_TRIP = 0.04  # seconds


class Mode(enum.StrEnum):
    """Where the bytes go."""

    FILE = "file"
    STREAM = "stream"
    MANY = "many"
    FAR = "far"  # a file, over a link whose time it is that counts

    @property
    def waits(self) -> bool:
        """It is about seconds, not about processor time."""
        return self in (Mode.MANY, Mode.FAR)


@dataclass(frozen=True, slots=True)
class Far:
    """A server behind an emulated link: bytes of its one file, and options of nginx."""

    link: Link
    size: int
    nginx: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suite:
    """One kind of work, done by every client that can."""

    name: str
    title: str
    mode: Mode
    tls: bool = False
    far: Far | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The work itself: into the current directory under the URL's file name, or to standard output.

    Attributes:
        urls: what to fetch.
        served: the files behind the URLs, in the same order.
        sha256: of each, in hexadecimal.
        listing: a file with one URL on a line.
        authority: a PEM file; the variable SSL_CERT_FILE names it too.
        inside: what to put before a client's command, so that it is where it can see the server.
    """

    urls: tuple[str, ...]
    served: tuple[Path, ...]
    sha256: tuple[str, ...]
    listing: Path
    authority: Path
    inside: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(path.stat().st_size for path in self.served)

    @property
    def urls_with_digest(self) -> tuple[str, ...]:
        """The URLs, each with what hydraflow is to verify."""
        return tuple(f"{url}#sha256={digest}" for url, digest in zip(self.urls, self.sha256, strict=True))


_LINK = Link(rate=1e9, round_trip=0.02)
_FIVE = {"limit_rate": "5m"}
_ONE_IN_TEN = {
    "http_directives": "map $connection $pace { ~3$ 500k; default 5m; }",
    "server_directives": "limit_rate $pace;",
}
_MIB = 1 << 20

SUITES = {
    suite.name: suite
    for suite in (
        Suite("file-plain", "One file to disk, HTTP", Mode.FILE),
        Suite("file-tls", "One file to disk, HTTPS", Mode.FILE, tls=True),
        Suite("stream-plain", "One stream to cat, HTTP", Mode.STREAM),
        Suite("stream-tls", "One stream to cat, HTTPS", Mode.STREAM, tls=True),
        Suite("small", f"{MANY_FILES} files of {MANY_SIZE // 1000} KB, {ROUND_TRIP * 1000:.0f} ms away", Mode.MANY),
        Suite(
            "link-lossy",
            "1 Gbit/s, 80 ms, 0.1 % loss",
            Mode.FAR,
            far=Far(Link(rate=1e9, round_trip=0.08, loss=0.001), 1024 * _MIB),
        ),
        Suite("link-capped", "5 MB/s for each connection", Mode.FAR, far=Far(_LINK, 256 * _MIB, _FIVE)),
        *(
            Suite(
                f"link-{status}",
                f"4 connections, or {status}",
                Mode.FAR,
                far=Far(_LINK, 64 * _MIB, {**_FIVE, "limit_conn": 4, "limit_status": status}),
            )
            for status in (503, 429)
        ),
        Suite("link-stragglers", "one in ten is ten times slower", Mode.FAR, far=Far(_LINK, 256 * _MIB, _ONE_IN_TEN)),
    )
}
