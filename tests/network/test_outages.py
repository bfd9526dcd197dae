"""Outages of every kind, with a real server and the kernel's own ways of failing: the transfer waits, and goes on.

`tests/soak` does the same with the times of real life.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

from lab.cable import Cable, CableError, FarNginx
from lab.nginx import Nginx
from tests.network.outages import IN_FLIGHT, MIB, QUICK, ride_out

SIZE = 8 * MIB
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
def cable():
    try:
        with Cable(names=True) as cable:
            yield cable
    except CableError as error:
        pytest.skip(f"OUTAGES ARE NOT TESTED: {error}")


@pytest.fixture
def far(cable, tmp_path):
    (tmp_path / "www").mkdir()
    with FarNginx(cable, tmp_path / "www", limit_rate="1m", server_directives="send_timeout 1s;") as server:
        yield server


def test_a_server_that_is_closed(tmp_path):
    (tmp_path / "www").mkdir()
    with Nginx(tmp_path / "www", limit_rate="1m") as server:
        figures = ride_out(
            server,
            server.url,
            tmp_path,
            size=SIZE,
            cut=lambda _: server.kill(),
            mend=lambda _: server.start(),
            seconds=OUTAGE,
            environment=QUICK,
        )
    check(figures, "Connection refused")


@pytest.mark.parametrize(
    ("cut", "mend", "message"),
    [
        ("drop", "carry", "no connection in 1 s"),
        ("pull", "plug", "no byte came for 1 s"),
        ("leave", "join", "Network is unreachable"),
    ],
)
def test_a_network_that_is_gone(cable, far, tmp_path, cut, mend, message):
    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=lambda _: getattr(cable, cut)(),
        mend=lambda _: getattr(cable, mend)(),
        seconds=OUTAGE,
        environment=QUICK,
        prefix=cable.enter(cable.near),
    )
    check(figures, message)


def test_another_network(cable, far, tmp_path):
    """The old address is gone, and with it every connection: no packet will ever say so."""
    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=lambda _: cable.roam(),
        mend=lambda _: None,
        seconds=SETTLED,
        environment=QUICK,
        prefix=cable.enter(cable.near),
    )
    check(figures, "no byte came for 1 s")


def test_names_that_cannot_be_looked_up(cable, far, tmp_path):
    def cut(_: object) -> None:
        cable.forget()
        far.kill()  # or nobody would look anything up

    def mend(_: object) -> None:
        far.start()
        cable.know()

    figures = ride_out(
        far,
        far.named_url,
        tmp_path,
        size=SIZE,
        cut=cut,
        mend=mend,
        seconds=OUTAGE,
        environment=QUICK,
        prefix=cable.enter(cable.near),
    )
    check(figures, "Temporary failure in name resolution")


def test_a_client_that_is_stopped(cable, tmp_path):
    """Longer than its patience, and longer than the server's: time that it cannot see is no silence."""
    (tmp_path / "www").mkdir()
    with FarNginx(cable, tmp_path / "www", limit_rate="4m", server_directives="send_timeout 1s;") as server:
        figures = ride_out(
            server,
            server.url,
            tmp_path,
            size=24 * MIB,
            cut=lambda process: process.send_signal(signal.SIGSTOP),
            mend=lambda process: process.send_signal(signal.SIGCONT),
            seconds=4,
            environment={**QUICK, "HYDRAFLOW_MAX_WAIT": "3.5"},
            prefix=cable.enter(cable.near),
            arguments=["-t", "2"],
        )
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

    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=cut,
        mend=mend,
        seconds=4.5,
        environment={**QUICK, "HYDRAFLOW_MAX_WAIT": "4"},
        prefix=cable.enter(cable.near),
    )
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
