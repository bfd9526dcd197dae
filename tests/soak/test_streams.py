"""Streams for long: memory at a slow reader, a thousand pipes, a reader that pauses; prints its figures."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import pipe
from hydraflow.errors import ReaderGoneError
from lab.data import random_file
from lab.nginx import Nginx
from tests.faults.test_streams import descriptors, eventually
from tests.network.outages import until

ROOT = Path(__file__).parents[2]
MIB, MB = 1 << 20, 1_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """512 MiB on nginx: its directory, its address."""
    directory = tmp_path_factory.mktemp("www")
    random_file(directory / "x.bin", 512 * MIB, seed=9)
    random_file(directory / "small.bin", 300_000, seed=10)
    with Nginx(directory) as server:
        yield directory, server.url


def peak(process: subprocess.Popen[bytes]) -> int:
    """Most memory that it has held, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("rate", [5 * MB, 60 * MB, 0], ids=["5 MB/s", "60 MB/s", "full speed"])
@pytest.mark.parametrize("options", [["-b", "64MiB"], ["-b", "64MiB", "-t", "64"], []], ids=" ".join)
def test_memory(served, rate, options, capsys):
    """The window and 60 MB, whatever the reader does: ten seconds of it, since a window is full after one."""
    url = f"{served[1]}/x.bin"
    command = [sys.executable, "-m", "hydraflow", "-q", url, "--stream", *options]
    begun, got = time.monotonic(), 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        while piece := process.stdout.read(1 << 18):
            got, most = got + len(piece), peak(process)
            if rate and (passed := time.monotonic() - begun) < got / rate:
                time.sleep(got / rate - passed)
            if rate and time.monotonic() - begun > 10:
                break
        process.send_signal(signal.SIGTERM)
    window = 64 * MIB if options else 80 * MB
    with capsys.disabled():
        print(f"\n{' '.join(options) or 'default'}, {rate // MB or 'no limit of'} MB/s: peak {most / MB:.0f} MB")
    assert most <= window + 60 * MB


def test_a_thousand_pipes(served, tmp_path, capsys):
    """One in three readers leaves in the middle."""
    settings = hydraflow_settings.load(threads=4)
    url, expected = f"{served[1]}/small.bin", (served[0] / "small.bin").read_bytes()

    def cycle(number: int) -> None:
        path, got = tmp_path / f"pipe{number}", []
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: got.append(read(path, 100 if number % 3 == 0 else -1)))
        reader.start()
        try:
            pipe(url, path, settings=settings)
        except ReaderGoneError:
            assert number % 3 == 0
        reader.join()
        assert got == [expected[:100] if number % 3 == 0 else expected]
        path.unlink()

    for number in range(20):
        cycle(number)
    before, threads = descriptors(), threading.active_count()
    begun = time.monotonic()
    for number in range(1000):
        cycle(number)
    took = time.monotonic() - begun
    assert eventually(lambda: descriptors() <= before + 4), (descriptors(), before)  # connections come and go
    assert threading.active_count() <= threads + 2
    assert list(tmp_path.iterdir()) == []
    with capsys.disabled():
        print(f"\n1,000 pipes in {took:.1f} s: {before} descriptors before, {descriptors()} after")


def read(path: Path, count: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        if count >= 0:
            return file.read(count)
        return b"".join(iter(lambda: file.read(1 << 16), b""))


@pytest.mark.parametrize("way", ["run", "--fifo"])
def test_a_reader_that_pauses(tmp_path, way, capsys):
    """Ten times longer than the patience with a silent server, which cuts idle connections after a second."""
    (tmp_path / "www").mkdir()
    expected = random_file(tmp_path / "www/x.bin", 256 * MIB, seed=11)
    reader = (
        "import sys, time, hashlib; f = open(sys.argv[1], 'rb'); h = hashlib.sha256(f.read(1000)); time.sleep(20)\n"
    )
    reader += "for piece in iter(lambda: f.read(1 << 20), b''): h.update(piece)\nprint(h.hexdigest())"
    environment = {**os.environ, "HYDRAFLOW_MAX_WAIT": "2", "HYDRAFLOW_READ_TIMEOUT": "1"}
    with Nginx(tmp_path / "www") as server:
        command = [sys.executable, "-m", "hydraflow"]
        consume = [sys.executable, "-c", reader]
        if way == "run":
            line = [*command, "run", "-b", "8MB", f"{server.url}/x.bin", "--", *consume, "{}"]
            done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=True)
        else:
            os.mkfifo(tmp_path / "pipe")
            line = [*command, "-b", "8MB", f"{server.url}/x.bin", "--fifo", str(tmp_path / "pipe")]
            with subprocess.Popen(line, cwd=ROOT, env=environment) as process:
                done = subprocess.run([*consume, tmp_path / "pipe"], capture_output=True, timeout=120, check=True)
                assert process.wait(10) == 0
    assert done.stdout.decode().strip() == expected
    with capsys.disabled():
        print(f"\n{way}: every byte, after a pause of 20 s with a patience of 2 s")


def test_killed_at_seventy_percent(tmp_path, capsys):
    """A kept stream: the second run fetches what is missing, and half a second of traffic."""
    (tmp_path / "www").mkdir()
    size = 512 * MIB
    expected = random_file(tmp_path / "www/x.bin", size, seed=12)
    with Nginx(tmp_path / "www", limit_rate=str(8 * MIB)) as server:
        command = [sys.executable, "-m", "hydraflow", "-q", "-t", "4", f"{server.url}/x.bin", "--stream", "--keep"]
        command += ["-o", str(tmp_path / "kept")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            got = 0
            while got < 0.7 * size:
                got += len(process.stdout.read(1 << 20))
            process.kill()
        until(lambda: all(line.status in (200, 206, 404) for line in server.access_log))  # 404: no checksum file
        before = server.bytes_sent()
        again = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
        until(lambda: all(line.status in (200, 206, 404) for line in server.access_log))  # 404: no checksum file
        share = (server.bytes_sent() - before) / size
    assert hashlib.sha256(again.stdout).hexdigest() == expected
    with (tmp_path / "kept/x.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected
    with capsys.disabled():
        print(
            f"\nkilled at {100 * got / size:.0f} %: {100 * share:.1f} % of the file from the network in the second run"
        )
    assert share <= 0.35
