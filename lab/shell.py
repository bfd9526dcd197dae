"""Shell commands, shown before they run and while they run, for people who watch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BOLD", "DIM", "GREEN", "RED", "Ran", "clean", "paint", "run", "say"]

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"

_SETTINGS = ("HYDRAFLOW_", "PREFECT_", "SNAKEMAKE_", "SSL_CERT_")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"}
_TICK = 0.05  # seconds between two looks at a running command
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings that would reach hydraflow, Prefect or Snakemake, and without proxies."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_SETTINGS) and name.lower() not in _PROXIES
    }


def paint(text: str, *codes: str) -> str:
    """The text in colour, where people see it."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\033[{';'.join(codes)}m{text}\033[0m"


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


@dataclass(slots=True)
class Ran:
    """A command that came to its end: exit code, lines of its output, seconds. `code` is None if time ran out."""

    code: int | None = None
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(
    command: str,
    *,
    environment: Mapping[str, str],
    deadline: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> Ran:
    """Show `command` like a shell prompt, run it in bash with pipefail, and show what it prints.

    Args:
        command: shell text.
        environment: all of its variables.
        deadline: seconds after which it is ended.
        meanwhile: called some twenty times a second while it runs.
    """
    say(f"{paint('$', GREEN)} {paint(command, BOLD)}")
    ran, start = Ran(), time.monotonic()
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that all of the pipeline can be ended, and is, on Ctrl-C
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [_echo(process.stdout, ran.stdout), _echo(process.stderr, ran.stderr)]
    try:
        while process.poll() is None and time.monotonic() - start < deadline:
            meanwhile()
            time.sleep(_TICK)
        ran.code = process.poll()
    finally:
        _end(process, readers)
    ran.seconds = time.monotonic() - start
    return ran


def _echo(stream: IO[str], lines: list[str]) -> threading.Thread:
    def copy() -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                say(paint(f"  {lines[-1]}", DIM))

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _end(process: subprocess.Popen[str], readers: list[threading.Thread]) -> None:
    """End the command and all that it started and left."""
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    # The output ends when the last of the pipeline has ended, later perhaps than the shell.
    for reader in readers:
        reader.join(_GRACE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], kind: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, kind)
