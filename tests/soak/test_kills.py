"""Fifty times kill -9 in one transfer of 512 MiB: what was paid for is not paid again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from lab.nginx import Nginx
from tests.network.outages import until

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SIZE, KILLS = 512 * MIB, 50
CONNECTIONS, RATE = 4, 576 << 10  # bytes per second of each connection; nginx gives each request a second of it at once


@pytest.mark.timeout(900)
def test_fifty_kills(tmp_path):
    (tmp_path / "www").mkdir()
    rng = Random(50)
    digest = hashlib.sha256()
    with (tmp_path / "www/x.bin").open("wb") as file:
        for _ in range(SIZE // MIB):
            piece = rng.randbytes(MIB)
            digest.update(piece)
            file.write(piece)
    target, kills, begun = tmp_path / "d/x.bin", 0, time.monotonic()
    moments = [rng.uniform(0.5, 5.0) for _ in range(KILLS)]  # seconds from each start, that of Python included
    with Nginx(tmp_path / "www", limit_rate=str(RATE)) as server:
        command = [sys.executable, "-m", "hydraflow", "-q", f"{server.url}/x.bin#sha256={digest.hexdigest()}"]
        command += ["-o", str(tmp_path / "d"), "-t", str(CONNECTIONS)]
        for moment in moments:
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ)
            time.sleep(moment)
            assert process.poll() is None, "it ended before its kill: make it slower"
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert not target.exists()
        subprocess.run(command, cwd=ROOT, check=True, timeout=600)
        took = time.monotonic() - begun
        until(lambda: all(line.status in (200, 206) for line in server.access_log))
        served = server.bytes_sent()
    with target.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest.hexdigest()
    allowed = 1.02 * SIZE + kills * CONNECTIONS * RATE
    share = 100 * (served - SIZE) / SIZE
    each = (served - SIZE) / kills / (CONNECTIONS * RATE)
    print(
        f"\n{kills} kills in {took:.0f} s: served {share:+.1f} % more than the size, {each:.2f} s of traffic per kill"
    )
    assert served <= allowed
