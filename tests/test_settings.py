"""Settings: how times are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("written", ["soon", "-5m", "10 minutes", "1h30", "m", "1m30.s", "", "h1", "1e", "٣x"])
def test_what_is_no_time(written):
    with pytest.raises(ConfigurationError) as caught:
        load(max_wait=written)
    assert str(caught.value) == f"max_wait: Input should be a time, such as 90, 10m or 2h, not {written!r}"


@pytest.mark.parametrize("written", ["inf", "nan", "-1", float("inf")])
def test_times_that_never_come(written):
    with pytest.raises(ConfigurationError, match=r"max_wait: must be (at least 0|a number), not"):
        load(max_wait=written)


def test_no_patience_is_a_choice_but_no_time_is_none():
    assert load(max_wait="0").max_wait == 0
    with pytest.raises(ConfigurationError, match="read_timeout: must be more than 0, not 0"):
        load(read_timeout="0")


@pytest.mark.parametrize("written", ["2000000", "2MB", "2MB/s", "2 MB /s", "2M", 2_000_000])
def test_rates(written, monkeypatch):
    assert load(limit_rate=written).limit_rate == 2_000_000
    monkeypatch.setenv("HYDRAFLOW_LIMIT_RATE", str(written))
    assert load().limit_rate == 2_000_000


@pytest.mark.parametrize("written", ["5", "0", "999", "-1", "fast", "5MB per second", "5,000,000", "/s", ""])
def test_what_is_no_rate_or_none_that_can_be_meant(written):
    with pytest.raises(ConfigurationError, match=r"^limit_rate: "):
        load(limit_rate=written)


def test_what_stands_behind_a_size_is_not_overlooked():
    assert load(buffer="64 MB").buffer == 64_000_000
    with pytest.raises(ConfigurationError, match=r"^buffer: Input should be a size, such as .*, not '64MB,5'"):
        load(buffer="64MB,5")


def test_patience_outlasts_an_outage_of_ten_minutes():
    settings = Settings()
    slowest = settings.read_timeout + settings.connect_timeout + settings.retry_delay_max
    assert settings.max_wait >= 600 + 2 * slowest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threads": 0}, "threads: must be at least 1, not 0"),
        ({"threads": 129}, "threads: must be at most 128, not 129"),
        ({"threads": "129"}, "threads: must be at most 128, not 129"),
        ({"buffer": "20kB"}, "buffer: must be at least 1,000,000, not 20000"),
        ({"read_timeout": 0}, "read_timeout: must be more than 0, not 0"),
        ({"read_timeout": float("nan")}, "read_timeout: must be a number, not nan"),
        ({"thread": 3}, "there is no setting 'thread'"),
    ],
)
def test_out_of_bounds(given, message):
    with pytest.raises(ConfigurationError) as caught:
        load(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "value"), [("threads", True), ("threads", 2.5), ("output", "here"), ("http2", 1), ("user_agent", None)]
)
def test_a_value_of_another_kind(name, value):
    with pytest.raises(ConfigurationError, match=f"{name}: must be"):
        Settings(**{name: value})


def test_words_are_understood_wherever_they_stand(tmp_path, monkeypatch):
    file = tmp_path / "settings"
    file.write_text("HYDRAFLOW_THREADS=3\nHYDRAFLOW_BUFFER=32MiB\nHYDRAFLOW_HTTP2=yes\n")
    monkeypatch.setenv("HYDRAFLOW_ENV_FILE", str(file))
    monkeypatch.setenv("hydraflow_threads", "5")
    settings = load(http2=False, output="here")
    assert settings == Settings(threads=5, buffer=32 << 20, http2=False, output=Path("here"))
    assert {type(value) for value in (settings.threads, settings.buffer)} == {int}


def test_an_unknown_name_in_the_file_is_an_error(tmp_path, monkeypatch):
    file = tmp_path / "settings"
    file.write_text("# ours\nAWS_KEY=hush\n\nexport HYDRAFLOW_THREDS=hush\n")
    monkeypatch.setenv("HYDRAFLOW_ENV_FILE", str(file))
    with pytest.raises(ConfigurationError, match="settings: line 4: there is no setting HYDRAFLOW_THREDS") as caught:
        load()
    assert caught.value.hint == "Perhaps HYDRAFLOW_THREADS is meant."
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "ENV_FILE: cannot read .*: No such file or directory"),
        (b"HYDRAFLOW_THREADS=\xff\n", "ENV_FILE: cannot read .*: it is not UTF-8"),
        (b"HYDRAFLOW_THREADS\n", "line 1 is not NAME=value"),
    ],
)
def test_a_file_that_cannot_be_understood(tmp_path, monkeypatch, content, complaint):
    file = tmp_path / "settings"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("HYDRAFLOW_ENV_FILE", str(file))
    with pytest.raises(ConfigurationError, match=complaint):
        load()


def test_others_in_the_file_are_none_of_our_business(tmp_path, monkeypatch):
    file = tmp_path / "settings"
    file.write_text("AWS_KEY=hush\nHYDRAFLOW_THREADS=3\n")
    monkeypatch.setenv("HYDRAFLOW_ENV_FILE", str(file))
    assert load().threads == 3


def test_a_variable_is_named_in_the_error(monkeypatch):
    monkeypatch.setenv("HYDRAFLOW_THREADS", "300")
    with pytest.raises(ConfigurationError, match=r"^HYDRAFLOW_THREADS: must be at most 128, not 300"):
        load()


def test_what_nobody_wrote_in_words_costs_no_import():
    program = "import sys; from hydraflow.settings import load; load(threads=4); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, 16), ({"aggressive": True}, 128), ({"threads": 4}, 4), ({"threads": 4, "aggressive": True}, 4)],
)
def test_threads_is_a_ceiling_whatever_else_is_set(given, most):
    assert load(**given).ceiling == most
    assert load(**given).crowd == (most if given else 32)
