"""The results as one SVG: a panel for each suite, a bar for each client, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.results import Result, Spread
from benchmarks.suites import SUITES

__all__ = ["draw", "write"]

_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 13px; font-weight: 600 }
.quiet { fill: #59636e }
.peer { fill: #a8b0b9 } .own { fill: #2a6fdb }
.noise { stroke: #1f2328 } .axis { stroke: #a8b0b9 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 }
  .peer { fill: #656c76 } .own { fill: #4c8dff }
  .noise { stroke: #e6edf3 } .axis { stroke: #656c76 }
}
"""
_COLUMNS = 2
_PANEL = 430  # pixels wide
_LABELS = 140
_BARS = 210  # pixels of the longest one; behind it stands its value
_ROW, _BAR = 22, 12
_HEAD, _FOOT = 46, 18
_OWN = "hydraflow"


@dataclass(frozen=True, slots=True)
class _Bar:
    """A client's figure; `note` stands there instead if it has none."""

    name: str
    spread: Spread | None
    note: str


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    unit: str
    bars: list[_Bar]

    @property
    def height(self) -> int:
        return _HEAD + _ROW * len(self.bars) + _FOOT

    @property
    def most(self) -> float:
        return max((bar.spread.high for bar in self.bars if bar.spread), default=0.0)


def draw(results: Sequence[Result]) -> str:
    """The picture's text. Panels of processor time have one scale."""
    panels = [_panel(result) for result in results]
    rows = [panels[start : start + _COLUMNS] for start in range(0, len(panels), _COLUMNS)]
    height = sum(max(panel.height for panel in row) for row in rows) + _ROW
    width = _PANEL * _COLUMNS
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", role="img")
    root.attrib.update(width=str(width), height=str(height))
    ET.SubElement(root, "title").text = "Processor time of hydraflow and its peers"
    ET.SubElement(root, "style").text = _STYLE
    top = 0
    for row in rows:
        for column, panel in enumerate(row):
            # What costs the same everywhere has one scale; how long it takes depends on the work.
            alike = [other for other in panels if other.unit == panel.unit != "seconds"]
            most = max(other.most for other in alike or [panel])
            group = ET.SubElement(root, "g", transform=f"translate({column * _PANEL} {top})")
            _draw_panel(group, panel, most)
        top += max(panel.height for panel in row)
    _text(root, 8, height - 8, _caption(results), "quiet")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def write(path: Path, results: Sequence[Result]) -> None:
    """Draw into a file, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(results))


def _panel(result: Result) -> _Panel:
    suite = SUITES[result.suite]
    # Many small files are about waiting; gigabytes are about work.
    waits = suite.mode.waits
    return _Panel(suite.title, "seconds" if waits else "CPU seconds per GB", list(_bars(result, many=waits)))


def _bars(result: Result, *, many: bool) -> Iterator[_Bar]:
    for name in result.versions:
        summary = result.summary(name)
        yield _Bar(name, summary.wall if many else summary.cpu_per_gb, "failed")
    for name in result.missing:
        yield _Bar(name, None, "not installed")


def _draw_panel(group: ET.Element, panel: _Panel, most: float) -> None:
    _text(group, 8, 20, panel.title, "title")
    _text(group, 8, 36, f"{panel.unit}, less is better", "quiet")
    foot = _HEAD + _ROW * len(panel.bars)
    _line(group, (_LABELS, _HEAD), (_LABELS, foot), "axis")
    for number, bar in enumerate(panel.bars):
        _draw_bar(group, bar, _HEAD + _ROW * number, _BARS / most if most else 0.0)


def _draw_bar(group: ET.Element, bar: _Bar, top: int, scale: float) -> None:
    base = top + 15
    _text(group, _LABELS - 6, base, bar.name, "").set("text-anchor", "end")
    if bar.spread is None:
        _text(group, _LABELS + 6, base, bar.note, "quiet")
        return
    low, median, high = (value * scale for value in (bar.spread.low, bar.spread.median, bar.spread.high))
    kind = "own" if bar.name.startswith(_OWN) else "peer"
    place = {"x": str(_LABELS), "y": str(top + 5), "width": f"{median:.1f}", "height": str(_BAR)}
    ET.SubElement(group, "rect", place | {"class": kind})
    middle = top + 5 + _BAR / 2
    _line(group, (_LABELS + low, middle), (_LABELS + high, middle), "noise")
    _text(group, _LABELS + max(median, high) + 6, base, f"{bar.spread.median:.2f}", "")


def _caption(results: Sequence[Result]) -> str:
    if not results:
        return "nothing was measured"
    last = max(results, key=lambda result: result.date)
    facts = last.machine
    return (
        f"Medians; the thin line spans the quartiles. {last.date[:10]}, {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['python']}, loopback"
    )


def _text(parent: ET.Element, left: float, base: float, text: str, kind: str) -> ET.Element:
    attributes = {"x": f"{left:g}", "y": f"{base:g}"} | ({"class": kind} if kind else {})
    element = ET.SubElement(parent, "text", attributes)
    element.text = text
    return element


def _line(parent: ET.Element, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
    ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    ET.SubElement(parent, "line", {name: f"{value:.1f}" for name, value in ends.items()} | {"class": kind})
