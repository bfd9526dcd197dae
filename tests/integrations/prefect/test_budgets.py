"""A global concurrency limit with a host's name is the most connections that the host sees, from whatever processes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.futures import wait

from hydraflow.prefect import budgets, hydra_fetch, hydra_fetch_many, hydra_pipe
from hydraflow.settings import load
from tests.integrations.prefect.conftest import LIMIT, active
from tests.integrations.prefect.victims import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

pytestmark = pytest.mark.usefixtures("prefect_server")


def serve(origin: Origin, count: int, size: int = 50_000) -> list[str]:
    return [origin.add(f"/{number}.bin", b"x" * size) for number in range(count)]


@pytest.mark.parametrize("way", ["map", "many", "gather"])
def test_half_of_it_for_one_process(origin: Origin, tmp_path: Path, limit: Callable[[int], None], way: str) -> None:
    limit(6)
    origin.when().head_delay(0.15)
    urls = serve(origin, 12)

    @flow
    def everything() -> None:
        if way == "map":
            futures = list(hydra_fetch.map(urls, f"{tmp_path}/"))
        else:
            futures = [hydra_fetch_many.submit(urls, tmp_path)]
        until(lambda: active() == 3, 20)
        wait(futures)

    @flow
    async def gathered() -> None:
        await asyncio.gather(*(hydra_fetch(url, f"{tmp_path}/") for url in urls))

    asyncio.run(gathered()) if way == "gather" else everything()
    assert len(list(tmp_path.iterdir())) == len(urls)
    assert 2 <= origin.peak_connections <= 3


def test_without_a_limit_there_is_none(origin: Origin, tmp_path: Path) -> None:
    budgets._shares.clear()
    origin.when().head_delay(0.1)
    hydra_fetch_many(serve(origin, 12), tmp_path)
    assert origin.peak_connections > 6


def test_who_comes_late_waits(origin: Origin, tmp_path: Path, limit: Callable[[int], None], run_log: RunLog) -> None:
    limit(1)
    message = "waiting for a share of the 1 connections"
    url = serve(origin, 1)[0]
    with get_client(sync_client=True) as client:
        lease = client.increment_concurrency_slots_with_lease([LIMIT], 1, "concurrency", 60).json()["lease_id"]

        @flow
        def waiting() -> int:
            transfer = hydra_fetch.submit(url, tmp_path / "x.bin")
            until(lambda: any(message in line for line in run_log.lines))
            before = len(origin.ledger)
            client.release_concurrency_slots_with_lease(lease)
            transfer.result()
            return before

        assert waiting() == 0
    assert (tmp_path / "x.bin").stat().st_size == 50_000


@pytest.mark.parametrize("way", ["submit", "await", "pipe"])
def test_a_timeout_while_waiting(origin: Origin, tmp_path: Path, limit: Callable[[int], None], way: str) -> None:
    limit(1)
    url = serve(origin, 1)[0]
    short = {"timeout_seconds": 0.4, "retries": 0}

    @flow
    def sync_flow() -> None:
        if way == "pipe":
            hydra_pipe.with_options(**short).submit(url, "wc -c").result()
        else:
            hydra_fetch.with_options(**short).submit(url, tmp_path / "x.bin").result()

    @flow
    async def async_flow() -> None:
        await hydra_fetch.with_options(**short)(url, tmp_path / "x.bin")

    until(lambda: active() == 0)  # the test before may still be giving its slots back
    with get_client(sync_client=True) as client:
        lease = client.increment_concurrency_slots_with_lease([LIMIT], 1, "concurrency", 60).json()["lease_id"]
        try:
            with pytest.raises(TimeoutError):
                asyncio.run(async_flow()) if way == "await" else sync_flow()
        finally:
            client.release_concurrency_slots_with_lease(lease)
    assert origin.ledger == []


def test_connections_are_closed_before_others_get_the_slots(
    origin: Origin, tmp_path: Path, limit: Callable[[int], None]
) -> None:
    limit(4)
    flow(lambda: hydra_fetch_many(serve(origin, 4), tmp_path))()
    until(lambda: active() == 0)
    assert not origin._writers


def test_it_is_kept_while_the_server_is_away(
    origin: Origin, tmp_path: Path, limit: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, run_log: RunLog
) -> None:
    renew, tries = SyncPrefectClient.renew_concurrency_lease, []

    def fail_twice(self: SyncPrefectClient, *args: Any) -> None:
        tries.append(args)
        if len(tries) <= 2:
            raise httpx.ConnectError("refused")
        renew(self, *args)

    monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", fail_twice)
    monkeypatch.setattr(budgets, "_RENEW", 0.2)
    limit(4)
    origin.when().slow(40_000)

    @flow
    def long() -> None:
        files = hydra_fetch_many.submit(serve(origin, 2, 80_000), tmp_path)
        until(lambda: len(tries) > 3, 15)
        assert active() == 2
        files.result()

    long()
    assert not any("cannot be kept to" in line for line in run_log.lines)


def test_many_are_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By servers that take their time: the end of a process does not wait for one after the other."""

    def slow(share: budgets._Share) -> None:
        share.over.wait()
        time.sleep(0.3)

    monkeypatch.setattr(budgets._Share, "_work", slow)
    shares = {(str(number), load()): budgets._Share(str(number), load()) for number in range(5)}
    monkeypatch.setattr(budgets, "_shares", shares)
    start = time.monotonic()
    budgets._end()
    assert time.monotonic() - start < 1.4
    assert not any(share._thread.is_alive() for share in shares.values())


def test_outside_of_runs_nobody_is_asked(origin: Origin, tmp_path: Path, limit: Callable[[int], None]) -> None:
    limit(1)
    hydra_fetch.fn(serve(origin, 1)[0], tmp_path / "x.bin")
    assert budgets._shares == {}
