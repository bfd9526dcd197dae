"""What real readers make of a stream that is good, bad, cut, slow or never read; prints the table of the docs."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pysam
import pytest

from tests.faults.origin import Origin

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
CASES = ("good", "bad digest", "server dies", "reader dies", "reader late", "reader never")
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTHON": sys.executable,
    "HYDRAFLOW_RETRY_DELAY": "0.05",
    "HYDRAFLOW_MAX_WAIT": "0.3",
    "HYDRAFLOW_OPEN_TIMEOUT": "1.5",
}
LINES = "".join(f"chr{n % 22}\t{n}\t{Random(n).random()}\n" for n in range(150_000)).encode()
COUNT_READS = "import pysam, sys; print(sum(1 for _ in pysam.AlignmentFile(sys.argv[1], check_sq=False)))"
COUNT_ROWS = "import pandas, sys; print(len(pandas.read_csv(sys.argv[1], sep='\\t', header=None, compression='gzip')))"
COUNT_TABLE = (
    "import pyarrow.csv, sys; "
    "print(pyarrow.csv.read_csv(pyarrow.input_stream(sys.stdin.buffer, compression='gzip')).num_rows)"
)
COUNT_LINES = "import sys; print(sum(1 for _ in open(sys.argv[1], 'rb')))"


@dataclass(frozen=True)
class Consumer:
    """A command with `{}` for its input (none: standard input). `ends`: its format shows where it ends."""

    command: str
    file: str
    ends: bool = True
    partial: bool = False


CONSUMERS = {
    "zcat FILE": Consumer("zcat {} > out", "lines.gz"),
    "gzip -dc": Consumer("gzip -dc > out", "lines.gz"),
    "tar -xf FILE": Consumer("tar -xf {} --to-stdout > out", "lines.tar"),
    "pysam (BAM)": Consumer(f'"$PYTHON" -c "{COUNT_READS}" {{}} > out', "reads.bam"),
    "python (lines)": Consumer(f'"$PYTHON" -c "{COUNT_LINES}" {{}} > out', "lines", ends=False),
    "wc -l": Consumer("wc -l > out", "lines", ends=False),
    "head -c 1000 FILE": Consumer("head -c 1000 {} > out", "lines", ends=False, partial=True),
}
if "TABLE_PYTHON" in os.environ:  # an interpreter that has pandas and pyarrow: too large for everybody's environment
    CONSUMERS["pandas (gzip)"] = Consumer(f'"$TABLE_PYTHON" -c "{COUNT_ROWS}" {{}} > out', "lines.gz")
    CONSUMERS["pyarrow (gzip)"] = Consumer(f'"$TABLE_PYTHON" -c "{COUNT_TABLE}" > out', "lines.gz")


def bam(path: Path) -> bytes:
    rng = Random(7)
    header = {"HD": {"VN": "1.6"}, "SQ": [{"LN": 1_000_000, "SN": "chr1"}]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number in range(20_000):
            read = pysam.AlignedSegment()
            read.query_name, read.reference_id, read.reference_start = f"r{number}", 0, number
            read.query_sequence = "".join(rng.choices("ACGT", k=150))
            read.cigarstring, read.query_qualities = "150M", pysam.qualitystring_to_array("I" * 150)
            file.write(read)
    return path.read_bytes()


def tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("lines")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    reads = bam(tmp_path_factory.mktemp("bam") / "reads.bam")
    return {"lines": LINES, "lines.gz": gzip.compress(LINES, 1), "lines.tar": tar(LINES), "reads.bam": reads}


def script(way: str, consumer: Consumer, case: str) -> str:
    """What a user types. `completed` is made by what comes after the consumer: a commit, say."""
    fifo = way == "its own pipe" and "{}" in consumer.command
    command = consumer.command.replace("{}", "pipe") if fifo else consumer.command
    if case == "reader dies":
        command = f"timeout -s KILL 0.7 sh -c {quote(command)}"
    if case == "reader late":
        command = f"sleep 1; {command}"
    command += " && touch completed"
    if case == "reader never":
        command = "sleep 0.5 # {}" if way == "hydraflow run" and "{}" in consumer.command else "sleep 0.5"
    hydraflow = '"$PYTHON" -m hydraflow'
    if way == "hydraflow run":
        allow = "--allow-partial " if consumer.partial else ""
        return f'{hydraflow} run -q {allow}"$URL" -- sh -c {quote(command)}'
    if fifo:
        return f'{hydraflow} -q "$URL" --fifo pipe & until [ -p pipe ]; do sleep 0.02; done; ({command}); wait $!'
    return f'set -o pipefail; {hydraflow} -q "$URL" --stream | ({command})'


def quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def run(way: str, consumer: Consumer, case: str, data: bytes, directory: Path) -> tuple[int, bool]:
    """The exit code, and whether what comes after the consumer happened."""
    with Origin() as origin:
        url = origin.add(f"/{consumer.file}", data)
        if case == "bad digest":
            url += "#md5=" + "0" * 32
        elif case == "server dies":
            origin.when(request=1).drop(after=len(data) // 2)
            origin.when().raw(b"")
        elif case == "reader dies":
            origin.when().slow(MIB // 8)  # most is still to come when it does
        done = subprocess.run(
            ["bash", "-c", script(way, consumer, case)],
            cwd=directory,
            env={**os.environ, **ENVIRONMENT, "URL": url},
            capture_output=True,
            timeout=60,
            check=False,
        )
        if case == "reader dies":
            origin.pause()
    return done.returncode, (directory / "completed").exists()


@pytest.mark.parametrize("way", ["hydraflow run", "its own pipe"])
def test_matrix(way, files, tmp_path, capsys):
    rows, fooled = [], []
    for name, consumer in CONSUMERS.items():
        cells = []
        for case in CASES:
            directory = tmp_path / f"{name.split()[0]}-{len(cells)}-{len(rows)}"
            directory.mkdir()
            code, completed = run(way, consumer, case, files[consumer.file], directory)
            cells.append(f"{code}{' ✓' if completed else ''}")
            expect(way, consumer, case, code)
            if completed and case in ("bad digest", "server dies") and not consumer.partial:
                fooled.append((name, case))
            assert completed == (case in ("good", "reader late")) or (consumer.partial or (name, case) in fooled)
            assert [each.name for each in directory.iterdir() if each.is_fifo()] == []
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    with capsys.disabled():
        print(f"\n| {way} | {' | '.join(CASES)} |\n|---{'|---' * len(CASES)}|")
        print("\n".join(rows))
    known = {name for name, consumer in CONSUMERS.items() if not consumer.ends} if way != "hydraflow run" else set()
    assert {name for name, _ in fooled} <= known


def expect(way: str, consumer: Consumer, case: str, code: int) -> None:
    """Nothing that went wrong has the exit code of success, but for a reader that wants no more."""
    if case in ("good", "reader late"):
        assert code == (141 if consumer.partial and way != "hydraflow run" else 0), (way, consumer, case)
    elif not consumer.partial:
        assert code != 0, (way, consumer, case)
