"""Prefect flows that are ended in every way, and five hundred files; prints what it saw."""

# ruff: noqa: F811 - fixtures, which are imported

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.states import Cancelling, Crashed

from hydraflow.prefect import hydra_fetch, hydra_fetch_many
from lab.nginx import Nginx
from tests.integrations.prefect import test_count_records
from tests.integrations.prefect.conftest import prefect_api, prefect_server, swept  # noqa: F401 - fixtures
from tests.integrations.prefect.victims import environment, starter, until

if TYPE_CHECKING:
    from tests.conftest import Samples
    from tests.faults.origin import Origin

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(300)]

DATA = os.urandom(16 << 20)
RATE = 400_000  # bytes a second of each of two connections

SIGNALS = [
    ("direct", signal.SIGTERM),
    ("direct", signal.SIGINT),
    ("submitted", signal.SIGTERM),
    ("submitted", signal.SIGINT),
    ("mapped", signal.SIGTERM),
    ("many", signal.SIGTERM),
    ("nested", signal.SIGTERM),
    ("pooled", signal.SIGTERM),
    ("awaited", signal.SIGTERM),
    ("awaited", signal.SIGINT),
    ("submitted_in_async", signal.SIGTERM),
    ("piped", signal.SIGTERM),
    ("streamed", signal.SIGTERM),
]


def still(origin: Origin) -> int:
    """Bytes served, which do not become more within a second."""
    served = origin.bytes_served()
    time.sleep(1)
    assert origin.bytes_served() == served
    return served


@pytest.mark.parametrize(("way", "number"), SIGNALS)
def test_signals(origin: Origin, tmp_path: Path, prefect_api: str, way: str, number: int) -> None:
    url = origin.add("/x.bin", DATA)
    origin.when().slow(RATE)
    with starter(prefect_api, tmp_path / "home") as start:
        process = start(way, url, tmp_path / "x.bin")
        until(lambda: origin.bytes_served() > 1 << 20)
        if way == "pooled":  # as a worker or a shell does it; the flow's own process would wait for its pool
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        took = until(lambda: process.poll() is not None)
    served = still(origin)
    assert took < 5
    assert served < len(DATA)
    assert not (tmp_path / "x.bin.commit").exists()
    print(f"\n{way}, {signal.Signals(number).name}: ended in {took:.2f} s, no byte more", end="")
    if way in ("piped", "streamed"):
        return
    origin.rules.clear()
    file = hydra_fetch(url, tmp_path / "x.bin")
    assert file.path.read_bytes() == DATA
    assert file.bytes_from_checkpoint > 0
    print(f"; rerun: {origin.bytes_served() / len(DATA):.3f} × the file in all", end="")


def test_the_timeout_of_the_flow(origin: Origin, tmp_path: Path, prefect_api: str) -> None:
    url = origin.add("/x.bin", DATA)
    origin.when().slow(RATE)
    with starter(prefect_api, tmp_path / "home") as start:
        process = start("timed_out", url, tmp_path / "x.bin")
        until(lambda: origin.bytes_served() > 0)
        took = until(lambda: process.poll() is not None)
    assert took < 2 + 5
    assert still(origin) < len(DATA)
    print(f"\nflow timeout of 2 s: ended {took:.2f} s after the first byte", end="")


@pytest.mark.parametrize("how", ["rerun", "prefect flow-run retry"])
def test_kill_9_at_a_half(origin: Origin, tmp_path: Path, prefect_api: str, how: str) -> None:
    url = f"{origin.add('/x.bin', DATA)}#sha256={hashlib.sha256(DATA).hexdigest()}"
    origin.when().slow(RATE)
    variables = environment(prefect_api, tmp_path / "home")
    with starter(prefect_api, tmp_path / "home") as start:
        process = start("submitted", url, tmp_path / "x.bin")
        until(lambda: origin.bytes_served() > len(DATA) // 2)
        process.kill()
        process.wait()
        before = origin.bytes_served()
        origin.rules.clear()
        if how == "rerun":
            assert start("submitted", url, tmp_path / "x.bin").wait(100) == 0
        else:
            retry(variables, _crashed(url))
    assert (tmp_path / "x.bin").read_bytes() == DATA
    total = origin.bytes_served() / len(DATA)
    print(f"\nkill -9 after {before / len(DATA):.2f} of it, {how}: {total:.3f} × the file in all", end="")
    assert total <= 1.05


def _crashed(url: str) -> UUID:
    """The flow run, which says that it is running: nobody could tell otherwise."""
    with get_client(sync_client=True) as client:
        running = FlowRunFilterState(name=FlowRunFilterStateName(any_=["Running"]))
        (run,) = [
            each
            for each in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running))
            if each.parameters.get("url") == url
        ]
        client.set_flow_run_state(run.id, Crashed(), force=True)
        return run.id


def retry(variables: dict[str, str], run: UUID) -> None:
    command = [
        sys.executable, "-m", "prefect", "flow-run", "retry", str(run),
        "--entrypoint", "tests/integrations/prefect/victim.py:submitted",
    ]  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=variables, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", ["sleeping", "direct", "submitted", "awaited", "mapped", "pooled"])
def test_cancelled_through_the_api(
    origin: Origin,
    tmp_path: Path,
    prefect_api: str,
    way: str,
) -> None:
    url = origin.add("/x.bin", DATA)
    origin.when().slow(RATE)
    variables = environment(prefect_api, tmp_path / "home")
    root, pool, name = Path(__file__).parents[2], f"pool-{way}", f"{way.replace('_', '-')}/night"
    prefect = [sys.executable, "-m", "prefect"]

    def call(*words: str) -> None:
        done = subprocess.run(
            [*prefect, *words], cwd=root, env=variables, check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    call("work-pool", "create", pool, "--type", "process")
    entry = f"tests/integrations/prefect/victim.py:{way}"
    call("--no-prompt", "deploy", entry, "--name", "night", "--pool", pool)
    worker = subprocess.Popen(
        [*prefect, "worker", "start", "--pool", pool, "--limit", "1"],
        cwd=root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(name)
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters={"url": url, "dest": str(tmp_path / "x.bin")}
            )
            if way == "sleeping":  # what Prefect itself takes, for comparison
                until(lambda: client.read_flow_run(run.id).state_name == "Running")
                time.sleep(3)
            else:
                until(lambda: origin.bytes_served() > 1 << 20)
            client.set_flow_run_state(run.id, Cancelling(), force=True)
            asked = last = gone = time.monotonic()
            served = origin.bytes_served()
            while client.read_flow_run(run.id).state_name != "Cancelled":
                if _runs(run.id):
                    gone = time.monotonic()
                if origin.bytes_served() != served:
                    served, last = origin.bytes_served(), time.monotonic()
                assert time.monotonic() - asked < 60
                time.sleep(0.02)
            took = time.monotonic() - asked
        served = still(origin)
    finally:
        worker.send_signal(signal.SIGINT)
        out, _ = worker.communicate(timeout=60)
    assert served < len(DATA), out
    print(
        f"\n{way}: last byte {last - asked:.2f} s after Cancel, process gone after {gone - asked:.2f} s,"
        f" state Cancelled after {took:.2f} s",
        end="",
    )
    assert last - asked < 5
    if way == "sleeping":
        return
    origin.rules.clear()
    file = hydra_fetch(url, tmp_path / "x.bin")
    assert file.path.read_bytes() == DATA
    assert file.bytes_from_checkpoint > 0


def _runs(run: UUID) -> bool:
    """The process of the flow run is there; Prefect starts another one for what is to be done on cancellation."""
    mark = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if b"prefect.engine" in (process / "cmdline").read_bytes() and mark in (process / "environ").read_bytes():
                return True
    return False


def test_what_a_newcomer_runs_first(nginx: Nginx, samples: Samples, tmp_path: Path) -> None:
    """With no server at all: Prefect starts one for as long as it takes."""
    test_count_records.run(nginx, samples, tmp_path, {"PREFECT_API_URL": ""})


def test_the_nightly_mirror(origin: Origin, tmp_path: Path, prefect_api: str) -> None:
    """The deployment as it stands in the repository, with a worker, and a night now."""
    root = Path(__file__).parents[2]
    shutil.copytree(root / "workflows" / "nightly", tmp_path / "nightly")
    (tmp_path / "nightly" / "files.txt").write_text(origin.add("/x.bin", DATA))
    yaml = tmp_path / "nightly" / "prefect.yaml"
    yaml.write_text(yaml.read_text().replace("/srv/mirror", str(tmp_path / "mirror")))
    variables = environment(prefect_api, tmp_path / "home")

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(
            command, cwd=tmp_path / "nightly", env=variables, check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("work-pool", "create", "mirrors", "--type", "process")
    call("deploy", "--all")
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("mirror/nightly")
        assert [str(each.schedule.cron) for each in deployment.schedules] == ["30 2 * * *"]
        runs = [client.create_flow_run_from_deployment(deployment.id)]
        call("worker", "start", "--pool", "mirrors", "--run-once")
        assert client.read_flow_run(runs[0].id).state_name == "Completed"
    assert (tmp_path / "mirror" / "x.bin").read_bytes() == DATA


@pytest.mark.timeout(900)
def test_five_hundred_small_files(tmp_path: Path) -> None:
    """Turn by turn, each on a server that is done with the events of the one before.

    From a web server of its own process: one in this process would wait for 500 threads at each of its turns.
    """
    (tmp_path / "www").mkdir()
    for number in range(500):
        (tmp_path / "www" / f"{number:03}.bin").write_bytes(os.urandom(20_000))
    with Nginx(tmp_path / "www") as server:
        _turn_by_turn(server, [f"{server.url}/{number:03}.bin" for number in range(500)], tmp_path)


def _turn_by_turn(server: Nginx, urls: list[str], tmp_path: Path) -> None:
    walls: dict[str, list[float]] = {}

    @flow
    def mapped(place: Path) -> None:
        hydra_fetch.map(urls, f"{place}/").result()

    @flow
    def many(place: Path) -> None:
        hydra_fetch_many(urls, place)

    @task
    def plain(url: str, place: Path) -> None:
        (place / url.rpartition("/")[2]).write_bytes(httpx.get(url).content)

    @flow
    def plainly(place: Path) -> None:
        plain.map(urls, unmapped(place)).result()

    def measured(name: str, run: Any) -> None:
        _at_rest()
        first, place = len(server.access_log), tmp_path / f"{len(walls)}-{name}-{len(walls.get(name, ()))}"
        place.mkdir()
        start = time.monotonic()
        run(place)
        walls.setdefault(name, []).append(time.monotonic() - start)
        connections = {line.connection for line in server.access_log[first:]}
        print(f"\n{name}: {walls[name][-1]:.1f} s, {len(connections)} connections made", end="")
        assert [path.stat().st_size for path in place.iterdir()] == [20_000] * 500

    turns = [("plain httpx task for each", plainly), ("hydra_fetch.map", mapped)]
    for turn in range(3):
        for name, run in turns[:: 1 if turn % 2 else -1]:
            measured(name, run)
    measured("hydra_fetch_many", many)
    middle = [statistics.median(walls[name]) for name, _ in turns]
    print(f"\nmedians: {middle[0]:.1f} s plain, {middle[1]:.1f} s hydra_fetch.map", end="")
    assert middle[1] <= 1.25 * middle[0]  # ahead on a machine at rest, level on a busy one


def _at_rest() -> None:
    """Wait until Prefect's server does next to nothing: it works on the events of a run for longer than the run."""
    [server] = [process for process in Path("/proc").iterdir() if process.name.isdigit() and _is_server(process)]

    def used() -> float:
        times = (server / "stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def idle() -> bool:
        before = used()
        time.sleep(0.5)
        return used() - before < 0.04

    until(idle, 300)


def _is_server(process: Path) -> bool:
    with contextlib.suppress(OSError):
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        return int(parent) == os.getpid() and b"uvicorn" in (process / "cmdline").read_bytes()
    return False
