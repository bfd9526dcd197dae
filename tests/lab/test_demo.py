"""The demo says OK only for what is right, and its cut is a real one."""

from __future__ import annotations

import urllib.request

import pytest

from lab.nginx import Nginx
from lab.shell import Ran
from workflows import demo

LINE = "hydraflow: genome.fa.gz: streamed 200.1 MB in 3.2 s, verified sha256 (url fragment)"


@pytest.mark.parametrize(
    ("ran", "count", "passed"),
    [
        (Ran(0, [], [LINE]), 7, True),
        (Ran(0, [LINE], []), 7, True),
        (Ran(0, [], [LINE]), 8, False),
        (Ran(0, [], [LINE]), None, False),
        (Ran(0, [], ["streamed 200.1 MB in 3.2 s"]), 7, False),
        (Ran(1, [], [LINE]), 7, False),
        (Ran(None, [], [LINE]), 7, False),
    ],
)
def test_judge(ran, count, passed, capsys):
    assert demo.judge("shell", ran, count, 7).passed is passed
    assert capsys.readouterr().out.rstrip().endswith("OK" if passed else "FAILED")


@pytest.mark.parametrize(
    ("lines", "found"), [(["x", "records: 12"], 12), (["records: 12", "x"], None), ([], None), (["records: "], None)]
)
def test_number(lines, found):
    assert demo.number(lines, r"records: (\d+)") == found


def test_table(capsys):
    demo.table([demo.Row("shell", passed=True, count=7, verified="sha256 (url fragment)", seconds=1.25)], 7)
    demo.table([demo.Row("cut", passed=False)], 7)
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["shell", "7", "7", "sha256", "(url", "fragment)", "1.2", "OK"] in words
    assert ["cut", "FAILED"] in words


@pytest.fixture
def slow_nginx(samples, monkeypatch):
    monkeypatch.setattr(demo, "CUT_AFTER", 500_000)
    monkeypatch.setattr(demo, "DOWN", 0.1)
    with Nginx(samples.directory, limit_rate="2m") as server:
        yield server


def test_outage(slow_nginx):
    size = 3 << 20
    outage = demo.Outage(slow_nginx)
    url = f"{slow_nginx.url}/sample.bin"
    received = 0
    while received < size:
        request = urllib.request.Request(url, headers={"Range": f"bytes={received}-"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                while piece := answer.read1():
                    received += len(piece)
                    outage.tick()
        except OSError:
            outage.tick()
    assert 500_000 <= outage.before < size
    assert slow_nginx.running
    assert outage.check(size)


def test_outage_that_never_came(slow_nginx):
    outage = demo.Outage(slow_nginx)
    outage.tick()
    outage.end()
    assert not outage.check(1000)
