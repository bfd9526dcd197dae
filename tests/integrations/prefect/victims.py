"""Runs the flows of `victim.py` in processes of their own, against the server of the session."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]


def environment(api: str, home: Path) -> dict[str, str]:
    """Variables of processes that use this server."""
    return {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        "HYDRAFLOW_THREADS": "2",
    }


@contextlib.contextmanager
def starter(api: str, home: Path) -> Iterator[Callable[[str, str, Path], subprocess.Popen[str]]]:
    """What starts them; those that are left are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(way: str, url: str, dest: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.integrations.prefect.victim", way, url, str(dest)]
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(api, home),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


def until(condition: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait for it; gives the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.01)
    return time.monotonic() - start
