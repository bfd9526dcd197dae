"""Two mirrors against one, with real servers: a slow one costs nothing, a second one is worth as much as the first."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from lab.nginx import Nginx

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
ROUNDS = 3


def site(directory: Path, size: int) -> str:
    """A directory with one file; gives the file's digest."""
    directory.mkdir()
    data = Random(7).randbytes(MIB) * (size // MIB)
    (directory / "x.bin").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def fetch(target: Path, url: str, digest: str, *mirrors: str) -> float:
    """Seconds that the command takes."""
    command = [sys.executable, "-m", "hydraflow", "-q", f"{url}#sha256={digest}", "-o", str(target), "--overwrite"]
    for mirror in mirrors:
        command += ["--mirror", mirror]
    begun = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=os.environ, check=True, timeout=120)
    took = time.monotonic() - begun
    (target / "x.bin").unlink()
    return took


def shares(*servers: Nginx) -> str:
    return ", ".join(f"{server.bytes_sent() / MIB:.0f} MiB" for server in servers)


@pytest.mark.timeout(600)
def test_a_mirror_at_10_kb_per_second_costs_less_than_a_tenth(tmp_path):
    digest = site(tmp_path / "www", 192 * MIB)
    with (
        Nginx(tmp_path / "www", limit_rate="2m") as fast,
        Nginx(tmp_path / "www", limit_rate="10k") as slow,
    ):
        quick, crawling = f"{fast.url}/x.bin", f"{slow.url}/x.bin"
        alone, second, first = [], [], []
        for _ in range(ROUNDS):
            alone.append(fetch(tmp_path / "d", quick, digest))
            second.append(fetch(tmp_path / "d", quick, digest, crawling))
            first.append(fetch(tmp_path / "d", crawling, digest, quick))
    best = statistics.median(alone)
    for name, times in (("as the second URL", second), ("as the first URL", first)):
        print(f"\na mirror at 10 KB/s {name}: {statistics.median(times):.2f} s, without it {best:.2f} s", end="")
    print()
    assert statistics.median(second) <= 1.1 * best
    assert statistics.median(first) <= 1.1 * best


@pytest.mark.timeout(600)
def test_two_capped_mirrors_bring_nearly_twice_as_much(tmp_path):
    digest = site(tmp_path / "www", 256 * MIB)
    caps = {"limit_rate": "5m", "limit_conn": 4}
    with Nginx(tmp_path / "www", **caps) as one, Nginx(tmp_path / "www", **caps) as two:
        alone, both = [], []
        for _ in range(ROUNDS):
            alone.append(fetch(tmp_path / "d", f"{one.url}/x.bin", digest))
            both.append(fetch(tmp_path / "d", f"{one.url}/x.bin", digest, f"{two.url}/x.bin"))
        served = shares(one, two)
    gain = statistics.median(alone) / statistics.median(both)
    print(
        f"\none mirror {statistics.median(alone):.2f} s, two {statistics.median(both):.2f} s: {gain:.2f} x ({served})"
    )
    assert gain >= 1.8
