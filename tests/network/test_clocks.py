"""The clock on the wall may jump: nothing is decided by it but what a server dates without telling its own time."""

from __future__ import annotations

import ast
import email.utils
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
DATA = random.Random(8).randbytes(8 * MIB)
YEARS = 10 * 365 * 86400

#: The wall clock is set, a second after the start and then twice a second, to and fro.
JUMPING = """\
import os, time
real, begun = time.time, time.monotonic()
def jumping():
    halves = int(2 * (time.monotonic() - begun)) - 1
    return real() + (0 if halves < 0 else float(os.environ["JUMP"]) * (-1) ** halves)
time.time = jumping
"""


def uses_of_the_wall_clock() -> list[str]:
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "hydraflow").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now", "time.time_ns")
    ]


def test_who_looks_at_the_wall():
    """The age of another machine's file can be told by nothing else; the engine looks for the sake of Retry-After.

    Snakemake compares times of files, which must not be of the future.  A report's date, the age of what lies
    half-done, and the times of a log are for people.
    """
    for_people = ["hydraflow/cli/tasks.py", "hydraflow/inspecting.py", "hydraflow/progress.py"]
    decisive = ["hydraflow/adapters/ownership.py", *["hydraflow/engine.py"] * 2, "hydraflow/snakemake/provider.py"]
    assert uses_of_the_wall_clock() == sorted([*decisive, *for_people])


@pytest.mark.parametrize("jump", [YEARS, -3600])
def test_a_wall_clock_that_jumps(origin, tmp_path, jump):
    url = origin.add("/x.bin", DATA)
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(JUMPING)
    soon = email.utils.formatdate(time.time() + 3, usegmt=True)
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    slow = origin.when().slow(MIB)
    busy = origin.when(request=3).status(503, headers={"Retry-After": soon, "Date": date})
    origin.rules.reverse()
    options = ["-o", str(tmp_path / "d"), "-nu", "--json", "-t", "4", "--max-wait", "8"]
    process = subprocess.run(
        [sys.executable, "-m", "hydraflow", url, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path"), "JUMP": str(jump), "HYDRAFLOW_RETRY_DELAY": "0.1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert slow.fired > 1
    assert busy.fired == 1
    assert b"trying again in 1.0 s" in process.stderr
    assert (tmp_path / "d/x.bin").read_bytes() == DATA
    assert 1 < json.loads(process.stdout)["elapsed"] < 20
