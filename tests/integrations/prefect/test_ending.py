"""A flow that is told to end ends, and its transfers with it; `make soak` has more ways to call and to end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prefect import flow

from hydraflow.prefect import hydra_fetch, runs
from tests.integrations.prefect.conftest import active
from tests.integrations.prefect.victims import starter, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.origin import Origin

DATA = bytes(range(256)) * 16_000
RATE = 200_000  # bytes a second of each of two connections: longer than the test waits for them


@pytest.mark.usefixtures("prefect_server")
def test_sigterm_ends_what_was_submitted(
    origin: Origin, tmp_path: Path, prefect_api: str, limit: Callable[[int], None]
) -> None:
    url, _ = origin.add("/x.bin", DATA), origin.add("/x.bin.piped", DATA)
    origin.when().slow(RATE)
    limit(4)
    with starter(prefect_api, tmp_path / "home") as start:
        process = start("fetched_and_piped", url, tmp_path / "x.bin")
        until(lambda: min(map(origin.bytes_served, ("/x.bin", "/x.bin.piped"))) > 200_000)
        process.send_signal(signal.SIGTERM)
        assert until(lambda: process.poll() is not None, 8) < 5
    assert active() == 0, "not after a minute, when the lease runs out"

    served = origin.bytes_served()
    time.sleep(1)
    assert origin.bytes_served() == served < 2 * len(DATA)
    assert not (tmp_path / "x.bin.commit").exists()
    origin.rules.clear()
    file = hydra_fetch(url, tmp_path / "x.bin")
    assert file.path.read_bytes() == DATA
    assert file.bytes_from_checkpoint > 0


@pytest.mark.usefixtures("prefect_server")
def test_a_good_end_lets_transfers_come_to_their_own(origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/x.bin", DATA[:1_000_000])
    origin.when().slow(400_000)

    @flow
    def left_alone() -> None:
        """Nobody waits for the transfer."""
        hydra_fetch.submit(url, tmp_path / "x.bin")
        until(lambda: origin.bytes_served() > 0)

    left_alone()
    assert (tmp_path / "x.bin").read_bytes() == DATA[:1_000_000]


def test_the_flag_is_found_while_others_are_being_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred mapped tasks look for it while the flow's thread still adds to them."""
    flag, over = threading.Event(), threading.Event()
    flags = {0: flag}
    context = SimpleNamespace(task_runner=SimpleNamespace(_cancel_events=flags), flow_run=None)
    monkeypatch.setattr(runs.FlowRunContext, "get", lambda: context)
    monkeypatch.setattr(runs.TaskRunContext, "get", lambda: context)

    def submit() -> None:
        while not over.is_set():
            for number in range(1, 500):
                flags[number] = flag
            for number in range(1, 500):
                del flags[number]

    submitting, before = threading.Thread(target=submit), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    submitting.start()
    try:
        for _ in range(150_000):
            assert runs.stopped()() is False
    finally:
        over.set()
        submitting.join()
        sys.setswitchinterval(before)
