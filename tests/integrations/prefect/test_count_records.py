"""The workflow that a newcomer runs first, as they run it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workflows.count_records import count

if TYPE_CHECKING:
    from lab.nginx import Nginx
    from tests.conftest import Samples

ROOT = Path(__file__).parents[3]


def test_counts(nginx: Nginx, samples: Samples, tmp_path: Path, prefect_api: str) -> None:
    run(nginx, samples, tmp_path, {"PREFECT_API_URL": prefect_api})


def run(nginx: Nginx, samples: Samples, tmp_path: Path, more: dict[str, str]) -> None:
    """It in a process of its own; Prefect starts a server for it if none is named, which `make soak` does."""
    url = f"{nginx.url}/genome.fa.gz#sha256={samples.sha256['genome.fa.gz']}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **more,
    }
    done = subprocess.run(
        [sys.executable, ROOT / "workflows" / "count_records.py", url, "--dest", "data"],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    size = (samples.directory / "genome.fa.gz").stat().st_size
    assert done.stdout.splitlines() == [
        f"path: {tmp_path}/data/genome.fa.gz",
        f"size: {size:,} bytes, fetched",
        "proof: verified sha256 (url fragment)",
        f"records: {samples.records}",
    ]
    assert (tmp_path / "data" / "genome.fa.gz").read_bytes() == samples.read("genome.fa.gz")


def test_no_record_is_a_count_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.fa.gz"
    path.write_bytes(gzip.compress(b"ACGT\n"))
    assert count.fn(path) == 0


def test_a_broken_file_is_an_error_and_no_count(tmp_path: Path) -> None:
    path = tmp_path / "cut.fa.gz"
    path.write_bytes(gzip.compress(b">one\nACGT\n" * 1000)[:-20])
    with pytest.raises(subprocess.CalledProcessError):
        count.fn(path)
