"""A moment for each target; `make fuzz` gives them time. And that a target can find something."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, check_name, spoil


@pytest.mark.parametrize("name", TARGETS)
def test_a_moment_for(name):
    strategy, check = TARGETS[name]
    held = []

    @settings(max_examples=150, deadline=2_000, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(value):
        check(value)
        held.append(value)

    run()
    assert len(held) >= 100


def test_samples_are_spoilt():
    assert spoil(b"abcdef", [("cut", 1, 2, b""), ("put", 1, 0, b"xy"), ("copy", 0, 1, b"")]) == b"aaaxydef"


def test_a_target_finds_what_is_wrong(monkeypatch):
    monkeypatch.setattr("hydraflow.core.names.safe", lambda text: text)
    with pytest.raises(AssertionError):
        check_name(b"../../etc/passwd")
