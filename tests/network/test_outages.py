"""Outages of every kind, with a real server and the kernel's own ways of failing: the transfer waits, and goes on.

`tests/soak` does the same with the times of real life.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.network.outages import IN_FLIGHT, MIB, QUICK

OUTAGE = 2.0
SETTLED = 0.5  # seconds until the server has filled its buffers for connections that are gone


def check(figures, message, longest=4.0):
    """Nothing was fetched twice but what was in flight, soon after the end, and with words for it."""
    assert figures.served <= figures.size + IN_FLIGHT, figures
    assert figures.resumed < longest, figures
    assert figures.retries > 0
    told = rf"hydraflow: x\.bin: .*{message}.*; trying again in \d+\.\d s, giving up in \d+ s"
    assert any(re.fullmatch(told, line) for line in figures.said), figures.said


@pytest.fixture
def far(cable, tmp_path):
    with QUICK.serve(cable, tmp_path) as server:
        yield server


def test_a_server_that_is_closed(tmp_path):
    check(QUICK.close_port(tmp_path, OUTAGE), "Connection refused")


@pytest.mark.parametrize(
    ("cut", "mend", "message"),
    [
        ("drop", "carry", "no connection in 1 s"),
        ("pull", "plug", "no byte came for 1 s"),
        ("leave", "join", "Network is unreachable"),
    ],
)
def test_a_network_that_is_gone(far, tmp_path, cut, mend, message):
    check(QUICK.lose_network(far, tmp_path, cut=cut, mend=mend, seconds=OUTAGE), message)


def test_another_network(far, tmp_path):
    """The old address is gone, and with it every connection: no packet will ever say so."""
    check(QUICK.lose_network(far, tmp_path, cut="roam", mend="", seconds=SETTLED), "no byte came for 1 s")


def test_names_that_cannot_be_looked_up(cable, far, tmp_path):
    def cut(_: object) -> None:
        cable.forget()
        far.kill()  # or nobody would look anything up

    def mend(_: object) -> None:
        far.start()
        cable.know()

    figures = QUICK.ride_out(far, tmp_path, url=far.named_url, cut=cut, mend=mend, seconds=OUTAGE)
    check(figures, "Temporary failure in name resolution")


def test_a_client_that_is_stopped(cable, tmp_path):
    """Longer than its patience, and longer than the server's: time that it cannot see is no silence."""
    life = replace(QUICK, rate="4m", size=24 * MIB)
    with life.serve(cable, tmp_path) as server:
        figures = life.stop_client(server, tmp_path, seconds=4, patience=3.5, arguments=["-t", "2"])
    check(figures, "connection closed")


def test_a_client_that_is_stopped_in_an_outage(cable, far, tmp_path):
    """Nothing has come when it wakes, and its patience is over by any other clock: it was not there to wait."""

    def cut(process: subprocess.Popen[bytes]) -> None:
        cable.drop()
        time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)

    def mend(process: subprocess.Popen[bytes]) -> None:
        cable.carry()
        process.send_signal(signal.SIGCONT)

    figures = QUICK.ride_out(far, tmp_path, cut=cut, mend=mend, seconds=4.5, patience=4)
    check(figures, "no byte came for 1 s")


def test_a_wrong_name_ends_soon(cable, far):
    """The first contact is given little patience, whatever there is for later."""
    done = subprocess.run(
        [*cable.enter(cable.near), sys.executable, "-m", "hydraflow", f"{far.named_url}/nothing-there"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 3
