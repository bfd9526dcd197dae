"""Interleaved rounds: every client once in each, in rotating order, its output compared with what was served."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError, machine
from benchmarks.peers import Client
from benchmarks.results import OK, PROOF, Result, Round, Run
from benchmarks.site import Site
from benchmarks.suites import GB, Job, Mode, Suite
from lab.shell import clean

__all__ = ["BUSY", "in_turn", "run"]

BUSY = 0.1  # share of the cores' time in others' hands from which figures are not to be trusted
_MEASURE = Path(__file__).with_name("measure.py")
_BLOCK = 1 << 20
_REFUSED = (429, 503)


@dataclass(frozen=True, slots=True)
class _Bench:
    """One suite on one site."""

    suite: Suite
    job: Job
    site: Site
    timeout: float
    say: Callable[[str], None]

    @property
    def output(self) -> Path:
        return self.site.directory / "output"

    @property
    def log(self) -> Path:
        return self.site.directory / "clients.log"

    def run(self, client: Client, number: int) -> Run:
        """One client, once, in an empty directory."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        self.log.write_bytes(b"")
        before = len(self.site.answers())
        took = _measured(self._task(client, proof=number == PROOF), self.output, self._environment(client))
        outcome = self._outcome(took, proof=number == PROOF)
        times = took["wall"], took["user"], took["system"]
        answers = [line.status for line in self.site.answers()[before:]]
        refused = sum(status in _REFUSED for status in answers)
        run = Run(client.name, number, *times, took["peak"], outcome, len(answers), refused)
        self._tell(run)
        shutil.rmtree(self.output)
        return run

    def _task(self, client: Client, *, proof: bool) -> dict[str, Any]:
        reader = None
        if self.suite.mode is Mode.STREAM:
            reader = [_program("sha256sum" if proof else "cat")]
        return {
            "client": [*self.job.inside, *client.commands[self.suite.mode](self.job)],
            "reader": reader,
            "output": str(self.output / "digest") if proof else None,
            "log": str(self.log),
            "timeout": self.timeout,
        }

    def _environment(self, client: Client) -> Mapping[str, str]:
        """Nothing of the user's settings, and no configuration of any client."""
        home = self.site.directory / "home"
        home.mkdir(exist_ok=True)
        variables = {name: value for name, value in clean(os.environ).items() if not name.startswith("XDG_")}
        return {
            **variables,
            "HOME": str(home),
            "TMPDIR": str(self.site.directory),
            "SSL_CERT_FILE": str(self.site.authority),
            **client.environment,
        }

    def _outcome(self, took: Mapping[str, Any], *, proof: bool) -> str:
        if took["timed_out"]:
            return f"more than {self.timeout:g} s"
        if bad := [code for code in took["codes"] if code != 0]:
            return f"exit code {bad[-1]}"
        if self.suite.mode is Mode.STREAM:
            right = not proof or (self.output / "digest").read_text().split()[0] == self.job.sha256[0]
        else:
            right = all(_same(self.output / served.name, served) for served in self.job.served)
        return OK if right else "wrong bytes"

    def _tell(self, run: Run) -> None:
        self.say(
            f"  {run.round or 'proof':>5}  {run.client:<18}{run.wall:>8.2f} s  {run.cpu:>7.2f} s CPU"
            f"  {run.cpu * GB / self.job.size:>8.2f} s/GB  {run.peak / 1e6:>6.0f} MB"
            f"  {f'{run.refused} of {run.requests} refused  ' if run.requests else ''}{run.outcome}"
        )
        if run.outcome != OK:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            for line in lines[-5:]:
                self.say(f"         {line}")


def run(
    suite: Suite,
    clients: Sequence[Client],
    site: Site,
    *,
    rounds: int,
    baselines: Sequence[str] = ("curl", "aria2"),
    timeout: float = 300.0,
    say: Callable[[str], None] = print,
) -> Result:
    """Run a suite with all clients that can do its work.

    Args:
        suite: what to do.
        clients: who does it; those that are missing are named in the result.
        site: where to fetch from.
        rounds: how often each client runs.
        baselines: clients that the others are compared to.
        timeout: seconds after which a client is ended; it has no further turn then.
        say: told of every run.
    """
    able = [client for client in clients if suite.mode in client.commands]
    present = [client for client in able if not client.missing]
    missing = {client.name: client.missing for client in able if client.missing}
    say(f"{suite.name}: {suite.title}")
    for name, reason in missing.items():
        say(f"  missing: {name}, {reason}")
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    noted: list[Round] = []
    with site.job(suite) as job:
        bench = _Bench(suite, job, site, timeout, say)
        runs = tuple(_rounds(bench, present, rounds, noted))
    return Result(
        suite=suite.name,
        date=date,
        size=job.size,
        files=len(job.urls),
        machine={**machine.facts(), "data": "in memory" if site.in_memory else "on disk"},
        baselines=tuple(baselines),
        versions={client.name: client.version for client in present},
        missing=missing,
        rounds=tuple(noted),
        runs=runs,
    )


def in_turn(clients: Sequence[Client], number: int) -> list[Client]:
    """The order of a round: each starts one further, so that nobody always runs after the same one's heat."""
    start = number % max(1, len(clients))
    return [*clients[start:], *clients[:start]]


def _rounds(bench: _Bench, clients: Sequence[Client], rounds: int, noted: list[Round]) -> Iterator[Run]:
    able = list(clients)
    first = PROOF if bench.suite.mode is Mode.STREAM else PROOF + 1
    for number in range(first, rounds + 1):
        if number != PROOF:
            noted.append(_look(number, bench.say))
        for client in in_turn(able, number):
            run = bench.run(client, number)
            yield run
            if run.outcome.startswith("more than") or (number == PROOF and run.outcome != OK):
                bench.say(f"         {client.name} has no further turn")
                able.remove(client)


def _look(number: int, say: Callable[[str], None]) -> Round:
    before = Round(number, machine.load(), machine.busy())
    warning = "  WARNING: the machine is busy" if before.busy > BUSY else ""
    say(f"  round {number}: load {before.load:.2f}, {before.busy:.0%} of the cores in use{warning}")
    return before


def _measured(task: Mapping[str, Any], directory: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What `measure.py` says; ended together with its programs if we are."""
    command = [sys.executable, "-I", "-S", str(_MEASURE), json.dumps(task)]
    # A session of its own: Ctrl-C is for us to handle, who then end it and see that it ends its programs.
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate()
    finally:
        process.terminate()
        process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"measure.py ended with code {process.returncode}")
    took: dict[str, Any] = json.loads(output)
    return took


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchmarkError(f"no {name} on PATH")
    return found


def _same(actual: Path, expected: Path) -> bool:
    """Byte for byte; by comparison rather than by digest, which takes four times as long."""
    if not actual.is_file() or actual.stat().st_size != expected.stat().st_size:
        return False
    with actual.open("rb", buffering=0) as one, expected.open("rb", buffering=0) as other:
        while block := one.read(_BLOCK):
            if block != other.read(_BLOCK):
                return False
    return True
