"""The lines themselves."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hydraflow import display, progress
from hydraflow.errors import DigestMismatchError, NotFoundError, StorageError
from hydraflow.models import Digest, DigestSource, FetchResult, Outcome, Phase, Progress, Share, Verification

RESULT = FetchResult(
    url="https://h/x.bam",
    final_url="https://h/x.bam",
    path=Path("d/x.bam"),
    size=209_700_000,
    digest=Digest("md5", "0" * 32),
    verification=Verification.SERVER,
    digest_source=DigestSource.CONTENT_MD5,
    etag=None,
    last_modified=None,
    outcome=Outcome.FETCHED,
    bytes_from_network=209_700_000,
    bytes_from_checkpoint=0,
    requests=9,
    retries=0,
    restarts=0,
    peak_connections=8,
    http_version="HTTP/1.1",
    elapsed=3.14,
)
NO_DIGEST = replace(RESULT, digest=None, digest_source=None, verification=Verification.SIZE)
CLAIMED = replace(RESULT, verification=Verification.CALLER, digest_source=DigestSource.FRAGMENT)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (RESULT, "x.bam: fetched 209.7 MB in 3.1 s, verified md5 (Content-MD5 header) → d/x.bam"),
        (NO_DIGEST, "x.bam: fetched 209.7 MB in 3.1 s, size checked, no digest known → d/x.bam"),
        (
            replace(NO_DIGEST, verification=Verification.NONE),
            "x.bam: fetched 209.7 MB in 3.1 s, not verified: the server announced neither size nor digest → d/x.bam",
        ),
        (
            replace(CLAIMED, outcome=Outcome.RESUMED, bytes_from_checkpoint=10, size=20),
            "x.bam: fetched (resumed) 20 B in 3.1 s, 10 B from the checkpoint, verified md5 (url fragment) → d/x.bam",
        ),
        (
            replace(RESULT, outcome=Outcome.STREAMED, path=None),
            "x.bam: streamed 209.7 MB in 3.1 s, verified md5 (Content-MD5 header)",
        ),
        (
            replace(RESULT, outcome=Outcome.ALREADY_PRESENT),
            "x.bam: already present, 209.7 MB, verified md5 (Content-MD5 header) → d/x.bam",
        ),
    ],
)
def test_summary(result, line):
    assert progress.summary(result, "x.bam") == line


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (209_700_000, "209.7 MB"), (3.2e9, "3.2 GB"), (4e12, "4.00 TB")],
)
def test_size_text(count, text):
    assert progress.size_text(count) == text


@pytest.mark.parametrize(
    ("error", "name", "line"),
    [
        (NotFoundError("404 Not Found", status=404), "x", "error: x: 404 Not Found. " + NotFoundError.default_hint),
        (StorageError("cannot write"), "", "error: cannot write"),
        (StorageError("It ends so.", hint="Do this."), "x", "error: x: It ends so. Do this."),
    ],
)
def test_error_line(error, name, line):
    assert progress.error_line(error, name) == line


def test_totals():
    failed = NotFoundError("404 Not Found", status=404)
    wrong = DigestMismatchError("md5 mismatch", algorithm="md5", expected="0", actual="1", source="me")
    assert progress.totals([RESULT, NO_DIGEST]) == "2 files: 2 done (419.4 MB), 1 without a digest"
    assert progress.totals([RESULT, failed], 3.14) == ("2 files: 1 done (209.7 MB in 3.1 s), 1 failed (1 not found)")
    assert progress.totals([failed, wrong, wrong]) == ("3 files: 0 done (0 B), 3 failed (2 wrong digest, 1 not found)")


@pytest.fixture
def plain(monkeypatch):
    """A reporter of plain lines, and a clock that goes when it is told to."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return progress.Plain(), clock


MOVING = Progress("https://h/x.bam", "x.bam", Phase.TRANSFERRING, done=0, size=10_000_000, connections=3)


def test_a_line_every_ten_seconds(plain, capsys):
    reporter, clock = plain
    for tick in range(160):
        clock[0] = 100 + tick / 8
        reporter.update(replace(MOVING, done=tick * 25_000))
    assert capsys.readouterr().err == (
        "hydraflow: x.bam: 2.0 MB of 10.0 MB (20 %), 200.0 kB/s, 3 connections, 0:00:40 left\n"
    )


def test_unknown_sizes_and_stand_still(plain, capsys):
    reporter, clock = plain
    reporter.update(replace(MOVING, done=1000, size=None))
    clock[0] += 10
    reporter.update(replace(MOVING, done=1000, size=None, connections=1))
    assert capsys.readouterr().err == "hydraflow: x.bam: 1.0 kB, 0 B/s, 1 connection\n"


def test_messages(plain, capsys):
    reporter, _ = plain
    reporter.update(replace(MOVING, message="trying again in 3 s"))
    assert capsys.readouterr().err == "hydraflow: x.bam: trying again in 3 s\n"


def test_standing():
    reporter = progress.Quiet()
    assert reporter.standing() == ""
    reporter.update(replace(MOVING, done=3_300_000))
    assert reporter.standing() == "x.bam at 3.3 MB of 10.0 MB (33 %)"
    reporter.update(replace(MOVING, name="y.bam", done=1_000_000, size=None))
    assert reporter.standing() == "2 files begun (4.3 MB)"
    reporter.finished(RESULT, "x.bam")
    assert reporter.standing() == "y.bam at 1.0 MB, 1 done"


def test_a_failed_file_is_over(capsys):
    reporter = progress.Quiet()
    reporter.update(MOVING)
    reporter.failed(NotFoundError("404 Not Found", status=404, hint=""), "x.bam")
    assert reporter.standing() == ""
    assert capsys.readouterr().err == "hydraflow: error: x.bam: 404 Not Found\n"


def test_quiet_says_nothing_else(capsys):
    reporter = progress.Quiet()
    reporter.update(replace(MOVING, message="something"))
    reporter.note("something")
    reporter.finished(RESULT, "x.bam")
    reporter.close()
    assert capsys.readouterr().err == ""


def test_a_late_event_after_the_display(monkeypatch):
    """The engine's thread may still report when the display is gone: a line then, and no bar."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = display.Live()
    reporter.update(MOVING)
    reporter.close()
    stream.truncate(0)
    reporter.update(replace(MOVING, done=10, message="late"))
    reporter.update(replace(MOVING, name="y.bam", phase=Phase.FAILED))
    assert stream.getvalue().strip("\0") == "\x1b[2mhydraflow: x.bam: late\x1b[0m\n"


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", "a → b é"), ("ascii", "a -> b ?"), ("latin-1", "a -> b é")])
def test_signs_that_a_locale_lacks(monkeypatch, encoding, line):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding))
    progress.say("a → b é")
    assert raw.getvalue().decode(encoding) == f"hydraflow: {line}\n"


def test_a_second_and_its_thousandths_are_of_one_moment():
    times = [progress.time_of_day(1_700_000_054_999_999_999 + each) for each in (0, 1)]
    assert [each[-6:] for each in times] == ["14.999", "15.000"]
    assert len(times[0]) == len("14:02:03.057")


def test_what_each_source_gave():
    shares = (Share("http://a/x", 3_000_000), Share("http://b/x", 0, "404 Not Found"))
    assert (
        progress.shares(replace(RESULT, sources=shares))
        == "3.0 MB from http://a/x; 0 B from http://b/x (404 Not Found)"
    )
    assert progress.shares(RESULT) == ""
