"""What people see while they wait: a live display on a terminal, plain lines elsewhere, nothing with `--quiet`.

Everything goes to standard error, every event on a line of its own that begins with `hydraflow:`.  Progress arrives
from the engine's thread, at most ten times a second per file.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from hydraflow.core.tally import Tally
from hydraflow.errors import (
    AccessDeniedError,
    DestinationBusyError,
    DigestMismatchError,
    HydraError,
    IntegrityError,
    NotFoundError,
    RemoteProtocolError,
    RequestError,
    ResourceChangedError,
    SizeMismatchError,
    StorageError,
    TransferError,
)
from hydraflow.models import Bound, FetchResult, Outcome, Phase, Progress, Verification

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MANY",
    "Plain",
    "Quiet",
    "Reporter",
    "UnfinishedError",
    "connections",
    "details",
    "duration",
    "error_line",
    "fit",
    "is_display",
    "kind",
    "plain",
    "reasons",
    "say",
    "show_cursor",
    "size_text",
    "standing_of_all",
    "summary",
    "totals",
]

_STEP = 1000
_LINE_EVERY = 10.0
#: Files from which on each one's own lines would say less than a line about all.
MANY = 20
_SHOW_CURSOR = b"\x1b[?25h"
#: For terminals and logs that cannot show the real ones.
_PLAIN_SIGNS = str.maketrans({"→": "->", "…": "...", "×": "x"})


class UnfinishedError(HydraError):
    """What a signal leaves of a file: in the place of a result, and never raised."""

    exit_code = 130
    default_hint = "Run the same command again: it goes on from the last checkpoint."


class Reporter(Protocol):
    """Tells a person how it goes. All but `note` and `close` are called from the engine's thread."""

    tally: Tally

    def expect(self, files: int, size: int | None) -> None:
        """So many files are wanted, of so many bytes in all if that is known."""
        ...

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

    def report(self, outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> None:
        """All have ended: what became of each."""
        ...

    def standing(self) -> str:
        """Where it stands, in half a sentence; empty if nothing has begun or all has ended."""
        ...

    def unfinished(self, name: str, url: str) -> UnfinishedError:
        """What there is of a file that has not come to its end."""
        ...

    def resumable(self) -> bool:
        """A later run can go on from what all unfinished ones have."""
        ...

    def close(self) -> None:
        """Nothing more will be shown."""
        ...


def is_display() -> bool:
    """Standard error is a terminal on which lines can be drawn again."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Quiet:
    """Errors only."""

    _verbosity = 0

    def __init__(self) -> None:
        self.tally = Tally()

    def expect(self, files: int, size: int | None) -> None:
        self.tally = Tally(files, size)

    def update(self, progress: Progress) -> None:
        self.tally.update(progress, time.monotonic())

    def finished(self, result: FetchResult, name: str) -> None:
        self.tally.finish(name, result, time.monotonic())

    def failed(self, error: HydraError, name: str) -> None:
        self.tally.fail(name, error, time.monotonic())
        self.say(error_line(error, name), "error")
        if self._verbosity:
            self.say(f"{name}: more about it: {error.help}")

    def say(self, line: str, level: str = "info") -> None:
        """A line of a level: error, warning, info or debug."""
        del level
        say(line)

    def note(self, line: str) -> None: ...

    def report(self, outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> None: ...

    def standing(self) -> str:
        running = [one.progress for one in list(self.tally.running.values())]
        if not running:
            return ""
        after = f", {self.tally.finished:,} done" if self.tally.finished else ""
        if len(running) == 1:
            return f"{running[0].name} at {_share(running[0])}{after}"
        return f"{len(running)} files begun ({size_text(sum(each.done for each in running))}){after}"

    def unfinished(self, name: str, url: str) -> UnfinishedError:
        one = self.tally.running.get(name)
        return UnfinishedError("not begun" if one is None else f"unfinished at {_share(one.progress)}", url=url)

    def resumable(self) -> bool:
        return all(one.progress.resumable for one in list(self.tally.running.values()))

    def close(self) -> None: ...


class Plain(Quiet):
    """Lines, for logs: one for each event, and every ten seconds how far it is.

    Of more files than `MANY` only those that fail have lines of their own, unless more is asked for.

    Args:
        verbosity: 1 says why it is as fast as it is, and has a line for each file; 2 is a log, with times and levels.
    """

    def __init__(self, *, verbosity: int = 0) -> None:
        super().__init__()
        self._verbosity = verbosity
        self._told: dict[str, tuple[float, int]] = {}
        self._phases: dict[str, tuple[Phase, int]] = {}
        self._begun = time.monotonic()

    @property
    def _many(self) -> bool:
        return self.tally.files > MANY and not self._verbosity

    def update(self, progress: Progress) -> None:
        super().update(progress)
        if progress.message and not self._many:
            self.say(f"{progress.name}: {progress.message}", "warning" if progress.phase is Phase.WAITING else "info")
        if self._verbosity and progress.decision:
            self.say(f"{progress.name}: {progress.decision}")
        if self._verbosity > 1:
            self._tell_changes(progress)
        self._tell_standing(progress)

    def _tell_changes(self, progress: Progress) -> None:
        state = (progress.phase, progress.connections)
        if self._phases.get(progress.name) != state:
            self._phases[progress.name] = state
            self.say(f"{progress.name}: {progress.phase.value}, {connections(progress.connections)}", "debug")

    def _tell_standing(self, progress: Progress) -> None:
        now, name = time.monotonic(), "" if self._many else progress.name
        done = self.tally.done if self._many else progress.done
        at, before = self._told.setdefault(name, (now, done))
        if now - at < _LINE_EVERY or not (self._many or progress.phase is Phase.TRANSFERRING):
            return
        self._told[name] = (now, done)
        rate = (done - before) / (now - at)
        self.say(standing_of_all(self.tally, rate) if self._many else f"{name}: {_so_far(progress, rate)}")

    def finished(self, result: FetchResult, name: str) -> None:
        super().finished(result, name)
        if not self._many:
            self.say(summary(result, name))
        if self._verbosity:
            self.say(reasons(result, name))
            if result.sources:
                self.say(f"{name}: {shares(result)}")
        if self._verbosity > 1:
            self.say(f"{name}: {details(result)}", "debug")

    def note(self, line: str) -> None:
        self.say(line)

    def say(self, line: str, level: str = "info") -> None:
        if self._verbosity > 1:
            line = (
                f"{time_of_day(time.time_ns())} {level:<7} {line.removeprefix('error: ') if level == 'error' else line}"
            )
        say(line)

    def report(self, outcomes: Sequence[tuple[str, FetchResult | HydraError]]) -> None:
        if len(outcomes) > 1:
            self.note(totals([outcome for _, outcome in outcomes], time.monotonic() - self._begun))


def connections(count: int) -> str:
    """`3 connections`."""
    return f"{count} connection{'s' if count != 1 else ''}"


def _share(progress: Progress) -> str:
    """`3.1 MB of 9.4 MB (33 %)`, or what is known of it."""
    if not progress.size:
        return size_text(progress.done)
    return f"{size_text(progress.done)} of {size_text(progress.size)} ({100 * progress.done // progress.size} %)"


def _so_far(progress: Progress, rate: float) -> str:
    parts = [_share(progress), f"{size_text(rate)}/s", connections(progress.connections)]
    if progress.size and rate > 0:
        parts.append(f"{duration((progress.size - progress.done) / rate)} left")
    if progress.bound is not None:
        parts.append(f"limited by {_BOUNDS[progress.bound]}")
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
    Bound.DISK: "the disk",
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


def details(result: FetchResult) -> str:
    """What else is known of a transfer, for who looks for a fault."""
    came = f"{result.bytes_from_network:,} bytes received, {result.bytes_from_checkpoint:,} from the checkpoint"
    return f"{came}, {result.restarts} restarts, {result.http_version}, etag {result.etag}, from {result.final_url}"


def shares(result: FetchResult) -> str:
    """What each of several sources gave, in one line; empty if there was one."""
    return "; ".join(
        f"{size_text(each.bytes)} from {each.url}{f' ({each.trouble})' if each.trouble else ''}"
        for each in result.sources
    )


def standing_of_all(tally: Tally, rate: float) -> str:
    """`312 of 1,000 files, 31.2 MB of 100.0 MB (31 %), 8.1 MB/s, 32 connections, 0:00:09 left`."""
    size = tally.known_size
    share = size_text(tally.done)
    if size:
        share = f"{share} of {size_text(size)} ({100 * tally.done // size} %)"
    parts = [f"{tally.ended:,} of {tally.files:,} files", share, f"{size_text(rate)}/s", connections(tally.connections)]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if size and rate > 0:
        parts.append(f"{duration((size - tally.done) / rate)} left")
    return ", ".join(parts)


def time_of_day(nanoseconds: int) -> str:
    """`14:02:03.057`, of Unix time, where we are."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03d}"


def duration(seconds: float) -> str:
    """`1:02:03`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def totals(outcomes: Sequence[FetchResult | HydraError], elapsed: float | None = None) -> str:
    """One line about several files: how many there are, by what they were verified, what failed and why."""
    done = [outcome for outcome in outcomes if isinstance(outcome, FetchResult)]
    size = size_text(sum(result.size for result in done))
    took = "" if elapsed is None else f" in {elapsed:.1f} s"
    parts = [f"{len(done):,} done ({size}{took})"]
    unproved = sum(result.digest is None for result in done)
    if unproved:
        parts.append(f"{unproved:,} without a digest")
    failed = Counter(kind(outcome) for outcome in outcomes if isinstance(outcome, HydraError))
    unfinished = failed.pop(_UNFINISHED, 0)
    if failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in failed.most_common())
        parts.append(f"{failed.total():,} failed ({kinds})")
    if unfinished:
        parts.append(f"{unfinished:,} {_UNFINISHED}")
    return f"{len(outcomes):,} files: {', '.join(parts)}"


_UNFINISHED = "unfinished"
_KINDS: tuple[tuple[type[HydraError], str], ...] = (
    (UnfinishedError, _UNFINISHED),
    (NotFoundError, "not found"),
    (AccessDeniedError, "access denied"),
    (RequestError, "refused"),
    (SizeMismatchError, "wrong size"),
    (DigestMismatchError, "wrong digest"),
    (IntegrityError, "not verified"),
    (ResourceChangedError, "changed"),
    (DestinationBusyError, "busy"),
    (StorageError, "not written"),
    (TransferError, "network"),
    (RemoteProtocolError, "bad answer"),
)


def kind(error: HydraError) -> str:
    """What went wrong, in two words."""
    return next((words for each, words in _KINDS if isinstance(error, each)), "other")


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
        sys.stderr.write(f"{fit(f'hydraflow: {plain(line)}', sys.stderr.encoding)}\n")
        sys.stderr.flush()


def show_cursor() -> None:
    """Give the terminal its cursor back: the display hides it, and a process may end before the display does."""
    if sys.stderr is not None and is_display():
        with contextlib.suppress(OSError):
            poll = select.poll()
            poll.register(sys.stderr.fileno(), select.POLLOUT)
            # A terminal that takes nothing (Ctrl-S, a frozen link) must not keep a process from its end.
            if poll.poll(0):
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)


def plain(text: str) -> str:
    """Without what would move a terminal's cursor, or worse: names, headings and headers come from strangers."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def fit(line: str, encoding: str) -> str:
    """The line with nothing in it that this encoding has no sign for."""
    if "utf" in encoding.lower():
        return line
    return line.translate(_PLAIN_SIGNS).encode(encoding, errors="replace").decode(encoding)
