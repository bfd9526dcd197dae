"""kill -9 of the command at random moments: the file is whole or absent, and what was paid for is not paid again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
KILLS = 10
SIZE = 16 * MIB
DATA = random.Random(3).randbytes(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()
THREADS, RATE = 4, MIB  # connections, bytes per second of each


def command(url: str, directory: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "hydraflow", url, "-o", str(directory), "-t", str(THREADS), *options],
        cwd=ROOT,
        env={**os.environ, "HYDRAFLOW_RETRY_DELAY": "0.05"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(url: str, directory: Path, *options: str) -> dict:
    process = command(url, directory, "--json", "-q", *options)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def left(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("proof", ["", f"#sha256={SHA256}"], ids=["size", "digest"])
def test_random_moments_of_a_transfer(origin, tmp_path, proof):
    url = origin.add("/x.bin", DATA) + proof
    rule = origin.when().slow(RATE)
    moments = [0.02, 0.25, 0.5, 0.75, 0.95]  # seconds after the first byte: some before a checkpoint, some after
    random.Random(len(proof)).shuffle(moments)
    for moment in moments:
        before = origin.bytes_served()
        process = command(url, tmp_path, "-q")
        while origin.bytes_served() == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moment)
        kill(process)
        assert left(tmp_path) in ([], [".x.bin.hydra"])
    assert rule.fired > len(moments)
    origin.rules.clear()
    result = finish(url, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert left(tmp_path) == ["x.bin"]
    assert result["outcome"] == "resumed"
    lost = origin.bytes_served() - SIZE
    assert lost <= len(moments) * THREADS * RATE + 0.02 * SIZE
    assert result["bytes_from_checkpoint"] > 0


def test_random_moments_of_everything(origin, tmp_path):
    """From the start of the interpreter to after the end, also in the middle of a commit."""
    data = DATA[:300_000]
    url = origin.add("/small.bin", data)
    took = time.monotonic()
    finish(url, tmp_path / "first")
    took = time.monotonic() - took
    rng, ends = random.Random(9), set()
    for turn in range(KILLS):
        process = command(url, tmp_path / "second", "-q")
        time.sleep(took * (0.3 + 0.8 * rng.random()))
        ended = process.poll() is not None
        kill(process)
        final = tmp_path / "second" / "small.bin"
        assert not final.exists() or final.read_bytes() == data, f"a wrong file after kill {turn}"
        assert not ended or final.exists()
        ends.add(ended)
        if final.exists():
            final.unlink()
    finish(url, tmp_path / "second")
    assert final.read_bytes() == data
    assert left(tmp_path / "second") == ["small.bin"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_end_loses_nothing(origin, tmp_path, number):
    """SIGTERM and SIGINT leave time for a checkpoint of every byte received."""
    url = origin.add("/x.bin", DATA)
    origin.when().slow(2 * RATE)
    process = command(url, tmp_path, "-q")
    while origin.bytes_served() < 6 * MIB:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 128 + number, stderr
    origin.rules.clear()
    served = origin.bytes_served()
    result = finish(url, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == DATA
    # Only what was in the kernels' buffers is paid for twice.
    assert result["bytes_from_checkpoint"] > served - 4 * MIB
    assert origin.bytes_served() <= 1.1 * SIZE + 2 * MIB


def test_killed_then_replaced_then_put_back(origin, tmp_path):
    """A part that never had a durable byte is of no version: what comes later must not be taken for it.

    The first run dies before its first checkpoint; the second one meets another version and dies after one; by the
    third, the first version is back.
    """
    new = random.Random(4).randbytes(SIZE)
    url = origin.add("/x.bin", DATA)
    origin.when().slow(RATE)
    environment = {**os.environ, "HYDRAFLOW_SYNC_INTERVAL": "60"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hydraflow", "-q", url, "-o", str(tmp_path)], cwd=ROOT, env=environment
    )
    while origin.bytes_served() < MIB:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert left(tmp_path) == [".x.bin.hydra"]
    origin.add("/x.bin", new, etag='"v2"')
    process = command(url, tmp_path, "-q")
    served = origin.bytes_served()
    while origin.bytes_served() < served + 4 * MIB:
        time.sleep(0.01)
    time.sleep(0.6)
    kill(process)
    origin.rules.clear()
    origin.add("/x.bin", DATA, etag='"v1"')
    finish(url, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == DATA
