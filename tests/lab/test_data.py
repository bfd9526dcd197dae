"""Test data is what it says, and the same every time."""

from __future__ import annotations

import gzip
import hashlib
import subprocess

from lab.data import fasta, load, random_file


def test_random_file(tmp_path):
    size = (1 << 20) + 17
    digest = random_file(tmp_path / "a", size, seed=1)
    data = (tmp_path / "a").read_bytes()
    assert len(data) == size
    assert hashlib.sha256(data).hexdigest() == digest
    assert random_file(tmp_path / "b", size, seed=1) == digest
    assert random_file(tmp_path / "c", size, seed=2) != digest


def test_fasta(tmp_path):
    made = fasta(tmp_path / "genome.fa.gz", 30_000_000)  # more than all distinct members: some are repeated
    size = made.path.stat().st_size
    assert 30_000_000 <= size < 32_000_000
    text = gzip.decompress(made.path.read_bytes())
    assert text.count(b"\n>") + 1 == made.records
    assert text.startswith(b">lead000000 length=70\n")
    assert set(text.partition(b"\n")[2].partition(b"\n")[0]) <= set(b"ACGT")
    assert len(text) > 3 * size
    subprocess.run(["sha256sum", "--check", "--quiet", "genome.fa.gz.sha256"], cwd=tmp_path, check=True)
    assert made.sha256 in (tmp_path / "genome.fa.gz.sha256").read_text()


def test_fasta_repeats_itself_from_a_seed(tmp_path):
    first, second, other = (fasta(tmp_path / name, 2_000_000, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first.sha256 == second.sha256 != other.sha256
    assert first.records == second.records


def test_load_gives_what_is_whole(tmp_path):
    made = fasta(tmp_path / "genome.fa.gz", 1_000_000)
    assert load(made.path) == made
    with made.path.open("r+b") as file:
        file.truncate(1_000_000)
    assert load(made.path) is None
    assert load(tmp_path / "other.fa.gz") is None
