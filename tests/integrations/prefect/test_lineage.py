"""`https://…` → `file://…` in the server's events, without a decorator."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.assets import materialize
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker

from hydraflow.prefect import hydra_fetch, hydra_fetch_many

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.origin import Origin

pytestmark = pytest.mark.usefixtures("prefect_server")

HOST = socket.gethostname()


def told(resource: str) -> list[dict[str, Any]]:
    """Events about a resource, once the server has one."""
    EventsWorker.instance().wait_until_empty()
    asked = {"filter": {"resource": {"id": [resource]}}, "limit": 10}
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found: list[dict[str, Any]] = client.request("POST", "/events/filter", json=asked).json()["events"]
            if found:
                return found
            time.sleep(0.05)
    return []


def made(resource: str) -> dict[str, Any]:
    (event,) = [each for each in told(resource) if "materialization" in each["event"]]
    return event


def related(event: dict[str, Any]) -> set[str]:
    return {each["prefect.resource.id"] for each in event["related"]}


def test_sources_files_and_what_is_made_of_them(origin: Origin, tmp_path: Path) -> None:
    """All at once, since the server takes some seconds before it tells."""
    url, *urls = [origin.add(f"/asset-{number}", b"x" * (number + 1)) for number in range(4)]
    count = materialize(f"file://{HOST}{tmp_path}/count")(lambda file: file.size)

    @flow
    def chain() -> int:
        return count(hydra_fetch(f"{url}?token=hush", tmp_path / "x.bin"))

    assert chain() == 1
    hydra_fetch_many(urls, tmp_path)

    event = made(f"file://{HOST}{tmp_path}/x.bin")
    assert event["event"] == "prefect.asset.materialization.succeeded"
    assert event["payload"] == {"size": 1, "digest": None, "verification": "size", "etag": '"v1"'}
    assert {url, "hydraflow"} <= related(event)
    (referenced,) = told(url)
    assert referenced["event"] == "prefect.asset.referenced"
    assert "hush" not in f"{event} {referenced}"
    assert f"file://{HOST}{tmp_path}/x.bin" in related(made(f"file://{HOST}{tmp_path}/count"))
    for number, source in enumerate(urls, 1):
        event = made(f"file://{HOST}{tmp_path}/asset-{number}")
        assert related(event) & set(urls) == {source}
        assert event["payload"]["size"] == number + 1


def test_a_name_that_prefect_does_not_take(origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/a%20b.bin", b"x" * 1000)
    assert hydra_fetch(url, f"{tmp_path}/").path.name == "a b.bin"


def test_more_files_than_an_event_can_name(origin: Origin, tmp_path: Path) -> None:
    """Prefect refuses one that names more than a hundred, and loses it."""
    urls = [origin.add(f"/few-{number}.bin", b"x" * 10) for number in range(101)]
    total = materialize(f"file://{HOST}{tmp_path}/sum")(lambda files: sum(file.size for file in files))

    @flow
    def chain() -> int:
        return total([hydra_fetch.submit(url, f"{tmp_path}/few/", progress=False) for url in urls])

    assert chain() == 1010
    assert made(f"file://{HOST}{tmp_path}/sum")
