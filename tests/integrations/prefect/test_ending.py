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

from hydraflow.prefect import hydra_fetch, runs
from tests.integrations.prefect.victims import starter, until

if TYPE_CHECKING:
    from tests.faults.origin import Origin

DATA = bytes(range(256)) * 16_000
RATE = 200_000  # bytes a second of each of two connections: longer than the test waits for them


@pytest.mark.usefixtures("prefect_server")
def test_sigterm_ends_what_was_submitted(origin: Origin, tmp_path: Path, prefect_api: str) -> None:
    names = ("submitted", "piped", "left_alone")
    urls = {name: origin.add(f"/{name}", DATA) for name in names}
    origin.when(path="/left_alone").slow(1_000_000)
    origin.when().slow(RATE)
    with starter(prefect_api, tmp_path / "home") as start:
        processes = {name: start(name, url, tmp_path / name) for name, url in urls.items()}
        for name in ("submitted", "piped"):
            until(lambda name=name: origin.bytes_served(f"/{name}") > 200_000)
            processes[name].send_signal(signal.SIGTERM)
            assert until(lambda name=name: processes[name].poll() is not None) < 5
        served = {name: origin.bytes_served(f"/{name}") for name in ("submitted", "piped")}
        # Nobody told this one to end, nor waits for it.
        out, _ = processes["left_alone"].communicate(timeout=60)
    assert processes["left_alone"].returncode == 0, out
    assert (tmp_path / "left_alone").read_bytes() == DATA

    time.sleep(1)
    assert {name: origin.bytes_served(f"/{name}") for name in served} == served
    assert all(count < len(DATA) for count in served.values())
    assert not (tmp_path / "piped.commit").exists()
    origin.rules.clear()
    file = hydra_fetch(urls["submitted"], tmp_path / "submitted")
    assert file.path.read_bytes() == DATA
    assert file.bytes_from_checkpoint > 0


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
