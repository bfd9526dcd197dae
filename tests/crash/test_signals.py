"""Signals at bad moments: the command ends within a second, whatever a disk, a server or a terminal is doing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
DATA = random.Random(11).randbytes(12 * MIB)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

#: Makes functions of the module `os` slow, in a process that finds it on its path: NAME=SECONDS,….
SLOW = """\
import os, time
def slow(name, seconds):
    real = getattr(os, name)
    def call(*arguments):
        time.sleep(seconds)
        return real(*arguments)
    setattr(os, name, call)
for each in filter(None, os.environ.get("SLOW", "").split(",")):
    name, seconds = each.split("=")
    slow(name, float(seconds))
"""


def prompt() -> float:
    """Seconds in which the command must end: one, on a machine that has nothing else to do."""
    return 1.0 + 0.5 * os.getloadavg()[0] / (os.cpu_count() or 1)


class Run:
    """The command as a process."""

    def __init__(self, directory: Path, *arguments: str, slow: str = "", **options) -> None:
        (directory / "path").mkdir(exist_ok=True)
        (directory / "path/sitecustomize.py").write_text(SLOW)
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hydraflow", *arguments, "-o", str(directory / "d")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(directory / "path"), "SLOW": slow},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options},
        )

    def end(self, *numbers: int) -> str:
        """Send signals; what it said by its end, which must come soon."""
        begun = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.1 if len(numbers) > 1 else 0)
        self.process.wait(15)
        assert time.monotonic() - begun < prompt()
        said = self.process.communicate()[1].decode() if self.process.stderr else ""
        assert all(line.startswith("hydraflow: ") for line in said.splitlines()), said
        return said

    def state(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("d/.*.hydra/*"))


@pytest.fixture
def run(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options) -> Run:
            made = Run(tmp_path, *arguments, **options)

            @stack.callback
            def kill() -> None:
                made.process.kill()
                made.process.wait()
                for stream in (made.process.stdout, made.process.stderr):
                    if stream is not None:
                        stream.close()

            return made

        yield start


def until(condition) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("number", CODES)
def test_a_disk_that_takes_its_time(origin, run, number):
    """Half a minute for each sync: nobody waits for that, and what is said is true of it."""
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    command = run(url, slow="fdatasync=30")
    until(lambda: origin.bytes_served() > 3 * MIB)
    said = command.end(number)
    assert command.process.returncode == CODES[number]
    assert said.endswith("run the same command again to go on from the last checkpoint that the disk took in time\n")
    origin.rules.clear()
    again = run(url, "--json")
    result = json.loads(again.process.communicate(timeout=30)[0])
    assert (again.directory / "d/x.bin").read_bytes() == DATA
    assert result["bytes_from_checkpoint"] == 0, "nothing was synced, so nothing may be claimed"


def test_a_second_signal_waits_for_nothing(origin, run):
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    command = run(url, slow="fdatasync=30")
    until(lambda: origin.bytes_served() > 3 * MIB)
    begun = time.monotonic()
    command.end(signal.SIGINT, signal.SIGINT)
    assert time.monotonic() - begun < prompt() - 0.5
    assert command.process.returncode == -signal.SIGINT


def test_while_a_connection_is_made(run):
    """The server's queue is full: its kernel drops what would open a connection."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            guest = stack.enter_context(socket.socket())
            guest.setblocking(False)
            guest.connect_ex(server.getsockname())
        command = run(f"http://127.0.0.1:{server.getsockname()[1]}/x.bin")
        time.sleep(1)
        said = command.end(signal.SIGINT)
    assert command.process.returncode == 130
    assert "interrupted, x.bin at 0 B; run the same command again to go on\n" in said


def test_while_a_file_is_verified(origin, run):
    """The bytes are all there, and the digest takes seconds; the next run has nothing to fetch."""
    url = origin.add("/x.bin", DATA) + f"#sha256={hashlib.sha256(DATA).hexdigest()}"
    command = run(url, slow="preadv=0.3")
    until(lambda: origin.bytes_served() == len(DATA))
    time.sleep(0.5)
    said = command.end(signal.SIGTERM)
    assert command.process.returncode == 143
    assert "(100 %); run the same command again to go on" in said
    again = run(url, "--json")
    result = json.loads(again.process.communicate(timeout=30)[0])
    assert (result["outcome"], result["bytes_from_network"]) == ("resumed", 0)


def test_while_a_file_that_is_there_is_compared(run, tmp_path):
    """64 GiB of nothing, which take minutes to hash, on no disk at all."""
    (tmp_path / "d").mkdir()
    with (tmp_path / "d/x.bin").open("wb") as file:
        file.truncate(64 << 30)
    command = run(f"http://127.0.0.1:9/x.bin#sha256={'0' * 64}")
    time.sleep(1)
    said = command.end(signal.SIGINT)
    assert command.process.returncode == 130
    assert said == "hydraflow: interrupted; run the same command again to go on\n"
    assert (tmp_path / "d/x.bin").stat().st_size == 64 << 30


def test_while_another_process_is_waited_for(origin, run):
    url = origin.add("/x.bin", DATA)
    origin.when().slow(100_000)  # many connections do not make it end in this time either
    first = run(url)
    until(lambda: origin.bytes_served() > 100_000)
    second = run(url)
    time.sleep(1)
    assert second.process.poll() is None
    said = second.end(signal.SIGINT)
    assert second.process.returncode == 130
    assert "interrupted" in said
    origin.rules.clear()
    assert first.process.wait(30) == 0
    assert (first.directory / "d/x.bin").read_bytes() == DATA


def test_a_terminal_that_is_closed(origin, run):
    """The window is shut: its shell and its screen are gone, the checkpoint is there."""
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    mine, theirs = pty.openpty()
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    command = run(url, start_new_session=True, **ends)
    os.close(theirs)
    until(lambda: origin.bytes_served() > 3 * MIB)
    os.close(mine)
    command.end(signal.SIGHUP)
    assert command.process.returncode == 129
    assert "journal" in command.state()


def test_a_terminal_that_takes_nothing(origin, run):
    """Nobody reads what it says, and the pipe is full."""
    url = origin.add("/x.bin", DATA)
    origin.when().slow(MIB)
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"x" * 65536):
                pass
        os.set_blocking(writer, True)
        command = run(url, stderr=writer)
        until(lambda: origin.bytes_served() > 3 * MIB)
        command.end(signal.SIGTERM)
    finally:
        os.close(reader)
        os.close(writer)
    assert command.process.returncode == 143
    assert "journal" in command.state()


def heeds_signals(pid: int) -> bool:
    """SIGTERM has a handler: Python itself has none for it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << signal.SIGTERM - 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_moments_of_the_start(run):
    """From the first lines of ours on, which come long before the imports end, there is no traceback."""
    codes = []
    for moment in (0.0, 0.01, 0.03, 0.05, 0.08, 0.12):
        command = run("http://127.0.0.1:9/x.bin", "-nu")
        until(lambda: heeds_signals(command.process.pid))  # noqa: B023 - called at once
        time.sleep(moment)
        command.process.send_signal(signal.SIGINT)
        said = command.process.communicate(timeout=15)[1].decode()
        assert "Traceback" not in said
        codes.append(command.process.returncode)
    assert codes == [130] * len(codes)
