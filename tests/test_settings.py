"""Settings: how times are written."""

from __future__ import annotations

import pytest

from hydraflow.errors import ConfigurationError
from hydraflow.settings import Settings, load


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        ("2H", 7200),
        ("1h30m", 5400),
        ("1 h 30 m", 5400),
        ("2d", 172_800),
        (7, 7),
    ],
)
def test_times(written, seconds, monkeypatch):
    assert load(max_wait=written).max_wait == seconds
    monkeypatch.setenv("HYDRAFLOW_READ_TIMEOUT", str(written))
    assert load().read_timeout == seconds


@pytest.mark.parametrize("written", ["soon", "10 minutes", "1h30", "m", "1m30.s", "", "h1", "1e", "٣x"])
def test_what_is_no_time(written):
    with pytest.raises(ConfigurationError) as caught:
        load(max_wait=written)
    assert str(caught.value) == f"max_wait: Input should be a time, such as 90, 10m or 2h, not {written!r}"


@pytest.mark.parametrize("written", ["inf", "nan", "-1", "-5m", float("inf")])
def test_times_that_never_come(written):
    with pytest.raises(ConfigurationError, match="max_wait: Input should be"):
        load(max_wait=written)


def test_no_patience_is_a_choice_but_no_time_is_none():
    assert Settings(max_wait="0").max_wait == 0
    with pytest.raises(ConfigurationError, match="read_timeout: Input should be greater than 0"):
        load(read_timeout="0")


def test_patience_outlasts_an_outage_of_ten_minutes():
    settings = Settings()
    slowest = settings.read_timeout + settings.connect_timeout + settings.retry_delay_max
    assert settings.max_wait >= 600 + 2 * slowest
