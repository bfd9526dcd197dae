"""What people see while they wait: a live display on a terminal, plain lines elsewhere, nothing with `--quiet`.

Everything goes to standard error, every event on a line of its own that begins with `hydraflow:`.  Progress arrives
from the engine's thread, at most ten times a second per file.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from hydraflow.errors import HydraError
from hydraflow.models import Bound, FetchResult, Outcome, Phase, Progress, Verification

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rich.progress

__all__ = [
    "Live",
    "Plain",
    "Quiet",
    "Reporter",
    "choose",
    "error_line",
    "reasons",
    "say",
    "show_cursor",
    "size_text",
    "summary",
    "totals",
]

_STEP = 1000
_LINE_EVERY = 10.0
_DRAW_EVERY = 0.2
_NARROW = 64
_SHOW_CURSOR = b"\x1b[?25h"
#: Red is for errors.
_COLOURS = {
    "bar.complete": "cyan",
    "bar.pulse": "cyan",
    "progress.download": "none",
    "progress.data.speed": "none",
    "progress.remaining": "none",
}
#: For terminals and logs that cannot show the real ones.
_PLAIN_SIGNS = str.maketrans({"→": "->", "…": "...", "×": "x"})


class Reporter(Protocol):
    """Tells a person how it goes. All but `note` and `close` are called from the engine's thread."""

    def update(self, progress: Progress) -> None:
        """A transfer has moved on."""
        ...

    def finished(self, result: FetchResult, name: str) -> None:
        """A transfer is done and verified."""
        ...

    def failed(self, error: HydraError, name: str) -> None:
        """A transfer has failed."""
        ...

    def note(self, line: str) -> None:
        """Something else worth knowing."""
        ...

    def standing(self) -> str:
        """Where it stands, in half a sentence; empty if nothing has begun or all has ended."""
        ...

    def resumable(self) -> bool:
        """A later run can go on from what all unfinished ones have."""
        ...

    def close(self) -> None:
        """Nothing more will be shown."""
        ...


def choose(*, quiet: bool, plain: bool, verbose: bool = False) -> Reporter:
    """The reporter that fits the options and the terminal."""
    if quiet:
        return Quiet()
    return Plain(verbose=verbose) if plain or not _is_display() else Live(verbose=verbose)


def _is_display() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Quiet:
    """Errors only."""

    def __init__(self) -> None:
        self._running: dict[str, Progress] = {}

    def update(self, progress: Progress) -> None:
        self._running[progress.name] = progress

    def finished(self, result: FetchResult, name: str) -> None:
        del result
        self._running.pop(name, None)

    def failed(self, error: HydraError, name: str) -> None:
        self._running.pop(name, None)
        say(error_line(error, name))

    def note(self, line: str) -> None: ...

    def standing(self) -> str:
        running = list(self._running.values())
        if len(running) == 1:
            return f"{running[0].name} at {_share(running[0])}"
        return f"{len(running)} files unfinished at {size_text(sum(each.done for each in running))}" if running else ""

    def resumable(self) -> bool:
        return all(each.resumable for each in list(self._running.values()))

    def close(self) -> None: ...


class Plain(Quiet):
    """One line for each event, and one for each file every ten seconds; `verbose` says why it is as fast as it is."""

    def __init__(self, *, verbose: bool = False) -> None:
        super().__init__()
        self._verbose = verbose
        self._told: dict[str, tuple[float, int]] = {}

    def update(self, progress: Progress) -> None:
        super().update(progress)
        if progress.message:
            say(f"{progress.name}: {progress.message}")
        if self._verbose and progress.decision:
            say(f"{progress.name}: {progress.decision}")
        now = time.monotonic()
        at, done = self._told.setdefault(progress.name, (now, progress.done))
        if progress.phase is Phase.TRANSFERRING and now - at >= _LINE_EVERY:
            self._told[progress.name] = (now, progress.done)
            say(f"{progress.name}: {_so_far(progress, (progress.done - done) / (now - at))}")

    def finished(self, result: FetchResult, name: str) -> None:
        super().finished(result, name)
        say(summary(result, name))
        if self._verbose:
            say(reasons(result, name))

    def note(self, line: str) -> None:
        say(line)


class Live(Quiet):
    """Bars on a terminal, one per file in work, with messages above them; the bars go when it is over.

    Drawn when there is news, and not by a thread of its own: what one thread prints while another draws tears the bars.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        super().__init__()
        self._verbose = verbose
        import rich.console
        import rich.progress as bars
        import rich.theme

        console = rich.console.Console(stderr=True, theme=rich.theme.Theme(_COLOURS))
        self._bars = bars.Progress(
            *_columns(console.width), console=console, auto_refresh=False, transient=True, expand=True
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._guard = threading.RLock()
        self._drawn_at = 0.0
        self._bars.start()

    def update(self, progress: Progress) -> None:
        super().update(progress)
        with self._guard:
            if progress.message:
                self._print(f"{progress.name}: {progress.message}", style="dim")
            if self._verbose and progress.decision:
                self._print(f"{progress.name}: {progress.decision}", style="dim")
            self._set(progress)
            self._draw()

    def _set(self, progress: Progress) -> None:
        if progress.phase in (Phase.DONE, Phase.FAILED):
            self._remove(progress.name)
            return
        task = self._tasks.get(progress.name)
        if task is None:
            task = self._bars.add_task(_escape(progress.name), total=None, state="")
            self._tasks[progress.name] = task
        self._bars.update(task, completed=progress.done, total=progress.size, state=_state(progress))

    def _draw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._drawn_at >= _DRAW_EVERY:
            self._drawn_at = now
            with contextlib.suppress(OSError):  # the terminal is gone: the transfer need not be
                self._bars.refresh()

    def _remove(self, name: str) -> None:
        with self._guard:
            task = self._tasks.pop(name, None)
            if task is not None:
                self._bars.remove_task(task)
                self._draw(at_once=True)

    def finished(self, result: FetchResult, name: str) -> None:
        super().finished(result, name)
        self._remove(name)
        self._print(summary(result, name))
        if self._verbose:
            self._print(reasons(result, name), style="dim")

    def failed(self, error: HydraError, name: str) -> None:
        self._running.pop(name, None)
        self._remove(name)
        self._print(error_line(error, name), style="red")

    def note(self, line: str) -> None:
        self._print(line, style="dim")

    def close(self) -> None:
        with self._guard, contextlib.suppress(OSError):
            self._bars.stop()

    def _print(self, line: str, style: str = "") -> None:
        from rich.text import Text

        with self._guard, contextlib.suppress(OSError):
            text = _fit(f"hydraflow: {line}", self._bars.console.encoding)
            # A style given to `print` would be that of the bars below, too.
            self._bars.console.print(Text(text, style), soft_wrap=True)


def _columns(width: int) -> list[rich.progress.ProgressColumn]:
    """Name, bar, amount, rate, time left and state; in a narrow terminal the first ones that have room."""
    import rich.progress as bars
    from rich.table import Column

    def column(max_width: int | None = None) -> Column:
        return Column(no_wrap=True, overflow="ellipsis", max_width=max_width)

    amount = [bars.DownloadColumn(table_column=column()), bars.TransferSpeedColumn(table_column=column())]
    name = bars.TextColumn("{task.description}", table_column=column(max(8, min(32, width - 34))))
    if width < _NARROW:
        return [name, *amount]
    state = bars.TextColumn("{task.fields[state]}", style="dim", table_column=column())
    return [name, bars.BarColumn(None), *amount, bars.TimeRemainingColumn(compact=True, table_column=column()), state]


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _state(progress: Progress) -> str:
    return _connections(progress) if progress.phase is Phase.TRANSFERRING else progress.phase.value


def _connections(progress: Progress) -> str:
    return f"{progress.connections} connection{'s' if progress.connections != 1 else ''}"


def _share(progress: Progress) -> str:
    """`3.1 MB of 9.4 MB (33 %)`, or what is known of it."""
    if not progress.size:
        return size_text(progress.done)
    return f"{size_text(progress.done)} of {size_text(progress.size)} ({100 * progress.done // progress.size} %)"


def _so_far(progress: Progress, rate: float) -> str:
    parts = [_share(progress), f"{size_text(rate)}/s", _connections(progress)]
    if progress.size and rate > 0:
        left = int((progress.size - progress.done) / rate)
        parts.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
    return ", ".join(parts)


_DEEDS = {Outcome.FETCHED: "fetched", Outcome.RESUMED: "fetched (resumed)", Outcome.STREAMED: "streamed"}
_UNVERIFIED = {
    Verification.SIZE: "size checked, no digest known",
    Verification.NONE: "not verified: the server announced neither size nor digest",
}


def summary(result: FetchResult, name: str) -> str:
    """One line that says what was done, and what was verified."""
    proof = _UNVERIFIED.get(result.verification) or f"verified {_algorithm(result)} ({_promise(result)})"
    place = f" → {result.path}" if result.path is not None else ""
    if result.outcome is Outcome.ALREADY_PRESENT:
        return f"{name}: already present, {size_text(result.size)}, {proof}{place}"
    kept = f", {size_text(result.bytes_from_checkpoint)} from the checkpoint" if result.bytes_from_checkpoint else ""
    return f"{name}: {_DEEDS[result.outcome]} {size_text(result.size)} in {result.elapsed:.1f} s{kept}, {proof}{place}"


_BOUNDS = {
    Bound.LINK: "the link: more connections bring no more",
    Bound.SERVER: "the server: it refuses more requests, or cannot send parts",
    Bound.CEILING: "the number of connections allowed (see --threads and --aggressive)",
    Bound.READER: "the reader of the stream",
    Bound.LIMIT_RATE: "--limit-rate",
}


def reasons(result: FetchResult, name: str) -> str:
    """One line that says why it was as fast as it was."""
    requests = f"{result.requests} request{'s' if result.requests != 1 else ''}"
    retries = f", {result.retries} of them failed" if result.retries else ""
    peak = f"{result.peak_connections} connection{'s' if result.peak_connections != 1 else ''} at most"
    bound = f"; limited by {_BOUNDS[result.limited_by]}" if result.limited_by is not None else ""
    return f"{name}: {requests}{retries}, {peak}{bound}"


def _promise(result: FetchResult) -> str:
    """Who promised the digest, and where."""
    return f"{result.digest_source}" if result.digest_url is None else f"{result.digest_source} {result.digest_url}"


def _algorithm(result: FetchResult) -> str:
    return "" if result.digest is None else result.digest.algorithm


def totals(outcomes: Sequence[FetchResult | HydraError]) -> str:
    """One line about several files."""
    done = [outcome for outcome in outcomes if isinstance(outcome, FetchResult)]
    failed = len(outcomes) - len(done)
    size = size_text(sum(result.size for result in done))
    return f"{len(outcomes):,} files: {len(done):,} done ({size})" + (f", {failed:,} failed" if failed else "")


def error_line(error: HydraError, name: str) -> str:
    """The error and what to do next, in one line."""
    about = f"{name}: " if name else ""
    hint = f". {error.hint}" if error.hint else ""
    return f"error: {about}{str(error).rstrip('.')}{hint}"


def size_text(count: float) -> str:
    """Bytes for people: `209.7 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.2f} TB"


def say(line: str) -> None:
    """Print a line, if anybody can still read it."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        # One write call: lines of several processes on one terminal do not mix.
        sys.stderr.write(f"{_fit(f'hydraflow: {line}', sys.stderr.encoding)}\n")
        sys.stderr.flush()


def show_cursor() -> None:
    """Give the terminal its cursor back: the display hides it, and a process may end before the display does."""
    if sys.stderr is not None and _is_display():
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)


def _fit(line: str, encoding: str) -> str:
    """The line with nothing in it that this encoding has no sign for."""
    if "utf" in encoding.lower():
        return line
    return line.translate(_PLAIN_SIGNS).encode(encoding, errors="replace").decode(encoding)
