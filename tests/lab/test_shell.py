"""Commands are shown, run with pipefail, and ended with all that they started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab.shell import clean, paint, run

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def test_shows_and_captures(capsys):
    ran = run("echo one; echo two >&2; exit 3", environment=ENVIRONMENT, deadline=10)
    assert (ran.code, ran.stdout, ran.stderr) == (3, ["one"], ["two"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "$ echo one; echo two >&2; exit 3"
    assert sorted(shown[1:]) == ["  one", "  two"]


def test_a_pipeline_fails_with_any_of_its_parts():
    assert run("false | cat", environment=ENVIRONMENT, deadline=10).code == 1


def test_only_the_given_environment():
    ran = run("env", environment={**ENVIRONMENT, "MARK": "1"}, deadline=10)
    assert "MARK=1" in ran.stdout
    assert not any(line.startswith("HOME=") for line in ran.stdout)


def test_deadline_ends_all_of_it():
    ran = run("sleep 60 & echo $!; sleep 60 | cat", environment=ENVIRONMENT, deadline=0.3)
    assert ran.code is None
    assert ran.seconds < 5
    assert not alive(int(ran.stdout[0]))


def test_an_interrupt_ends_all_of_it(tmp_path):
    pid = tmp_path / "pid"

    def interrupt() -> None:
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(f"sleep 60 & echo $! > {pid}; wait", environment=ENVIRONMENT, deadline=20, meanwhile=interrupt)
    assert not alive(int(pid.read_text()))


def test_what_a_command_leaves_behind_is_ended():
    ran = run("sleep 60 >/dev/null 2>&1 & echo $!", environment=ENVIRONMENT, deadline=20)
    assert ran.code == 0
    assert not alive(int(ran.stdout[0]))


def alive(pid: int) -> bool:
    """The process runs; a dead one that nobody has waited for does not count."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 2
    while (running := stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z") and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    return running


def test_clean():
    dirty = {"HYDRAFLOW_THREADS": "1", "PREFECT_API_URL": "x", "https_proxy": "x", "NO_PROXY": "x", "PATH": "/bin"}
    assert clean(dirty) == {"PATH": "/bin"}


def test_no_colour_in_a_file():
    assert paint("text", "1") == "text"
