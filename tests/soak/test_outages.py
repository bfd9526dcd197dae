"""Outages as long as in real life, with the settings that everybody has: `make soak`."""

from __future__ import annotations

import pytest

from tests.network.outages import IN_FLIGHT, REAL

SETTLED = 2.0  # seconds until the server has filled its buffers for connections that are gone
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def far(cable, tmp_path):
    with REAL.serve(cable, tmp_path) as server:
        yield server


def check(figures, what, longest):
    print(f"\n{what}: {figures}")
    assert figures.served <= figures.size + IN_FLIGHT
    assert figures.resumed < longest


def test_a_port_closed_for_half_a_minute(tmp_path):
    check(REAL.close_port(tmp_path, seconds=30), "port closed for 30 s", 16)


@pytest.mark.parametrize(("cut", "mend"), [("drop", "carry"), ("pull", "plug"), ("leave", "join")])
def test_a_minute_without_a_network(far, tmp_path, cut, mend):
    check(REAL.lose_network(far, tmp_path, cut=cut, mend=mend, seconds=60), f"{cut} for 60 s", 26)


def test_another_network(far, tmp_path):
    check(REAL.lose_network(far, tmp_path, cut="roam", mend="", seconds=SETTLED), "another address", 36)


def test_stopped_for_twenty_seconds(far, tmp_path):
    check(REAL.stop_client(far, tmp_path, seconds=20, patience=10), "client stopped for 20 s", 5)
