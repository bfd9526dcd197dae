"""The live display on a real pseudo-terminal: what stands there during a transfer, and what is left afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from tests.cli.conftest import DEADLINE
from tests.cli.screen import Screen

#: On a terminal that can, and not on one that follows the tests' own surroundings.
TERM = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}


class Terminal:
    """A pseudo-terminal; the command's standard error, and its standard output too, go to it."""

    def __init__(self, hydraflow, columns: int = 80) -> None:
        self.screen = Screen(columns)
        self.received = 0
        self._hydraflow = hydraflow
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process: subprocess.Popen[bytes] | None = None

    def resize(self, columns: int) -> None:
        """Make it narrower; what stands there is wrapped anew, as terminals do."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.screen.resize(columns)

    def start(self, *arguments: object, environment: dict[str, str] | None = None, **options) -> None:
        options = {"stdout": self._slave, "stderr": self._slave, **options}
        self.process = self._hydraflow.start(*arguments, environment={**TERM, **(environment or {})}, **options)
        os.close(self._slave)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until this stands on the screen."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.screen.text)):
            assert self._read(), f"ended without {pattern!r}:\n{self.screen.text}"
            assert time.monotonic() < deadline, f"no {pattern!r}:\n{self.screen.text}"
        return found

    def press(self, keys: bytes) -> None:
        """As if somebody sat there."""
        os.write(self._master, keys)

    def finish(self) -> int:
        """To the end; gives the exit code."""
        while self._read():
            pass
        assert self.process is not None
        return self.process.wait(timeout=DEADLINE)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.received += len(data)
        self.screen.feed(data)
        return bool(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._master)


@pytest.fixture
def terminal(hydraflow):
    terminal = Terminal(hydraflow)
    yield terminal
    terminal.close()


@pytest.fixture
def slow(origin, data):
    """A file of 3.1 MB that takes most of a second."""
    origin.when().slow(4_000_000)
    return origin.add("/sample.bin", data)


SUMMARY = "hydraflow: sample.bin: fetched 3.1 MB in"


def test_during_and_after_a_transfer(terminal, origin, data):
    origin.when().slow(3_000_000)
    terminal.start(origin.add("/sample.bin", data))
    found = terminal.wait_for(r"sample\.bin \S*━\S* +(\d\.\d)/3\.1 MB +\S+( MB/s)? +[-:\d]+ +1 connection")
    assert not terminal.screen.cursor_shown
    terminal.wait_for(rf"sample\.bin .* (?!{found[1]})[1-3]\.\d/3\.1 MB +\d\.\d MB/s")
    assert len(terminal.screen.text.splitlines()) == 1, "one line for one file"
    assert terminal.finish() == 0
    [line, *rest] = terminal.screen.text.splitlines()
    assert line.startswith(SUMMARY)
    assert len(rest) <= 1, "the rest of a long line"
    assert terminal.screen.cursor_shown
    assert terminal.screen.coloured


def test_no_color(terminal, slow):
    terminal.start(slow, environment={"NO_COLOR": "1"})
    terminal.wait_for(r"sample\.bin .* \d\.\d/3\.1 MB")
    assert terminal.finish() == 0
    assert not terminal.screen.coloured
    assert terminal.screen.text.startswith(SUMMARY)


@pytest.mark.parametrize("columns", [30, 64])
def test_widths(hydraflow, slow, columns):
    terminal = Terminal(hydraflow, columns)
    terminal.start(slow)
    terminal.wait_for(r"sample\.bin .*\d\.\d/3\.1 MB")
    assert len(terminal.screen.text.splitlines()) == 1
    assert terminal.finish() == 0
    assert terminal.screen.text.replace("\n", "").startswith(SUMMARY)
    terminal.close()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["-nu"], {}), (["--quiet"], {}), ([], {"TERM": "dumb"}), ([], {"TERM": ""})],
    ids=["-nu", "--quiet", "dumb", "unset"],
)
def test_no_display(terminal, origin, data, arguments, environment):
    terminal.start(origin.add("/sample.bin", data), *arguments, environment=environment)
    assert terminal.finish() == 0
    assert terminal.screen.text.startswith("" if arguments == ["--quiet"] else SUMMARY)
    assert bool(terminal.screen.text) == (arguments != ["--quiet"])
    assert not terminal.screen.coloured


def test_messages_stand_above_the_bars(terminal, origin, data):
    cut = origin.when(path="/other.bin", request=1).drop()
    origin.when(path="/sample.bin").slow(1_500_000)
    urls = [origin.add("/sample.bin", data), origin.add("/other.bin", b"x" * 1000), origin.url + "/missing.bin"]
    terminal.start(*urls)
    terminal.wait_for(r"(?s)other\.bin: .*trying again.*\nsample\.bin .*\d\.\d/3\.1 MB")
    terminal.wait_for(r"(?s)sample\.bin .*\d\.\d/3\.1 MB.*\n2 of 3 files .* 1 failed")
    assert "other.bin ━" not in terminal.screen.text, "the bars of files that are done are gone"
    assert terminal.finish() == 3
    assert cut.fired == 1
    events = re.findall(r"^hydraflow: (error: \w+|\w+)", terminal.screen.text, re.MULTILINE)
    assert sorted(events) == ["3", "error: missing", "other"]
    assert events[-1] == "3", "the sum comes last"
    assert "━" not in terminal.screen.text
    assert re.search(r"(?m)^file +size +time +retries +verified by$", terminal.screen.text)
    assert re.search(r"(?m)^sample\.bin +3\.1 MB +\d\.\d s +0  size only$", terminal.screen.text)
    assert re.search(r"(?m)^other\.bin +1\.0 kB +\d\.\d s +1  size only$", terminal.screen.text)
    assert re.search(r"(?m)^missing\.bin +failed: not found$", terminal.screen.text)


def test_a_terminal_that_becomes_narrower(hydraflow, origin, data):
    """The rows that the last frame takes then are taken away with it."""
    origin.when().slow(1_200_000)
    terminal = Terminal(hydraflow, 100)
    terminal.start(origin.add("/sample.bin", data), origin.add("/other.bin", data), "-t", "2")
    terminal.wait_for(r"0 of 2 files .* \d\.\d/6\.3 MB")
    terminal.resize(40)
    terminal.wait_for(r"(?m)^0 of 2(?: files)? +[4-6]\.\d/6\.3 MB +\d\.\d MB/s$")
    assert len(terminal.screen.text.splitlines()) == 3
    assert terminal.finish() == 0
    assert "0 of 2" not in terminal.screen.text
    terminal.close()


def test_a_thousand_files_are_calm(hydraflow, nginx, samples):
    """One line for all of them, drawn five times a second; nothing else comes to the terminal."""
    rows = [{"url": f"{nginx.url}/small.bin?{n}", "name": f"{n}.bin", "size": 1000} for n in range(1000)]
    (hydraflow.directory / "m").write_text(json.dumps(rows))
    terminal = Terminal(hydraflow)
    terminal.start("--input", "m", "-o", "d", "--limit-rate", "600kB")
    terminal.wait_for(r"\d+ of 1,000 files ")
    assert len(terminal.screen.text.splitlines()) == 1
    assert terminal.finish() == 0
    [line] = terminal.screen.text.splitlines()
    assert line.startswith("hydraflow: 1,000 files: 1,000 done (1.0 MB in ")
    assert terminal.received < 60_000
    terminal.close()


def test_waiting_is_shown(terminal, origin, data):
    url = origin.add("/sample.bin", data)
    origin.when(times=1).status(503, headers={"Retry-After": "1"})
    terminal.start(url)
    terminal.wait_for(r"sample\.bin .* waiting")
    assert terminal.finish() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(terminal, slow, number):
    terminal.start(slow)
    terminal.wait_for(r"[1-3]\.\d/3\.1 MB")
    terminal.process.send_signal(number)
    assert terminal.finish() == 128 + number
    line = terminal.screen.text.replace("\n", "")
    assert re.fullmatch(r"hydraflow: interrupted, sample\.bin at .*; run the same command again to go on", line)
    assert terminal.screen.cursor_shown


def test_interrupted_twice(terminal, slow):
    """Nothing is waited for any more, but the terminal has its cursor back."""
    terminal.start(slow)
    terminal.wait_for(r"[1-3]\.\d/3\.1 MB")
    terminal.process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.finish() in (-signal.SIGTERM, 143, 130)
    assert terminal.screen.cursor_shown


def test_a_terminal_that_takes_nothing_does_not_keep_it(terminal, slow):
    """Ctrl-S, or a link that is frozen: whoever ends it must not have to wait for the screen."""
    terminal.start(slow, "-o", "d")
    terminal.wait_for(r"\d MB")
    terminal.press(b"\x13")
    time.sleep(0.5)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(DEADLINE) == 128 + signal.SIGTERM


def test_a_stream_beside_the_display(terminal, hydraflow, slow, data):
    terminal.start(slow, "--stream", stdout=subprocess.PIPE)
    copy, _ = terminal.process.communicate(timeout=DEADLINE)
    assert terminal.finish() == 0
    assert copy == data
    assert terminal.screen.text.startswith("hydraflow: sample.bin: streamed 3.1 MB")


def test_a_stream_to_a_terminal_is_refused(terminal, origin, data):
    terminal.start(origin.add("/sample.bin", data), "--stream")
    assert terminal.finish() == 2
    assert terminal.screen.text.replace("\n", "") == (
        "hydraflow: error: standard output is a terminal. Pipe it into a program, or use --output."
    )
    assert not origin.ledger


def test_a_name_with_markup_is_shown_as_it_is(terminal, origin, data):
    origin.when().slow(4_000_000)
    terminal.start(origin.add("/[red]x[bold].bin", data))
    terminal.wait_for(r"\[red\]x\[bold\]\.bin .*\d\.\d/3\.1 MB")
    assert terminal.finish() == 0
    assert terminal.screen.text.startswith("hydraflow: [red]x[bold].bin: fetched")


def test_the_terminal_goes_away(terminal, hydraflow, slow, data):
    """A closed window sends SIGHUP; where that is ignored, the transfer goes on without its display."""
    terminal.start(slow, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    terminal.wait_for(r"\d\.\d/3\.1 MB")
    terminal.close()
    assert terminal.process.wait(timeout=DEADLINE) == 0
    assert (hydraflow.directory / "download/sample.bin").read_bytes() == data


# ── the screen itself ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\r\ntwo", "one\ntwo"),
        (b"one\rtwo", "two"),
        (b"three\rtwo", "twoee"),
        (b"one\r\x1b[2Ktwo", "two"),
        (b"one\r\ntwo\r\x1b[1A\x1b[2Kthree", "three\ntwo"),
        (b"abcdefghij", "abcdefgh\nij"),
        (b"\x1b[31mred\x1b[0m \xe2\x94\x81", "red ━"),
    ],
)
def test_screen(data, text):
    screen, bytewise = Screen(8), Screen(8)
    screen.feed(data)
    for byte in data:
        bytewise.feed(bytes([byte]))
    assert screen.text == bytewise.text == text
    assert screen.coloured == bytewise.coloured == (b"[31m" in data)


def test_screen_refuses_what_it_does_not_know():
    with pytest.raises(AssertionError, match="unexpected"):
        Screen(80).feed(b"\x1b[2J")


def test_verify_reports_as_a_table(hydraflow):
    """Names from a manifest stay in their cells, whatever is in them."""
    import hashlib

    hydraflow.directory.joinpath("x.bin").write_bytes(b"data")
    digest = hashlib.sha256(b"data").hexdigest()
    manifest = hydraflow.directory / "sums"
    manifest.write_text(f"{digest}  x.bin\n{digest}  [red]y\x1b[2J\n")
    terminal = Terminal(hydraflow, 120)
    terminal.start("verify", ".", "--from", manifest.name)
    assert terminal.finish() == 6
    text = terminal.screen.text
    terminal.close()
    assert re.search(r"file +┃ verdict +┃ by", text)
    assert re.search(r"x\.bin +│ verified sha256 +│ manifest sums", text)
    assert re.search(r"\[red\]y.\[2J +│ NOT VERIFIED +│ there is no such file", text)
    assert terminal.screen.coloured
