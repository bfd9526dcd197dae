"""Somebody who types what README says, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from lab.nginx import Nginx
from tests.cli.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: Where README has its example from.
PUBLIC = "https://hgdownload.soe.ucsc.edu"
_PATH = "goldenPath/hg38/chromosomes/chr1.fa.gz"
_ENOUGH = 600_000  # bytes on the wire, after which Ctrl-C is pressed


def first_steps() -> tuple[list[str], list[str]]:
    """The lines that install it, and those that use it."""
    text = (ROOT / "README.md").read_text().partition("\n## First steps\n")[2].partition("\n## ")[0]
    install, _, use = text.partition("```bash\n")[2].partition("```")[0].partition("\n\n")
    return install.splitlines(), use.splitlines()


def public(directory: Path, chromosome: bytes) -> Nginx:
    """The public server, on loopback and slow: gzip's members, one after another, and their checksum."""
    file = directory / _PATH
    file.parent.mkdir(parents=True)
    file.write_bytes(chromosome)
    file.with_name(f"{file.name}.sha256").write_text(f"{hashlib.sha256(chromosome).hexdigest()}  {file.name}\n")
    return Nginx(directory, limit_rate="2m")


class Newcomer:
    """Types lines into a shell; what was said is in `told` and `said`, standard output and standard error."""

    def __init__(self, directory: Path, environment: dict[str, str], server: Nginx) -> None:
        self.directory, self._environment, self._server = directory, environment, server
        self.told = self.said = ""

    def enter(self, clone: Path) -> None:
        """The directory that the first lines have led to, with its environment active."""
        self.directory = clone
        self._environment |= {"PATH": f"{clone / '.venv/bin'}:{self._environment['PATH']}"}

    def use(self, lines: list[str]) -> None:
        """The first steps, with a server on loopback in place of the public one."""
        [address, *others] = [line.replace(PUBLIC, self._server.url) for line in lines]
        for line in others:
            self.type(f"{address}\n{line}", interrupted="press Ctrl-C" in line)

    def type(self, script: str, *, interrupted: bool = False) -> None:
        """Run it; with Ctrl-C in the midst, if it says so."""
        before = self._server.bytes_sent()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", script], cwd=self.directory, env=self._environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        while interrupted and process.poll() is None and self._server.bytes_sent() - before < _ENOUGH:
            time.sleep(0.01)
        if interrupted:
            os.killpg(process.pid, signal.SIGINT)
        told, said = process.communicate(timeout=300)
        self.told, self.said = self.told + told, self.said + said
        assert process.returncode == (130 if interrupted else 0), f"{script}\n{said}"

    def check(self) -> None:
        """They have got a verified file, a resumed one and a stream."""
        for told in (
            "run the same command again to go on",
            r"fetched \(resumed\) .* from the checkpoint",
            r"streamed .* MB in",
            r"chr1\.fa\.gz: verified sha256",
        ):
            assert re.search(told, self.said), self.said
        chromosome = (self._server.root / _PATH).read_bytes()
        text = gzip.decompress(chromosome)
        assert f"{sum(b'N' not in line for line in text.splitlines())}" in self.told.splitlines()
        assert "certificates" in self.told
        assert (self.directory / "data/chr1.fa.gz").read_bytes() == chromosome
