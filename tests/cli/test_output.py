"""What is printed, and where: bytes and JSON on standard output, lines for people on standard error."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

MIB = 1 << 20
NO_UTF8 = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


# ── lines for people ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [[], ["--no-ui"]])
def test_one_line_for_a_file(hydraflow, origin, data, arguments):
    url = origin.add("/x.bin", data)
    ran = hydraflow(url, *arguments)
    assert ran.stdout == b""
    line = r"hydraflow: x\.bin: fetched 3\.1 MB in \d+\.\d s, size checked, no digest known → download/x\.bin\n"
    assert re.fullmatch(line, ran.stderr)
    assert "x.bin: already present, 3.1 MB" in hydraflow(url, *arguments).stderr


def test_a_line_for_each_event(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    busy = origin.when(request=1).status(503)
    cut = origin.when(request=2).drop(after=100_000)
    ran = hydraflow(url, "-nu")
    assert (busy.fired, cut.fired) == (1, 1)
    assert [bool(re.match(r"x\.bin: .*trying again in \d", line)) for line in ran.lines] == [True, True, False]
    assert "503" in ran.lines[0]
    assert ran.lines[2].startswith("x.bin: fetched 3.1 MB")


@pytest.mark.parametrize("arguments", [["--quiet"], ["-q", "-nu"]])
def test_quiet_is_silent_on_success(hydraflow, origin, data, arguments):
    url = origin.add("/x.bin", data)
    origin.when(request=1).status(503)
    ran = hydraflow(url, *arguments)
    assert (ran.code, ran.stdout, ran.stderr) == (0, b"", "")


def test_quiet_prints_errors(hydraflow, origin):
    ran = hydraflow(origin.url + "/x.bin", "-q")
    assert ran.stderr == "hydraflow: error: x.bin: 404 Not Found. Check the URL; the file may have moved.\n"


def test_several_files_are_summed_up(hydraflow, origin, data):
    urls = [origin.add("/x.bin", data), origin.url + "/missing.bin", origin.add("/y.bin", data)]
    ran = hydraflow(*urls)
    total = r"3 files: 2 done \(6\.3 MB in \d\.\d s\), 2 without a digest, 1 failed \(1 not found\)"
    assert re.fullmatch(total, ran.lines[-1])
    assert ran.error.startswith("error: missing.bin: 404")


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_of_a_success(hydraflow, origin, data):
    digest = hashlib.sha256(data).hexdigest()
    ran = hydraflow(origin.add("/x.bin", data), "--json", "--digest", f"sha256:{digest}")
    assert ran.stdout.endswith(b"\n")
    assert ran.stdout.count(b"\n") == 1
    told = json.loads(ran.stdout)
    expected = {
        "name": "x.bin",
        "ok": True,
        "url": f"{origin.url}/x.bin",
        "path": "download/x.bin",
        "size": len(data),
        "digest": f"sha256:{digest}",
        "verification": "caller",
        "digest_source": "caller",
        "etag": '"v1"',
        "outcome": "fetched",
        "bytes_from_network": len(data),
        "bytes_from_checkpoint": 0,
        "restarts": 0,
        "exit_code": 0,
    }
    assert {name: told[name] for name in expected} == expected


def test_json_of_a_failure(hydraflow, origin):
    ran = hydraflow(origin.url + "/x.bin", "--json")
    assert json.loads(ran.stdout) == {
        "name": "x.bin",
        "ok": False,
        "url": f"{origin.url}/x.bin",
        "error": "NotFoundError",
        "message": "404 Not Found",
        "hint": "Check the URL; the file may have moved.",
        "help": "https://github.com/hydraflow-io/hydraflow/blob/main/docs/troubleshooting.md#notfounderror",
        "exit_code": 3,
    }
    assert ran.error.startswith("error: x.bin: 404 Not Found.")


def test_json_of_several_files(hydraflow, origin, data):
    urls = [origin.add("/x.bin", data), origin.url + "/missing.bin", origin.add("/empty.bin", b"")]
    ran = hydraflow(*urls, "--json", "-q")
    assert ran.code == 3
    told = {line["name"]: line["ok"] for line in map(json.loads, ran.stdout.splitlines())}
    assert told == {"x.bin": True, "missing.bin": False, "empty.bin": True}


def test_json_of_a_pipe(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    ran = hydraflow.shell('mkfifo pipe; cat pipe > copy & hydraflow "$URL" --fifo pipe --json; wait', URL=url)
    assert (hydraflow.directory / "copy").read_bytes() == data
    assert json.loads(ran.stdout)["outcome"] == "streamed"


def test_verbose_tells_why_it_is_as_fast_as_it_is(hydraflow, origin):
    data = bytes(6 * MIB)
    origin.when().slow(3 * MIB)
    url = origin.add("/x.bin", data)
    for attempt in range(6):  # an answer that took more than 10 ms, as on a busy machine, changes nothing
        ran = hydraflow(url, "-v", "-t", "3", "--json", "-o", f"d{attempt}")
        if json.loads(ran.stdout)["decisions"]:
            break
    assert re.search(r"^x\.bin: [23] connections from now on: the server answers$", "\n".join(ran.lines), re.MULTILINE)
    told = json.loads(ran.stdout)
    assert told["limited_by"] in ("ceiling", "link")
    assert told["decisions"][0]["reason"] == "the server answers"
    assert 0 <= told["decisions"][0]["at"] <= told["elapsed"]
    assert re.fullmatch(
        rf"x\.bin: {told['requests']} requests, {told['peak_connections']} connections at most; limited by the .*",
        ran.lines[-1],
    )


def test_a_limit_of_one_s_own_is_told(hydraflow, origin):
    ran = hydraflow(origin.add("/x.bin", bytes(MIB)), "-v", "--limit-rate", "1MB/s", "--json")
    assert ran.lines[-1] == "x.bin: 1 request, 1 connection at most; limited by --limit-rate"
    assert json.loads(ran.stdout)["limited_by"] == "limit-rate"


def test_nothing_of_it_without_being_asked(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data))
    assert len(ran.lines) == 1
    ran = hydraflow(origin.url + "/x.bin", "-v", "-q")
    assert (ran.code, ran.error) == (2, "error: --quiet and --verbose exclude each other")


def test_json_that_nobody_reads(hydraflow, origin, data):
    urls = [origin.add(f"/{number}.bin", data[:1000]) for number in range(5)]
    ran = hydraflow.shell(f'hydraflow {" ".join(urls)} -t 1 -q --json | head -c 1; echo " ${{PIPESTATUS[0]}}"')
    assert ran.stdout in (b"{ 141\n", b"{ 0\n"), "0 if all were done before head was"
    assert "Broken" not in ran.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor"], ["verify", "x", "--from", "S", "--json"]])
def test_an_answer_that_cannot_be_written(hydraflow, arguments):
    """No traceback: one line on a full disk, none if the reader has gone."""
    (hydraflow.directory / "x").write_bytes(b"x")
    (hydraflow.directory / "S").write_text(f"{hashlib.sha256(b'x').hexdigest()}  x\n")
    with Path("/dev/full").open("wb") as full:
        ran = hydraflow(*arguments, stdout=full)
    assert (ran.code, ran.lines) == (6, ["error: cannot write to standard output: No space left on device"])
    reader, writer = os.pipe()
    os.close(reader)
    assert hydraflow(*arguments, stdout=writer).code == 141
    os.close(writer)


def test_json_into_a_pipe_that_is_closed(hydraflow, origin, data):
    process = hydraflow.start(origin.add("/x.bin", data), "--json")
    process.stdout.close()
    assert process.wait(timeout=10) == 141
    assert process.stderr.read().decode().splitlines()[-1] == "hydraflow: error: the reader closed standard output"


def test_json_onto_a_full_disk(hydraflow, origin, data):
    ran = hydraflow.shell('hydraflow "$URL" --json > /dev/full', URL=origin.add("/x.bin", data))
    assert ran.code == 6
    assert ran.error == "error: cannot write to standard output: No space left on device"


# ── outputs that are closed, full or not UTF-8 ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- >&- 2>&-", ">&-"])
def test_closed_descriptors(hydraflow, origin, data, closed):
    ran = hydraflow.shell(f'hydraflow "$URL" {closed}', URL=origin.add("/x.bin", data))
    assert ran.code == 0
    assert ran.stdout == b""
    assert (hydraflow.directory / "download/x.bin").read_bytes() == data


@pytest.mark.parametrize("option", ["--stream", "--json"])
def test_standard_output_is_closed(hydraflow, origin, data, option):
    ran = hydraflow.shell(f'hydraflow "$URL" {option} >&-', URL=origin.add("/x.bin", data))
    assert (ran.code, ran.error) == (2, "error: standard output is closed")
    assert not origin.ledger


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, NO_UTF8, {"PYTHONIOENCODING": "latin-1"}])
def test_a_locale_without_utf8(hydraflow, origin, data, environment):
    ran = hydraflow(origin.add("/x.bin", data), "-o", "d", environment=environment)
    assert ran.code == 0
    assert ran.stderr.rstrip().endswith("d/x.bin")
    assert hydraflow("--help", environment=environment).code == 0


def test_a_name_that_the_locale_cannot_spell(hydraflow, origin, data):
    ran = hydraflow(origin.url + "/%C3%A9.bin", environment=NO_UTF8)
    assert (ran.code, ran.error) == (
        2,
        r"error: the file name '\xe9.bin' cannot be spelt in this locale. Set LC_ALL=C.UTF-8.",
    )
    assert not origin.ledger


def test_a_name_in_utf8(hydraflow, origin, data):
    origin.add("/%C3%A9.bin", data)
    ran = hydraflow(origin.url + "/%C3%A9.bin", environment={"LC_ALL": "C.UTF-8"})
    assert ran.code == 0
    assert (hydraflow.directory / "download/é.bin").read_bytes() == data


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_help(hydraflow):
    ran = hydraflow("-h")
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout.startswith(b"Usage: hydraflow [OPTIONS] URL...")
    assert b"Exit codes: 0 done and verified" in ran.stdout


def test_version(hydraflow):
    from hydraflow import __version__

    ran = hydraflow("-V")
    assert (ran.code, ran.stdout, ran.stderr) == (0, f"hydraflow, version {__version__}\n".encode(), "")
