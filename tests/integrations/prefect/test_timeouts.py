"""`timeout_seconds` ends the transfer soon, and what has come is kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prefect import flow

from hydraflow.adapters.store import Store
from hydraflow.prefect import FetchedFile, hydra_fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

pytestmark = pytest.mark.usefixtures("prefect_server")

DATA = bytes(range(256)) * 4000
TIMEOUT = 0.7
impatient = hydra_fetch.with_options(timeout_seconds=TIMEOUT, retries=1, retry_delay_seconds=0)


@flow
def direct(url: str, dest: Path) -> FetchedFile:
    return impatient(url, dest)


@flow
async def awaited(url: str, dest: Path) -> FetchedFile:
    return await impatient(url, dest)


@flow
def submitted(url: str, dest: Path) -> FetchedFile:
    return impatient.submit(url, dest).result()


MODES = pytest.mark.parametrize(
    "run",
    [
        # pytest's own alarm would make Prefect use another way of stopping the main thread than it does in life.
        pytest.param(direct, marks=pytest.mark.timeout(60, method="thread"), id="main thread"),
        pytest.param(lambda url, dest: asyncio.run(awaited(url, dest)), id="async"),
        pytest.param(submitted, id="worker thread"),
    ],
)


@pytest.fixture
def slow_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer takes its time to give up its destination: a retry that does not wait for it meets it."""
    close = Store.close

    def later(self: Store) -> None:
        time.sleep(0.3)
        close(self)

    monkeypatch.setattr(Store, "close", later)


@MODES
@pytest.mark.usefixtures("slow_close")
def test_the_retry_resumes(
    origin: Origin, tmp_path: Path, run: Callable[[str, Path], FetchedFile], run_log: RunLog
) -> None:
    url = origin.add("/x.bin", DATA)
    stall = origin.when(request=1).stall(after=300_000)
    start = time.monotonic()
    # A straggler is not waited for: neither does who is to take over its bytes get any in the first attempt.
    origin.when().wait(head=lambda: any("Retry 1/1" in line for line in run_log.lines))
    file = run(url, tmp_path / "x.bin")
    assert TIMEOUT < time.monotonic() - start < 10  # the network's own timeout is 30 s
    assert stall.fired == 1
    assert any("timed out" in line and "Retry 1/1" in line for line in run_log.lines)
    assert file.path.read_bytes() == DATA
    assert file.bytes_from_checkpoint == 300_000
    assert origin.bytes_served() == len(DATA)


@MODES
def test_the_last_timeout_is_the_outcome(
    origin: Origin,
    tmp_path: Path,
    run: Callable[[str, Path], FetchedFile],
    run_log: RunLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = origin.add("/x.bin", DATA)
    origin.when().stall(after=300_000)
    monkeypatch.setitem(globals(), "impatient", impatient.with_options(retries=0))
    with pytest.raises(TimeoutError):
        run(url, tmp_path / "x.bin")
    assert any("Finished in state TimedOut" in line for line in run_log.lines)
    assert not (tmp_path / "x.bin").exists()
    assert (tmp_path / ".x.bin.hydra" / "journal").exists()
