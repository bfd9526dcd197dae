"""Take guards away on copies of the tree, run the tests that must fail, and tell which did not."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.shell import say
from tests.guards import ROOT, Guard, guards

COPIED = ("hydraflow", "snakemake_storage_plugin_hydra", "tests", "lab", "workflows", "docs", "pyproject.toml")
AT_A_TIME = 2
LONGEST = 120.0  # seconds for the tests of one guard
ALL = 900.0  # and for those of all together, once, with nothing taken away
PASSED, FAILED = 0, 1  # exit codes of pytest; others mean that nothing was tested


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said without the guard."""

    guard: Guard
    verdict: str
    seconds: float
    output: str


def copy(directory: Path) -> Path:
    """A copy of what the tests need."""
    directory.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, directory / name)
    return directory


def run(tree: Path, tests: list[str], longest: float = LONGEST) -> tuple[int, str]:
    """Run tests in a copy; the exit code, and what was printed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "--timeout=30",
        "--timeout-method=thread",
    ]
    # Before the installed package, and without compiled files that would outlive a change of the source.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=longest,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return FAILED, "the tests did not end"
    return done.returncode, done.stdout + done.stderr


def without(guard: Guard, trees: queue.Queue[Path]) -> Outcome:
    """The verdict on one guard: `killed`, `SURVIVED`, or `BROKEN` if its tests could not be run."""
    tree = trees.get()
    begun, file = time.monotonic(), tree / guard.file
    source = file.read_text()
    try:
        file.write_text(source.replace(guard.old, guard.new))
        code, output = run(tree, guard.tests)
    finally:
        file.write_text(source)
        trees.put(tree)
    verdict = {FAILED: "killed", PASSED: "SURVIVED"}.get(code, "BROKEN")
    return Outcome(guard, verdict, time.monotonic() - begun, output)


def check(chosen: list[Guard]) -> int:
    """Try each guard; 0 if none is missed by its tests."""
    with tempfile.TemporaryDirectory(prefix="guards-") as directory:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(AT_A_TIME):
            trees.put(copy(Path(directory, str(number))))
        tree = trees.get()
        code, output = run(tree, sorted({test for guard in chosen for test in guard.tests}), ALL)
        trees.put(tree)
        if code != PASSED:
            say(f"{output}\nThe tests must pass while all guards are there.")
            return 1
        outcomes = []
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for outcome in pool.map(lambda guard: without(guard, trees), chosen):
                say(f"{outcome.verdict:9} {outcome.seconds:5.1f} s  {outcome.guard.name}")
                outcomes.append(outcome)
    missed = [outcome for outcome in outcomes if outcome.verdict != "killed"]
    for outcome in missed:
        say(f"\n{outcome.verdict}: {outcome.guard.name} in {outcome.guard.file}\n{outcome.output[-1500:]}")
    say(f"\n{len(outcomes)} guards, {len(outcomes) - len(missed)} killed, {len(missed)} not")
    return 1 if missed else 0


def main(names: list[str]) -> int:
    """All guards, or those named."""
    unknown = set(names) - {guard.name for guard in guards()}
    if unknown:
        say(f"no such guard: {', '.join(sorted(unknown))}")
        return 2
    return check([guard for guard in guards() if not names or guard.name in names])


if __name__ == "__main__":
    sys.exit(main([name for argument in sys.argv[1:] for name in argument.split(",") if name]))
