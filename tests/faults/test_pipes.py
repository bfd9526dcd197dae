"""Named pipes and descriptors: readers that wait, come late, never come, or leave."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from hydraflow.adapters.pipes import FifoWriter
from hydraflow.adapters.sinks import HOLD_BACK
from hydraflow.api import pipe
from hydraflow.errors import DigestMismatchError, NoReaderError, NotFoundError, ReaderGoneError, SinkError
from tests.faults.fronts import MIB, noise

DATA = noise(9 * MIB)


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


@pytest.fixture
def reader():
    with ThreadPoolExecutor(1) as pool:
        yield lambda path: pool.submit(path.read_bytes)


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def watch(writer: FifoWriter, reader: threading.Thread) -> None:
    """Write, and when there is nothing more to write, look whether the reader is there."""
    writer.write(memoryview(bytes(5000)))
    reader.join()
    writer.check()


class TestFifo:
    @pytest.mark.parametrize("size", [0, 1, HOLD_BACK, HOLD_BACK + 1, 9 * MIB])
    def test_reader_after(self, origin, settings, tmp_path, reader, size):
        url = origin.add("/y.bin", DATA[:size])
        fifo = tmp_path / "p"

        def read_when_there():
            while not fifo.exists():
                time.sleep(0.005)
            return fifo.read_bytes()

        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_when_there)
            assert pipe(url, fifo, settings=settings).size == size
            assert read.result(5) == DATA[:size]
        assert not fifo.exists()

    @pytest.mark.parametrize("size", [0, 1, HOLD_BACK + 1, 9 * MIB])
    def test_reader_before(self, origin, settings, tmp_path, reader, size):
        url = origin.add("/y.bin", DATA[:size])
        os.mkfifo(tmp_path / "p")
        read = reader(tmp_path / "p")
        time.sleep(0.05)
        assert pipe(url, tmp_path / "p", settings=settings).size == size
        assert read.result(5) == DATA[:size]
        assert (tmp_path / "p").exists()

    def test_reader_that_takes_all_at_once(self, tmp_path):
        """It waits in `read` already, and empties the pipe before anybody could look how much there is in it."""
        for turn in range(50):
            path = tmp_path / str(turn)
            writer = FifoWriter(path, 2.0)
            fd = os.open(path, os.O_RDONLY)
            got: list[bytes] = []
            thread = threading.Thread(target=lambda fd=fd, got=got: got.append(os.read(fd, 100)))
            thread.start()
            begun = time.monotonic()
            writer.write(memoryview(b"hello"))
            writer.finish()
            writer.close()
            thread.join()
            os.close(fd)
            assert got == [b"hello"]
            assert time.monotonic() - begun < 1.9

    def test_reader_that_leaves_at_once(self, tmp_path):
        """It is gone before the writer has let go of its own reading end."""
        for turn in range(20):
            path = tmp_path / str(turn)
            writer = FifoWriter(path, 2.0)
            fd = os.open(path, os.O_RDONLY)

            def read_and_leave(fd=fd):
                os.read(fd, 100)
                os.close(fd)

            thread = threading.Thread(target=read_and_leave)
            thread.start()
            with pytest.raises(ReaderGoneError):
                watch(writer, thread)
            writer.close()

    def test_nobody_comes(self, url, settings, tmp_path):
        with pytest.raises(NoReaderError):
            pipe(url, tmp_path / "p", settings=replace(settings, open_timeout=0.3))
        assert not (tmp_path / "p").exists()

    def test_nobody_comes_for_nothing(self, origin, settings, tmp_path):
        url = origin.add("/empty", b"")
        with pytest.raises(NoReaderError):
            pipe(url, tmp_path / "p", settings=replace(settings, open_timeout=0.3))
        assert not (tmp_path / "p").exists()

    def test_reader_leaves(self, origin, url, settings, tmp_path):
        os.mkfifo(tmp_path / "p")

        def read_some():
            with (tmp_path / "p").open("rb", buffering=0) as file:
                return file.read(1000)

        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_some)
            with pytest.raises(ReaderGoneError) as caught:
                pipe(url, tmp_path / "p", settings=settings)
            assert read.result(5) == DATA[:1000]
        assert caught.value.exit_code == 141

    def test_reader_leaves_while_nothing_comes(self, origin, url, settings, tmp_path):
        """The writer notices though it has nothing to write."""
        patient = replace(settings, read_timeout=30.0)
        rule = origin.when(request=1).stall(after=300_000)
        origin.when().stall()  # who takes over a straggler's bytes gets none either
        os.mkfifo(tmp_path / "p")

        def read_some():
            with (tmp_path / "p").open("rb", buffering=0) as file:
                got = 0
                while got < 200_000:
                    got += len(file.read(1 << 16))
                time.sleep(0.5)  # until all that comes is in the pipe

        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_some)
            begun = time.monotonic()
            with pytest.raises(ReaderGoneError):
                pipe(url, tmp_path / "p", settings=patient)
            assert time.monotonic() - begun < 3
            read.result(5)
        assert rule.fired == 1

    def test_error_before_the_first_byte(self, origin, settings, tmp_path):
        with pytest.raises(NotFoundError):
            pipe(f"{origin.url}/none", tmp_path / "p", settings=settings)
        assert not (tmp_path / "p").exists()

    def test_tail_is_withheld(self, origin, url, settings, tmp_path, reader):
        rule = origin.when().flip(8 * MIB)
        os.mkfifo(tmp_path / "p")
        read = reader(tmp_path / "p")
        with pytest.raises(DigestMismatchError):
            pipe(url, tmp_path / "p", digest="md5:" + "0" * 32, settings=settings)
        assert rule.fired >= 1
        assert len(read.result(5)) == len(DATA) - HOLD_BACK

    def test_something_else_is_there(self, url, settings, tmp_path):
        (tmp_path / "p").write_bytes(b"precious")
        with pytest.raises(SinkError, match="not a named pipe"):
            pipe(url, tmp_path / "p", settings=settings)
        assert (tmp_path / "p").read_bytes() == b"precious"

    def test_what_took_its_place_is_not_removed(self, tmp_path):
        writer = FifoWriter(tmp_path / "p", 2.0)
        (tmp_path / "p").unlink()
        (tmp_path / "p").write_bytes(b"precious")
        writer.close()
        assert (tmp_path / "p").read_bytes() == b"precious"

    @pytest.mark.parametrize("mode", [0o1777, 0o777])
    def test_somebody_else_s_pipe_in_everyones_directory(self, url, settings, tmp_path, mode):
        """Whoever guesses the name could lay a pipe there, and read along."""
        if os.geteuid() != 0:
            pytest.skip("only root can give a pipe away")
        os.mkfifo(tmp_path / "p")
        os.chown(tmp_path / "p", 12345, 12345)
        tmp_path.chmod(mode)
        with pytest.raises(SinkError, match="another user"):
            pipe(url, tmp_path / "p", settings=settings)
        assert (tmp_path / "p").is_fifo()

    def test_no_directory(self, url, settings, tmp_path):
        with pytest.raises(SinkError):
            pipe(url, tmp_path / "none" / "p", settings=settings)


class TestDescriptor:
    def test_pipe(self, url, settings):
        reading, writing = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_all, reading)
            pipe(url, writing, settings=settings)
            assert os.get_blocking(writing), "the caller's own descriptor stays as it was"
            os.close(writing)
            assert read.result(5) == DATA

    def test_whole_blocks(self, origin, settings):
        """GNU tar gives up when it gets a part of a block."""
        url = origin.add("/x.tar", DATA[: 3 * MIB + 17])
        origin.when().less(99_999).slow(8 * MIB)
        reading, writing = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(pipe, url, writing, settings=settings)
            sizes = []
            while not done.done():
                sizes.append(len(os.read(reading, 10_240)))
                if sum(sizes) == 3 * MIB + 17:
                    break
            done.result(5)
        assert len(sizes) > 100
        assert [size % 512 for size in sizes[:-1]] == [0] * (len(sizes) - 1)
        for fd in (reading, writing):
            os.close(fd)

    def test_file(self, url, settings, tmp_path):
        with (tmp_path / "f").open("wb") as file:
            pipe(url, file.fileno(), settings=settings)
        assert (tmp_path / "f").read_bytes() == DATA

    def test_a_full_socket_that_does_not_block_is_waited_for(self, url, settings):
        """Not by asking it again and again."""
        ours, theirs = socket.socketpair()
        with ours, theirs, ThreadPoolExecutor(1) as pool:
            ours.setblocking(False)
            written = pool.submit(pipe, url, ours.fileno(), settings=settings)
            time.sleep(0.5)  # until it is full
            begun = time.process_time()
            time.sleep(0.5)
            used = time.process_time() - begun
            data = b""
            while len(data) < len(DATA):
                data += theirs.recv(1 << 20)
            written.result(5)
        assert data == DATA
        assert used < 0.25

    def test_reader_gone_from_the_start(self, url, settings):
        reading, writing = os.pipe()
        os.close(reading)
        with pytest.raises(ReaderGoneError):
            pipe(url, writing, settings=settings)
        os.close(writing)

    def test_closed(self, url, settings):
        reading, writing = os.pipe()
        far = fcntl.fcntl(writing, fcntl.F_DUPFD, 900)  # a number that nobody else gets
        for fd in (reading, writing, far):
            os.close(fd)
        with pytest.raises(SinkError):
            pipe(url, far, settings=settings)

    def test_full_device(self, url, settings):
        fd = os.open("/dev/full", os.O_WRONLY)
        with pytest.raises(SinkError, match="space"):
            pipe(url, fd, settings=settings)
        os.close(fd)
