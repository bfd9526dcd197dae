"""`make demo`: 200 MB from a real nginx, streamed and fetched in three ways, through an outage, and counted.

Starts nginx on loopback with a gzip-compressed multi-FASTA that it generates into `.demo/`, and runs the same job in
the shell, in Snakemake and in Prefect.  During the first, nginx is killed and comes back: the transfer must go on.
Exit code 0 means that every count is right, every form verified the digest, and the cut came in mid-transfer.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lab import data
from lab.nginx import Nginx
from lab.shell import BOLD, GREEN, RED, Ran, clean, paint, run, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.data import Fasta

ROOT = Path(__file__).resolve().parents[1]
DEMO = Path(".demo")
SIZE = 200_000_000  # bytes of the compressed file, at least
MB = 1_000_000
RATE = "12m"  # of one connection, so that the transfer takes seconds and can be cut
CUT_AFTER = 60 * MB
DOWN = 2.0  # seconds that nginx stays away
DEADLINE = 90.0  # seconds for one form

_VERIFIED = re.compile(r"verified (\w+ \([^)]*\))")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table at the end; `seconds` is None where nothing was counted."""

    name: str
    passed: bool
    count: int | None = None
    verified: str | None = None
    seconds: float | None = None


class Outage:
    """Kills nginx once it has sent `CUT_AFTER` bytes, and starts it again after `DOWN` seconds."""

    def __init__(self, server: Nginx) -> None:
        self._server = server
        self._base = server.bytes_sent()
        self._back_at: float | None = None
        self.before = 0

    def tick(self) -> None:
        """Look, and act if it is time."""
        if self._back_at is None:
            sent = self._server.bytes_sent() - self._base
            if sent >= CUT_AFTER:
                self._cut(sent)
        elif not self._server.running and time.monotonic() >= self._back_at:
            self.end()

    def end(self) -> None:
        """Have nginx running again."""
        if not self._server.running:
            self._server.start()
            say(paint(f"-- nginx is back on port {self._server.ports[0]} --", BOLD))

    def check(self, size: int) -> bool:
        """Say what the cut did; True if some of the file came before it and some after it."""
        after = self._server.bytes_sent() if self._back_at is not None else 0
        mid = 0 < self.before < size and after > 0 and self.before + after >= size
        if self._back_at is None:
            say("the connections were never cut: the transfer ended first")
        else:
            say(f"sent before the cut {self.before / MB:.1f} MB, after it {after / MB:.1f} MB, of {size / MB:.1f} MB")
        return mid

    def _cut(self, sent: int) -> None:
        say(paint(f"-- after {sent / MB:.1f} MB nginx is killed: all connections are cut; back in {DOWN:g} s --", BOLD))
        self._server.kill()
        self.before = sent
        self._back_at = time.monotonic() + DOWN


def prepare() -> Fasta:
    """The file that is served: the one of an earlier run, or a new one."""
    path = DEMO / "served" / "genome.fa.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    genome = data.load(path)
    if genome is None:
        say(f"Making {path} …")
        genome = data.fasta(path, SIZE)
    say(f"{path}: {path.stat().st_size / MB:.1f} MB, {genome.records} records, sha256 {genome.sha256}")
    return genome


def fresh(name: str) -> Path:
    """An empty directory under `.demo/`, so that every run does the whole job."""
    path = DEMO / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def environment() -> dict[str, str]:
    """Variables of the commands: `python` is this one, and nothing of the user's settings."""
    return {
        **clean(os.environ),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HYDRAFLOW_OUTPUT": str(fresh("flow").resolve()),
        "PREFECT_HOME": str(fresh("prefect").resolve()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def number(lines: list[str], pattern: str) -> int | None:
    """The number in the last line, if that is of the form `pattern`."""
    found = re.fullmatch(pattern, lines[-1].strip()) if lines else None
    return int(found[1]) if found else None


def counted(path: Path) -> int | None:
    """The number in a file."""
    return number(path.read_text().split() if path.is_file() else [], r"(\d+)")


def judge(name: str, ran: Ran, count: int | None, truth: int) -> Row:
    """Compare, say it, and make the line of the table."""
    found = [match[1] for line in (*ran.stdout, *ran.stderr) if (match := _VERIFIED.search(line))]
    verified = found[-1] if found else None
    passed = ran.code == 0 and count == truth and verified is not None
    if ran.code != 0:
        say(f"exit code {ran.code}" if ran.code is not None else f"ended: it took longer than {DEADLINE:g} s")
    say(f"count {count}, true count {truth}, verified {verified or 'nothing'}: {verdict(passed)}")
    return Row(name, passed, count, verified, ran.seconds)


def verdict(passed: bool) -> str:
    """OK or FAILED."""
    return paint("OK", GREEN, BOLD) if passed else paint("FAILED", RED, BOLD)


def show_stream(server: Nginx, url: str, genome: Fasta, variables: dict[str, str]) -> list[Row]:
    """The shell pipeline, with the outage in its middle."""
    outage = Outage(server)
    command = f"python -m hydraflow '{url}#sha256={genome.sha256}' --stream | zcat | grep -c '^>'"
    ran = run(command, environment=variables, deadline=DEADLINE, meanwhile=outage.tick)
    outage.end()
    row = judge("shell", ran, number(ran.stdout, r"(\d+)"), genome.records)
    return [row, Row("  cut in mid-transfer", outage.check(genome.path.stat().st_size))]


def show_snakemake(_server: Nginx, url: str, genome: Fasta, variables: dict[str, str]) -> list[Row]:
    """Snakemake rules with `storage.hydra`: as a file, and streamed in three ways."""
    target = fresh("snakemake")
    command = f"snakemake -s Snakefile.example --cores 2 --directory {target} --config url={url} sha256={genome.sha256}"
    ran = run(command, environment=variables, deadline=DEADLINE)
    counts = {name: counted(target / f"{name}.txt") for name in ("count", "streamed", "piped", "fifo")}
    wrong = [f"{name}.txt: {count}" for name, count in counts.items() if count != genome.records]
    for line in wrong:
        say(line)
    return [judge("snakemake", ran, None if wrong else genome.records, genome.records)]


def show_prefect(_server: Nginx, url: str, genome: Fasta, variables: dict[str, str]) -> list[Row]:
    """A Prefect flow with `hydra_fetch`, on Prefect's own temporary server."""
    command = f"python workflows/count_records.py '{url}#sha256={genome.sha256}'"
    ran = run(command, environment=variables, deadline=DEADLINE)
    return [judge("prefect", ran, number(ran.stdout, r"records: (\d+)"), genome.records)]


SHOWS: tuple[tuple[str, Callable[[Nginx, str, Fasta, dict[str, str]], list[Row]]], ...] = (
    ("In the shell: a stream, nothing on disk, and the server dies on the way", show_stream),
    ("In Snakemake: an input of a rule", show_snakemake),
    ("In Prefect: a task of a flow", show_prefect),
)


def table(rows: list[Row], truth: int) -> None:
    """Everything at a glance."""
    say(f"\n{'':<22}{'count':>8}{'true':>8}  {'verified':<26}{'seconds':>8}")
    for row in rows:
        facts = ""
        if row.seconds is not None:
            count = "none" if row.count is None else str(row.count)
            facts = f"{count:>8}{truth:>8}  {row.verified or 'nothing':<26}{row.seconds:>8.1f}"
        say(f"{row.name:<22}{facts:<52}  {verdict(row.passed)}")


def main() -> int:
    """Run it all; gives the exit code."""
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, _terminated)
    start, rows = time.monotonic(), []
    genome = prepare()
    with Nginx(genome.path.parent, limit_rate=RATE) as server:
        url = f"{server.url}/{genome.path.name}"
        say(f"nginx serves it at {url}, {RATE} bytes a second for each connection")
        variables = environment()
        for title, show in SHOWS:
            say(f"\n{paint(title, BOLD)}")
            rows += show(server, url, genome, variables)
    table(rows, genome.records)
    say(f"{time.monotonic() - start:.0f} s in all")
    return 0 if all(row.passed for row in rows) else 1


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\ninterrupted: everything that was started has been stopped")
        sys.exit(128 + signal.SIGINT)
