"""The workflows that people copy, as they run them."""

from __future__ import annotations

import gzip
import hashlib
import random
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save

from workflows import model, reads
from workflows.nightly import mirror

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.origin import Origin

pytestmark = pytest.mark.usefixtures("prefect_server")


def fastq(count: int, seed: int) -> bytes:
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        bases = "".join(rng.choices("ACGT", k=50))
        lines.append(f"@read{number}\n{bases}\n+\n{'F' * 50}\n")
    return gzip.compress("".join(lines).encode())


@pytest.fixture
def manifest(origin: Origin, tmp_path: Path) -> str:
    rows = ["run_accession\tfastq_ftp\tfastq_md5\tfastq_bytes"]
    for number in range(3):
        data = [fastq(100 * (number + 1), seed) for seed in (number, number + 10)]
        urls = [origin.add(f"/ERR{number}_{end + 1}.fastq.gz", each) for end, each in enumerate(data)]
        sums = ";".join(hashlib.md5(each).hexdigest() for each in data)
        rows.append(f"ERR{number}\t{';'.join(urls)}\t{sums}\t{';'.join(str(len(each)) for each in data)}")
    (tmp_path / "samples.tsv").write_text("\n".join(rows))
    return str(tmp_path / "samples.tsv")


@pytest.mark.parametrize("way", ["keep", "stream"])
def test_reads(
    origin: Origin,
    manifest: str,
    tmp_path: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--stream"] if way == "stream" else ["--dest", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["reads.py", manifest, *options])
    reads.main()
    assert capsys.readouterr().out.splitlines() == [
        f"ERR{number}_{end}.fastq.gz: {100 * (number + 1)} reads, {5000 * (number + 1):,} bases"
        for number in range(3)
        for end in (1, 2)
    ]
    assert (tmp_path / "data").exists() is (way == "keep")


def test_reads_that_are_wrong(origin: Origin, manifest: str, tmp_path: Path) -> None:
    origin.when(path="/ERR1_2.fastq.gz").flip(50)
    with pytest.raises(Exception, match="md5"):
        reads.stream(manifest)


def test_model(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [{f"layer{number}": np.full((4, 5), number, dtype=np.float32)} for number in range(2)]
    urls = []
    for number, part in enumerate(parts):
        data = save(part)
        url = origin.add(f"/model-{number}.safetensors", data)
        urls.append(f"{url}#sha256={hashlib.sha256(data).hexdigest()}")
    monkeypatch.setattr(sys, "argv", ["model.py", *urls, "--dest", str(tmp_path / "models")])
    model.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "tensors: 2, parameters: 40"
    assert "verified sha256 (url fragment)" in lines[0]
    tensors = model.model(urls, str(tmp_path / "models"))
    assert all(np.array_equal(tensors[name], part[name]) for part in parts for name in part)


def test_mirror(origin: Origin, tmp_path: Path) -> None:
    old, same, new = b"old" * 1000, b"same" * 1000, b"newer" * 1000
    urls = [
        origin.add("/a.bin", old, last_modified="Mon, 02 Mar 2026 10:00:00 GMT"),
        origin.add("/b.bin", same, last_modified="Mon, 02 Mar 2026 10:00:00 GMT"),
    ]
    (tmp_path / "files.txt").write_text("\n".join(urls))
    arguments = str(tmp_path / "files.txt"), str(tmp_path / "mirror")
    assert mirror.mirror(*arguments) == 2
    assert mirror.mirror(*arguments) == 0
    origin.add("/a.bin", new, etag='"v2"', last_modified="Tue, 03 Mar 2026 10:00:00 GMT")
    assert mirror.mirror(*arguments) == 1
    assert (tmp_path / "mirror" / "a.bin").read_bytes() == new
    assert (tmp_path / "mirror" / "b.bin").read_bytes() == same
