"""Outages as long as in real life, with the settings that everybody has: `make soak`."""

from __future__ import annotations

import signal

import pytest

from lab.cable import Cable, CableError, FarNginx
from lab.nginx import Nginx
from tests.network.outages import IN_FLIGHT, MIB, ride_out

SIZE = 48 * MIB
SETTLED = 2.0  # seconds until the server has filled its buffers for connections that are gone
pytestmark = pytest.mark.timeout(600)


def check(figures, what, longest):
    print(f"\n{what}: {figures}")
    assert figures.served <= figures.size + IN_FLIGHT
    assert figures.resumed < longest


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
    with FarNginx(cable, tmp_path / "www", limit_rate="2m", server_directives="send_timeout 5s;") as server:
        yield server


def test_a_port_closed_for_half_a_minute(tmp_path):
    (tmp_path / "www").mkdir()
    with Nginx(tmp_path / "www", limit_rate="2m") as server:
        figures = ride_out(
            server,
            server.url,
            tmp_path,
            size=SIZE,
            cut=lambda _: server.kill(),
            mend=lambda _: server.start(),
            seconds=30,
            environment={},
        )
    check(figures, "port closed for 30 s", 16)


@pytest.mark.parametrize(("cut", "mend"), [("drop", "carry"), ("pull", "plug"), ("leave", "join")])
def test_a_minute_without_a_network(cable, far, tmp_path, cut, mend):
    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=lambda _: getattr(cable, cut)(),
        mend=lambda _: getattr(cable, mend)(),
        seconds=60,
        environment={},
        prefix=cable.enter(cable.near),
    )
    check(figures, f"{cut} for 60 s", 26)


def test_another_network(cable, far, tmp_path):
    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=lambda _: cable.roam(),
        mend=lambda _: None,
        seconds=SETTLED,
        environment={},
        prefix=cable.enter(cable.near),
    )
    check(figures, "another address", 36)


def test_stopped_for_twenty_seconds(cable, far, tmp_path):
    figures = ride_out(
        far,
        far.url,
        tmp_path,
        size=SIZE,
        cut=lambda process: process.send_signal(signal.SIGSTOP),
        mend=lambda process: process.send_signal(signal.SIGCONT),
        seconds=20,
        environment={"HYDRAFLOW_MAX_WAIT": "10"},
        prefix=cable.enter(cable.near),
    )
    check(figures, "client stopped for 20 s", 5)
