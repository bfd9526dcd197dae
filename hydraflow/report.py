"""`--report`: a run as a page of HTML that needs nothing else: rate and connections as pictures, and every verdict."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from hydraflow import __version__
from hydraflow.core.history import History
from hydraflow.errors import HydraError
from hydraflow.models import FetchResult, Verification
from hydraflow.progress import UnfinishedError, duration, kind, plain, size_text, totals

__all__ = ["page"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 220, 86, 24

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2328; --dim: #68737d; --paper: #fff; --line: #dde2e6; --good: #1a7f5a;
  --bad: #b3261e; --weak: #8a6100; --area: #0d948833; --stroke: #0d9488; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --dim: #98a4ae; --paper: #15191d; --line: #313a42;
  --good: #5cc79b; --bad: #ff8a80; --weak: #e0b34d; --area: #2dd4bf33; --stroke: #2dd4bf; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1080px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
.weak { color: var(--weak); } a { color: var(--stroke); }
svg { width: 100%; min-width: 36rem; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--dim); }
.area { fill: var(--area); } .curve { fill: none; stroke: var(--stroke); stroke-width: 2; }
.grid { stroke: var(--line); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--dim); } td.figure, th.figure { text-align: right; white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 13.5rem; } td.verdict { white-space: nowrap; }
td.digest { min-width: 15rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""


def page(
    outcomes: Sequence[tuple[str, FetchResult | HydraError]], history: History, begun: datetime, elapsed: float
) -> str:
    """The page.

    Args:
        outcomes: name and result, or error, of each file.
        history: bytes and connections over time.
        begun: when.
        elapsed: seconds from the beginning to the end.
    """
    return "\n".join(_page(outcomes, history, begun, elapsed)) + "\n"


def _page(
    outcomes: Sequence[tuple[str, FetchResult | HydraError]], history: History, begun: datetime, elapsed: float
) -> Iterator[str]:
    verdict, colour = _verdict([outcome for _, outcome in outcomes])
    moment = f"{begun:%Y-%m-%d %H:%M:%S %Z}".strip()
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>hydraflow: {verdict}</title><style>{_STYLE}</style></head><body>"
    yield f'<h1 class="{colour}">{verdict}</h1>'
    yield f"<p>{_text(totals([outcome for _, outcome in outcomes], elapsed))}</p>"
    yield f'<p class="dim">{moment}, {duration(elapsed)} long, by hydraflow {__version__}</p>'
    rates = [(0.0, 0.0), *history.rates(max(0.4, elapsed / 120))]
    yield from _chart("Rate", rates, elapsed, lambda value: f"{size_text(value)}/s")
    counts = [(point.at, float(point.connections)) for point in history.points]
    yield from _chart("Connections", counts, elapsed, lambda value: f"{value:.0f}", steps=True)
    yield from _table(outcomes)
    yield "</body></html>"


def _verdict(outcomes: Sequence[FetchResult | HydraError]) -> tuple[str, str]:
    """In a line, and in a colour."""
    unfinished = sum(isinstance(outcome, UnfinishedError) for outcome in outcomes)
    failed = sum(isinstance(outcome, HydraError) for outcome in outcomes) - unfinished
    if failed:
        more = f", {unfinished:,} unfinished" if unfinished else ""
        return f"{failed:,} of {_files(len(outcomes))} failed{more}", "bad"
    if unfinished:
        return f"{unfinished:,} of {_files(len(outcomes))} unfinished", "weak"
    unproved = sum(isinstance(outcome, FetchResult) and outcome.digest is None for outcome in outcomes)
    if unproved:
        return f"{_files(len(outcomes))} done, {unproved:,} without a digest to verify", "weak"
    return f"{_files(len(outcomes))} done and verified", "good"


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count != 1 else ''}"


def _text(text: str) -> str:
    return html.escape(plain(text))


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _chart(
    title: str,
    points: Sequence[tuple[float, float]],
    elapsed: float,
    label: Callable[[float], str],
    *,
    steps: bool = False,
) -> Iterator[str]:
    """A curve over time, with the area below it."""
    top = _nice(max(value for _, value in points))
    end = max(elapsed, points[-1][0], 1e-3)

    def place(at: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - 10) * at / end
        return x, 10 + (_HEIGHT - _BOTTOM - 10) * (1 - value / top)

    yield f"<h2>{title}</h2>"
    peak = label(max(value for _, value in points))
    yield '<div class="scroll">'
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} over time, {peak} at most">'
    for share in (0.0, 0.5, 1.0):
        _, y = place(0, share * top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(share * top)}</text>'
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, _ = place(share * end, 0)
        anchor = "end" if share == 1 else "middle"
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{_time(share * end)}</text>'
    curve = _curve([place(*point) for point in points], steps=steps)
    ground = place(0, 0)[1]
    last, first = place(points[-1][0], 0)[0], place(points[0][0], 0)[0]
    yield f'<path class="area" d="M{curve} L{last:.1f} {ground:.1f} L{first:.1f} {ground:.1f} Z"/>'
    yield f'<path class="curve" d="M{curve}"/></svg></div>'


def _curve(places: Sequence[tuple[float, float]], *, steps: bool) -> str:
    parts = [f"{places[0][0]:.1f} {places[0][1]:.1f}"]
    for x, y in places[1:]:
        parts.append(f"H{x:.1f} V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return " ".join(parts)


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …: the top of an axis."""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    return next(each * scale for each in (1, 2, 5, 10) if each * scale >= value or each == 10)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _table(outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> Iterator[str]:
    """Those that failed come first, then those that a signal left unfinished."""
    figures = ("size", "time", "rate", "connections", "retries")
    yield '<h2>Files</h2><div class="scroll"><table><thead><tr><th>file</th><th>verdict</th>'
    yield "".join(f'<th class="figure">{name}</th>' for name in figures) + "<th>digest</th></tr></thead><tbody>"
    for name, outcome in sorted(outcomes, key=lambda each: _place(each[1])):
        yield _failed(name, outcome) if isinstance(outcome, HydraError) else _done(name, outcome)
    yield "</tbody></table></div>"


def _place(outcome: FetchResult | HydraError) -> int:
    return 2 if isinstance(outcome, FetchResult) else int(isinstance(outcome, UnfinishedError))


def _failed(name: str, error: HydraError) -> str:
    colour, more = "weak", ""
    if not isinstance(error, UnfinishedError):  # for all of those the same is to be done
        hint = f" {_text(error.hint)}" if error.hint else ""
        colour, more = "bad", f'.{hint} <a href="{html.escape(error.help)}">more</a>'
    return (
        f'<tr><td class="name">{_text(name)}</td><td class="verdict {colour}">{kind(error)}</td>'
        f'<td colspan="6">{_text(str(error))}{more}</td></tr>'
    )


_UNPROVED = {Verification.SIZE: "size only", Verification.NONE: "not verified"}


def _done(name: str, result: FetchResult) -> str:
    proved = result.verification not in (Verification.SIZE, Verification.NONE)
    verdict = "verified" if proved else _UNPROVED[result.verification]
    digest = "" if result.digest is None else f"<code>{result.digest}</code>"
    source = "" if result.digest_source is None else f'<br><span class="dim">{_text(_source(result))}</span>'
    came = result.bytes_from_network
    rate = f"{size_text(came / result.elapsed)}/s" if came and result.elapsed else ""
    figures = (size_text(result.size), f"{result.elapsed:.1f} s", rate, result.peak_connections, result.retries)
    cells = "".join(f'<td class="figure">{figure}</td>' for figure in figures)
    title = _text(result.final_url)
    return (
        f'<tr><td class="name" title="{title}">{_text(name)}<br><span class="dim">{result.outcome.value}</span></td>'
        f'<td class="verdict {"good" if proved else "weak"}">{verdict}</td>{cells}'
        f'<td class="digest">{digest}{source}</td></tr>'
    )


def _source(result: FetchResult) -> str:
    where = f" {result.digest_url}" if result.digest_url else ""
    return f"{result.digest_source}{where}"
