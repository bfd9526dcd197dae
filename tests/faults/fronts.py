"""The two ways in which bytes leave, a file and a stream, behind one call, so that every fault meets both."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from hydraflow.adapters.sinks import HOLD_BACK
from hydraflow.api import fetch, stream
from hydraflow.errors import HydraError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hydraflow.api import ByteStream
    from hydraflow.models import FetchResult
    from hydraflow.settings import Settings

__all__ = ["MIB", "Delivered", "FileFront", "StreamFront", "noise"]

MIB = 1 << 20
E = TypeVar("E", bound=HydraError)


@functools.cache
def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are the same for the same seed and nowhere alike."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Delivered:
    data: bytes
    result: FetchResult


class FileFront:
    """`fetch`. A failure must leave no file, and no state unless it `keeps` what a later run can go on from."""

    name = "file"

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings

    def get(self, url: str, **options: Any) -> Delivered:
        result = fetch(url, self.directory / "out.bin", settings=self.settings, **options)
        assert result.path == self.directory / "out.bin"
        assert self.left() == ["out.bin"], "state was left behind"
        return Delivered(result.path.read_bytes(), result)

    def refuse(self, url: str, kind: type[E], *, keeps: bool = False, **options: Any) -> E:
        with pytest.raises(kind) as caught:
            fetch(url, self.directory / "out.bin", settings=self.settings, **options)
        assert self.left() == ([".out.bin.hydra"] if keeps else [])
        return caught.value

    def left(self) -> list[str]:
        """Names of everything on disk."""
        return sorted(path.name for path in self.directory.iterdir())


class StreamFront:
    """`stream`. A failure must reach the reader as an exception, before the end of the file does."""

    name = "stream"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.received = b""
        self._taken = bytearray()

    def reading(self) -> bool:
        """The reader has had a byte: from now on nothing can be begun anew."""
        return bool(self._taken)

    def get(self, url: str, **options: Any) -> Delivered:
        result = self._read(stream(url, settings=self.settings, **options))
        return Delivered(bytes(self._taken), result)

    def refuse(self, url: str, kind: type[E], *, keeps: bool = False, **options: Any) -> E:
        del keeps
        with pytest.raises(kind) as caught:
            self._read(stream(url, settings=self.settings, **options))
        self.received = bytes(self._taken)
        return caught.value

    def _read(self, opening: AbstractContextManager[ByteStream]) -> FetchResult:
        self._taken = bytearray()
        with opening as opened:
            for chunk in opened:
                self._taken += chunk
        assert opened.result is not None
        return opened.result

    def had_the_end_of(self, data: bytes) -> bool:
        """The reader of the last refused stream got bytes that have to be held back."""
        return len(self.received) > max(0, len(data) - HOLD_BACK)
