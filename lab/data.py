"""Test data from a seed: random files, and a gzip-compressed multi-FASTA of any size in seconds."""

from __future__ import annotations

import hashlib
import itertools
import random
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Fasta", "fasta", "load", "random_file"]

_BLOCK = 1 << 20  # bytes of random data at a time
_BASES = bytes(b"ACGT"[byte & 3] for byte in range(256))  # random byte → base
_LINE = 70  # bases on a line
_RECORDS = 200  # in one gzip member
_RECORD = 20_000  # bases in a record
_MEMBERS = 24  # distinct ones; a larger file repeats them


@dataclass(frozen=True, slots=True)
class Fasta:
    """A generated file: where, how many records (`>` lines) it holds, and its SHA-256 in hexadecimal."""

    path: Path
    records: int
    sha256: str


def random_file(path: Path, size: int, seed: int = 0) -> str:
    """Write `size` bytes that do not compress, the same for the same seed; gives their SHA-256 in hexadecimal."""
    source, digest = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = source.randbytes(min(_BLOCK, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def fasta(path: Path, size: int, seed: int = 0) -> Fasta:
    """Write a gzip-compressed multi-FASTA of at least `size` bytes.

    Beside it go `<path>.sha256` in the form of `sha256sum` and `<path>.records` with the number of records.

    The file is a chain of gzip members, which gzip defines to be one file (RFC 1952 §2.2).  Few of them are distinct,
    because compression is what takes long; before each stands a small one with a record of its own, so that no two
    stretches of the file are alike and misplaced bytes cannot go unseen.
    """
    digest, records, written = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        for member, count in _members(random.Random(seed)):
            if written >= size:
                break
            written += file.write(member)
            digest.update(member)
            records += count
    _beside(path, "sha256").write_text(f"{digest.hexdigest()}  {path.name}\n")
    _beside(path, "records").write_text(f"{records}\n")
    return Fasta(path, records, digest.hexdigest())


def load(path: Path) -> Fasta | None:
    """A file that `fasta` made earlier; None if it is not there, not whole or not the same any more."""
    try:
        sha256 = _beside(path, "sha256").read_text().split()[0]
        records = int(_beside(path, "records").read_text())
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, IndexError):
        return None
    return Fasta(path, records, sha256) if actual == sha256 else None


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")


def _members(source: random.Random) -> Iterator[tuple[bytes, int]]:
    """Gzip members without end, each with the number of its records."""
    large: list[bytes] = []
    for turn in itertools.count():
        yield _gzip(_record(source, f"lead{turn:06d}", _LINE)), 1
        if turn < _MEMBERS:
            names = [f"seq{turn * _RECORDS + number:06d}" for number in range(_RECORDS)]
            large.append(_gzip(b"".join(_record(source, name, _RECORD) for name in names)))
        yield large[turn % _MEMBERS], _RECORDS


def _record(source: random.Random, name: str, length: int) -> bytes:
    bases = source.randbytes(length).translate(_BASES)
    lines = [bases[start : start + _LINE] for start in range(0, length, _LINE)]
    return b"\n".join([f">{name} length={length}".encode(), *lines, b""])


def _gzip(data: bytes) -> bytes:
    # Matching finds nothing in random bases: Huffman codes alone are both faster and smaller.
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return compressor.compress(data) + compressor.flush()
