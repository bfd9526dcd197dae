"""A transfer that meets an outage: what it fetched, when it went on, what it said."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.nginx import Nginx

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
CONNECTIONS = 4
#: Bytes that are lost with a connection: what waits in the buffers of both ends.
IN_FLIGHT = CONNECTIONS * MIB // 2
#: Everything in seconds instead of minutes.
QUICK = {
    "HYDRAFLOW_READ_TIMEOUT": "1",
    "HYDRAFLOW_CONNECT_TIMEOUT": "1",
    "HYDRAFLOW_RETRY_DELAY": "0.1",
    "HYDRAFLOW_RETRY_DELAY_MAX": "1",
    "HYDRAFLOW_MAX_WAIT": "40",
}


@dataclass(frozen=True)
class Figures:
    """What came of it; `resumed` is seconds from the end of the outage to the next 64 KiB."""

    size: int
    served: int
    resumed: float
    retries: int
    said: list[str]

    def __str__(self) -> str:
        share = 100 * (self.served - self.size) / self.size
        return (
            f"went on after {self.resumed:.1f} s; served {share:+.2f} %; {self.retries} retries; {len(self.said)} lines"
        )


def until(condition: Callable[[], object], seconds: float = 60) -> float:
    """Seconds until it is true."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begun


def ride_out(
    server: Nginx,
    url: str,
    directory: Path,
    *,
    size: int,
    cut: Callable[[subprocess.Popen[bytes]], Any],
    mend: Callable[[subprocess.Popen[bytes]], Any],
    seconds: float,
    environment: dict[str, str],
    prefix: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Figures:
    """Fetch a file of `size` bytes from the server's root; after a third of it, `cut` for `seconds`, then `mend`."""
    data = Random(size).randbytes(size)
    (server.root / "x.bin").write_bytes(data)
    options = ["-o", str(directory / "d"), "-nu", "--json", "-t", str(CONNECTIONS), *arguments]
    started, before = server.pid, server.bytes_sent()
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "hydraflow", f"{url}/x.bin", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: server.bytes_sent() - before > size // 3)
        served = server.bytes_sent()
        cut(process)
        time.sleep(seconds)
        mend(process)
        again = server.pid != started  # it has lost count
        served = served - before if again else -before
        at = server.bytes_sent()
        resumed = until(lambda: server.bytes_sent() - at > 64 << 10 or process.poll() is not None, seconds=120)
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, stderr
    assert hashlib.sha256((directory / "d/x.bin").read_bytes()).digest() == hashlib.sha256(data).digest()
    result = json.loads(stdout)
    assert (result["restarts"], result["outcome"]) == (0, "fetched")
    said = stderr.decode().splitlines()
    return Figures(size, served + server.bytes_sent(), resumed, result["retries"], said)
