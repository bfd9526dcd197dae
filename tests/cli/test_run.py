"""`hydraflow run`: a command on verified streams, which never sees the end of a bad one."""

from __future__ import annotations

import gzip
import hashlib
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import MIB, prompt

#: Copies what it reads to a file, and says when it has seen the end: what no command may do with bad data.
COPY = "cat {} > copy && touch seen-the-end"


def seen_the_end(hydraflow) -> bool:
    return (hydraflow.directory / "seen-the-end").exists()


def copy(hydraflow) -> bytes:
    return (hydraflow.directory / "copy").read_bytes()


def processes(mark: str) -> list[int]:
    """Of this machine, those with the mark in their environment, the tests' own apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MARK={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def mark(tmp_path):
    return {"MARK": str(tmp_path), "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize("size", [0, 1, 3 * MIB])
@pytest.mark.parametrize("script", [COPY, "cat > copy && touch seen-the-end"], ids=["pipe", "stdin"])
def test_a_command_gets_everything(hydraflow, origin, data, size, script, mark, tmp_path):
    ran = hydraflow("run", origin.add("/x.bin", data[:size]), "--", "sh", "-c", script, environment=mark)
    assert (ran.code, ran.stdout) == (0, b"")
    assert copy(hydraflow) == data[:size]
    assert seen_the_end(hydraflow)
    assert "x.bin: streamed" in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"], "the pipe and its directory are gone"
    assert processes(str(tmp_path)) == [], "so is the guard"


@pytest.mark.parametrize("script", [COPY, "cat > copy && touch seen-the-end"], ids=["pipe", "stdin"])
def test_a_command_never_sees_the_end_of_a_wrong_file(hydraflow, origin, data, script, mark, tmp_path):
    url = origin.add("/x.bin", data)
    ran = hydraflow("run", url, "--md5", "0" * 32, "--", "sh", "-c", script, environment=mark)
    assert ran.code == 5
    assert ran.error.startswith("error: x.bin: md5 mismatch")
    assert not seen_the_end(hydraflow)
    assert len(copy(hydraflow)) <= len(data) - (64 << 10)
    assert processes(str(tmp_path)) == []


def test_not_even_what_it_has_started(hydraflow, origin, data, mark, tmp_path):
    """In a pipeline the last one would see the end when the first one is killed."""
    url = origin.add("/x.bin", data)
    script = "cat {} | (trap '' TERM HUP; cat > copy; touch seen-the-end) & wait"
    ran = hydraflow("run", url, "--md5", "0" * 32, "--", "sh", "-c", script, environment=mark)
    assert ran.code == 5
    time.sleep(0.2)
    assert not seen_the_end(hydraflow)
    assert processes(str(tmp_path)) == []


def test_a_server_that_dies(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    origin.when(request=1).drop(after=500_000)
    origin.when().raw(b"")
    ran = hydraflow("run", url, "--max-wait", "0.3", "--", "sh", "-c", COPY)
    assert ran.code == 4
    assert not seen_the_end(hydraflow)


@pytest.mark.parametrize("script", [COPY, "cat > copy && touch seen-the-end"], ids=["pipe", "stdin"])
def test_killed_in_the_middle(hydraflow, origin, data, wait_for, script, mark, tmp_path):
    """Nobody is left to kill the command but its guard; without one it would see the end."""
    url = origin.add("/x.bin", data * 3)
    origin.when().slow(4 * MIB)
    process = hydraflow.start("run", "-t", "1", url, "--", "sh", "-c", script, environment=mark)
    wait_for(lambda: (hydraflow.directory / "copy").exists() and len(copy(hydraflow)) > 100_000)
    process.kill()
    process.wait()
    wait_for(lambda: not processes(str(tmp_path)))
    assert not seen_the_end(hydraflow)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["while it reads", "while it works on what it has read"])
def test_a_signal_ends_both(hydraflow, origin, data, wait_for, number, when, mark, tmp_path):
    url = origin.add("/x.bin", data * 3)
    if when == "while it reads":
        origin.when().slow(4 * MIB)
    script = "cat {} > copy; touch read; sleep 60; touch seen-the-end"
    process = hydraflow.start("run", "-t", "1", url, "--", "sh", "-c", script, environment=mark)
    wait_for(lambda: (hydraflow.directory / "copy").exists() and len(copy(hydraflow)) > 100_000)
    if when != "while it reads":
        wait_for((hydraflow.directory / "read").exists)
        time.sleep(0.1)
    begun = time.monotonic()
    process.send_signal(number)
    ran = hydraflow.finish(process)
    assert time.monotonic() - begun < prompt()
    assert ran.code == 128 + number
    wait_for(lambda: not processes(str(tmp_path)))
    assert (hydraflow.directory / "read").exists() == (when != "while it reads")
    assert not seen_the_end(hydraflow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("cat {} >/dev/null; exit 3", 3), ("kill -9 $$", 137)])
def test_the_command_s_own_code(hydraflow, origin, data, script, code):
    script += " # {}" if "{}" not in script else ""
    assert hydraflow("run", origin.add("/x.bin", data * 3), "--", "sh", "-c", script).code == code


@pytest.mark.parametrize("script", ["head -c 10 {}", "head -c 10", "true {}", "exit 0"])
def test_a_command_that_ends_early(hydraflow, origin, data, script, mark, tmp_path):
    url = origin.add("/x.bin", data * 3)
    ran = hydraflow("run", url, "--", "sh", "-c", script, environment=mark)
    assert ran.code == 141
    assert "before it had read everything" in ran.error
    assert processes(str(tmp_path)) == []
    assert hydraflow("run", url, "--allow-partial", "--", "sh", "-c", script).code == 0


def test_what_it_leaves_behind_is_killed_too(hydraflow, origin, data, mark, tmp_path):
    """Who reads on in the background, when the command has ended, would take the end for a proper one."""
    url = origin.add("/x.bin", data * 3)
    origin.when().slow(8 * MIB)
    ran = hydraflow("run", url, "--", "sh", "-c", f"({COPY}) & exit 0", environment=mark)
    assert ran.code == 141
    assert processes(str(tmp_path)) == []
    assert not seen_the_end(hydraflow)


def test_a_second_look_finds_no_pipe(hydraflow, origin, data):
    """Who has read the beginning of a pipe and opens it again would take the middle of the file for its beginning."""
    script = 'pipe={}; head -c 10 "$pipe" >/dev/null; sleep 0.5; cat "$pipe" > copy 2>/dev/null || exit 9'
    ran = hydraflow("run", origin.add("/x.bin", data * 3), "--", "sh", "-c", script)
    assert ran.code == 9
    assert copy(hydraflow) == b""


def test_paired_reads(hydraflow, origin):
    pairs = [[f"{n}-{line}\n".encode() * 3 for line in range(100_000)] for n in (1, 2)]
    urls = [origin.add(f"/r{n}.fq.gz", gzip.compress(b"".join(lines), 1)) for n, lines in enumerate(pairs, 1)]
    script = """paste -d, <(zcat {1}) <(zcat {2}) > pasted && touch seen-the-end"""
    ran = hydraflow("run", "-b", "2MB", *urls, "--", "bash", "-c", script)
    assert ran.code == 0, ran.stderr
    assert len((hydraflow.directory / "pasted").read_bytes().splitlines()) == 300_000
    ran = hydraflow("run", "-b", "2MB", *urls, "--", "cat", "{}", "{}", stdout=None)
    assert ran.code == 0, "one after the other: the end of the first comes before the second is touched"


def test_lanes_on_standard_input(hydraflow, origin, data):
    lanes = [gzip.compress(data[:MIB], 1), gzip.compress(b""), gzip.compress(data[MIB:], 1)]
    urls = [origin.add(f"/{n}.gz", lane) for n, lane in enumerate(lanes)]
    ran = hydraflow("run", *urls, "--", "gzip", "-dc")
    assert ran.code == 0
    assert hashlib.md5(ran.stdout).digest() == hashlib.md5(data).digest()


def test_one_bad_lane_of_several(hydraflow, origin, data):
    good, bad = origin.add("/1", data), origin.add("/2", data) + "#md5=" + "0" * 32
    ran = hydraflow("run", good, bad, "--", "sh", "-c", "cat {1} > copy; cat {2} > other; touch seen-the-end")
    assert ran.code == 5
    assert copy(hydraflow) == data
    assert not seen_the_end(hydraflow)


def test_names_are_no_commands(hydraflow, origin, data):
    """The pipe has the file's name, as far as that means nothing to a shell."""
    url = origin.add("/x$(touch%20seen-the-end);'.fa.gz", data)
    ran = hydraflow("run", "-q", url, "--", "sh", "-c", "p={}; basename $p; cat $p > copy")
    assert ran.code == 0, ran.stderr
    assert ran.stdout.strip().endswith(b".fa.gz")
    assert copy(hydraflow) == data
    assert not seen_the_end(hydraflow)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["URL"], "no command is given"),
        (["URL", "--"], "no command is given"),
        (["--", "cat"], "Missing argument"),
        (["URL", "--", "cat", "{}", "{}"], "1 URL, and 2 {} in the command"),
        (["URL", "URL2", "--", "cat", "{}"], "2 URLs, and 1 {} in the command"),
        (["URL", "URL2", "--", "cat", "{1}"], "a place for not every one"),
        (["URL", "URL2", "--", "cat", "{1}", "{2}", "{1}"], "a place for not every one"),
        (["URL", "--", "no-such-command-anywhere", "{}"], "cannot run no-such-command-anywhere: No such file"),
        (["URL", "URL2", "--md5", "0" * 32, "--", "cat"], "one digest cannot be that of several URLs"),
    ],
)
def test_refused(hydraflow, origin, data, arguments, told):
    urls = {"URL": origin.add("/x.bin", data), "URL2": origin.add("/y.bin", data)}
    ran = hydraflow("run", *(urls.get(each, each) for each in arguments))
    assert ran.code == 2
    assert told in ran.error
    assert not origin.ledger


def test_the_command_s_options_are_its_own(hydraflow, origin):
    ran = hydraflow(
        "run",
        "-q",
        origin.add("/x", b"a b"),
        "--",
        sys.executable,
        "-c",
        "import sys; print(sys.argv)",
        "-h",
        "--",
        "${1}",
        "{}",
    )
    assert ran.code == 141
    assert ran.stdout.startswith(b"['-c', '-h', '--', '${1}', '/")


def test_help(hydraflow):
    ran = hydraflow("run", "--help")
    assert ran.code == 0
    assert b"Usage: hydraflow run [OPTIONS] URL... -- COMMAND [ARG]..." in ran.stdout
    assert b"--allow-partial" in ran.stdout


def test_a_reader_that_comes_very_late(hydraflow, origin, data):
    """The command may load an index for as long as it takes before it opens its pipe."""
    ran = hydraflow(
        "run", origin.add("/x.bin", data), "--", "sh", "-c", f"sleep 1; {COPY}",
        environment={"HYDRAFLOW_OPEN_TIMEOUT": "0.2"},
    )  # fmt: skip
    assert ran.code == 0
    assert copy(hydraflow) == data
