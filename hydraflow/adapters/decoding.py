"""Compressed streams made plain for readers that cannot: gzip of many members (bgzip), Zstandard, xz.

The digest is still that of the bytes on the wire.  What is decoded holds its last `HOLD_BACK` bytes back too, until the
compressed data have come to their own proper end: a file may be verified and yet be cut.  Memory is bounded whatever
the data expand to.
"""

from __future__ import annotations

import lzma
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from hydraflow.adapters.sinks import HOLD_BACK, Source
from hydraflow.errors import ConfigurationError, IntegrityError

__all__ = ["DecodedSource", "plain_name"]

_PIECE = 1 << 20
_RAW = 1 << 18
_HEAD = 6
#: Eight times what xz -9 needs; what a file asks for is its own claim.
_XZ_MEMORY = 512 << 20
_SUFFIXES = (".gz", ".bgz", ".zst", ".xz")


class _Decompressor(Protocol):
    """As the standard library's are: of one member, or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """The next decoded bytes, at most `max_length`."""
        ...


def plain_name(name: str) -> str:
    """The file's name without the ending of a compression, by which tools would go."""
    return next((name.removesuffix(each) for each in _SUFFIXES if name.endswith(each) and name != each), name)


def _gzip() -> _Decompressor:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd() -> _Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor()


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


_FORMATS: dict[bytes, tuple[str, Callable[[], _Decompressor]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _zstd),
    b"\xfd7zXZ\x00": ("xz", _xz),
}


#: Bytes 2 to 4 of a Zstandard frame with somebody's notes, with which a file may begin (RFC 8878 §3.1.2).
_SKIPPABLE = b"\x2a\x4d\x18"


class _Decoder:
    """Compressed bytes in, decoded pieces out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._head = b""
        self._format = ""
        self._make: Callable[[], _Decompressor] | None = None
        self._member: _Decompressor | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces, each at most `_PIECE` bytes; to be taken to the end before the next call.

        Raises:
            IntegrityError: the data are not of any known format, or broken.
            ConfigurationError: the library for their format is not installed.
        """
        if self._make is None:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data, self._head = self._head, b""
            self._recognise(data)
        while data or (self._member is not None and not self._member.needs_input):
            if self._member is None:
                data = data.lstrip(b"\0")  # padding between members, and behind the last
                if not data:
                    return
                self._member = self._begin()
            if piece := self._decompress(self._member, data):
                yield piece
            data = b""
            if self._member.eof:
                data, self._member = self._member.unused_data, None

    def _recognise(self, data: bytes) -> None:
        for magic, (name, make) in _FORMATS.items():
            if data.startswith(magic):
                self._format, self._make = name, make
                return
        if data[1:4] == _SKIPPABLE:
            self._format, self._make = "Zstandard", _zstd
            return
        raise IntegrityError(
            "not compressed by gzip, Zstandard or xz", url=self._url, hint="Leave the decompression out."
        )

    def _begin(self) -> _Decompressor:
        assert self._make is not None
        try:
            return self._make()
        except ImportError as error:
            raise ConfigurationError(
                f"a package for {self._format} is missing: {error.name}", hint="pip install 'hydraflow-io[decompress]'"
            ) from error

    def _decompress(self, member: _Decompressor, data: bytes) -> bytes:
        try:
            return member.decompress(data, _PIECE)
        except Exception as error:  # the libraries' own kinds have only this in common
            raise IntegrityError(f"broken {self._format} data: {error}", url=self._url, hint="") from error

    def finish(self) -> None:
        """There is no more.

        Raises:
            IntegrityError: there should be.
        """
        short = self._make is None
        if short:
            self._recognise(self._head)
        if short or self._member is not None:
            raise IntegrityError(
                f"the {self._format} data are cut off: the file is as promised, and not whole", url=self._url, hint=""
            )


class DecodedSource:
    """A source of compressed bytes as one of plain bytes.

    Args:
        source: of the compressed bytes.
        url: redacted, for messages.
    """

    def __init__(self, source: Source, url: str) -> None:
        self._source = source
        self._decoder = _Decoder(url)
        self._pieces: Iterator[bytes] | None = None
        self._raw = 0
        self._held: deque[bytes] = deque()
        self._holding = 0
        self._view = memoryview(b"")
        self._finished = False

    @property
    def verified(self) -> bool:
        """Of the compressed bytes; nothing can be decoded wrongly without an error that is raised in `take`."""
        return self._source.verified

    def take(self, most: int, timeout: float | None = None) -> memoryview | None:
        """See `Source.take`.

        Raises:
            IntegrityError: the compressed data are broken, or cut.
        """
        while not self._view:
            if self._held and (self._finished or self._holding - len(self._held[0]) >= HOLD_BACK):
                self._view = memoryview(self._held.popleft())
                self._holding -= len(self._view)
            elif self._finished:
                return None
            elif not self._decode(timeout):
                return memoryview(b"")
        return self._view[:most]

    def release(self, count: int) -> None:
        """See `Source.release`."""
        self._view = self._view[count:]

    def leave(self) -> None:
        """See `Source.leave`."""
        self._source.leave()

    def _decode(self, timeout: float | None) -> bool:
        """A piece more, if there is one; False if nothing came in time."""
        if self._pieces is None:
            raw = self._source.take(_RAW, timeout)
            if raw is None:
                self._decoder.finish()
                self._finished = True
                return True
            if not raw:
                return False
            self._raw = len(raw)
            self._pieces = self._decoder.feed(bytes(raw))
        piece = next(self._pieces, None)
        if piece is None:
            self._pieces = None
            self._source.release(self._raw)
        else:
            self._held.append(piece)
            self._holding += len(piece)
        return True
