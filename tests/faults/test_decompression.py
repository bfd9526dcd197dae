"""Compressed files, given plain: every format, however it is cut into pieces, and nothing of the end of a bad one."""

from __future__ import annotations

import gzip
import lzma
import resource
import sys
from dataclasses import replace
from random import Random

import pytest
from backports import zstd

from hydraflow.adapters.decoding import DecodedSource, plain_name
from hydraflow.adapters.sinks import HOLD_BACK
from hydraflow.api import stream
from hydraflow.errors import ConfigurationError, DigestMismatchError, IntegrityError
from tests.faults.fronts import MIB
from tests.faults.test_streams import collect

TEXT = "".join(f"@read{n}\n{Random(n).randbytes(40).hex()}\n" for n in range(40_000)).encode()


def bgzip(data: bytes) -> bytes:
    """Members of 64 KiB, with the extra field that says how long they are, and an empty one at the end."""
    blocks = [data[start : start + 65_280] for start in range(0, len(data), 65_280)]
    return b"".join(gzip.compress(block, 1) for block in [*blocks, b""])


FORMATS = {
    "gzip": gzip.compress(TEXT, 1),
    "members": b"".join(gzip.compress(part, 1) for part in (TEXT[:5], b"", TEXT[5:100_000], TEXT[100_000:])),
    "padded": gzip.compress(TEXT, 1) + bytes(1000),
    "bgzip": bgzip(TEXT),
    "zstd": zstd.compress(TEXT),
    "frames": zstd.compress(TEXT[:100]) + b"\x5a\x2a\x4d\x18\x04\0\0\0note" + zstd.compress(TEXT[100:]),
    "skippable": b"\x50\x2a\x4d\x18\x04\0\0\0note" + zstd.compress(TEXT),
    "xz": lzma.compress(TEXT, preset=0),
    "streams": lzma.compress(TEXT[:100], preset=0) + bytes(8) + lzma.compress(TEXT[100:], preset=0),
}


class Given:
    """A source of bytes that are there."""

    verified = True

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = memoryview(data), piece

    def take(self, most: int, timeout: float | None = None) -> memoryview | None:
        return self._data[: min(most, self._piece)] if self._data else None

    def release(self, count: int) -> None:
        self._data = self._data[count:]

    def leave(self) -> None: ...


def decoded(data: bytes, piece: int = 1 << 18, most: int = 1 << 20) -> bytes:
    source, got = DecodedSource(Given(data, piece), "http://h/x"), []
    while (view := source.take(most)) is not None:
        got.append(bytes(view))
        source.release(len(view))
    return b"".join(got)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("piece", "most"), [(1 << 18, 1 << 20), (1013, 1009)])
def test_every_format(name, piece, most):
    assert decoded(FORMATS[name], piece, most) == TEXT


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz"])
def test_small_files_byte_by_byte(name):
    compress = {"gzip": gzip.compress, "zstd": zstd.compress, "xz": lzma.compress}[name]
    for size in (0, 1, 100):
        assert decoded(compress(TEXT[:size]), 1, 1) == TEXT[:size]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut(name):
    """The last bytes that could be decoded stay back: nobody takes them for the end."""
    whole = FORMATS[name].rstrip(b"\0") if name == "padded" else FORMATS[name]
    for cut in (1, 8, len(whole) // 3, len(whole) - 7, len(whole) - 3):
        source, got = DecodedSource(Given(whole[: len(whole) - cut], 1 << 16), "http://h/x"), []
        with pytest.raises(IntegrityError, match=r"cut off|broken|not compressed"):
            drain(source, got)
        assert len(b"".join(got)) <= len(TEXT) - HOLD_BACK


def drain(source: DecodedSource, into: list[bytes]) -> None:
    while (view := source.take(1 << 20)) is not None:
        into.append(bytes(view))
        source.release(len(view))


def test_the_decoded_tail_stays_back():
    source, got = DecodedSource(Given(FORMATS["gzip"][:-4], 1 << 16), "http://h/x"), []
    with pytest.raises(IntegrityError, match="cut off"):
        drain(source, got)
    data = b"".join(got)
    assert TEXT.startswith(data)
    assert 0 < len(data) <= len(TEXT) - HOLD_BACK


@pytest.mark.parametrize("data", [b"", b"x", b"plain text, and more of it", b"PK\x03\x04 a zip file"])
def test_not_compressed(data):
    with pytest.raises(IntegrityError, match="not compressed"):
        decoded(data)


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz"])
def test_garbage_behind(name):
    with pytest.raises(IntegrityError, match=r"broken|cut off"):
        decoded(FORMATS[name] + b"garbage")


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz"])
def test_broken(name):
    data = bytearray(FORMATS[name])
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(IntegrityError):
        decoded(bytes(data))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lzma.compress])
def test_a_bomb_costs_no_memory(compress):
    """Much of nothing, in next to nothing."""
    bomb = compress(bytes(128 * MIB))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source, total = DecodedSource(Given(bomb, 1 << 18), "http://h/x"), 0
    while (view := source.take(1 << 20)) is not None:
        total += len(view)
        source.release(len(view))
    assert total == 128 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


class TestStream:
    @pytest.mark.parametrize("name", ["bgzip", "zstd", "xz"])
    def test_decoded(self, origin, settings, name):
        url = origin.add("/x", FORMATS[name])
        origin.when(times=2).drop(after=100_000)
        with stream(url, decompress=True, settings=replace(settings, buffer=1_000_000)) as opened:
            assert opened.read() == TEXT
        assert opened.result.size == len(FORMATS[name])

    def test_several_each_by_its_own(self, origin, settings):
        urls = [origin.add(f"/{name}", FORMATS[name]) for name in ("gzip", "zstd", "xz")]
        with stream(urls, decompress=True, settings=settings) as opened:
            assert opened.read() == TEXT * 3

    def test_kept_as_it_is(self, origin, settings, tmp_path):
        url = origin.add("/x.gz", FORMATS["gzip"])
        with stream(url, decompress=True, spool=tmp_path / "x.gz", settings=settings) as opened:
            assert opened.read() == TEXT
        assert (tmp_path / "x.gz").read_bytes() == FORMATS["gzip"]

    def test_a_wrong_digest_is_that_of_the_file(self, origin, settings):
        url = origin.add("/x.gz", FORMATS["gzip"])
        got: list[bytes] = []
        opening = stream(url, decompress=True, digest="md5:" + "0" * 32, settings=settings)
        with opening as opened, pytest.raises(DigestMismatchError):
            collect(opened, got)
        assert len(b"".join(got)) <= len(TEXT) - HOLD_BACK

    def test_a_file_that_was_cut_before_it_was_served(self, origin, settings):
        url = origin.add("/x.gz", FORMATS["gzip"][:-4])
        with pytest.raises(IntegrityError, match="cut off"), stream(url, decompress=True, settings=settings) as opened:
            opened.read()

    def test_without_the_package(self, origin, settings, monkeypatch):
        monkeypatch.setitem(sys.modules, "isal", None)
        url = origin.add("/x.gz", FORMATS["gzip"])
        with (
            pytest.raises(ConfigurationError, match="gzip") as caught,
            stream(url, decompress=True, settings=settings) as opened,
        ):
            opened.read()
        assert caught.value.hint == "pip install 'hydraflow-io[decompress]'"


@pytest.mark.parametrize(
    ("name", "plain"), [("x.fa.gz", "x.fa"), ("x.zst", "x"), (".gz", ".gz"), ("x.bam", "x.bam"), ("a.xz.gz", "a.xz")]
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain
