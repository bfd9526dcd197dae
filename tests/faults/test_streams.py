"""What a reader of a stream meets: errors as exceptions, bounded memory, and nothing left when it goes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hydraflow.adapters.sinks import HOLD_BACK, StreamSink
from hydraflow.api import fetch, stream
from hydraflow.errors import (
    ConfigurationError,
    ConnectionDroppedError,
    HydraError,
    NotFoundError,
    RequestError,
    ResourceChangedError,
)
from hydraflow.models import Bound, Outcome, Resource, Validator, Verification
from tests.faults.fronts import MIB, noise
from tests.faults.origin import Origin

ROOT = Path(__file__).parents[2]
DATA = noise(9 * MIB)


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


def descriptors() -> int:
    """Files, pipes and sockets that this process has open, the origin's ends of connections included."""
    return len(list(Path("/proc/self/fd").iterdir()))


def own_threads() -> set[str]:
    """Names of threads, but for the idle ones of pools."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith(("uvloop_", "asyncio_"))}


def eventually(condition, seconds: float = 3.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done


def stands_still(origin) -> bool:
    """The origin sends nothing for a while, sooner or later."""
    for _ in range(15):
        served = origin.bytes_served()
        time.sleep(0.3)
        if origin.bytes_served() == served:
            return True
    return False


class TestAsAFile:
    def test_chunks(self, url, settings):
        with stream(url, settings=settings) as opened:
            assert opened.name == "x.bin"
            assert opened.result is None
            assert b"".join(opened) == DATA
            assert opened.read(10) == b""
            assert opened.result.outcome is Outcome.STREAMED
            assert opened.result.path is None

    def test_read_all(self, url, settings):
        with stream(url, settings=settings) as opened:
            assert opened.read() == DATA

    def test_small_reads(self, origin, settings):
        with stream(origin.add("/s", DATA[:5000]), settings=settings) as opened:
            assert b"".join(iter(lambda: opened.read(7), b"")) == DATA[:5000]

    def test_nothing_wanted_is_not_the_end(self, url, settings):
        with stream(url, settings=settings) as opened:
            assert opened.read(0) == b""
            assert opened.readinto(bytearray()) == 0
            assert opened.read(3) == DATA[:3]

    @pytest.mark.parametrize("most", [0, -1])
    def test_a_chunk_of_nothing_is_refused(self, url, settings, most):
        with stream(url, settings=settings) as opened, pytest.raises(ValueError, match="at least 1 byte"):
            opened.chunk(most)

    def test_buffered(self, url, settings):
        with stream(url, settings=settings) as opened, io.BufferedReader(opened, 1 << 16) as reader:
            assert reader.peek(1)[:1] == DATA[:1]
            assert reader.read(100_001) == DATA[:100_001]
            assert reader.read() == DATA[100_001:]

    def test_gzip(self, origin, samples, settings):
        url = origin.add("/genome.fa.gz", samples.read("genome.fa.gz"))
        rule = origin.when(request=1).drop(after=70_000)
        with stream(url, settings=settings) as opened, gzip.open(opened, "rt") as lines:
            assert sum(line.startswith(">") for line in lines) == samples.records
        assert rule.fired == 1

    def test_gzip_sees_the_error(self, origin, samples, settings):
        url = origin.add("/genome.fa.gz", samples.read("genome.fa.gz"))
        rule = origin.when(request=1).drop(after=300_000)
        origin.when().raw(b"")
        impatient = replace(settings, max_wait=0.3)
        with (
            pytest.raises(ConnectionDroppedError),
            stream(url, settings=impatient) as opened,
            gzip.open(opened) as lines,
        ):
            lines.read()
        assert rule.fired == 1

    def test_closed(self, url, settings):
        with stream(url, settings=settings) as opened:
            pass
        assert opened.closed
        with pytest.raises(ValueError, match="closed"):
            opened.read(1)
        opened.close()

    def test_error_stays(self, origin, settings):
        with stream(f"{origin.url}/none", settings=settings) as opened:
            for _ in range(2):
                with pytest.raises(NotFoundError):
                    opened.read(1)

    def test_read_in_another_thread(self, url, settings):
        with stream(url, settings=settings) as opened:
            read = []
            thread = threading.Thread(target=lambda: read.append(opened.read()))
            thread.start()
            thread.join()
        assert read == [DATA]

    def test_forgotten(self, url, settings):
        """A stream that nobody closes ends when nobody holds it any more."""
        from hydraflow.ordering import order
        from hydraflow.streams import ByteStream

        with stream(url, settings=settings) as first:  # the engine has descriptors of its own
            first.read()
        before = descriptors()
        opened = ByteStream(settings, order(url, None, None, None, None))
        assert opened.read(10) == DATA[:10]
        del opened
        assert eventually(lambda: descriptors() <= before)


class TestLeavingEarly:
    @pytest.mark.parametrize("read", [0, 1, 100_000, 5 * MIB])
    def test_nothing_stays(self, origin, url, settings, read):
        with stream(url, settings=settings) as opened:
            opened.read()
        threads, before = own_threads(), descriptors()
        origin.when().slow(20 * MIB)
        for _ in range(5):
            with stream(url, settings=settings) as opened:
                assert len(opened.read(read)) <= read
        assert own_threads() == threads
        assert eventually(lambda: descriptors() <= before)

    def test_at_once(self, origin, settings):
        """Leaving does not wait for a server that says nothing."""
        url = origin.add("/x.bin", DATA)
        origin.when().head_delay(30)
        begun = time.monotonic()
        with stream(url, settings=replace(settings, read_timeout=30.0)):
            pass
        assert time.monotonic() - begun < 5

    def test_the_next_transfer_has_all_places(self, url, settings, tmp_path):
        """What an abandoned stream held of its origin's connections is given back."""
        for _ in range(2 * settings.width):
            with stream(url, settings=settings) as opened:
                opened.read(1)
        assert fetch(url, tmp_path / "x", settings=settings).peak_connections > 1

    def test_an_exception_in_the_body(self, url, settings):
        def work():
            with stream(url, settings=settings) as opened:
                opened.read(1)
                raise LookupError("the reader's own")

        with pytest.raises(LookupError, match="own"):
            work()

    def test_a_stream_that_another_thread_closes_does_not_just_end(self, origin, url, settings):
        origin.when().slow(8 * MIB)
        for n in range(20):
            ends: list[bytes | BaseException] = []
            with stream(url, settings=settings) as opened:
                thread = threading.Thread(target=_read_on, args=(opened, ends))
                thread.start()
                time.sleep(0.05 + 0.003 * n)
            thread.join()
            assert isinstance(ends[0], (ValueError, asyncio.CancelledError))


def _read_on(opened, ends):
    try:
        while opened.chunk(10_000):
            time.sleep(0.003)
        ends.append(b"")
    except BaseException as error:  # noqa: BLE001 - looked at in the test
        ends.append(error)


class TestSlowReader:
    def test_no_more_than_the_window_is_taken(self, origin, settings):
        data = bytes(32 * MIB)
        url = origin.add("/x.bin", data)
        with stream(url, settings=replace(settings, buffer=1_000_000)) as opened:
            assert len(opened.read(1000)) == 1000
            assert stands_still(origin), "it goes on while nobody reads"
            # The window, and what kernels keep for a connection.
            assert origin.bytes_served() < 12 * MIB
            assert 1000 + sum(map(len, opened)) == len(data)

    def test_memory_is_bounded(self, origin):
        url = origin.add("/x.bin", bytes(64 * MIB))
        program = f"""
import resource
from hydraflow import settings
from hydraflow.api import stream
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
with stream({url!r}, settings=settings.load(threads=4, buffer=2_000_000)) as opened:
    total = len(opened.read(1))
    before = peak()
    total += sum(map(len, opened))
print(total, peak() - before)
"""
        command = [sys.executable, "-c", program]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert ran.returncode == 0, ran.stderr
        total, grown = map(int, ran.stdout.split())
        assert total == 64 * MIB
        assert grown < 16  # MiB

    def test_a_pause_longer_than_patience(self, origin, settings):
        """Time in which the reader takes nothing is not the server's silence."""
        url = origin.add("/x.bin", DATA)
        patient = replace(settings, buffer=1_000_000, max_wait=0.5, read_timeout=0.3)
        with stream(url, settings=patient) as opened:
            data = opened.read(1000)
            time.sleep(0.6)
            origin.pause()  # an idle connection is cut in the meantime
            origin.resume()
            time.sleep(0.3)
            assert data + b"".join(opened) == DATA

    def test_two_streams_in_step(self, origin, settings):
        """One connection is all there may be, and each of two streams waits for the other to be read."""
        one = replace(settings, threads=1, buffer=1_000_000)
        urls = [origin.add(f"/{n}.bin", noise(6 * MIB, n)) for n in (1, 2)]
        with stream(urls[0], settings=one) as first, stream(urls[1], settings=one) as second:
            pairs = list(itertools.zip_longest(second, first, fillvalue=b""))
        assert b"".join(pair[0] for pair in pairs) == noise(6 * MIB, 2)
        assert b"".join(pair[1] for pair in pairs) == noise(6 * MIB, 1)

    def test_more_streams_than_connections(self, origin, settings):
        narrow = replace(settings, threads=2, buffer=1_000_000)
        urls = [origin.add(f"/{n}.bin", noise(3 * MIB, n)) for n in range(5)]
        opened = [stream(url, settings=narrow) for url in urls]
        streams = [each.__enter__() for each in opened]
        time.sleep(0.2)
        for n in reversed(range(5)):
            assert streams[n].read() == noise(3 * MIB, n)
        for each in opened:
            each.__exit__(None, None, None)


def put(sink: StreamSink, data: bytes) -> None:
    """The bytes arrive, from the offset 0 on."""
    position = 0
    while position < len(data):
        room = asyncio.run(sink.room(position, len(data) - position))
        room[:] = data[position : position + len(room)]
        sink.add(position, position + len(room))
        position += len(room)


class TestSink:
    """The window itself, where a race would be hard to meet from outside."""

    @pytest.fixture
    def sink(self):
        sink = StreamSink(MIB)
        resource = Resource("u", "u", MIB // 2, ranges=True, validator=Validator('"v1"'))
        with asyncio.Runner() as runner:
            runner.run(sink.begin())
            runner.run(sink.prepare(resource, None))
            put(sink, DATA[: MIB // 2])
            sink.runner = runner
            yield sink

    def test_gives_all_but_the_tail(self, sink):
        got = b""
        while view := sink.take(MIB, 0):
            got += view
            sink.release(len(view))
        assert got == DATA[: MIB // 2 - HOLD_BACK]
        assert not sink.restartable()

    def test_an_error_comes_instead_of_an_end(self, sink):
        """Whoever feeds a pipe from it asks nobody else how the transfer ended."""
        sink.runner.run(sink.close(keep=False, error=ValueError("broken")))
        with pytest.raises(ValueError, match="broken"):
            sink.take(MIB, 0)

    def test_once_a_restart_is_decided_nothing_is_given(self, sink):
        """Between the decision to begin anew and the reset a reader must not get bytes of the old version."""
        assert sink.restartable()
        assert len(sink.take(MIB, 0.01)) == 0
        sink.runner.run(sink.reset())
        assert sink.restartable()

    def test_after_a_reset_the_new_version_comes(self, sink):
        assert sink.restartable()
        sink.runner.run(sink.reset())
        sink.runner.run(sink.prepare(Resource("u", "u", 100, ranges=True, validator=Validator('"v2"')), None))
        put(sink, bytes(100))
        assert len(sink.take(MIB, 0.01)) == 0  # all of it is tail
        sink.verified = True
        assert bytes(sink.take(MIB, 0.01)) == bytes(100)


def test_progress_that_fails_ends_the_stream(url, settings):
    def tell(_progress):
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="own"), stream(url, on_progress=tell, settings=settings) as opened:
        opened.read()


def test_idle_connections_end(settings, monkeypatch):
    """A program that lives long and meets many servers does not keep a connection to each of them."""
    from hydraflow.adapters import network

    monkeypatch.setattr(network, "_IDLE_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(5)]
        urls = [origin.add("/x", DATA[:1000]) for origin in origins]
        with stream(urls[0], settings=settings) as opened:
            opened.read()
        before = descriptors()
        for url in urls[1:]:
            with stream(url, settings=settings) as opened:
                opened.read()
        assert descriptors() >= before + 2 * len(urls[1:]), "they are kept for a while"
        time.sleep(0.3)
        with stream(urls[0], settings=settings) as opened:
            opened.read()
        assert eventually(lambda: descriptors() <= before)


def test_many_errors_leave_nothing(origin, settings):
    threads, before = own_threads(), descriptors()
    for _ in range(10):
        with pytest.raises(HydraError), stream(f"{origin.url}/none", settings=settings) as opened:
            opened.read()
    assert own_threads() - threads <= {"hydraflow-engine"}
    assert eventually(lambda: descriptors() <= before + 2)  # one connection stays for the next request


def test_a_slow_reader_is_named_as_what_limits_it(url, settings):
    with stream(url, settings=replace(settings, buffer=2 * MIB)) as reader:
        while reader.read(MIB):
            time.sleep(0.1)
    assert reader.result.limited_by is Bound.READER


class TestPart:
    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            (0, 1),
            (0, 4 * MIB),
            (1, None),
            (9 * MIB - 1, None),
            (5, 99 * MIB),
            (3 * MIB + 7, 8 * MIB - 3),
            (7, 7 + HOLD_BACK),
        ],
    )
    @pytest.mark.parametrize("rules", ["ranges", "no ranges", "no length", "weak", "breaks"])
    def test_the_bytes(self, origin, settings, start, stop, rules):
        url = origin.add("/x.bin", DATA, etag='W/"1"' if rules == "weak" else '"1"')
        if rules == "breaks":
            origin.when(times=3).drop(after=100_000)
        elif rules.startswith("no "):
            origin.when().ignore_range()
        if rules == "no length":
            origin.when().no_length()
        with stream(url, start=start, stop=stop, settings=replace(settings, buffer=1_000_000)) as opened:
            assert b"".join(opened) == DATA[start:stop]
        assert opened.result.size == len(DATA[start:stop])
        if rules == "ranges":
            assert origin.bytes_served() <= len(DATA[start:stop]) + 4 * MIB * (stop is None)

    def test_the_verdict_is_honest(self, origin, settings):
        digest = base64.b64encode(hashlib.md5(DATA).digest()).decode()
        url = origin.add("/x.bin", DATA, headers={"x-goog-hash": f"md5={digest}"})
        with stream(url, settings=settings) as opened:
            opened.read()
        assert opened.result.verification is Verification.SERVER
        with stream(url, stop=1000, settings=settings) as opened:
            assert opened.read() == DATA[:1000]
        assert (opened.result.verification, opened.result.digest) == (Verification.SIZE, None)

    def test_behind_the_end(self, url, settings):
        with (
            pytest.raises(RequestError, match="byte 9,437,184") as caught,
            stream(url, start=len(DATA), settings=settings) as opened,
        ):
            opened.read()
        assert caught.value.status == 416

    @pytest.mark.parametrize(
        "options", [{"start": -1}, {"start": 5, "stop": 5}, {"stop": 0}, {"stop": 9, "digest": "md5:" + "0" * 32}]
    )
    def test_refused(self, origin, url, settings, options):
        with pytest.raises(ConfigurationError):
            stream(url, settings=settings, **options)
        assert not origin.ledger

    def test_of_two_versions(self, origin, url, settings):
        """A part is of one version, too."""
        with stream(url, start=1, settings=replace(settings, buffer=1_000_000)) as opened:
            assert opened.read(1000) == DATA[1:1001]
            origin.add("/x.bin", noise(9 * MIB, 2), etag='"v2"')
            with pytest.raises(ResourceChangedError):
                opened.read()


def collect(opened, into: list[bytes]) -> None:
    for chunk in opened:
        into.append(chunk)  # noqa: PERF402 - what came before an error counts


class TestSeveral:
    def test_one_after_another(self, origin, settings):
        pieces = [DATA[:100_000], b"", DATA[100_000:]]
        urls = [origin.add(f"/{n}", piece) for n, piece in enumerate(pieces)]
        origin.when(path="/2").head_delay(0.2)
        with stream(urls, settings=replace(settings, buffer=1_000_000)) as opened:
            assert opened.result is None
            assert b"".join(opened) == DATA
        assert [each.size for each in opened.results] == [len(piece) for piece in pieces]
        assert opened.result.size == len(pieces[2])

    def test_a_failure_is_no_end(self, origin, url, settings):
        got = []
        with stream([url, f"{origin.url}/none", url], settings=settings) as opened:
            with pytest.raises(NotFoundError):
                collect(opened, got)
            assert b"".join(got) == DATA
        assert len(opened.results) == 1

    @pytest.mark.parametrize("read", [0, 100, 5 * MIB])
    def test_leaving_early(self, origin, url, settings, read):
        with stream(url, settings=settings) as opened:
            opened.read()
        threads, before = own_threads(), descriptors()
        origin.when().slow(20 * MIB)
        with stream([url, url, url], settings=settings) as opened:
            opened.read(read)
        assert own_threads() == threads
        assert eventually(lambda: descriptors() <= before)

    @pytest.mark.parametrize("options", [{"digest": "md5:" + "0" * 32}, {"size": 5}, {"start": 1}, {"stop": 1}])
    def test_what_can_be_said_of_one_only(self, url, settings, options):
        with pytest.raises(ConfigurationError):
            stream([url, url], settings=settings, **options)

    def test_none(self, settings):
        with pytest.raises(ConfigurationError), stream([], settings=settings):
            pass
