"""The report's page as a browser shows it: nothing overflows, nothing is loaded, the curves are there."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hydraflow import report
from hydraflow.core.history import History
from hydraflow.errors import NotFoundError
from tests.cli.test_progress import CLAIMED, NO_DIGEST, RESULT

SCRIPT = """{
    rows: document.querySelectorAll('tbody tr').length,
    curves: [...document.querySelectorAll('.curve')].map(each => each.getBBox().width),
    inside: [...document.querySelectorAll('svg text')].every(each => {
        const [box, frame] = [each.getBoundingClientRect(), each.ownerSVGElement.getBoundingClientRect()];
        return box.left >= frame.left - 1 && box.right <= frame.right + 1 && box.bottom <= frame.bottom + 1;
    }),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    colour: getComputedStyle(document.querySelector('h1')).color,
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Three hundred files, one with a very long name, and a failure."""
    history = History(0.0)
    for tick in range(3000):
        history.add(tick / 10, tick * 100_000, 1 + tick % 16)
    outcomes = [("x" * 150 + ".bam", RESULT), ("<b>.bam", NO_DIGEST), ("gone", NotFoundError("404", status=404))]
    outcomes += [(f"sample{number}.bam", CLAIMED) for number in range(297)]
    path = tmp_path_factory.mktemp("report") / "out.html"
    path.write_text(report.page(outcomes, history, datetime(2026, 1, 2, tzinfo=UTC), 300.0))
    return path


@pytest.mark.parametrize("width", [1200, 400])
def test_in_chromium(page, width):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("chromium.py")), str(page), str(width),
         str(page.with_name(f"{width}.png")), SCRIPT],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["console"] == []
    assert told["asked"] == [page.as_uri()], "nothing else is loaded"
    value = told["value"]
    assert value["rows"] == 300
    assert value["inside"]
    assert value["overflow"] <= 0, "a wide table scrolls in its own frame"
    assert len(value["curves"]) == 2
    assert min(value["curves"]) > 700, "both curves go from the beginning to the end"
    assert value["colour"] == "rgb(179, 38, 30)", "a failure is red"
