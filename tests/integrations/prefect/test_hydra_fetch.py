"""Every way to call `hydra_fetch`, on a real server."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from prefect import flow, task

from hydraflow.errors import NotFoundError
from hydraflow.models import Outcome, Verification
from hydraflow.prefect import FetchedFile, HydraTask, hydra_fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

pytestmark = pytest.mark.usefixtures("prefect_server")

DATA = b"hydra" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
renamed = hydra_fetch.with_options(name="other", retries=0)


@pytest.fixture
def url(origin: Origin) -> str:
    return f"{origin.add('/x.bin', DATA)}#sha256={SHA256}"


# The ways to call it.


def used(file: FetchedFile) -> FetchedFile:
    """What a sync caller does: Prefect would await for it a coroutine that it just hands on."""
    assert file.size == len(DATA)
    return file


@flow
def sync_direct(url: str, dest: Path) -> FetchedFile:
    return used(hydra_fetch(url, dest))


@flow
async def async_awaited(url: str, dest: Path) -> FetchedFile:
    return await hydra_fetch(url, dest)


@flow
def sync_submit(url: str, dest: Path) -> FetchedFile:
    return hydra_fetch.submit(url, dest).result()


@flow
async def async_submit(url: str, dest: Path) -> FetchedFile:
    return hydra_fetch.submit(url, dest).result()


@flow
def sync_map(url: str, dest: Path) -> FetchedFile:
    (file,) = hydra_fetch.map([url], dest).result()
    return file


@flow
async def async_map(url: str, dest: Path) -> FetchedFile:
    (file,) = hydra_fetch.map([url], dest).result()
    return file


@flow
def sync_with_options(url: str, dest: Path) -> FetchedFile:
    return used(renamed(url, dest))


@flow
async def async_with_options(url: str, dest: Path) -> FetchedFile:
    return await renamed(url, dest)


@task
def sync_task(url: str, dest: Path) -> FetchedFile:
    return used(hydra_fetch(url, dest))


@flow
async def sync_task_in_async_flow(url: str, dest: Path) -> FetchedFile:
    return sync_task(url, dest)  # an event loop runs in this thread


@task
async def async_task(url: str, dest: Path) -> FetchedFile:
    return await hydra_fetch(url, dest)


@flow
async def async_task_in_async_flow(url: str, dest: Path) -> FetchedFile:
    return await async_task(url, dest)


async def sync_flow_in_running_loop(url: str, dest: Path) -> FetchedFile:
    return sync_direct(url, dest)  # as a notebook does


async def no_flow_in_running_loop(url: str, dest: Path) -> FetchedFile:
    return await hydra_fetch(url, dest)


def gathered(url: str, dest: Path) -> FetchedFile:
    @flow
    async def both() -> list[FetchedFile]:
        return await asyncio.gather(hydra_fetch(url, dest), hydra_fetch(url, dest.with_name("y.bin")))

    first, second = asyncio.run(both())
    assert second.path.read_bytes() == DATA
    return first


def returned_state(url: str, dest: Path) -> FetchedFile:
    state = hydra_fetch(url, dest, return_state=True)
    assert state.is_completed()
    return state.result()


def running(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: asyncio.run(function(*args))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(sync_direct, id="sync flow, direct"),
        pytest.param(sync_submit, id="sync flow, submit"),
        pytest.param(sync_map, id="sync flow, map"),
        pytest.param(sync_with_options, id="sync flow, with_options"),
        pytest.param(running(async_awaited), id="async flow, await"),
        pytest.param(running(async_submit), id="async flow, submit"),
        pytest.param(running(async_map), id="async flow, map"),
        pytest.param(running(async_with_options), id="async flow, with_options"),
        pytest.param(gathered, id="async flow, gather"),
        pytest.param(running(sync_task_in_async_flow), id="sync task in async flow"),
        pytest.param(running(async_task_in_async_flow), id="async task in async flow"),
        pytest.param(running(sync_flow_in_running_loop), id="sync flow in a running loop"),
        pytest.param(hydra_fetch, id="no flow"),
        pytest.param(running(no_flow_in_running_loop), id="no flow, in a running loop"),
        pytest.param(hydra_fetch.fn, id="no run at all"),
        pytest.param(returned_state, id="return_state"),
        pytest.param(cloudpickle.loads(cloudpickle.dumps(hydra_fetch)), id="sent to another process"),
    ],
)
def test_call(call: Callable[[str, Path], FetchedFile], url: str, tmp_path: Path) -> None:
    file = call(url, tmp_path / "x.bin")
    assert isinstance(file, FetchedFile)
    assert file.path == tmp_path / "x.bin"
    assert file.path.read_bytes() == DATA
    assert (file.size, file.digest) == (len(DATA), f"sha256:{SHA256}")
    assert (file.verification, file.outcome) == (Verification.CALLER, Outcome.FETCHED)


# What it does.


def test_map_fetches_ten_files_over_few_connections(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRAFLOW_THREADS", "3")
    origin.when().head_delay(0.15)
    names = [f"part-{n}.bin" for n in range(10)]
    contents = [name.encode() * 1000 for name in names]
    urls = [origin.add(f"/{name}", data) for name, data in zip(names, contents, strict=True)]

    @flow
    def everything() -> list[FetchedFile]:
        return hydra_fetch.map(urls, f"{tmp_path}/all/").result()

    files = everything()
    assert [file.path for file in files] == [tmp_path / "all" / name for name in names]
    assert [file.path.read_bytes() for file in files] == contents
    assert len(origin.ledger) == len(urls)
    assert 2 <= origin.peak_requests <= origin.peak_connections <= 3


def test_a_second_run_fetches_nothing(origin: Origin, url: str, tmp_path: Path) -> None:
    plain = url.partition("#")[0]  # nobody says that it is still the same file: the server is asked
    hydra_fetch(plain, tmp_path / "x.bin")
    again = hydra_fetch(plain, tmp_path / "x.bin")
    assert (again.outcome, again.bytes_from_network) == (Outcome.ALREADY_PRESENT, 0)
    assert origin.bytes_served() <= len(DATA) + 1  # one byte of it is how its server is asked


def test_a_record_never_stands_for_a_file_that_is_gone(url: str, tmp_path: Path) -> None:
    kept = hydra_fetch.with_options(persist_result=True)

    @flow
    def twice() -> FetchedFile:
        kept(url, tmp_path / "x.bin").path.unlink()
        return kept(url, tmp_path / "x.bin")

    assert twice().path.read_bytes() == DATA


def test_options_reach_the_engine(origin: Origin, url: str, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"something else")
    file = hydra_fetch(
        url.partition("#")[0],
        tmp_path / "x.bin",
        digest=f"sha256:{SHA256}",
        size=len(DATA),
        headers={"X-Token": "secret"},
        overwrite=True,
        progress=False,
    )
    assert file.path.read_bytes() == DATA
    assert origin.ledger[-1].headers["x-token"] == "secret"


def test_a_result_goes_into_the_next_task(url: str, tmp_path: Path) -> None:
    @task
    def size_of(file: FetchedFile) -> int:
        return Path(file).stat().st_size

    @flow
    def chain() -> int:
        return size_of.submit(hydra_fetch.submit(url, tmp_path / "x.bin")).result()

    assert chain() == len(DATA)


@pytest.mark.parametrize("call", [sync_direct, running(async_awaited)], ids=["sync", "async"])
def test_hooks_and_run_name(
    call: Callable[..., Any], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    hooked = hydra_fetch.with_options(on_completion=[lambda task, run, state: names.append(run.name)])
    monkeypatch.setitem(globals(), "hydra_fetch", hooked)
    call(url, tmp_path / "x.bin")
    assert isinstance(hooked, HydraTask)
    assert names == ["fetch-x.bin"]


def test_one_line_in_the_log_says_what_was_verified(url: str, tmp_path: Path, run_log: RunLog) -> None:
    hydra_fetch(url, tmp_path / "x.bin")
    about = [line for line in run_log.lines if "verified" in line]
    assert about == [f"{tmp_path}/x.bin: fetched, 5,000 bytes, verified sha256 (url fragment)"]


@pytest.mark.parametrize("there", [True, False])
def test_secrets_show_nowhere(origin: Origin, tmp_path: Path, run_log: RunLog, there: bool) -> None:
    origin.add("/x.bin" if there else "/y.bin", DATA)
    url = f"{origin.url}/x.bin?X-Amz-Signature=hush&token=hush"
    names: list[str] = []

    def note(_task: object, run: Any, state: Any) -> None:
        names.append(f"{run.name} {state.message}")

    fetch = hydra_fetch.with_options(on_completion=[note], on_failure=[note], persist_result=False)
    if there:
        assert "hush" not in fetch(url, f"{tmp_path}/").model_dump_json()
    else:
        with pytest.raises(NotFoundError) as caught:
            fetch(url, f"{tmp_path}/")
        assert "hush" not in f"{caught.value!r} {caught.value.url}"
    assert len(names) == 1
    assert names[0].startswith("fetch-x.bin")
    assert run_log.lines
    assert not any("hush" in text for text in (*names, *run_log.lines))
