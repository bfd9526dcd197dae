"""The live display: a few lines at the foot of a terminal, drawn anew five times a second, and the report at the end.

It is made for calm.  A file has a line while it is in work; of many files only those that take long, and one line tells
how far all of them are.  What stays on the screen is what matters afterwards: failures, and the report.

Lines are put together and written by hand, in one write(2) for a frame: that costs a tenth of a millisecond, and knows
how many rows the last frame takes after the terminal has become narrower.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import threading
import time
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hydraflow import progress as words
from hydraflow.core.tally import Running, Tally
from hydraflow.errors import HydraError
from hydraflow.models import Bound, FetchResult, Phase, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Live", "Style", "frame", "table", "width_of"]

_DRAW_EVERY = 0.2
#: Seconds in which the same message is not shown again for another file.
_AGAIN = 10.0
#: Rows of files at most; and seconds after which one of many files is worth a row.
_MOST_ROWS, _LONG = 8, 1.0
#: Columns from which on there is room for a bar, and for what limits it.
_NARROW, _WIDE = 72, 109
#: Columns of amounts, rates and times, at least of what is going on, and of the bar.
_AMOUNT, _RATE, _TIME, _STATE = 14, 10, 7, 14
_LEAST_NAME, _LEAST_BAR, _MOST_BAR = 10, 6, 40
_SUFFIXES = re.compile(r"(?<!^)(?:\.[A-Za-z0-9]{1,10}){1,3}\Z")
_RESET = "\x1b[0m"
_COLOURS = {"": "", "done": "\x1b[36m", "rest": "\x1b[2m", "dim": "\x1b[2m", "bad": "\x1b[31m", "wait": "\x1b[33m"}


# ── a frame ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show: colours, and signs beyond ASCII."""

    colour: bool = True
    signs: bool = True

    def paint(self, text: str, kind: str) -> str:
        """The text in a colour, if there are colours."""
        code = _COLOURS[kind]
        return f"{code}{text}{_RESET}" if self.colour and code and text else text

    def bar(self, share: float | None, width: int) -> str:
        """So much of it is done; without colours, too, both parts can be told apart."""
        full, half, rest = ("━", "╸", "─") if self.signs else ("#", "-", "-")
        if share is None:
            return self.paint(rest * width, "rest")
        cells = min(2 * width, max(0, int(share * width * 2)))
        done = full * (cells // 2) + half * (cells % 2)
        return self.paint(done, "done") + self.paint(rest * (width - len(done)), "rest")


@dataclass(frozen=True, slots=True)
class _Row:
    """The cells of a line; `share` is how much of the bar is done, None where nobody knows."""

    name: str
    share: float | None
    amount: str
    rate: float | None
    left: float | None
    state: str
    kind: str = "dim"


def frame(tally: Tally, now: float, columns: int, rows: int, style: Style) -> list[str]:
    """The lines of the display, none wider than `columns` - 3, at most `rows` - 1.

    The rest is for the `^C` that a terminal shows behind the last one: a line that it breaks could not be taken away.
    """
    width = columns - 3
    shown = _chosen(tally, now, max(1, min(_MOST_ROWS, rows - 4)))
    cells = [_file_row(one, now, width) for one in shown]
    if tally.files > 1:
        cells.append(_total_row(tally, now, width))
    longest = max((width_of(one.progress.name) for one in tally.running.values()), default=0)
    layout = _layout(cells, longest, width)
    if tally.files > 1:
        cells[-1] = replace(cells[-1], name=_count(tally, layout.name))
    lines = [_line(row, layout, style) for row in cells]
    hidden = len(tally.running) - len(shown)
    if hidden > 0 and tally.files <= words.MANY:
        more = f"{'…' if style.signs else '...'} and {hidden} more"
        lines.insert(-1, style.paint(_clipped(more, width), "dim"))
    return lines


def _chosen(tally: Tally, now: float, most: int) -> list[Running]:
    """The files that have a row: in the order in which they began, so that no row moves without need; idle last."""
    running = sorted(tally.running.values(), key=lambda one: one.progress.phase is Phase.WAITING)
    if tally.files > words.MANY:
        running = [one for one in running if now - one.since >= _LONG]
    return running[:most]


def _file_row(one: Running, now: float, width: int) -> _Row:
    progress = one.progress
    share = None if progress.size is None else progress.done / progress.size if progress.size else 1.0
    state, kind = _state(one, width)
    idle = progress.phase is not Phase.TRANSFERRING
    rate, left = (None, None) if idle else (one.rate(now), one.left(now))
    return _Row(progress.name, share, _amount(progress.done, progress.size), rate, left, state, kind)


def _total_row(tally: Tally, now: float, width: int) -> _Row:
    waiting = sum(one.progress.phase is Phase.WAITING for one in tally.running.values())
    facts = [f"{tally.failed:,} failed"] if tally.failed else []
    facts += [f"{waiting} waiting"] if waiting else []
    facts.append(words.connections(tally.connections))
    if width < _WIDE:
        del facts[1:]
    size = tally.known_size
    share = tally.done / size if size else tally.ended / tally.files
    kind = "bad" if tally.failed else "dim"
    return _Row(
        _count(tally, width), share, _amount(tally.done, size), tally.rate(now), tally.left(now), ", ".join(facts), kind
    )


def _count(tally: Tally, width: int) -> str:
    """How many files there are, in as many words as there is room for."""
    count = f"{tally.ended:,} of {tally.files:,}"
    return next((each for each in (f"{count} files", count) if len(each) <= width), f"{tally.ended}/{tally.files}")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of each cell, the same for all lines; no bar and no state in a narrow terminal, nor a rate in the end."""

    width: int
    name: int
    bar: int
    state: int
    rated: bool = True


def _layout(rows: Sequence[_Row], longest: int, width: int) -> _Layout:
    figures = _AMOUNT + _RATE + 1
    if width < _NARROW:
        rated = width - figures - 1 >= _LEAST_NAME
        return _Layout(width, max(1, width - (figures if rated else _AMOUNT) - 1), 0, 0, rated)
    spare = width - figures - _TIME - 5
    wanted = max([longest, *(width_of(row.name) for row in rows)])
    state = min(max([_STATE, *(width_of(row.state) for row in rows)]), max(_STATE, 2 * spare // 5))
    name = min(max(_LEAST_NAME, wanted), spare - state - _LEAST_BAR)
    return _Layout(width, name, min(_MOST_BAR, spare - state - name), state)


def _line(row: _Row, layout: _Layout, style: Style) -> str:
    speed = f"{words.size_text(row.rate)}/s" if row.rate is not None else "-"
    name = _fitted_name(row.name, layout.name, style)
    figures = f"{row.amount:>{_AMOUNT}} {speed:>{_RATE}}"
    if not layout.bar:
        figures = figures if layout.rated else f"{row.amount:>{_AMOUNT}}"
        return _clipped(f"{name} {figures}", layout.width)
    left = "-:--" if row.left is None else _short(row.left)
    # A figure of more digits than usual takes its room from the words.
    state = _fitted(row.state, layout.state - max(0, len(figures) - _AMOUNT - _RATE - 1), style).rstrip()
    return f"{name} {style.bar(row.share, layout.bar)} {figures} {left:>{_TIME}} {style.paint(state, row.kind)}"


def _short(seconds: float) -> str:
    """`3:02`, `1:03:02`, `12 h`, `9 d`: never more than seven columns."""
    if seconds < 3600:
        return words.duration(seconds).removeprefix("0:").removeprefix("0")
    if seconds < 36_000:
        return words.duration(seconds)
    return f"{seconds / 3600:.0f} h" if seconds < 360_000 else f"{min(seconds / 86_400, 9999):.0f} d"


def _amount(done: int, size: int | None) -> str:
    """`1.0/3.1 MB`, in the unit of the whole."""
    if size is None:
        return words.size_text(done)
    whole, unit = words.size_text(size).split(" ")
    scale = size / float(whole) if float(whole) else 1.0
    return f"{done / scale:.{0 if unit == 'B' else 1}f}/{whole} {unit}"


_LIMITS = {
    Bound.LINK: "link full",
    Bound.SERVER: "server's limit",
    Bound.CEILING: "at --threads",
    Bound.READER: "reader is slow",
    Bound.DISK: "disk is slow",
    Bound.LIMIT_RATE: "at --limit-rate",
}


def _state(one: Running, width: int) -> tuple[str, str]:
    progress = one.progress
    if progress.phase is Phase.WAITING:
        reason = one.notice.partition(";")[0] if width >= _WIDE else ""
        return (f"waiting: {reason}" if reason else "waiting"), "wait"
    if progress.phase is not Phase.TRANSFERRING:
        return progress.phase.value, "dim"
    limit = f", {_LIMITS[progress.bound]}" if progress.bound is not None and width >= _WIDE else ""
    return words.connections(progress.connections) + limit, "dim"


# ── widths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def width_of(text: str) -> int:
    """Columns that a text takes: wide characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _clipped(text: str, width: int) -> str:
    taken = 0
    for at, char in enumerate(text):
        taken += _cells(char)
        if taken > width:
            return text[:at]
    return text


def _shown(text: str, style: Style) -> str:
    """Without what would move the cursor, or has no sign here."""
    text = words.plain(text)
    return text if style.signs else words.fit(text, "ascii")


def _fitted(text: str, width: int, style: Style, tail: str = "") -> str:
    """Of exactly this width, `tail` being what comes behind the dots if it is too long."""
    text = _shown(text, style)
    if width_of(text) > width:
        text = _clipped(text, width - width_of(tail) - 1) + ("…" if style.signs else "~") + tail
    return text + " " * (width - width_of(text))


def _fitted_name(name: str, width: int, style: Style) -> str:
    """Of a name that is too long, first the suffixes go, which many files share; then the middle."""
    name = _shown(name, style)
    stem = _SUFFIXES.sub("", name)
    if width_of(name) <= width or width_of(stem) < width:
        return _fitted(name, width, style)
    return _fitted(name, width, style, _clipped(stem[::-1], 2 * width // 3 - 1)[::-1])


# ── the display ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Live(words.Quiet):
    """Lines at the foot of the terminal, events above them; the lines go when it is over.

    Drawn when there is news, and not by a thread of its own: what one thread prints while another draws tears the
    lines.
    """

    def __init__(self, *, verbosity: int = 0) -> None:
        super().__init__()
        self._verbosity = verbosity
        self._begun = time.monotonic()
        encoding = getattr(sys.stderr, "encoding", "") or "ascii"
        self._style = Style(colour=not os.environ.get("NO_COLOR"), signs="utf" in encoding.lower())
        self._encoding = encoding
        self._guard = threading.RLock()
        self._drawn: list[str] = []
        self._drawn_at = 0.0
        self._closed = False
        self._said: dict[str, float] = {}
        self._put("\x1b[?25l")

    def update(self, progress: Progress) -> None:
        with self._guard:
            super().update(progress)
            if progress.message and self._is_news(progress.message):
                self._print(f"{progress.name}: {progress.message}", "dim")
            if self._verbosity and progress.decision:
                self._print(f"{progress.name}: {progress.decision}", "dim")
            self._draw()

    def _is_news(self, message: str) -> bool:
        """Of many files nobody wants to read what each waits for, nor of some the same six times at once."""
        if self._verbosity or self.tally.files <= 1:
            return True
        now, before = time.monotonic(), self._said.get(message, -_AGAIN)
        self._said = {text: at for text, at in self._said.items() if now - at < _AGAIN} | {message: now}
        return self.tally.files <= words.MANY and now - before >= _AGAIN

    def finished(self, result: FetchResult, name: str) -> None:
        with self._guard:
            super().finished(result, name)
            if self.tally.files <= 1:
                self._print(words.summary(result, name))
            if self._verbosity:
                self._print(words.reasons(result, name), "dim")
                if result.sources:
                    self._print(f"{name}: {words.shares(result)}", "dim")
            self._draw()

    def say(self, line: str, level: str = "info") -> None:
        self._print(line, "bad" if level == "error" else "")

    def note(self, line: str) -> None:
        self._print(line, "dim")

    def report(self, outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> None:
        if len(outcomes) < 2:
            return
        with self._guard:
            self._erase()
            for line in self._table(outcomes):
                self._put(f"{line}\n")
            self._print(words.totals([outcome for _, outcome in outcomes], time.monotonic() - self._begun))

    def _table(self, outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> list[str]:
        if len(outcomes) > words.MANY:  # those that failed have been told of
            return []
        return table(outcomes, shutil.get_terminal_size().columns, self._style)

    def close(self) -> None:
        with self._guard:
            if not self._closed:
                self._erase()
                self._put("\x1b[?25h")
                self._closed = True

    def _print(self, line: str, kind: str = "") -> None:
        with self._guard:
            self._erase()
            text = words.fit(f"hydraflow: {words.plain(line)}", self._encoding)
            self._put(f"{self._style.paint(text, kind)}\n")
            self._draw(at_once=True)

    def _draw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._closed or not (at_once or now - self._drawn_at >= _DRAW_EVERY):
            return
        self._drawn_at = now
        columns, rows = _terminal_size()
        lines = frame(self.tally, now, columns, rows, self._style)
        self._put(self._cleared() + "\n".join(lines))
        self._drawn = lines

    def _cleared(self) -> str:
        """What takes the last frame away: on a terminal that has become narrower its lines take more rows."""
        if not self._drawn:
            return ""
        columns = _terminal_size()[0]
        rows = sum(max(1, -(-width_of(_plain(line)) // columns)) for line in self._drawn)
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1)

    def _erase(self) -> None:
        if self._drawn:
            self._put(self._cleared())
            self._drawn = []

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone: the transfer need not be
            sys.stderr.write(text)
            sys.stderr.flush()


def _plain(line: str) -> str:
    for code in (_RESET, *_COLOURS.values()):
        line = line.replace(code, "") if code else line
    return line


def _terminal_size() -> tuple[int, int]:
    """Of standard error, which may be a terminal where standard output is none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        size = os.get_terminal_size(sys.stderr.fileno())
        if size.columns:
            return size.columns, size.lines or 24
    fallback = shutil.get_terminal_size()
    return fallback.columns, fallback.lines


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def table(outcomes: Sequence[tuple[str, FetchResult | HydraError]], columns: int, style: Style) -> list[str]:
    """What became of each file: size, time, retries, digest and who promised it; or what went wrong.

    Where there is no room for all of it, name, size and verdict are left.
    """
    rows = [_HEAD, *(_row(name, outcome) for name, outcome in outcomes)]
    if columns < _NARROW:
        rows = [(row[0], row[1], row[-1].removeprefix(_FAILED)) for row in rows]
    widths = [max(width_of(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    figures = sum(widths[1:]) + _GAP * len(widths)
    verdict = min(max(width_of(row[-1]) for row in rows), max(12, columns // 3))
    widths[0] = max(8, min(widths[0], columns - figures - verdict))
    last = max(1, columns - figures - widths[0])
    kinds = ["dim", *(_kind(outcome) for _, outcome in outcomes)]
    return [style.paint(_cells_of(row, widths, last, style), kind) for row, kind in zip(rows, kinds, strict=True)]


_HEAD = ("file", "size", "time", "retries", "verified by")
_GAP, _FAILED = 2, "failed: "


def _kind(outcome: FetchResult | HydraError) -> str:
    if isinstance(outcome, words.UnfinishedError):
        return "wait"
    return "bad" if isinstance(outcome, HydraError) else ""


def _row(name: str, outcome: FetchResult | HydraError) -> tuple[str, ...]:
    if isinstance(outcome, words.UnfinishedError):
        return name, "", "", "", str(outcome)
    if isinstance(outcome, HydraError):
        return name, "", "", "", f"{_FAILED}{words.kind(outcome)}"
    took = "there" if outcome.path is not None and not outcome.bytes_from_network else f"{outcome.elapsed:.1f} s"
    proof = "size only" if outcome.digest is None else f"{outcome.digest.algorithm} ({outcome.digest_source})"
    return name, words.size_text(outcome.size), took, f"{outcome.retries:,}", proof


def _cells_of(row: Sequence[str], widths: Sequence[int], last: int, style: Style) -> str:
    name, *figures, verdict = row
    cells = [_fitted_name(name, widths[0], style)]
    cells += [f"{figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True)]
    return (" " * _GAP).join([*cells, _fitted(verdict, last, style).rstrip()]).rstrip()
