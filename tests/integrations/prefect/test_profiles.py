"""Credentials and ceilings: who has the last word, and that nobody sees the secrets."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr

from hydraflow.errors import ConfigurationError
from hydraflow.prefect import HydraProfile, hydra_fetch, hydra_pipe
from hydraflow.prefect.profiles import settle

if TYPE_CHECKING:
    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog


ROOT = Path(__file__).parents[3]


class TestBlock(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[HydraProfile]:
        return HydraProfile

    def test_has_a_valid_image(self, block: type[HydraProfile]) -> None:
        """The one of the suite would go to the internet."""
        name = str(block._logo_url).rpartition("/main/")[2]
        head = (ROOT / name).read_bytes()[:24]
        width, height = struct.unpack(">II", head[16:])
        assert head.startswith(b"\x89PNG")
        assert 45 < width == height < 1000


def test_who_has_the_last_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRAFLOW_THREADS", "1")
    assert settle(None, None, None)[1].threads == 1
    (tmp_path / "prefect.toml").write_text("[integrations.hydraflow]\nthreads = 2\n")
    monkeypatch.setenv("PREFECT_INTEGRATIONS_HYDRAFLOW_MAX_WAIT", "10m")
    assert settle(None, None, None)[1].threads == 2
    monkeypatch.setenv("PREFECT_INTEGRATIONS_HYDRAFLOW_THREADS", "3")
    assert settle(None, None, None)[1].threads == 3
    profile = HydraProfile(threads=4, limit_rate="5MB", settings={"threads": 9, "verify": "require"})
    settings = settle(profile, None, None)[1]
    assert (settings.threads, settings.limit_rate, settings.verify, settings.max_wait) == (4, 5_000_000, "require", 600)
    assert settle(profile, None, {"threads": 5})[1].threads == 5


def test_header_fields_of_the_call_come_first() -> None:
    profile = HydraProfile(token="one", headers={"X-Project": "two"})
    assert settle(profile, None, None)[0] == {"Authorization": "Bearer one", "X-Project": "two"}
    assert settle(profile, {"authorization": "mine"}, None)[0] == {"X-Project": "two", "authorization": "mine"}


def test_what_is_no_setting() -> None:
    with pytest.raises(ConfigurationError, match="no setting 'thread'"):
        settle(None, None, {"thread": 1})


@pytest.mark.usefixtures("prefect_server")
class TestSaved:
    @pytest.fixture
    def saved(self, request: pytest.FixtureRequest) -> str:
        profile: Any = HydraProfile(token="hush", headers={"X-Key": "hush"}, threads=2)
        profile.save("example", overwrite=True)
        return "example"

    @pytest.mark.parametrize("way", ["sync", "async", "submit", "pipe"])
    def test_by_its_name(self, origin: Origin, tmp_path: Path, saved: str, way: str, run_log: RunLog) -> None:
        url = origin.add("/x.bin", b"x" * 1000)

        @flow(persist_result=True)
        def sync_flow() -> None:
            if way == "pipe":
                hydra_pipe(url, "wc -c", profile=saved)
            elif way == "submit":
                hydra_fetch.submit(url, tmp_path / "x.bin", profile=saved).wait()
            else:
                hydra_fetch(url, tmp_path / "x.bin", profile=saved)

        @flow
        async def async_flow() -> None:
            await hydra_fetch(url, tmp_path / "x.bin", profile=saved)

        asyncio.run(async_flow()) if way == "async" else sync_flow()
        assert {record.headers.get("authorization") for record in origin.requests("/x.bin")} == {"Bearer hush"}
        assert {record.headers.get("x-key") for record in origin.requests("/x.bin")} == {"hush"}
        assert not any("hush" in line for line in run_log.lines)

    def test_as_it_is(self, origin: Origin, tmp_path: Path) -> None:
        url = origin.add("/x.bin", b"x" * 1000)
        profile = HydraProfile(token="hush")
        assert "hush" not in f"{profile} {profile!r}"
        hydra_fetch(url, tmp_path / "x.bin", profile=profile)
        assert origin.ledger[0].headers["authorization"] == "Bearer hush"


@pytest.mark.usefixtures("prefect_server")
def test_a_signed_url_that_nobody_sees(origin: Origin, tmp_path: Path, run_log: RunLog) -> None:
    """As a parameter of a flow, which Prefect would store."""
    origin.add("/x.bin", b"x" * 1000)

    @flow
    def signed(url: SecretStr) -> str:
        hydra_fetch(url, f"{tmp_path}/")
        hydra_fetch.submit(url, f"{tmp_path}/two").result()
        return str(flow_run.id)

    run = signed(SecretStr(f"{origin.url}/x.bin?X-Amz-Signature=hush"))
    with get_client(sync_client=True) as client:
        stored = client.read_flow_run(UUID(run))
    assert "hush" not in stored.model_dump_json()
    assert run_log.lines
    assert not any("hush" in line for line in run_log.lines)


def test_prefect_finds_the_collection() -> None:
    code = "from prefect.plugins import load_prefect_collections as load; print(load()['hydraflow'].__name__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "hydraflow.prefect"
