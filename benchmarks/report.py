"""Results as tables in Markdown: on the terminal, and as `README.md` beside the JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Result, Spread, Summary
from benchmarks.rounds import BUSY
from benchmarks.suites import GB, SUITES, Mode

__all__ = ["load", "table", "write"]

_PREFACE = """\
# Results

Made by `python -m benchmarks`; [how and what it measures](../README.md). Each figure is the median over the rounds,
with the lower and upper quartile behind it; `×` is the ratio to that client *within* a round. CPU is user and system
time of all processes of the client, the reader of its pipe included. Only runs whose output was right count.
"""

_INCAPABLE = {
    Mode.STREAM: ["- aria2 and axel cannot write to standard output"],
    Mode.MANY: ["- axel takes one file at a time"],
    Mode.FAR: ["- curl and httpx have no place here: one connection, or a fixed eight"],
}


def table(result: Result) -> str:
    """One suite: its table, who is missing, and the circumstances."""
    suite = SUITES[result.suite]
    many, far = suite.mode is Mode.MANY, suite.mode is Mode.FAR
    base = [name for name in result.baselines if name in result.versions]
    wall = ["wall s", *(f"wall × {name}" for name in base)]
    if far:
        heads = ["client", *wall, "MB/s", "requests", "refused", "CPU s/GB", "peak MB", "right"]
    else:
        heads = ["client", "CPU s" if many else "CPU s/GB", *(f"CPU × {name}" for name in base), *wall]
        heads += ["peak MB", "right"]
    rows = [heads, [":--", *["--:"] * (len(heads) - 1)]]
    for name in result.versions:
        summary = result.summary(name)
        rows.append(_far_row(name, summary, base, result.size) if far else _row(name, summary, base, many=many))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"## {result.suite}: {suite.title}", "", *lines, "", *_notes(result), ""])


def load(directory: Path) -> list[Result]:
    """The results that lie in a directory, in the order of the suites."""
    paths = [directory / f"{name}.json" for name in SUITES]
    return [Result.from_json(path.read_text()) for path in paths if path.is_file()]


def write(directory: Path, results: Sequence[Result]) -> None:
    """One JSON file for each suite, and `README.md` of these and of the suites that lay there before."""
    directory.mkdir(parents=True, exist_ok=True)
    for result in results:
        (directory / f"{result.suite}.json").write_text(result.to_json())
    tables = [table(result) for result in load(directory)]
    (directory / "README.md").write_text("\n".join([_PREFACE, *tables]))


def _row(name: str, summary: Summary, base: Sequence[str], *, many: bool) -> list[str]:
    return [
        name,
        _spread(summary.cpu if many else summary.cpu_per_gb),
        *(_spread(summary.cpu_ratio.get(each)) for each in base),
        _spread(summary.wall),
        *(_spread(summary.wall_ratio.get(each)) for each in base),
        f"{summary.peak / 1e6:.0f}" if summary.peak else "–",
        _right(summary),
    ]


def _far_row(name: str, summary: Summary, base: Sequence[str], size: int) -> list[str]:
    return [
        name,
        _spread(summary.wall),
        *(_spread(summary.wall_ratio.get(each)) for each in base),
        f"{size / 1e6 / summary.wall.median:.0f}" if summary.wall else "–",
        f"{summary.requests:.0f}",
        f"{summary.refused:.1%}",
        _spread(summary.cpu_per_gb),
        f"{summary.peak / 1e6:.0f}" if summary.peak else "–",
        _right(summary),
    ]


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def _right(summary: Summary) -> str:
    wrong = "".join(f"; {outcome} ×{times}" for outcome, times in summary.failures.items())
    return f"{summary.right}/{summary.runs}{wrong}"


def _notes(result: Result) -> list[str]:
    facts = result.machine
    size = f"{result.size / GB:.3g} GB" + (f" in {result.files} files" if result.files > 1 else "")
    notes = [
        f"- {result.date}, {size}, {len(result.rounds)} rounds, data {facts['data']}",
        f"- {facts['cpu']}, {facts['cores']} cores, {facts['memory']}, {facts['system']}, {facts['python']}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in result.versions.items())}",
        f"- load before the rounds: {', '.join(f'{each.load:.2f}' for each in result.rounds)}",
    ]
    if disturbed := [str(each.number) for each in result.rounds if each.busy > BUSY]:
        notes.append(
            f"- **others were at work** before round {', '.join(disturbed)}: more than {BUSY:.0%} of the cores"
        )
    notes += [f"- **missing**: {name}, {reason}" for name, reason in result.missing.items()]
    if "curl" in result.baselines:  # not where hydraflow is compared with itself
        notes += _INCAPABLE.get(SUITES[result.suite].mode, [])
    return notes
