from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterTaskRunId

from hydraflow.prefect import artifacts, hydra_fetch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.origin import Origin

pytestmark = pytest.mark.usefixtures("prefect_server")

DATA = b"hydra" * 20_000


@pytest.fixture
def url(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> str:
    """A transfer of half a second, of which updates are sent all the time."""
    monkeypatch.setattr(artifacts, "INTERVAL", 0.05)
    origin.when().slow(len(DATA) / 0.5)
    return origin.add("/x.bin", DATA)


def shown(run: Any) -> list[Any]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(task_run_id=ArtifactFilterTaskRunId(any_=[run.id])))


def fetch(url: str, path: Path, **options: Any) -> Any:
    """Fetch, and give the task run."""
    runs: list[Any] = []
    hooked = hydra_fetch.with_options(on_completion=[lambda task, run, state: runs.append(run)])
    assert hooked(url, path, **options).path.read_bytes() == DATA
    (run,) = runs
    return run


def test_ends_at_a_hundred_percent(url: str, tmp_path: Path) -> None:
    bar, proof = sorted(shown(fetch(url, tmp_path / "x.bin")), key=lambda artifact: artifact.type, reverse=True)
    assert (bar.type, bar.data) == ("progress", 100)
    assert bar.description == "x.bin: 100,000 of 100,000 bytes"
    assert proof.type == "markdown"
    assert "size checked" in proof.data
    assert f"<{url}>" in proof.data


def test_is_not_made_on_request(url: str, tmp_path: Path) -> None:
    assert shown(fetch(url, tmp_path / "x.bin", progress=False)) == []


def test_is_not_made_for_a_short_transfer(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "INTERVAL", 5.0)
    start = time.monotonic()
    assert shown(fetch(url, tmp_path / "x.bin")) == []
    assert time.monotonic() - start < 5.0


def test_never_fails_a_transfer(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken(**_: Any) -> NoReturn:
        asked.append(1)
        raise ConnectionError("no server")

    monkeypatch.setattr(artifacts, "own_client", broken)
    artifacts._Poster._at.clear()  # the client that is there is not used
    run = fetch(url, tmp_path / "x.bin")
    assert asked == [1]
    assert shown(run) == []
