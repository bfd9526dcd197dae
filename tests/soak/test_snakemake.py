"""Snakemake with this storage provider and with its own http plugin, beside each other: time, requests, start."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.latency import Latency
from lab.nginx import Nginx

ROOT = Path(__file__).resolve().parents[2]
FILES, SIZE = 60, 5_000_000
ROUND_TRIP = 0.1  # seconds


@pytest.fixture(scope="module")
def rival(tmp_path_factory) -> Path:
    """A directory with the http plugin, which must not be in the environment itself: both claim https URLs."""
    target = tmp_path_factory.mktemp("http-plugin")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    done = subprocess.run([*command, "snakemake-storage-plugin-http"], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the http plugin cannot be installed: {done.stderr.splitlines()[-1]}")
    return target


def snakemake(directory: Path, *arguments: str, path: Path | None = None) -> tuple[float, str]:
    """Seconds that it took, and what it said."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "4", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, [ROOT, path])))},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return time.monotonic() - begun, done.stdout


def write(directory: Path, expression: str, queries: list[str]) -> None:
    """One rule that reads all files."""
    directory.mkdir()
    lines = ["QUERIES = [", *(f"    {query!r}," for query in queries), "]", "rule all:", "    input: 'sums'"]
    lines += ["rule sums:", f"    input: [{expression} for query in QUERIES]", "    output: 'sums'"]
    (directory / "Snakefile").write_text("\n".join([*lines, "    shell: 'sha256sum {input} > {output}'", ""]))


@pytest.mark.timeout(1200)
def test_sixty_files_far_away(rival, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    sums = []
    for number in range(FILES):
        data = os.urandom(SIZE)
        (served / f"{number}.bin").write_bytes(data)
        sums.append(hashlib.sha256(data).hexdigest())
    figures = {}
    for name, expression in (("http", "storage.http(query)"), ("hydra", "storage.hydra(query)")):
        with Nginx(served) as server, Latency(server.ports[0], round_trip=ROUND_TRIP) as relay:
            write(tmp_path / name, expression, [f"{relay.url}/{number}.bin" for number in range(FILES)])
            seconds, _ = snakemake(tmp_path / name, path=rival)
            found = [line.split()[0] for line in (tmp_path / name / "sums").read_text().splitlines()]
            assert found == sums
            log = server.access_log
            figures[name] = seconds, len(log), sum(line.body_bytes_sent for line in log)
    for name, (seconds, requests, sent) in figures.items():
        print(f"{name:>6}: {seconds:6.1f} s, {requests / FILES:.2f} requests a file, {sent / 1e6:.0f} MB")
    assert figures["http"][0] > 5 * figures["hydra"][0]
    assert figures["hydra"][1] <= 2 * FILES


@pytest.mark.timeout(600)
def test_dry_run_of_many(rival, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    for number in range(200):
        (served / f"{number}.bin").write_bytes(b"ACGT")
    with Nginx(served) as server, Latency(server.ports[0], round_trip=ROUND_TRIP) as relay:
        queries = [f"{relay.url}/{number}.bin" for number in range(200)]
        write(tmp_path / "http", "storage.http(query)", queries)
        write(tmp_path / "hydra", "storage.hydra(query)", queries)
        write(tmp_path / "empty", "query", [])
        seconds = {
            name: statistics.median(snakemake(tmp_path / name, "--dry-run", path=rival)[0] for _ in range(3))
            for name in ("empty", "hydra", "http")
        }
    print("dry-run of 200 inputs: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
    assert seconds["hydra"] - seconds["empty"] <= 2


@pytest.mark.timeout(600)
def test_start(tmp_path):
    """What the plugin adds to every start of Snakemake."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import pkgutil\n"
        "every = pkgutil.iter_modules\n"
        "hidden = 'snakemake_storage_plugin_hydra'\n"
        "pkgutil.iter_modules = lambda *a, **k: (m for m in every(*a, **k) if m.name != hidden)\n"
    )
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(15):
        for name, path in (("with", None), ("without", tmp_path)):
            times[name].append(snakemake(tmp_path, "--version", path=path)[0])
    least = {name: min(values) for name, values in times.items()}
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"snakemake --version, least: {least}, median: {middle}")
    assert least["with"] - least["without"] <= 0.05
