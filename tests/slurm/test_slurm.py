"""Jobs on a real Slurm retrieve on their own; `make test-slurm` runs this where Debian's Slurm is installed."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from lab.process import MissingBinaryError
from tests.integrations.snakemake.conftest import workflow, write_lock  # noqa: F401 - a fixture
from tests.slurm.cluster import Slurm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

DATA, OTHER = os.urandom(2_000_000), os.urandom(2_000_000)
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    try:
        if shutil.which("rsync") is None:
            raise MissingBinaryError("no executable 'rsync': apt-get install rsync")
        cluster = Slurm()
        with cluster:
            yield cluster
    except MissingBinaryError as error:
        pytest.fail(f"Slurm is not tested: {error}")


def test_jobs(workflow, origin, slurm, monkeypatch):  # noqa: F811
    """Each URL is served once to three jobs, a pipe is fed within its job, and what has changed fails one of them."""
    x, y, z, changed = (origin.add(f"/{name}.bin", DATA, last_modified=DATE) for name in ("x", "y", "z", "changed"))
    lock = write_lock(workflow.path("data.lock"), **dict.fromkeys((x, y, z, changed), DATA))
    origin.add("/changed.bin", OTHER)
    workflow.write(
        "rule all:\n    input: '1.out', '2.out', '3.out', 'z.out', 'changed.out'\n"
        f"rule x:\n    input: storage.hydra({x!r}), storage.hydra({y!r})\n    output: '{{n,[0-9]}}.out'\n"
        "    shell: 'cat {input} > {output}'\n"
        f"rule z:\n    input: access.sequential(storage.hydra({z + '#stream=fifo'!r}))\n    output: 'z.out'\n"
        "    shell: 'cat {input} > {output}'\n"
        f"rule changed:\n    input: storage.hydra({changed!r})\n    output: 'changed.out'\n"
        "    shell: 'cat {input} > {output}'\n"
    )
    options = {
        "--executor": "slurm",
        "--slurm-status-command": "squeue",
        "--slurm-init-seconds-before-status-checks": "2",
        "--default-storage-provider": "fs",
        "--default-storage-prefix": str(workflow.path("results")),
        "--remote-job-local-storage-prefix": f"{workflow.path('scratch')}/$SLURM_JOB_ID",
        "--storage-hydra-state-dir": str(workflow.path("state")),
        "--storage-hydra-lock": lock,
        "--seconds-between-status-checks": "2",
        "--jobs": "5",
    }
    flags = ("--keep-going", "--slurm-no-account", "--slurm-keep-successful-logs")
    shared = ("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache")
    resources = ("--default-resources", "mem_mb=200", "runtime=5")
    monkeypatch.setenv("PATH", str(slurm.bin), prepend=os.pathsep)
    words = [word for option in options.items() for word in option]
    code, said = workflow.run(*flags, *shared, *resources, *words, seconds=200, **slurm.environment)
    logs = "".join(path.read_text() for path in workflow.path(".snakemake/slurm_logs").rglob("*.log"))
    assert code == 1, said + logs
    found = [path for n in (1, 2, 3) if (path := workflow.path(f"results/{n}.out")).exists()]
    assert [path.read_bytes() for path in found] == 3 * [DATA + DATA], said + logs
    assert workflow.path("results/z.out").read_bytes() == DATA
    assert not workflow.path("results/changed.out").exists()
    assert re.search(r"changed.bin.*data\.lock has locked: sha256 was \w{64}, is \w{64}", logs)
    served = {name: origin.bytes_served(f"/{name}.bin") / len(DATA) for name in ("x", "y", "z")}
    print(f"\n{slurm.run('sinfo', '--version')}: 3 jobs, bytes served per byte of each file: {served}")
    assert max(served.values()) < 1.1
