"""A cached result is never one of a file that is gone or is another one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.settings import PREFECT_HOME

from hydraflow.errors import DestinationExistsError
from hydraflow.prefect import FetchedFile, FileOnDisk, hydra_fetch
from tests.integrations.prefect.victims import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.origin import Origin

pytestmark = pytest.mark.usefixtures("prefect_server")

DATA = b"hydra" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = b"other" * 1000


@pytest.fixture
def url(origin: Origin) -> str:
    return f"{origin.add('/x.bin', DATA)}#sha256={SHA256}"


@pytest.fixture
def run() -> Callable[..., Any]:
    def run(url: str, dest: Path, fetch: Any = hydra_fetch) -> Any:
        states: list[Any] = []
        noting = fetch.with_options(on_completion=[lambda task, run, state: states.append(state)])

        @flow
        def once() -> FetchedFile:
            return noting(url, dest)

        fetched_file = once()
        assert fetched_file.path.read_bytes() == DATA
        return states[-1].name, fetched_file

    return run


def test_a_rerun_is_cached_and_asks_nobody(origin: Origin, url: str, tmp_path: Path, run: Any) -> None:
    assert run(url, tmp_path / "x.bin")[0] == "Completed"
    origin.pause()
    name, file = run(url, tmp_path / "x.bin")
    assert (name, file.digest) == ("Cached", f"sha256:{SHA256}")
    assert len(origin.ledger) == 1


def test_a_deleted_file_is_fetched_again(origin: Origin, url: str, tmp_path: Path, run: Any) -> None:
    run(url, tmp_path / "x.bin")[1].path.unlink()
    assert run(url, tmp_path / "x.bin")[0] == "Completed"
    assert run(url, tmp_path / "x.bin")[0] == "Cached"
    assert origin.bytes_served() == 2 * len(DATA)


def tampered(path: Path) -> None:
    facts = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


def test_a_tampered_file_is_fetched_again(origin: Origin, url: str, tmp_path: Path, run: Any) -> None:
    tampered(run(url, tmp_path / "x.bin")[1].path)
    assert run(url, tmp_path / "x.bin")[0] == "Completed"
    assert run(url, tmp_path / "x.bin")[0] == "Cached"
    assert origin.bytes_served() == 2 * len(DATA)


def test_in_async_flows_too(origin: Origin, url: str, tmp_path: Path) -> None:
    names: list[str] = []
    noting = hydra_fetch.with_options(on_completion=[lambda task, run, state: names.append(state.name)])

    @flow
    async def once() -> FetchedFile:
        return await noting(url, tmp_path / "x.bin")

    asyncio.run(once())
    tampered(tmp_path / "x.bin")
    for _ in range(2):
        assert asyncio.run(once()).path.read_bytes() == DATA
    assert names == ["Completed", "Completed", "Cached"]
    assert origin.bytes_served() == 2 * len(DATA)


def test_only_what_a_fetch_has_left_is_replaced(url: str, tmp_path: Path, run: Any) -> None:
    (tmp_path / "x.bin").write_bytes(OTHER)
    with pytest.raises(DestinationExistsError):
        run(url, tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == OTHER


def test_a_change_that_hides_is_found_by_a_deep_look(url: str, tmp_path: Path, run: Any) -> None:
    path = run(url, tmp_path / "x.bin")[1].path
    facts = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    deep = hydra_fetch.with_options(cache_policy=FileOnDisk(deep=True))
    assert run(url, tmp_path / "x.bin", deep)[0] == "Completed"
    assert run(url, tmp_path / "x.bin", deep)[0] == "Cached"


@pytest.fixture
def elsewhere(tmp_path: Path, prefect_api: str) -> Callable[..., None]:
    """Runs the flow as on a machine of another name with a disk of its own, and the same storage of results."""
    home, place = PREFECT_HOME.value(), tmp_path / "disk"
    place.mkdir()
    become = ["unshare", "--user", "--map-root-user", "--mount", "--uts", "sh", "-c"]
    prepare = f"mount -t tmpfs tmpfs {place} && hostname elsewhere"
    permitted = subprocess.run([*become, prepare], check=False, capture_output=True, text=True)
    if permitted.returncode != 0:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no namespace here: {permitted.stderr}")

    def fetch(url: str, dest: Path) -> None:
        words = [sys.executable, "-m", "tests.integrations.prefect.victim", "direct", url, str(dest)]
        check = f"{shlex.join(words)} && sha256sum {dest} && test ! -e {dest}.before"
        done = subprocess.run(
            [*become, f"{prepare} && {check}"],
            cwd=ROOT, env=environment(prefect_api, home), check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert SHA256 in done.stdout

    return fetch


def test_a_moved_machine_fetches_for_itself(
    origin: Origin, url: str, tmp_path: Path, run: Any, elsewhere: Callable[..., None]
) -> None:
    dest = tmp_path / "disk" / "x.bin"
    assert run(url, dest)[0] == "Completed"
    dest.with_name("x.bin.before").touch()  # on this disk only
    elsewhere(url, dest)
    assert origin.bytes_served() == 2 * len(DATA)
    assert run(url, dest)[0] == "Cached", "its record is not touched by what happens elsewhere"


@pytest.mark.parametrize(
    ("policy", "name"),
    [(FileOnDisk(), "Completed"), (FileOnDisk(immutable=True), "Cached")],
    ids=["asked", "immutable"],
)
def test_without_a_digest_another_run_asks(
    origin: Origin, url: str, tmp_path: Path, run: Any, policy: FileOnDisk, name: str
) -> None:
    plain, fetch = url.partition("#")[0], hydra_fetch.with_options(cache_policy=policy)
    run(plain, tmp_path / "x.bin", fetch)
    assert run(plain, tmp_path / "x.bin", fetch)[0] == name
    assert origin.bytes_served("/x.bin") <= len(DATA) + 1  # one byte of the file is how its server is asked


def test_without_a_digest_the_same_run_does_not_ask(origin: Origin, url: str, tmp_path: Path) -> None:
    plain = url.partition("#")[0]

    @flow
    def twice() -> None:
        for _ in range(2):
            hydra_fetch(plain, tmp_path / "x.bin")

    twice()
    assert len(origin.requests("/x.bin")) == 1


def test_a_new_signature_is_the_same_file(origin: Origin, url: str, tmp_path: Path, run: Any) -> None:
    plain = url.partition("#")[0]
    run(f"{plain}?X-Amz-Signature=one#sha256={SHA256}", tmp_path / "x.bin")
    assert run(f"{plain}?X-Amz-Signature=two#sha256={SHA256}", tmp_path / "x.bin")[0] == "Cached"
    assert len(origin.ledger) == 1


def test_a_task_that_depends_on_the_content_stays_cached(origin: Origin, url: str, tmp_path: Path) -> None:
    counted: list[Path] = []

    @task(cache_policy=INPUTS + TASK_SOURCE, persist_result=True)
    def count(file: FetchedFile) -> int:
        counted.append(file.path)
        return Path(file).stat().st_size

    @flow
    def chain(dest: Path) -> int:
        return count(hydra_fetch(url, dest))

    assert chain(tmp_path / "x.bin") == len(DATA)
    (tmp_path / "x.bin").unlink()
    assert chain(tmp_path / "x.bin") == len(DATA)  # fetched anew
    assert chain(tmp_path / "elsewhere.bin") == len(DATA)
    assert counted == [tmp_path / "x.bin"]
    assert origin.bytes_served() == 3 * len(DATA)


def test_other_content_is_another_input(origin: Origin, tmp_path: Path) -> None:
    counted: list[Path] = []

    @task(cache_policy=INPUTS + TASK_SOURCE, persist_result=True)
    def count(file: FetchedFile) -> None:
        counted.append(file.path)

    for name, data in (("a", DATA), ("b", OTHER)):
        url = origin.add(f"/{name}", data)
        file = hydra_fetch(f"{url}#sha256={hashlib.sha256(data).hexdigest()}", tmp_path / name)
        count(file)
    assert counted == [tmp_path / "a", tmp_path / "b"]
