"""What people see while they wait: a live display on a terminal, plain lines elsewhere, nothing with `--quiet`.

Everything goes to standard error.  Progress arrives from the engine's thread, at most ten times a second per file.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from hydraflow.models import FetchResult, Outcome, Phase, Progress, Verification

if TYPE_CHECKING:
    import rich.progress

    from hydraflow.errors import HydraError

__all__ = ["Live", "Plain", "Quiet", "Reporter", "choose", "error_lines", "size_text", "summary"]

_STEP = 1000
_LINE_EVERY = 10.0


class Reporter(Protocol):
    """Tells a person how it goes."""

    def update(self, progress: Progress) -> None:
        """A transfer has moved on. Called from another thread."""
        ...

    def finished(self, result: FetchResult, name: str) -> None:
        """A transfer is done and verified."""
        ...

    def failed(self, error: HydraError, name: str) -> None:
        """A transfer has failed."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


def choose(*, quiet: bool, plain: bool) -> Reporter:
    """The reporter that fits the options and the terminal."""
    if quiet:
        return Quiet()
    return Plain() if plain or not sys.stderr.isatty() else Live()


class Quiet:
    """Errors only."""

    def update(self, progress: Progress) -> None: ...

    def finished(self, result: FetchResult, name: str) -> None: ...

    def failed(self, error: HydraError, name: str) -> None:
        for line in error_lines(error, name):
            _say(line)

    def close(self) -> None: ...


class Plain(Quiet):
    """One line for each event, and one for each file every ten seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.message:
            _say(f"{progress.name}: {progress.message}")
        at, done = self._seen.setdefault(progress.url, (now, progress.done))
        if progress.phase is Phase.TRANSFERRING and now - at >= _LINE_EVERY:
            self._seen[progress.url] = (now, progress.done)
            _say(f"{progress.name}: {_so_far(progress, (progress.done - done) / (now - at))}")

    def finished(self, result: FetchResult, name: str) -> None:
        _say(summary(result, name))


class Live(Quiet):
    """Bars on a terminal, one per file in work, with messages above them."""

    def __init__(self) -> None:
        import rich.console
        import rich.progress as bars

        self._bars = bars.Progress(
            bars.TextColumn("{task.description}", table_column=_name_column()),
            bars.BarColumn(bar_width=None),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(compact=True),
            bars.TextColumn("{task.fields[state]}", style="dim"),
            console=rich.console.Console(stderr=True),
            refresh_per_second=5,
            transient=True,
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._guard = threading.Lock()
        self._bars.start()

    def update(self, progress: Progress) -> None:
        with self._guard:
            if progress.message:
                self._print(f"{progress.name}: {progress.message}", style="dim")
            task = self._tasks.get(progress.url)
            if task is None:
                task = self._bars.add_task(_escape(progress.name), total=None, state="")
                self._tasks[progress.url] = task
            self._bars.update(task, completed=progress.done, total=progress.size, state=_state(progress))
            if progress.phase in (Phase.DONE, Phase.FAILED):
                self._bars.remove_task(self._tasks.pop(progress.url))

    def finished(self, result: FetchResult, name: str) -> None:
        self._print(summary(result, name))

    def failed(self, error: HydraError, name: str) -> None:
        for line in error_lines(error, name):
            self._print(line, style="red")

    def close(self) -> None:
        self._bars.stop()

    def _print(self, line: str, style: str | None = None) -> None:
        self._bars.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _name_column() -> rich.progress.Column:  # type: ignore[name-defined]
    from rich.table import Column

    return Column(overflow="ellipsis", no_wrap=True, max_width=32)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _state(progress: Progress) -> str:
    if progress.phase is Phase.TRANSFERRING:
        return f"{progress.connections} connection{'s' if progress.connections != 1 else ''}"
    return progress.phase.value


def _so_far(progress: Progress, rate: float) -> str:
    parts = [size_text(progress.done)]
    if progress.size:
        parts[0] += f" of {size_text(progress.size)} ({100 * progress.done // progress.size} %)"
    parts.append(f"{size_text(rate)}/s")
    parts.append(f"{progress.connections} connection{'s' if progress.connections != 1 else ''}")
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
    proof = _UNVERIFIED.get(result.verification) or f"verified {_algorithm(result)} ({result.digest_source})"
    place = f" → {result.path}" if result.path is not None else ""
    if result.outcome is Outcome.ALREADY_PRESENT:
        return f"{name}: already present, {size_text(result.size)}, {proof}{place}"
    kept = f", {size_text(result.bytes_from_checkpoint)} from the checkpoint" if result.bytes_from_checkpoint else ""
    return f"{name}: {_DEEDS[result.outcome]} {size_text(result.size)} in {result.elapsed:.1f} s{kept}, {proof}{place}"


def _algorithm(result: FetchResult) -> str:
    return "" if result.digest is None else result.digest.algorithm


def error_lines(error: HydraError, name: str) -> list[str]:
    """The error in one line, and what to do next in a second one."""
    about = f"{name}: " if name else ""
    return [f"error: {about}{error}", *([f"hint: {error.hint}"] if error.hint else [])]


def size_text(count: float) -> str:
    """Bytes for people: `209.7 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.2f} TB"


def _say(line: str) -> None:
    # One write call: lines of several processes on one terminal do not mix.
    sys.stderr.write(f"hydraflow: {line}\n")
    sys.stderr.flush()
