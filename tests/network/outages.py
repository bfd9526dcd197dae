"""A transfer that meets an outage: what it fetched, when it went on, what it said."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lab.cable import Cable, FarNginx
from lab.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
CONNECTIONS = 4
#: Bytes that are lost with a connection: what waits in the buffers of both ends.
IN_FLIGHT = CONNECTIONS * MIB // 2
_QUICK = {
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


@dataclass(frozen=True)
class Life:
    """How fast everything goes: a server's rate for each connection, the file, the times."""

    rate: str
    send_timeout: int
    size: int
    environment: dict[str, str]

    def serve(self, cable: Cable, directory: Path) -> FarNginx:
        """A server at the far end of the cable."""
        return FarNginx(
            cable, _root(directory), limit_rate=self.rate, server_directives=f"send_timeout {self.send_timeout}s;"
        )

    def close_port(self, directory: Path, seconds: float) -> Figures:
        """The server is killed, and started again."""
        with Nginx(_root(directory), limit_rate=self.rate) as server:
            return self.ride_out(
                server,
                directory,
                cut=lambda _: server.kill(),
                mend=lambda _: server.start(),
                seconds=seconds,
            )

    def lose_network(self, server: FarNginx, directory: Path, *, cut: str, mend: str, seconds: float) -> Figures:
        """`cut` and `mend` are what is done to the cable."""
        return self.ride_out(
            server,
            directory,
            cut=lambda _: getattr(server.cable, cut)(),
            mend=lambda _: getattr(server.cable, mend)() if mend else None,
            seconds=seconds,
        )

    def stop_client(self, server: FarNginx, directory: Path, seconds: float, **more: Any) -> Figures:
        """The client is stopped, and goes on."""
        return self.ride_out(
            server,
            directory,
            cut=lambda process: process.send_signal(signal.SIGSTOP),
            mend=lambda process: process.send_signal(signal.SIGCONT),
            seconds=seconds,
            **more,
        )

    def ride_out(
        self,
        server: Nginx,
        directory: Path,
        *,
        cut: Callable[[subprocess.Popen[bytes]], Any],
        mend: Callable[[subprocess.Popen[bytes]], Any],
        seconds: float,
        url: str = "",
        patience: float | None = None,
        arguments: Sequence[str] = (),
    ) -> Figures:
        """Fetch a file from the server's root; after a third of it, `cut` for `seconds`, then `mend`."""
        data = Random(self.size).randbytes(self.size)
        (server.root / "x.bin").write_bytes(data)
        prefix = server.cable.enter(server.cable.near) if isinstance(server, FarNginx) else []
        options = ["-o", str(directory / "d"), "-nu", "--json", "-t", str(CONNECTIONS), *arguments]
        environment = {"HYDRAFLOW_MAX_WAIT": str(patience)} if patience is not None else {}
        started, before = server.pid, server.bytes_sent()
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "hydraflow", f"{url or server.url}/x.bin", *options],
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            until(lambda: server.bytes_sent() - before > self.size // 3)
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
        return Figures(self.size, served + server.bytes_sent(), resumed, result["retries"], said)


def _root(directory: Path) -> Path:
    root = directory / "www"
    root.mkdir()
    return root


#: As everybody has it.
REAL = Life(rate="2m", send_timeout=5, size=48 * MIB, environment={})
#: Everything in seconds instead of minutes.
QUICK = Life(rate="1m", send_timeout=1, size=8 * MIB, environment=_QUICK)
