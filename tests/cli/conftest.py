"""The command as people run it: a process with arguments, an environment, two outputs and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from hydraflow.cli import session
from hydraflow.cli.session import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
Process = subprocess.Popen[bytes]
DEADLINE = 15.0  # seconds after which a command counts as hanging

#: Short pauses, so that a test that fails does so soon.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "HYDRAFLOW_RETRY_DELAY": "0.05",
    "HYDRAFLOW_FIRST_WAIT": "0.5",
    "HYDRAFLOW_OPEN_TIMEOUT": "5",
}


def prompt() -> float:
    """Seconds in which a command must end that was told to: one, on a machine that has nothing else to do."""
    return 1.0 + os.getloadavg()[0] / (os.cpu_count() or 1)


@dataclass(frozen=True)
class Ran:
    """A command that ended. What it printed for people must never be a traceback, nor a line without a sender."""

    code: int
    stdout: bytes
    stderr: str

    def __post_init__(self) -> None:
        strangers = [line for line in self.stderr.splitlines() if not line.startswith("hydraflow: ")]
        assert not strangers, self.stderr

    @property
    def lines(self) -> list[str]:
        return [line.removeprefix("hydraflow: ") for line in self.stderr.splitlines()]

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        errors = [line for line in self.lines if line.startswith("error: ")]
        assert len(errors) == 1, self.stderr
        return errors[0]


class Hydraflow:
    """Runs the command in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[Process] = []

    def start(self, *arguments: object, environment: dict[str, str] | None = None, **options) -> Process:
        """Start it; what is still running at the end of the test is killed."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "hydraflow", *map(str, arguments)],
            cwd=self.directory,
            env={**os.environ, **ENVIRONMENT, **(environment or {})},
            **options,
        )
        self._started.append(process)
        return process

    def finish(self, process: Process) -> Ran:
        """Wait for its end."""
        stdout, stderr = process.communicate(timeout=DEADLINE)
        return Ran(process.returncode, stdout or b"", (stderr or b"").decode(errors="replace"))

    def __call__(self, *arguments: object, environment: dict[str, str] | None = None, **options) -> Ran:
        return self.finish(self.start(*arguments, environment=environment, **options))

    def shell(self, script: str, **variables: object) -> Ran:
        """Run a bash script in which `hydraflow` is the command."""
        done = subprocess.run(
            ["bash", "-c", f'hydraflow() {{ "{sys.executable}" -m hydraflow "$@"; }}\n{script}'],
            cwd=self.directory,
            env={**os.environ, **ENVIRONMENT, **{name: str(value) for name, value in variables.items()}},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=4 * DEADLINE,  # there may be many commands in it
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def left(self) -> list[str]:
        """Everything that is in its directory, state included."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(ValueError):  # already closed
                process.communicate()


@pytest.fixture
def hydraflow(tmp_path: Path) -> Iterator[Hydraflow]:
    directory = tmp_path / "here"
    directory.mkdir()
    command = Hydraflow(directory)
    yield command
    command.close()


@pytest.fixture
def hydraflow_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The command without a process of its own, for tables of command lines that are refused at once."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def run(*arguments: str) -> Ran:
        code = session.run(arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out.encode(), captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def data() -> bytes:
    """3 MiB."""
    return Random(1).randbytes(3 * MIB)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Wait until something is true."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    return wait
