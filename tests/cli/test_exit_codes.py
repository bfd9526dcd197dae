"""The table of exit codes, one real process for each row."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time

import pytest

from tests.cli.conftest import prompt

WRONG = "0" * 32


def test_done_and_verified(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    ran = hydraflow(url, "--digest", f"sha256:{hashlib.sha256(data).hexdigest()}", "-o", "d")
    assert ran.code == 0
    assert (hydraflow.directory / "d/x.bin").read_bytes() == data
    assert hydraflow.left() == ["d", "d/x.bin"]
    assert "verified sha256 (caller)" in ran.stderr


def test_done_with_nginx(hydraflow, nginx, samples):
    ran = hydraflow(f"{nginx.url}/genome.fa.gz#sha256={samples.sha256['genome.fa.gz']}")
    assert ran.code == 0
    assert (hydraflow.directory / "download/genome.fa.gz").read_bytes() == samples.read("genome.fa.gz")


@pytest.mark.parametrize("status", [401, 403, 404, 418])
def test_refused_by_the_server(hydraflow, origin, data, status):
    url = origin.add("/x.bin", data)
    origin.when().status(status)
    ran = hydraflow(url)
    assert ran.code == 3
    assert f"x.bin: {status} " in ran.error
    assert len(origin.ledger) == 1, "a refusal is not asked for again"
    assert "download/x.bin" not in hydraflow.left()


def test_connection_refused(hydraflow):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        begun = time.monotonic()
        ran = hydraflow(f"http://127.0.0.1:{port}/x.bin", environment={"HYDRAFLOW_FIRST_WAIT": "0.5"})
        assert time.monotonic() - begun < 5
    assert ran.code == 4
    assert "x.bin: cannot connect" in ran.error


def test_patience_spent(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    busy = origin.when()
    busy.status(503)
    ran = hydraflow(url, environment={"HYDRAFLOW_MAX_WAIT": "0.5"})
    assert ran.code == 4
    assert "max_wait is 0.5 s" in ran.error
    assert busy.fired > 1


@pytest.mark.parametrize(("wait", "told"), [("0", "max_wait is 0)"), ("0.4s", "max_wait is 0.4 s)")])
def test_patience_is_an_option(hydraflow, origin, data, wait, told):
    url = origin.add("/x.bin", data)
    busy = origin.when()
    busy.status(503)
    ran = hydraflow(url, "--max-wait", wait, environment={"HYDRAFLOW_MAX_WAIT": "1h", "HYDRAFLOW_FIRST_WAIT": "1h"})
    assert ran.code == 4
    assert told in ran.error
    tries = [bool(re.match(r"x\.bin: .*; trying again in 0\.\d s, giving up in 0 s", line)) for line in ran.lines]
    assert (busy.fired > 1) == any(tries) == (wait != "0")


def test_what_is_no_time_is_refused(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--max-wait", "soon")
    assert (ran.code, len(origin.ledger)) == (2, 0)
    told = "error: max_wait: Input should be a time, such as 90, 10m or 2h, not 'soon'. See docs/configuration.md."
    assert ran.error == told


@pytest.mark.parametrize("given", ["--md5", "--digest", "#"])
def test_wrong_digest(hydraflow, origin, data, given):
    url = origin.add("/x.bin", data)
    arguments = {"--md5": [url, "--md5", WRONG], "--digest": [url, "--digest", f"md5:{WRONG}"]}
    ran = hydraflow(*arguments.get(given, [f"{url}#md5={WRONG}"]), "-o", "d")
    assert ran.code == 5
    assert WRONG in ran.error
    assert hashlib.md5(data).hexdigest() in ran.error
    assert hydraflow.left() == ["d"], "neither file nor state"


def test_wrong_size(hydraflow, origin, data):
    ran = hydraflow(f"{origin.add('/x.bin', data)}#size=7", "-o", "d")
    assert ran.code == 5
    assert "expected 7 bytes" in ran.error
    assert hydraflow.left() == ["d"]


def test_directory_that_cannot_be_written(hydraflow, origin, data):
    directory = hydraflow.directory / "locked"
    directory.mkdir(mode=0o500)
    place = "/proc" if os.geteuid() == 0 else directory  # root may write everywhere else
    ran = hydraflow(origin.add("/x.bin", data), "-o", place)
    assert ran.code == 6
    assert "cannot prepare" in ran.error


def test_directory_that_is_a_file(hydraflow, origin, data):
    (hydraflow.directory / "file").write_text("mine")
    ran = hydraflow(origin.add("/x.bin", data), "-o", "file")
    assert ran.code == 6
    assert (hydraflow.directory / "file").read_text() == "mine"


def test_other_file_at_the_destination(hydraflow, origin, data):
    (hydraflow.directory / "x.bin").write_text("mine")
    ran = hydraflow(origin.add("/x.bin", data), "-o", ".")
    assert ran.code == 6
    assert "--overwrite" in ran.error
    assert (hydraflow.directory / "x.bin").read_text() == "mine"


def test_resource_that_never_keeps_still(hydraflow, origin, data):
    """In the end it comes over one connection, whose answer is of one version."""
    url = origin.add("/x.bin", data * 3)
    for request in range(2, 40):
        origin.when(request=request).replace(data * 3, etag=f'"v{request}"')
    ran = hydraflow(url, "-t", 1, "-o", "d", "-nu")
    assert ran.code == 0
    assert "starting anew over one connection" in ran.stderr
    assert (hydraflow.directory / "d/x.bin").read_bytes() == data * 3


def test_resource_that_changes_in_mid_stream(hydraflow, origin, data):
    """What a reader has got cannot be taken back, and nothing of another version may follow it."""
    old, new = data * 3, data[::-1] * 3
    url = origin.add("/x.bin", old)
    changed = origin.when(request=3).replace(new, etag='"v2"').head_delay(0.3)
    ran = hydraflow(url, "--stream", "-t", 1, "-b", "1MB")
    assert ran.code == 7
    assert changed.fired == 1
    assert 0 < len(ran.stdout) < len(old)
    assert old.startswith(ran.stdout)


def test_busy_destination(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data)
    origin.when().slow(50_000)
    first = hydraflow.start(url, "-o", "d")
    wait_for(lambda: origin.bytes_served() > 0)
    second = hydraflow(url, "-o", "d", environment={"HYDRAFLOW_BUSY_TIMEOUT": "0"})
    assert second.code == 8
    assert f"another process ({first.pid} on {os.uname().nodename}) is still fetching d/x.bin" in second.error
    assert first.poll() is None


USAGE = [
    [],
    ["--no-such-option", "URL"],
    ["URL", "-t", "many"],
    ["URL", "-t", "0"],
    ["URL", "-b", "ten"],
    ["URL", "--md5", "xyz"],
    ["URL", "--md5", WRONG, "--digest", f"md5:{WRONG}"],
    ["URL", "URL/2", "--md5", WRONG],
    ["URL", "--stream", "--fifo", "pipe"],
    ["URL", "--stream", "--json"],
    ["URL", "--stream", "-o", "d"],
    ["URL", "--fifo", "pipe", "-o", "d"],
    ["URL", "--fifo", "pipe", "--fifo-dir", "pipes"],
    ["URL", "--keep"],
    ["URL", "--decompress"],
    ["URL", "--stream", "--decompress", "--range", "0-5"],
    ["URL", "--range", "0-5"],
    ["URL", "--stream", "--keep", "--range", "0-5"],
    ["URL", "--stream", "--fifo-dir", "pipes"],
    ["URL", "URL/x.bin", "--fifo-dir", "pipes"],
    ["URL", "--header", "nonsense"],
    ["URL", "--header", "Range: bytes=0-1"],
    ["URL", "--header", "A: 1", "--header", "a: 2"],
    ["URL#sha256=12"],
    ["URL#colour=red"],
    ["ftp://127.0.0.1/x.bin"],
    [""],
    ["URL", "URL"],
    ["URL", "URL?again"],
]


def test_usage_as_a_process(hydraflow):
    ran = hydraflow("--zz")
    assert (ran.code, ran.stdout) == (2, b"")
    assert ran.error == "error: No such option '--zz'. Try 'hydraflow --help'."


@pytest.mark.parametrize("arguments", USAGE, ids=lambda arguments: " ".join(arguments)[:60] or "nothing")
def test_usage(hydraflow_here, tmp_path, origin, data, arguments):
    url = origin.add("/x.bin", data)
    ran = hydraflow_here(*(argument.replace("URL", url) for argument in arguments))
    assert ran.code == 2
    assert ran.error == ran.lines[0]
    assert len(ran.lines) == 1
    assert not origin.ledger, "nothing may be asked for"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("prob", "Did you mean hydraflow probe?"),
        ("samples.tsv", "To fetch what a file lists: --input samples.tsv."),
        ("example.org/x.bam", "Write https://example.org/x.bam."),
    ],
)
def test_what_was_meant(hydraflow_here, tmp_path, word, hint):
    (tmp_path / "samples.tsv").touch()
    ran = hydraflow_here(word, "https://example.org/x")
    assert (ran.code, ran.error) == (2, f"error: this is not a URL: {word!r}. {hint}")


@pytest.mark.parametrize("word", ["me:t0psecret@example.org/x", "example.org/x?key=t0psecret"])
def test_what_may_be_a_secret_is_not_shown(hydraflow_here, word):
    ran = hydraflow_here(word)
    assert ran.code == 2
    assert "t0psecret" not in ran.stderr


def test_a_sentence_ends(hydraflow_here):
    assert hydraflow_here("state").error == (
        "error: Missing argument 'ls|rm'. Choose from: ls, rm. Try 'hydraflow state --help'."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("HYDRAFLOW_THREADS", "many"), ("HYDRAFLOW_MAX_WAIT", "-1"), ("HYDRAFLOW_BUFFER", "1")],
)
def test_bad_setting(hydraflow, origin, data, name, value):
    ran = hydraflow(origin.add("/x.bin", data), environment={name: value})
    assert ran.code == 2
    assert name in ran.error
    assert not origin.ledger


def test_reader_gone(hydraflow, origin, data):
    """`| head -c 10`: over within a second, and no traceback."""
    url = origin.add("/x.bin", data * 10)
    process = hydraflow.start(url, "--stream")
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    begun = time.monotonic()
    code = process.wait(timeout=10)
    assert time.monotonic() - begun < prompt()
    assert code == 141
    assert process.stderr.read().decode().startswith("hydraflow: error: x.bin: the reader closed the pipe")


def test_reader_gone_in_a_shell(hydraflow, origin, data):
    url = origin.add("/x.bin", data * 10)
    ran = hydraflow.shell('hydraflow "$URL" --stream | head -c 10; echo " ${PIPESTATUS[0]}"', URL=url)
    assert ran.stdout == data[:10] + b" 141\n"
