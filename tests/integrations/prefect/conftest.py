"""A real Prefect server, one for all tests here."""

from __future__ import annotations

import gc
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from hydraflow.prefect import budgets
from tests.integrations.prefect.victims import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, those here share a process, and with it the server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("prefect"))
            item.add_marker(pytest.mark.timeout(func_only=True))  # a server takes its time on a busy machine


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory, strays: list[str]) -> Iterator[str]:
    """The server of the session; flows of this process run against it. Gives its URL."""
    assert strays == []  # the guard on the network is up before Prefect makes its first connection
    settings = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",  # the server keeps no logs of tasks outside of flows
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its end costs a second of each flow
    }
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture(scope="module")
def swept() -> Iterator[None]:
    """What Prefect leaks is found here, under the filter of the last test, and not in a test elsewhere."""
    yield
    gc.collect()


@pytest.fixture
def prefect_server(prefect_api: str, swept: None) -> None:
    """The server, for one test."""
    # Prefect leaves connections to its own server open when an event loop ends.  No other connection is excused.
    port = urlsplit(prefect_api).port
    warnings.filterwarnings("ignore", rf"unclosed .*'127\.0\.0\.1', {port}\b", ResourceWarning)  # until the test ends


class RunLog(logging.Handler):
    """Everything that runs say: `lines`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@pytest.fixture
def run_log() -> Iterator[RunLog]:
    handler = RunLog()
    loggers = [logging.getLogger(f"prefect.{name}") for name in ("task_runs", "flow_runs")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


#: The limit of connections to every server of these tests.
LIMIT = f"{budgets.PREFIX}127.0.0.1"


def active() -> int:
    """How many of them are taken."""
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(LIMIT).active_slots


@pytest.fixture
def limit(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Makes the limit; gone at the end, and nothing is remembered of it."""
    monkeypatch.setattr(budgets, "_LINGER", 0.2)
    monkeypatch.setattr(budgets, "_TRY", 0.1)
    budgets._shares.clear()

    def make(count: int) -> None:
        with get_client(sync_client=True) as client:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=count))

    yield make
    try:
        until(lambda: active() == 0, 10)  # what is idle gives back
    finally:
        with get_client(sync_client=True) as client:
            client.delete_global_concurrency_limit_by_name(LIMIT)
        budgets._shares.clear()
