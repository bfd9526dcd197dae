from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from prefect.states import Failed

from hydraflow import errors
from hydraflow.prefect import hydra_fetch, worth_another_try

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

AT_ONCE = [
    errors.NotFoundError("gone", status=404),
    errors.AccessDeniedError("no", status=403),
    errors.RequestError("odd", status=418),
    errors.DigestMismatchError("wrong", algorithm="md5", expected="0", actual="1", source="caller"),
    errors.SizeMismatchError("wrong", expected=1, actual=2),
    errors.ConfigurationError("wrong"),
    errors.StorageError("read-only"),
    errors.DiskFullError("full"),
    errors.DestinationExistsError("there"),
]
AGAIN = [
    errors.ConnectError("refused"),
    errors.StalledError("silence"),
    errors.ConnectionDroppedError("cut"),
    errors.TransferError("503 Service Unavailable"),
    errors.RemoteProtocolError("odd"),
    errors.ResourceChangedError("new", was="a", now="b"),
    errors.DestinationBusyError("busy"),
    TimeoutError("of the task"),
]


@pytest.mark.parametrize(
    ("error", "again"),
    [(error, False) for error in AT_ONCE] + [(error, True) for error in AGAIN],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_which_errors(error: Exception, again: bool) -> None:
    run: Any = None
    assert worth_another_try(hydra_fetch, run, Failed(data=error)) is again


def test_prefect_takes_it_for_a_condition() -> None:
    # Prefect reads any other callable as "never".
    assert inspect.isfunction(hydra_fetch.retry_condition_fn)
    assert hydra_fetch.retries == 3


quick = hydra_fetch.with_options(retry_delay_seconds=0)


@pytest.mark.usefixtures("prefect_server")
class TestAgainstAServer:
    @pytest.mark.parametrize(
        ("status", "error"),
        [(404, errors.NotFoundError), (401, errors.AccessDeniedError), (403, errors.AccessDeniedError)],
    )
    def test_a_refusal_fails_at_once(
        self, origin: Origin, tmp_path: Path, status: int, error: type[errors.RequestError]
    ) -> None:
        url = origin.add("/x.bin", b"x" * 1000)
        origin.when().status(status)
        with pytest.raises(error):
            quick(url, tmp_path / "x.bin")
        assert len(origin.ledger) == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_digest_fails_at_once_and_leaves_nothing(self, origin: Origin, tmp_path: Path) -> None:
        url = origin.add("/x.bin", b"x" * 1000)
        with pytest.raises(errors.DigestMismatchError, match="expected 0000") as caught:
            quick(url, tmp_path / "x.bin", digest="sha256:" + "0" * 64)
        assert caught.value.source == "caller"
        assert len(origin.ledger) == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_call_fails_before_any_request(self, origin: Origin, tmp_path: Path) -> None:
        url = origin.add("/x.bin", b"x" * 1000)
        with pytest.raises(errors.ConfigurationError, match="digest"):
            quick(url, tmp_path / "x.bin", digest="sha256:too-short")
        with pytest.raises(errors.ConfigurationError, match="URL"):
            quick("no URL", tmp_path / "x.bin")
        assert origin.ledger == []

    def test_a_drop_that_the_engine_cures_is_no_matter_for_prefect(
        self, origin: Origin, tmp_path: Path, run_log: RunLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYDRAFLOW_RETRY_DELAY", "0.01")
        data = bytes(range(256)) * 8000
        url = origin.add("/x.bin", data)
        cut = origin.when(request=1).drop(after=1_000_000)
        file = quick(url, tmp_path / "x.bin")
        assert cut.fired == 1
        assert file.path.read_bytes() == data
        assert origin.bytes_served() <= 1.1 * len(data)
        assert not any("Retry 1/3" in line for line in run_log.lines)

    def test_an_outage_beyond_its_patience_is_retried_and_resumed(
        self, origin: Origin, tmp_path: Path, run_log: RunLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYDRAFLOW_MAX_WAIT", "0.6")
        data = bytes(range(256)) * 8000
        url = origin.add("/x.bin", data)
        cut = origin.when(request=1).drop(after=1_000_000)
        # Longer than the engine waits: it gives up, and Prefect tries again.
        outage = origin.when(request=2).status(503, headers={"Retry-After": "36000"})
        file = quick(url, tmp_path / "x.bin")
        assert (cut.fired, outage.fired) == (1, 1)
        assert any("Retry 1/3" in line for line in run_log.lines)
        assert file.path.read_bytes() == data
        assert file.outcome == "resumed"
        assert file.bytes_from_checkpoint > 0
        assert origin.bytes_served() <= 1.1 * len(data)
