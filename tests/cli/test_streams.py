"""Streams to standard output and to named pipes: the right bytes, in order, and no end before all is verified."""

from __future__ import annotations

import os
import stat
import time

import pytest

from tests.cli.conftest import MIB, prompt

HELD_BACK = 64 << 10


@pytest.mark.parametrize("size", [0, HELD_BACK, HELD_BACK + 1, 3 * MIB])
def test_all_bytes_and_nothing_else(hydraflow, origin, data, size):
    ran = hydraflow(origin.add("/x.bin", data[:size]), "--stream")
    assert ran.code == 0
    assert ran.stdout == data[:size]
    assert hydraflow.left() == [], "nothing on disk"
    assert "x.bin: streamed" in ran.stderr


@pytest.mark.parametrize("arguments", [["-s", "-q"], ["-s", "-nu", "-t", "1", "-b", "1MB"]])
def test_in_every_mode(hydraflow, origin, data, arguments):
    ran = hydraflow(origin.add("/x.bin", data), *arguments)
    assert (ran.code, ran.stdout) == (0, data)


def test_through_zcat(hydraflow, nginx, samples):
    url = f"{nginx.url}/genome.fa.gz#sha256={samples.sha256['genome.fa.gz']}"
    ran = hydraflow.shell("""set -o pipefail; hydraflow "$URL" --stream | zcat | grep -c '^>'""", URL=url)
    assert (ran.code, int(ran.stdout)) == (0, samples.records)
    assert "verified sha256 (url fragment)" in ran.stderr


def test_into_a_file(hydraflow, origin, data):
    ran = hydraflow.shell('hydraflow "$URL" --stream > copy', URL=origin.add("/x.bin", data))
    assert ran.code == 0
    assert (hydraflow.directory / "copy").read_bytes() == data


def test_onto_a_full_disk(hydraflow, origin, data):
    ran = hydraflow.shell('hydraflow "$URL" --stream > /dev/full', URL=origin.add("/x.bin", data))
    assert ran.code == 6
    assert "No space left on device" in ran.error


def test_through_faults(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    cut = origin.when(times=3).drop(after=200_000)
    ran = hydraflow(url, "--stream")
    assert (ran.code, ran.stdout) == (0, data)
    assert cut.fired == 3


def test_wrong_digest_withholds_the_tail(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--stream", "--md5", "0" * 32)
    assert ran.code == 5
    assert data.startswith(ran.stdout)
    assert len(ran.stdout) <= len(data) - HELD_BACK


def test_several_urls_follow_each_other(hydraflow, origin, data):
    parts = [data[:MIB], b"", data[MIB : MIB + 7], data[2 * MIB :]]
    urls = [origin.add(f"/part{number}", part) for number, part in enumerate(parts)]
    origin.when(path="/part0").head_delay(0.2)
    ran = hydraflow(*urls, "--stream")
    assert (ran.code, ran.stdout) == (0, b"".join(parts))


def test_the_first_failure_ends_the_stream(hydraflow, origin, data):
    first, last = origin.add("/1", data[:1000]), origin.add("/3", data)
    ran = hydraflow(first, origin.url + "/2", last, "--stream")
    assert (ran.code, ran.stdout) == (3, data[:1000])
    assert not origin.requests("/3")


def test_a_reader_that_pauses_is_not_overrun(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data * 4)
    process = hydraflow.start(url, "--stream", "-b", "2MB")
    wait_for(lambda: origin.bytes_served() > MIB)
    time.sleep(0.5)
    # The window, the pipe (1 MiB), and what is on its way in sockets.
    assert origin.bytes_served() < 9 * MIB
    assert hydraflow.finish(process).stdout == data * 4


# ── named pipes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 3 * MIB])
def test_fifo_with_an_early_reader(hydraflow, origin, data, size):
    os.mkfifo(hydraflow.directory / "pipe")
    script = 'cat pipe > copy & hydraflow "$URL" --fifo pipe; code=$?; wait; exit $code'
    ran = hydraflow.shell(script, URL=origin.add("/x.bin", data[:size]))
    assert (ran.code, ran.stdout) == (0, b"")
    assert (hydraflow.directory / "copy").read_bytes() == data[:size]
    assert "pipe" in hydraflow.left(), "it was there before"


@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_fifo_with_a_late_reader(hydraflow, origin, data, wait_for, size):
    process = hydraflow.start(origin.add("/x.bin", data[:size]), "--fifo", "pipe")
    pipe = hydraflow.directory / "pipe"
    wait_for(pipe.exists)
    assert stat.S_IMODE(pipe.stat().st_mode) == 0o600
    time.sleep(0.3)
    assert process.poll() is None
    assert pipe.read_bytes() == data[:size]
    ran = hydraflow.finish(process)
    assert ran.code == 0
    assert ran.lines[0] == "streaming into pipe, which must be opened within 5 s"
    assert hydraflow.left() == [], "the pipe goes with its maker"


def test_fifo_without_a_reader(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--fifo", "pipe", "-q", environment={"HYDRAFLOW_OPEN_TIMEOUT": "0.3"})
    assert ran.code == 6
    assert ran.error.startswith("error: x.bin: nobody opened pipe for reading within 0.3 s")
    assert hydraflow.left() == []


def test_fifo_whose_reader_dies(hydraflow, origin, data, wait_for):
    process = hydraflow.start(origin.add("/x.bin", data * 3), "--fifo", "pipe")
    pipe = hydraflow.directory / "pipe"
    wait_for(pipe.exists)
    with pipe.open("rb") as reader:
        assert reader.read(1000) == data[:1000]
    begun = time.monotonic()
    ran = hydraflow.finish(process)
    assert time.monotonic() - begun < prompt()
    assert ran.code == 141
    assert ran.error.startswith("error: x.bin: the reader closed the pipe")
    assert hydraflow.left() == []


def test_fifo_and_a_wrong_digest(hydraflow, origin, data, wait_for):
    process = hydraflow.start(origin.add("/x.bin", data), "--fifo", "pipe", "--md5", "0" * 32)
    pipe = hydraflow.directory / "pipe"
    wait_for(pipe.exists)
    assert len(pipe.read_bytes()) <= len(data) - HELD_BACK
    assert hydraflow.finish(process).code == 5


def test_fifo_where_a_file_is(hydraflow, origin, data):
    (hydraflow.directory / "pipe").write_text("mine")
    ran = hydraflow(origin.add("/x.bin", data), "--fifo", "pipe")
    assert ran.code == 6
    assert "exists and is not a named pipe" in ran.error
    assert (hydraflow.directory / "pipe").read_text() == "mine"
    assert not origin.ledger


@pytest.mark.parametrize("way", ["--stream", "--fifo"])
def test_the_next_url_is_begun_while_one_is_read(hydraflow, origin, data, wait_for, way):
    urls = [origin.add(f"/{n}", data) for n in range(3)]
    target = ["--fifo", "pipe"] if way == "--fifo" else [way]
    process = hydraflow.start(*urls, *target, "-b", "1MB")
    if way == "--fifo":
        wait_for((hydraflow.directory / "pipe").exists)
        source = (hydraflow.directory / "pipe").open("rb")
    else:
        source, process.stdout = process.stdout, None
    with source:
        got = source.read(1000)
        wait_for(lambda: origin.requests("/1"))
        assert not origin.requests("/2"), "one ahead, not all"
        got += source.read()
    ran = hydraflow.finish(process)
    assert ran.code == 0
    assert got == data * 3
    assert [line.split(":")[0] for line in ran.lines[-3:]] == ["0", "1", "2"]


# ── a named pipe for each ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pair(origin, data):
    return [origin.add("/r1.fq", data), origin.add("/r2.fq", data[::-1])]


@pytest.mark.parametrize("reading", ["paste -d '' pipes/r1.fq pipes/r2.fq", "cat pipes/r1.fq pipes/r2.fq"])
def test_two_pipes_read_in_step_and_in_turn(hydraflow, pair, data, reading):
    """In turn, the second one has its reader later than `open_timeout`; it is not given up while the first is read."""
    script = f"""
    hydraflow "$1" "$2" --fifo-dir pipes -b 1MB & until [ -p pipes/r2.fq ]; do sleep 0.05; done
    (stat -c %a pipes pipes/r1.fq; {reading}) | (head -n 2; sleep 2; cat) > copy; wait $!
    """
    ran = hydraflow.shell(
        script.replace("$1", "$R1").replace("$2", "$R2"), R1=pair[0], R2=pair[1], HYDRAFLOW_OPEN_TIMEOUT="1.5"
    )
    assert ran.code == 0, ran.stderr
    copied = (hydraflow.directory / "copy").read_bytes()
    assert copied.startswith(b"700\n600\n")
    expected = data + data[::-1] if "cat" in reading else None
    assert expected is None or copied[8:] == expected
    assert len(copied) > 1.99 * len(data)  # paste puts lines together
    assert hydraflow.left() == ["copy"]


def test_one_bad_file_ends_both(hydraflow, pair, data):
    script = """
    hydraflow "$R1" "$R2#md5=00000000000000000000000000000000" --fifo-dir pipes & job=$!
    until [ -p pipes/r2.fq ]; do :; done
    (cat pipes/r2.fq > two) & (head -c 1000; sleep 0.5; cat) < pipes/r1.fq > one; wait $job
    """
    ran = hydraflow.shell(script, R1=pair[0], R2=pair[1])
    assert ran.code == 5
    assert ran.error.startswith("error: r2.fq: md5 mismatch")
    for name in ("one", "two"):
        assert (hydraflow.directory / name).stat().st_size <= len(data) - HELD_BACK
    assert hydraflow.left() == ["one", "two"]


def test_a_pipe_that_is_there_stays_and_so_does_its_directory(hydraflow, origin, data):
    (hydraflow.directory / "pipes").mkdir()
    os.mkfifo(hydraflow.directory / "pipes/x.bin")
    script = 'cat pipes/x.bin > copy & hydraflow "$URL" --fifo-dir pipes; code=$?; wait; exit $code'
    assert hydraflow.shell(script, URL=origin.add("/x.bin", data)).code == 0
    assert (hydraflow.directory / "copy").read_bytes() == data
    assert hydraflow.left() == ["copy", "pipes", "pipes/x.bin"]


def test_pipes_nobody_opens(hydraflow, pair):
    ran = hydraflow(*pair, "--fifo-dir", "pipes", environment={"HYDRAFLOW_OPEN_TIMEOUT": "0.3"})
    assert ran.code == 6
    assert "nobody opened pipes/r" in ran.stderr
    assert hydraflow.left() == []


def test_signals_take_the_pipes_away(hydraflow, pair, wait_for):
    process = hydraflow.start(*pair, "--fifo-dir", "pipes")
    wait_for((hydraflow.directory / "pipes/r2.fq").exists)
    time.sleep(0.1)
    process.terminate()
    assert hydraflow.finish(process).code == 143
    assert hydraflow.left() == []


# ── a part ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "part"), [("0-0", slice(0, 1)), ("5-99999", slice(5, 100_000)), ("7-", slice(7, None))]
)
def test_a_range_as_curl_writes_it(hydraflow, origin, data, text, part):
    url = origin.add("/x.bin", data)
    ran = hydraflow(url, "--stream", "--range", text)
    assert (ran.code, ran.stdout) == (0, data[part])
    assert "size checked, no digest known" in ran.stderr
    assert hydraflow("run", "--range", text, url, "--", "cat", "{}").stdout == data[part]


def test_a_range_behind_the_end(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--stream", "--range", f"{len(data)}-")
    assert (ran.code, ran.stdout) == (3, b"")
    assert "the range begins at byte 3,145,728" in ran.error


@pytest.mark.parametrize("text", ["", "5", "-5", "5-4", "a-b", "0-1,3-4", "1-2-3"])
def test_not_a_range(hydraflow_here, origin, text):
    ran = hydraflow_here(origin.add("/x", b"x"), "--fifo", "pipe", "--range", text)
    assert ran.code == 2
    assert "not a range" in ran.error


# ── kept ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keep_is_a_tee(hydraflow, origin, data):
    urls = [origin.add("/1.bin", data), origin.add("/2.bin", data[::-1])]
    ran = hydraflow(*urls, "--stream", "--keep", "-o", "d")
    assert (ran.code, ran.stdout) == (0, data + data[::-1])
    assert hydraflow.left() == ["d", "d/1.bin", "d/2.bin"]
    assert "1.bin: fetched 3.1 MB" in ran.stderr
    again = hydraflow("run", *urls, "--keep", "-o", "d", "--", "cat", "{2}", "{1}")
    assert (again.code, again.stdout) == (0, data[::-1] + data)
    assert "1.bin: already present" in again.stderr
    assert hydraflow(*urls, "--stream", "--keep", "-o", "d", "--overwrite").code == 0


def test_a_kept_stream_that_is_interrupted_says_so(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data)
    origin.when().slow(2_000_000)
    process = hydraflow.start(url, "--stream", "--keep", "-t", "1")
    wait_for(lambda: origin.bytes_served() > 500_000)
    process.terminate()
    ran = hydraflow.finish(process)
    assert ran.code == 143
    assert "run the same command again to go on" in ran.stderr
    origin.rules.clear()
    ran = hydraflow(url, "--stream", "--keep")
    assert (ran.code, ran.stdout) == (0, data)
    assert "from the checkpoint" in ran.stderr
