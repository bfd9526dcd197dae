"""The page about a run: whole, self-contained, and nothing that a stranger named is markup in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from hydraflow import report
from hydraflow.core.history import History
from hydraflow.errors import NotFoundError
from hydraflow.progress import UnfinishedError
from tests.cli.test_progress import CLAIMED, NO_DIGEST, RESULT

VOID = {"meta", "br", "line"}


class Page(HTMLParser):
    """Elements, properly nested, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(*outcomes, seconds: int = 20) -> Page:
    history = History(0.0)
    for tick in range(seconds * 10):
        history.add(tick / 10, tick * 100_000, 1 + tick % 4)
    history.end(float(seconds), seconds * 1_000_000)
    return Page(report.page(outcomes, history, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), float(seconds)))


def test_what_it_tells():
    page = made(("a.bam", RESULT), ("b.bam", NO_DIGEST), ("c.bam", CLAIMED))
    assert page.all("h1") == [{"class": "weak"}]
    assert "3 files done, 1 without a digest to verify" in page.text
    assert "2026-01-02 03:04:05 UTC, 0:00:20 long" in page.text
    assert "verified 209.7 MB 3.1 s 66.8 MB/s 8 0 md5:00000000000000000000000000000000 Content-MD5" in page.text
    assert [svg["aria-label"] for svg in page.all("svg")] == [
        "Rate over time, 1.0 MB/s at most", "Connections over time, 4 at most",
    ]  # fmt: skip
    assert len(page.all("tr")) == 4
    assert made(("a.bam", RESULT)).all("h1") == [{"class": "good"}]


def test_failures_come_first_with_what_to_do():
    page = made(("a", RESULT), ("b", NotFoundError("404 Not Found", status=404, url="https://h/b")))
    assert page.all("h1") == [{"class": "bad"}]
    told = "404 Not Found. Check the URL; the file may have moved."
    assert page.text.index(told) < page.text.index("verified 209.7 MB")
    assert page.all("a")[0]["href"].endswith("/troubleshooting.md#notfounderror")


def test_what_a_signal_left_comes_behind_what_failed():
    left = ("b", UnfinishedError("unfinished at 1 MB of 2 MB (50 %)"))
    page = made(("a", RESULT), left, ("c", NotFoundError("404 Not Found", status=404)))
    assert "1 of 3 files failed, 1 unfinished" in page.text
    order = [page.text.index(words) for words in ("404 Not Found", "unfinished at 1 MB of 2 MB", "verified 209.7 MB")]
    assert order == sorted(order)
    assert made(left).all("h1") == [{"class": "weak"}]
    assert "1 of 1 file unfinished" in made(left).text


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', "a&b'\"<", "\x1b[2J\u202e"])
def test_names_are_no_markup(name):
    page = made((name, RESULT), (name, NotFoundError(name, status=404)))
    assert page.all("script") == []
    assert name.replace("\x1b", "�").replace("\u202e", "�") in page.text
    assert len(page.all("tr")) == 3


def test_nothing_is_loaded_from_elsewhere():
    page = made(("a", RESULT))
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert not [value for _, attributes in page.elements for name, value in attributes.items() if name == "src"]
    assert "url(" not in page.text


def test_curves_stay_in_their_picture():
    page = made(("a", RESULT), seconds=300)
    numbers = [float(number) for path in page.all("path") for number in re.findall(r"\d+\.\d", path["d"])]
    assert len(numbers) > 100
    assert all(0 <= number <= 860 for number in numbers)


def test_a_run_too_short_for_a_curve():
    page = Page(report.page([("a", RESULT)], History(0.0), datetime(2026, 1, 1, tzinfo=UTC), 0.0))
    assert len(page.all("svg")) == 2


def test_of_a_real_run(hydraflow, origin, data):
    origin.when().slow(3_000_000)
    ran = hydraflow(origin.add("/x.bin", data), f"{origin.url}/missing", "--report", "out.html")
    assert ran.code == 3
    assert ran.lines[-1] == "the report is in out.html"
    page = Page((hydraflow.directory / "out.html").read_text())
    assert "1 of 2 files failed" in page.text
    assert "x.bin fetched size only 3.1 MB" in page.text
    rate = next(svg["aria-label"] for svg in page.all("svg"))
    assert re.fullmatch(r"Rate over time, [\d.]+ MB/s at most", rate)


def test_of_streams(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--stream", "--report", "out.html", "-q")
    assert ran.stdout == data
    assert "x.bin streamed" in Page((hydraflow.directory / "out.html").read_text()).text


def test_a_place_that_cannot_be_written(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--report", "no/where.html")
    assert (ran.code, ran.error) == (6, "error: cannot write no/where.html: No such file or directory")
