"""The same flow on threads, Dask and Ray: every file right, and one budget of connections for all processes.

`make test-runners` installs the two and runs this; it prints what it saw.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from hydraflow.prefect import budgets, hydra_fetch
from tests.integrations.prefect.conftest import prefect_api, prefect_server, swept  # noqa: F401 - fixtures
from tests.integrations.prefect.test_workflows import manifest  # noqa: F401 - a fixture
from workflows import reads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.origin import Origin

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore"),  # of what Dask and Ray leave to the garbage collector
]

RUNNERS = pytest.mark.parametrize("name", ["threads", "dask", "ray"])
NAME = f"{budgets.PREFIX}127.0.0.1"
LIMIT = 6


@pytest.fixture
def limited() -> Iterator[None]:
    """At most `LIMIT` connections to the host, from all processes together."""
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=NAME, limit=LIMIT))
        budgets._shares.clear()
        yield
        client.delete_global_concurrency_limit_by_name(NAME)


@pytest.fixture(autouse=True)
def _found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@flow
def twenty(urls: list[str], dest: str) -> Any:
    return hydra_fetch.map(urls, dest).result()


@RUNNERS
@pytest.mark.parametrize("budget", [False, True], ids=["free", "budget"])
def test_twenty_files(origin: Origin, tmp_path: Path, name: str, budget: bool, request: pytest.FixtureRequest) -> None:
    if budget:
        request.getfixturevalue("limited")
    origin.when().head_delay(0.1)
    origin.when().slow(2_000_000)
    contents = [os.urandom(300_000) for _ in range(20)]
    urls = [
        f"{origin.add(f'/{number}.bin', data)}#sha256={hashlib.sha256(data).hexdigest()}"
        for number, data in enumerate(contents)
    ]
    start = time.monotonic()
    files = twenty.with_options(task_runner=reads.runner(name))(urls, f"{tmp_path}/all/")
    took = time.monotonic() - start
    assert [file.path.read_bytes() for file in files] == contents
    print(
        f"\n{name}, {f'limit {LIMIT}' if budget else 'no limit'}: {took:.1f} s, "
        f"peak {origin.peak_connections} connections, {origin.peak_requests} requests"
    )
    if budget:
        assert origin.peak_connections <= LIMIT


@RUNNERS
def test_the_workflow(manifest: str, tmp_path: Path, name: str) -> None:  # noqa: F811
    counts = reads.keep.with_options(task_runner=reads.runner(name))(manifest, str(tmp_path / "data"))
    assert counts["ERR2_1.fastq.gz"].split() == ["300", "15000"]
    streamed = reads.stream.with_options(task_runner=reads.runner(name))(manifest)
    assert streamed == counts
