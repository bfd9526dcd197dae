"""A signal ends the command at once, with a checkpoint, one line on how to go on, and a rerun that does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import time

import pytest

from tests.cli.conftest import DEADLINE, prompt

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def interrupt(hydraflow, process, number=signal.SIGINT):
    """Send the signal; the command must end within a second."""
    begun = time.monotonic()
    process.send_signal(number)
    process.wait(DEADLINE)  # before anybody reads what it has written: a reader that sleeps goes on sleeping
    assert time.monotonic() - begun < prompt()
    return hydraflow.finish(process)


@pytest.fixture
def slow(origin, data):
    """A file of 12.6 MB that takes seconds, until `origin.rules` is cleared."""
    origin.when().slow(2_000_000)
    return origin.add("/x.bin", data * 4)


@pytest.mark.parametrize("number", CODES)
def test_interrupted_and_resumed(hydraflow, origin, slow, data, wait_for, number):
    process = hydraflow.start(slow, "-o", "d")
    wait_for(lambda: origin.bytes_served() > 1_500_000)
    ran = interrupt(hydraflow, process, number)
    assert ran.code == CODES[number]
    [line] = ran.lines
    told = re.fullmatch(
        r"interrupted, x\.bin at (\d+\.\d) [kM]B of 12\.6 MB \(\d+ %\); run the same command again to go on", line
    )
    assert told, line
    assert "d/.x.bin.hydra/journal" in hydraflow.left()
    assert "d/x.bin" not in hydraflow.left()

    origin.rules.clear()
    again = hydraflow(slow, "-o", "d", "--json")
    assert again.code == 0
    result = json.loads(again.stdout)
    assert result["outcome"] == "resumed"
    assert result["bytes_from_checkpoint"] > 100_000
    assert result["bytes_from_checkpoint"] + result["bytes_from_network"] == 4 * len(data)
    assert (hydraflow.directory / "d/x.bin").read_bytes() == data * 4
    assert hydraflow.left() == ["d", "d/x.bin"]


def test_no_resume_is_said(hydraflow, origin, slow, wait_for):
    process = hydraflow.start(slow, "--no-resume")
    wait_for(lambda: origin.bytes_served() > 100_000)
    assert "run the same command again without --no-resume to go on" in interrupt(hydraflow, process).stderr


def test_several_files(hydraflow, origin, slow, data, wait_for):
    small = origin.add("/small.bin", b"x")
    other = origin.add("/y.bin", data)
    process = hydraflow.start(small, slow, other)
    wait_for(lambda: origin.bytes_served("/y.bin") > 100_000 and "download/small.bin" in hydraflow.left())
    ran = interrupt(hydraflow, process)
    assert ran.code == 130
    assert re.match(r"interrupted, 2 files begun \(\d", ran.lines[-1])


@pytest.mark.parametrize("arguments", [["--quiet"], ["-nu", "--json"]])
def test_in_every_mode(hydraflow, origin, slow, wait_for, arguments):
    process = hydraflow.start(slow, *arguments)
    wait_for(lambda: origin.bytes_served() > 0)
    ran = interrupt(hydraflow, process, signal.SIGTERM)
    assert ran.code == 143
    told = [(line["name"], line["error"], line["exit_code"]) for line in map(json.loads, ran.stdout.splitlines())]
    assert told == ([("x.bin", "UnfinishedError", 143)] if "--json" in arguments else [])
    assert ran.stderr.count("\n") == 1
    assert ran.lines[0].startswith("interrupted")


# ── many files ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def half_done(hydraflow, origin, slow, wait_for):
    """Starts a run of which one file is there, one fails, and the others take long."""
    origin.rules.clear()
    origin.when().slow(200_000)
    urls = [origin.add("/a.bin", b"a"), f"{origin.url}/missing.bin", slow]
    urls += [origin.add(f"/{number}.bin", b"y" * 5_000_000) for number in range(5)]
    (hydraflow.directory / "m").write_text("\n".join(urls))

    def start(*arguments, **options):
        process = hydraflow.start("--input", "m", "-o", "d", *arguments, **options)
        wait_for(lambda: (hydraflow.directory / "d/a.bin").exists() and origin.bytes_served("/x.bin") > 100_000)
        time.sleep(0.3)  # what is there is told of, and so is what failed
        return process

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_rest_of_many_can_be_had(hydraflow, origin, half_done, number):
    """All that the end of a run writes is written by a signal, too, and in its second."""
    process = half_done("--failed", "rest", "--json", "--report", "out.html")
    ran = interrupt(hydraflow, process, number)
    assert ran.code == CODES[number]
    told = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert len(told) == len(ran.stdout.splitlines()) == 8
    codes = {name: line["exit_code"] for name, line in told.items()}
    assert (codes.pop("a.bin"), codes.pop("missing.bin")) == (0, 3)
    assert set(codes.values()) == {CODES[number]}
    assert re.fullmatch(r"unfinished at \d.* of 12\.6 MB \(\d+ %\)", told["x.bin"]["message"])
    totals = r"8 files: 1 done \(1 B in \d\.\d s\), 1 without a digest, 1 failed \(1 not found\), 6 unfinished"
    assert [line for line in ran.lines if re.fullmatch(totals, line)]
    assert "what is not done is listed in rest: to try it again, --input rest" in ran.lines
    assert re.match(r"interrupted, 6 files begun \(.*\), 1 done; run the same command again to go on", ran.lines[-1])
    assert "1 of 8 files failed, 6 unfinished" in (hydraflow.directory / "out.html").read_text()
    listed = [json.loads(line)["url"] for line in (hydraflow.directory / "rest").read_text().splitlines()]
    assert [url.rpartition("/")[2] for url in listed] == ["missing.bin", "x.bin", *(f"{n}.bin" for n in range(5))]

    origin.rules.clear()
    origin.add("/missing.bin", b"m")
    again = hydraflow("--input", "rest", "-o", "d", "--failed", "rest", "--json")
    assert again.code == 0
    kept = {line["name"]: line["bytes_from_checkpoint"] for line in map(json.loads, again.stdout.splitlines())}
    assert kept["x.bin"] > 0
    assert not (hydraflow.directory / "rest").exists()
    assert len(list((hydraflow.directory / "d").iterdir())) == 8


def test_lists_that_cannot_be_written_are_said(hydraflow, half_done):
    ran = interrupt(hydraflow, half_done("--failed", "no/rest", "--report", "no/out.html"))
    assert ran.code == 130
    assert [line for line in ran.lines if line.startswith("error: cannot write no/")] == [
        "error: cannot write no/rest: No such file or directory",
        "error: cannot write no/out.html: No such file or directory",
    ]
    assert ran.lines[-1].startswith("interrupted, 6 files begun")


def test_a_full_pipe_does_not_keep_the_list_from_the_disk(hydraflow, half_done):
    """Nobody reads what `--json` says: the command ends in its second all the same, and the list is there."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = half_done("--failed", "rest", "--json", stdout=writer)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n")
    os.set_blocking(writer, True)
    ran = interrupt(hydraflow, process)
    os.close(reader)
    os.close(writer)
    assert ran.code == 130
    assert len((hydraflow.directory / "rest").read_text().splitlines()) == 7


def test_urls_that_look_alike(hydraflow, origin, wait_for):
    """Which of two that differ in a secret has ended cannot be told: both are listed, and neither is lost."""
    origin.add("/x.bin", b"z" * 100_000)
    origin.when(request=2).slow(1000)
    lines = [{"url": f"{origin.url}/x.bin?X-Amz-Signature={each}", "name": f"{each}.bin"} for each in "ab"]
    (hydraflow.directory / "m").write_text(json.dumps(lines))
    process = hydraflow.start("--input", "m", "-o", "d", "--failed", "rest")
    wait_for(lambda: any((hydraflow.directory / "d").glob("?.bin")) and len(origin.ledger) > 1)
    time.sleep(0.2)
    assert interrupt(hydraflow, process).code == 130
    assert len((hydraflow.directory / "rest").read_text().splitlines()) == 2


@pytest.mark.parametrize("wait", ["for the head", "for a byte", "after a failure"])
def test_while_waiting(hydraflow, origin, data, wait_for, wait):
    url = origin.add("/x.bin", data)
    rule = origin.when()
    match wait:
        case "for the head":
            rule.head_delay(20)
        case "for a byte":
            rule.stall(after=1000)
        case "after a failure":
            rule.status(503, headers={"Retry-After": "20"})
    process = hydraflow.start(url)
    wait_for(lambda: origin.ledger)
    time.sleep(0.3)
    ran = interrupt(hydraflow, process)
    assert ran.code == 130
    assert "run the same command again" in ran.lines[-1]


@pytest.mark.parametrize(("number", "reader"), [(signal.SIGINT, "reads"), (signal.SIGTERM, "sleeps")])
def test_during_a_stream(hydraflow, origin, data, wait_for, number, reader):
    url = origin.add("/x.bin", data * 4)
    if reader == "reads":
        origin.when().slow(2_000_000)
    process = hydraflow.start(url, "--stream")
    wait_for(lambda: origin.bytes_served() > 500_000)
    time.sleep(0.1)
    ran = interrupt(hydraflow, process, number)
    assert ran.code == CODES[number]
    told = r"interrupted, x\.bin at .* MB.*; a stream is not kept: the same command begins anew"
    assert re.fullmatch(told, ran.lines[-1])
    assert len(ran.stdout) < 4 * len(data)
    assert (data * 4).startswith(ran.stdout)


def test_during_a_stream_into_a_pipe_that_nobody_reads(hydraflow, origin, data, wait_for):
    process = hydraflow.start(origin.add("/x.bin", data), "--fifo", "pipe")
    wait_for(lambda: origin.bytes_served() > 0)
    time.sleep(0.2)
    ran = interrupt(hydraflow, process)
    assert ran.code == 130
    assert hydraflow.left() == [], "the pipe goes with its maker"


def test_nohup_is_respected(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data)
    origin.when().slow(6_000_000)
    process = hydraflow.start(url, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: origin.bytes_served() > 100_000)
    process.send_signal(signal.SIGHUP)
    assert hydraflow.finish(process).code == 0
    assert (hydraflow.directory / "download/x.bin").read_bytes() == data


def test_what_cannot_be_resumed_is_said(hydraflow, origin, data, wait_for):
    """Nothing would tell the rest of this version from that of another one."""
    url = origin.add("/x.bin", data * 4, etag=None)
    origin.when().slow(2_000_000)
    process = hydraflow.start(url)
    wait_for(lambda: origin.bytes_served() > 500_000)
    ran = interrupt(hydraflow, process)
    assert ran.code == 130
    told = (
        r"interrupted, x\.bin at .*; the server gives nothing to tell versions apart by: the same command begins anew"
    )
    assert re.fullmatch(told, ran.lines[-1])

    origin.rules.clear()
    again = json.loads(hydraflow(url, "--json").stdout)
    assert (again["outcome"], again["bytes_from_checkpoint"]) == ("fetched", 0)


def test_after_the_last_byte_nothing_is_interrupted(hydraflow, origin, data, wait_for):
    """A signal that comes when all is done does not make a failure of it."""
    url = origin.add("/x.bin", data)
    process = hydraflow.start(url, "--stream")
    wait_for(lambda: origin.bytes_served() == len(data))
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    ran = hydraflow.finish(process)
    assert ran.code in (0, 143)
    assert (ran.stdout == data) == (ran.code == 0)
    assert any("interrupted" in line for line in ran.lines) == (ran.code == 143)
