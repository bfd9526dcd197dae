"""The workflow that people copy, workflows/counts, with its real tools on made-up reads."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from tests.integrations.snakemake.conftest import ROOT

ADAPTER = "AGATCGGAAGAGC"
READ = 75
#: Reads of each transcript, and short ones that are all adapter.
COUNTS = {"treated": {"actin": 800, "p53": 7, "myc": 0}, "control": {"actin": 703, "p53": 0, "myc": 120}}
SHORT = 5


def bases(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("ACGT", k=count))


def made_up(served) -> dict[str, str]:
    """The files of a study in a directory, longer than what of a stream is held back; the SHA-256 of each."""
    rng = random.Random(7)
    transcripts = {name: bases(rng, 900) for name in ("actin", "p53", "myc")}
    texts = {"transcripts.fa.gz": "".join(f">{name}\n{text}\n" for name, text in transcripts.items())}
    for sample, counts in COUNTS.items():
        reads = [bases(rng, 4) + ADAPTER for _ in range(SHORT)]
        for name, count in counts.items():
            starts = [rng.randrange(900 - READ) for _ in range(count)]
            reads += [transcripts[name][start : start + READ] + ADAPTER + bases(rng, 8) for start in starts]
        texts[f"{sample}.fastq.gz"] = "".join(f"@{n}\n{r}\n+\n{'F' * len(r)}\n" for n, r in enumerate(reads))
    for name, text in texts.items():
        (served / name).write_bytes(gzip.compress(text.encode(), compresslevel=0))
    return {name: hashlib.sha256((served / name).read_bytes()).hexdigest() for name in texts}


@pytest.fixture
def study(workflow, origin, tmp_path):
    """The workflow in a place of its own, with its configuration."""
    if missing := [name for name in ("cutadapt", "mappy") if importlib.util.find_spec(name) is None]:
        # In CI a test that did not run would look like one that passed, unless mappy could not be built there.
        could = os.environ.get("CI") == "true" and shutil.which("cc") and Path("/usr/include/zlib.h").exists()
        (pytest.fail if could else pytest.skip)(f"not installed: {', '.join(missing)}")
    served = tmp_path / "served"
    served.mkdir()
    sums = made_up(served)
    urls = {name: f"{origin.add(f'/{name}', (served / name).read_bytes())}#sha256={sums[name]}" for name in sums}
    shutil.copytree(ROOT / "workflows/counts", workflow.directory, dirs_exist_ok=True)
    config = {
        "transcripts": urls["transcripts.fa.gz"],
        "adapter": ADAPTER,
        "samples": {sample: urls[f"{sample}.fastq.gz"] for sample in COUNTS},
    }
    workflow.path("config.yaml").write_text(json.dumps(config))  # which is YAML
    return workflow


def test_counts(study, origin):
    """One sample is wrong on its server: nothing of it is left, the other is done, and the next run does the rest."""
    wrong = origin.when(path="/control.fastq.gz").flip(10_000)
    code, said = study.run("--keep-going")
    assert code == 1, said
    assert wrong.fired
    assert re.search("the stream of .*control.fastq.gz has failed: sha256 mismatch", said)
    assert [path.name for path in study.path("counts").iterdir()] == ["treated.tsv"]
    assert not [*study.directory.glob("trimmed/control*")]
    origin.rules.clear()
    code, said = study.run("--keep-going")
    assert code == 0, said
    rows = [line.split("\t") for line in study.path("counts.tsv").read_text().splitlines()]
    assert rows[0] == ["transcript", *COUNTS]
    assert {row[0]: row[1:] for row in rows[1:]} == {
        **{name: [str(COUNTS[sample][name]) for sample in COUNTS] for name in ("actin", "p53", "myc")},
        "*": ["0", "0"],
    }
    report = json.loads(study.path("trimmed/control.json").read_text())
    assert report["read_counts"]["filtered"]["too_short"] == SHORT
    assert "hydra: control.fastq.gz: streamed" in said
    assert not list(study.directory.rglob("*.fastq.gz"))
