"""The lines of the display: of one, twenty and a thousand files, in every width, with and without colours and signs."""

from __future__ import annotations

import io
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydraflow import display
from hydraflow.core.tally import Tally
from hydraflow.display import Live, Style, frame, table, width_of
from hydraflow.errors import DigestMismatchError, NotFoundError
from hydraflow.models import Bound, Phase, Progress
from hydraflow.progress import UnfinishedError
from tests.cli.test_progress import CLAIMED, NO_DIGEST, RESULT

BARE = Style(colour=False)
ASCII = Style(colour=False, signs=False)
ONE = Progress("https://h/x.bam", "x.bam", Phase.TRANSFERRING, done=0, size=10_000_000, connections=3)
WRONG = DigestMismatchError("md5 mismatch", algorithm="md5", expected="0", actual="1", source="me")


def tally(files: int, running: int = 0, *, size: int | None = None, seconds: float = 4.0, **news) -> Tally:
    """So many files, of which some have been running for some seconds at 500 kB/s each."""
    made = Tally(files, size)
    for tick in range(int(seconds * 4) + 1):
        for number in range(running):
            done = min(ONE.size, tick * 125_000)
            made.update(replace(ONE, name=f"sample{number:03}.bam", **{"done": done, **news}), tick / 4)
    return made


def test_one_file():
    [line] = frame(tally(1, 1), 4.0, 100, 24, BARE)
    assert re.fullmatch(r"sample000\.bam ━{6}╸?─{26,27}    2\.0/10\.0 MB 500\.0 kB/s    0:16 3 connections", line)


def test_the_limit_is_told_where_there_is_room():
    assert frame(tally(1, 1, bound=Bound.LINK), 4.0, 130, 24, BARE)[0].endswith("3 connections, link full")
    assert frame(tally(1, 1, bound=Bound.LINK), 4.0, 80, 24, BARE)[0].endswith(" 3 connections")


def test_waiting_and_why():
    waiting = tally(1, 1, phase=Phase.WAITING, message="HTTP status 503; trying again in 2 s")
    assert frame(waiting, 4.0, 120, 24, BARE)[0].endswith("     -    -:-- waiting: HTTP status 503")
    assert frame(waiting, 4.0, 80, 24, BARE)[0].endswith("     -    -:-- waiting")


def test_twenty_files():
    lines = frame(tally(20, 12), 4.0, 80, 24, BARE)
    assert len(lines) == 10
    assert [line.split()[0] for line in lines[:8]] == [f"sample{number:03}.bam" for number in range(8)]
    assert lines[8] == "… and 4 more"
    assert lines[9].startswith("0 of 20 files ")
    assert lines[9].endswith(" 36 connections")


def test_those_that_wait_come_last():
    made = tally(3, 3)
    made.update(replace(ONE, name="sample000.bam", phase=Phase.WAITING), 4.0)
    names = [line.split()[0] for line in frame(made, 4.0, 80, 24, BARE)]
    assert names == ["sample001.bam", "sample002.bam", "sample000.bam", "0"]


def test_a_thousand_files():
    """Those that come and go in a moment have no line; those that take long have."""
    made = tally(1000, 2, size=2_000_000_000)
    for number in range(48):
        made.update(replace(ONE, name=f"quick{number}"), 3.9)
    made.fail("gone", WRONG, 3.9)
    lines = frame(made, 4.0, 100, 24, BARE)
    assert [line.split()[0] for line in lines] == ["sample000.bam", "sample001.bam", "1"]
    assert lines[-1].startswith("1 of 1,000 files ")
    assert lines[-1].endswith(" 1 failed")
    assert "0.0/2.0 GB" in lines[-1]


@pytest.mark.parametrize(("columns", "line"), [
    (80, r"sample000\.bam ━+╸?─+ .* 3 connections"),
    (60, r"sample000\.bam +2\.0/10\.0 MB 500\.0 kB/s"),
    (30, r"sample00…bam +2\.0/10\.0 MB|sample000\.bam +2\.0/10\.0 MB|sampl.* +2\.0/10\.0 MB"),
])  # fmt: skip
def test_widths(columns, line):
    [shown] = frame(tally(1, 1), 4.0, columns, 24, BARE)
    assert re.fullmatch(line, shown)


@given(
    st.integers(20, 200),
    st.integers(5, 50),
    st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=12, unique=True),
    st.sampled_from(list(Phase)),
    st.none() | st.integers(0, 10**13) | st.sampled_from([999_960_000, 10**18]),
    st.booleans(),
)
def test_no_line_is_too_long(columns, rows, names, phase, size, signs):
    made = Tally(len(names), None)
    for at in (0.0, 1.0):
        for name in names:
            made.update(Progress("https://h/x", name, phase, int(at * 5000), size, connections=3, message=name), at)
    lines = frame(made, 1.0, columns, rows, Style(colour=False, signs=signs))
    assert len(lines) < max(rows, 5)
    assert all(width_of(line) <= columns - 3 for line in lines), "^C behind it must not break it"
    assert all(line.isprintable() for line in lines)
    assert signs or all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (62, "1:02"), (3599, "59:59"), (3723, "1:02:03"), (43_200, "12 h"), (1e6, "12 d"), (1e12, "9999 d")],
)
def test_time_that_is_left(seconds, text):
    assert display._short(seconds) == text


def test_bars_without_colours_and_without_signs():
    assert BARE.bar(0.5, 8) == "━━━━────"
    assert ASCII.bar(0.5, 8) == "####----"
    assert Style().bar(0.5, 8) == "\x1b[36m━━━━\x1b[0m\x1b[2m────\x1b[0m"
    assert BARE.bar(None, 4) == BARE.bar(0.0, 4) == "────"
    assert BARE.bar(1.5, 4) == "━━━━"


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("é", 1), ("e\u0301", 1), ("漢字", 4), ("\u200b", 0)])
def test_columns_of_a_text(text, width):
    assert width_of(text) == width


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_at_the_end():
    present = replace(CLAIMED, bytes_from_network=0, path=Path("d/y"))
    rows = [("x.bam", RESULT), ("漢.bam", NO_DIGEST), ("y", present), ("gone", NotFoundError("404", status=404))]
    assert table([*rows, ("wrong", WRONG)], 100, BARE) == [
        "file          size   time  retries  verified by",
        "x.bam     209.7 MB  3.1 s        0  md5 (Content-MD5 header)",
        "漢.bam    209.7 MB  3.1 s        0  size only",
        "y         209.7 MB  there        0  md5 (url fragment)",
        "gone                                failed: not found",
        "wrong                               failed: wrong digest",
    ]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (21, "SRR6234500_1.fastq.gz"),
        (20, "SRR6234500_1.fastq.…"),
        (13, "SRR6234500_1…"),
        (12, "SRR6…34500_1"),
        (8, "SRR…00_1"),
        (1, "…"),
    ],
)
def test_of_many_that_differ_in_the_middle_it_is_seen_which(width, shown):
    assert display._fitted_name("SRR6234500_1.fastq.gz", width, BARE) == shown


@pytest.mark.parametrize("name", [".hidden", "no-suffix-at-all-but-long", "漢字漢字漢字.fa.gz"])
def test_names_without_a_suffix(name):
    assert all(width_of(display._fitted_name(name, width, BARE)) == width for width in range(1, 40))


def test_the_number_of_files_fits():
    made = tally(1000, 2)
    assert frame(made, 4.0, 80, 24, BARE)[-1].startswith("0 of 1,000 files ")
    assert frame(made, 4.0, 44, 24, BARE)[-1].startswith("0 of 1,000 ")
    assert frame(made, 4.0, 26, 24, BARE)[-1].startswith("0/1000 ")


def test_the_table_in_a_narrow_terminal():
    failed = DigestMismatchError("md5", algorithm="md5", expected="0", actual="1", source="me")
    rows = [("SRR6234500_1.fastq.gz", NO_DIGEST), ("SRR6234500_2.fastq.gz", RESULT), ("SRR6234501_1.fastq.gz", failed)]
    rows.append(("SRR6234501_2.fastq.gz", UnfinishedError("not begun")))
    assert table(rows, 46, BARE) == [
        "file                     size  verified by",
        "SRR6234500_1.fastq…  209.7 MB  size only",
        "SRR6234500_2.fastq…  209.7 MB  md5 (Content-M…",
        "SRR6234501_1.fastq…            wrong digest",
        "SRR6234501_2.fastq…            not begun",
    ]
    assert all(width_of(line) <= 30 for line in table(rows, 30, BARE))


def test_a_long_name_leaves_room():
    lines = table([("very-long-name" * 9, RESULT)], 80, BARE)
    assert all(width_of(line) <= 80 for line in lines)
    assert "…" in lines[1]
    assert "~" in table([("very-long-name" * 9, RESULT)], 80, ASCII)[1]


# ── drawn ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_costs_less_than_a_hundredth_of_a_core(monkeypatch):
    """Ten seconds of the news of forty-eight files, of a thousand: 10 a second of each."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    live = Live()
    live.expect(1000, 10**10)
    news = [replace(ONE, name=f"sample{number:03}.bam", size=10**8) for number in range(48)]
    begun = time.process_time()
    for tick in range(100):
        clock[0] = tick / 10
        for each in news:
            live.update(replace(each, done=tick * 100_000))
    took = time.process_time() - begun
    live.close()
    drawn = sys.stderr.getvalue().count("of 1,000 files")
    assert 40 <= drawn <= 52, "five times a second"
    assert took < 0.1, f"{took:.3f} s of CPU in 10 s"
