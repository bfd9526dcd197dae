"""`hydra_fetch_many`: one task for a list of files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterTaskRunId

from hydraflow.errors import DigestMismatchError, NotFoundError
from hydraflow.models import Outcome
from hydraflow.prefect import FetchedFile, artifacts, hydra_fetch_many

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

pytestmark = pytest.mark.usefixtures("prefect_server")

quick = hydra_fetch_many.with_options(retry_delay_seconds=0)


def contents(count: int = 5) -> dict[str, bytes]:
    return {f"part-{number}.bin": str(number).encode() * 20_000 for number in range(count)}


def serve(origin: Origin, files: dict[str, bytes]) -> list[str]:
    return [f"{origin.add(f'/{name}', data)}#sha256={hashlib.sha256(data).hexdigest()}" for name, data in files.items()]


@flow
def direct(manifest: Any, dest: Path) -> list[FetchedFile]:
    files: list[FetchedFile] = quick(manifest, dest)
    assert files[0].size  # a sync caller uses it
    return files


@flow
async def awaited(manifest: Any, dest: Path) -> list[FetchedFile]:
    return await quick(manifest, dest)


@flow
def submitted(manifest: Any, dest: Path) -> list[FetchedFile]:
    return quick.submit(manifest, dest).result()


@flow
async def submitted_in_async(manifest: Any, dest: Path) -> list[FetchedFile]:
    return quick.submit(manifest, dest).result()


WAYS = pytest.mark.parametrize(
    "call",
    [
        pytest.param(direct, id="direct"),
        pytest.param(lambda *args: asyncio.run(awaited(*args)), id="await"),
        pytest.param(submitted, id="submit"),
        pytest.param(lambda *args: asyncio.run(submitted_in_async(*args)), id="submit in async"),
        pytest.param(quick, id="no flow"),
        pytest.param(lambda *args: asyncio.run(_awaited_alone(*args)), id="no flow, in a running loop"),
    ],
)


async def _awaited_alone(manifest: Any, dest: Path) -> list[FetchedFile]:
    return await quick(manifest, dest)


@WAYS
def test_call(origin: Origin, tmp_path: Path, call: Callable[..., list[FetchedFile]]) -> None:
    files = contents()
    got = call(serve(origin, files), tmp_path / "all")
    assert [file.path for file in got] == [tmp_path / "all" / name for name in files]
    assert [file.path.read_bytes() for file in got] == list(files.values())
    assert all(file.proof == "verified sha256 (url fragment)" for file in got)


def test_a_manifest_file(origin: Origin, tmp_path: Path) -> None:
    files = contents(2)
    urls = [url.partition("#")[0] for url in serve(origin, files)]
    sums = [f"{hashlib.md5(data).hexdigest()},{len(data)}" for data in files.values()]
    rows = [f"{url},{known}" for url, known in zip(urls, sums, strict=True)]
    (tmp_path / "manifest.csv").write_text("\n".join(["url,md5,size", *rows]))
    got = quick(tmp_path / "manifest.csv", tmp_path / "all")
    assert [file.proof for file in got] == ["verified md5 (manifest)"] * 2


def test_a_second_run_fetches_nothing(origin: Origin, tmp_path: Path) -> None:
    urls = serve(origin, contents())
    quick(urls, tmp_path)
    served = origin.bytes_served()
    assert {file.outcome for file in quick(urls, tmp_path)} == {Outcome.ALREADY_PRESENT}
    assert origin.bytes_served() == served


@pytest.mark.parametrize("way", ["direct", "await"])
def test_one_that_is_missing_fails_after_all_were_tried(
    origin: Origin, tmp_path: Path, way: str, run_log: RunLog
) -> None:
    urls = [f"{origin.url}/none.bin?token=hush", *serve(origin, contents(2))]
    with pytest.raises(NotFoundError):
        asyncio.run(awaited(urls, tmp_path)) if way == "await" else quick(urls, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-0.bin", "part-1.bin"]
    assert len(origin.requests("/none.bin")) == 1  # no retry would help
    assert any("none.bin?token=***: " in line for line in run_log.lines)
    assert not any("hush" in line for line in run_log.lines)


def test_several_that_fail_are_told_together_and_retried_if_one_may_pass(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_log: RunLog
) -> None:
    monkeypatch.setenv("HYDRAFLOW_MAX_WAIT", "0")
    good = serve(origin, contents(2))
    wrong = origin.add("/wrong.bin", b"x") + "#sha256=" + "0" * 64
    origin.when(path="/part-0.bin", request=1).status(503)
    with pytest.raises(DigestMismatchError):
        quick([*good, wrong], tmp_path)
    assert any("2 of 3 files failed" in line and "Retry 1/3" in line for line in run_log.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-0.bin", "part-1.bin"]


def shown(run: Any) -> dict[str, Any]:
    only = ArtifactFilter(task_run_id=ArtifactFilterTaskRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        return {each.type or "": each for each in client.read_artifacts(artifact_filter=only)}


def noted(urls: list[str], dest: Path, **options: Any) -> Any:
    runs: list[Any] = []
    note = [lambda task, run, state: runs.append(run)]
    with contextlib.suppress(NotFoundError):
        quick.with_options(on_completion=note, on_failure=note)(urls, dest, **options)
    return runs[-1]


def test_the_table_has_a_row_for_each_file(origin: Origin, tmp_path: Path) -> None:
    urls = [f"{origin.url}/none.bin?token=hush", *serve(origin, contents(2))]
    table = shown(noted(urls, tmp_path))["table"]
    assert table.key == artifacts.TABLE
    assert table.description == "2 of 3 files, 40,000 bytes"
    rows = json.loads(table.data)
    assert [row["file"] for row in rows] == ["none.bin", "part-0.bin", "part-1.bin"]
    assert [row["outcome"] for row in rows] == ["failed", "fetched", "fetched"]
    assert rows[1]["digest"] == f"sha256:{hashlib.sha256(b'0' * 20_000).hexdigest()}"
    assert rows[1]["proof"] == "verified sha256 (url fragment)"
    assert "404" in rows[0]["proof"]
    assert "hush" not in table.data


def test_each_flow_has_a_table_of_its_own(origin: Origin, tmp_path: Path) -> None:
    urls, runs = serve(origin, contents(1)), []
    noting = quick.with_options(on_completion=[lambda task, run, state: runs.append(run)])

    @flow(name="Nightly Mirror_2")
    def submitting() -> None:
        noting.submit(urls, tmp_path).result()

    @flow(name="Ünïcode")
    async def awaiting() -> None:
        await noting(urls, tmp_path)

    submitting()
    asyncio.run(awaiting())
    assert [shown(run)["table"].key for run in runs] == ["hydraflow-files-nightly-mirror-2", "hydraflow-files-n-code"]


def test_one_bar_for_all(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "INTERVAL", 0.05)
    urls = serve(origin, contents(3))
    origin.when().slow(50_000)
    found = shown(noted(urls, tmp_path))
    assert sorted(found) == ["progress", "table"]
    assert found["progress"].data == 100
    assert found["progress"].description == "3 of 3 files"


def test_nothing_is_shown_on_request(origin: Origin, tmp_path: Path) -> None:
    assert shown(noted(serve(origin, contents(2)), tmp_path, progress=False)) == {}


def test_a_timeout_ends_all_of_them(origin: Origin, tmp_path: Path) -> None:
    urls = serve(origin, contents(3))
    origin.when().stall(after=1000)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        flow(lambda: hydra_fetch_many.with_options(timeout_seconds=0.7, retries=0).submit(urls, tmp_path).result())()
    assert time.monotonic() - start < 5
