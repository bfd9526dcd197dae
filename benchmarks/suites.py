"""What is measured: the suites, and the work that one of them gives to a client."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GB", "MANY_FILES", "MANY_SIZE", "ROUND_TRIP", "SUITES", "Job", "Mode", "Suite"]

GB = 1_000_000_000
MANY_FILES = 200
MANY_SIZE = 100_000  # bytes of each
ROUND_TRIP = 0.04  # seconds


class Mode(enum.StrEnum):
    """Where the bytes go."""

    FILE = "file"
    STREAM = "stream"
    MANY = "many"


@dataclass(frozen=True, slots=True)
class Suite:
    """One kind of work, done by every client that can."""

    name: str
    title: str
    mode: Mode
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """The work itself: into the current directory under the URL's file name, or to standard output.

    Attributes:
        urls: what to fetch.
        served: the files behind the URLs, in the same order.
        sha256: of each, in hexadecimal.
        listing: a file with one URL on a line.
        authority: a PEM file; the variable SSL_CERT_FILE names it too.
    """

    urls: tuple[str, ...]
    served: tuple[Path, ...]
    sha256: tuple[str, ...]
    listing: Path
    authority: Path

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(path.stat().st_size for path in self.served)

    @property
    def urls_with_digest(self) -> tuple[str, ...]:
        """The URLs, each with what hydraflow is to verify."""
        return tuple(f"{url}#sha256={digest}" for url, digest in zip(self.urls, self.sha256, strict=True))


SUITES = {
    suite.name: suite
    for suite in (
        Suite("file-plain", "One file to disk, HTTP", Mode.FILE),
        Suite("file-tls", "One file to disk, HTTPS", Mode.FILE, tls=True),
        Suite("stream-plain", "One stream to cat, HTTP", Mode.STREAM),
        Suite("stream-tls", "One stream to cat, HTTPS", Mode.STREAM, tls=True),
        Suite("small", f"{MANY_FILES} files of {MANY_SIZE // 1000} KB, {ROUND_TRIP * 1000:.0f} ms away", Mode.MANY),
    )
}
