"""Streams for several readers at a time, and for a command that is started with them.

A command cannot tell a stream that broke from one that ended, so it must not see the end of one that broke.  It runs in
a process group of its own, and on failure the whole group is killed while the writing end of its pipe is still open.
Should hydraflow itself be killed, a *guard* does it: a small process that holds the writing end open too, and kills the
group when its line to hydraflow breaks.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from hydraflow import ordering
from hydraflow.adapters.decoding import plain_name
from hydraflow.adapters.pipes import DescriptorWriter, FifoWriter, Writer
from hydraflow.engine import Order
from hydraflow.errors import ConfigurationError, HydraError, NoReaderError, ReaderGoneError, SinkError
from hydraflow.models import Digest, FetchResult, Progress
from hydraflow.ordering import Keeping
from hydraflow.settings import Settings, load
from hydraflow.streams import Inflow, OnOutcome, pour

__all__ = ["arrange", "into_fifos", "run"]

OnProgress = Callable[[Progress], None]
#: A writer, made with a function that tells it when to give up.
Opening = Callable[[Callable[[], bool]], Writer]

_SLICE = 0.02
#: Seconds that the last bytes, which are in the pipe already, have to be accounted for when the command has ended.
_GRACE = 1.0
#: `{1}`, but not the `${1}` of a shell.
_NUMBERED = re.compile(r"(?<!\$)\{(\d+)\}")
#: Reads a line when all went well, and the end of its input when hydraflow has died. First stopped, then killed: nobody
#: in the group lives long enough to see that another one has gone.
_WATCH = 'read -r line || { kill -s STOP -- "-$1"; kill -s KILL -- "-$1"; }'


class _Lane:
    """A row of orders, a writer, and the thread that moves bytes from the one to the other."""

    def __init__(self, begin: Callable[[], Inflow], opening: Opening, halted: Callable[[], bool]) -> None:
        self.error: BaseException | None = None
        self.closed = self._verified = False
        self._begin, self._halted = begin, halted
        self._flow: Inflow | None = None
        self._thread = threading.Thread(target=self._run, name="hydraflow-pipe", daemon=True)
        self.writer = opening(lambda: halted() or (self._flow is not None and self._flow.broken))

    def start(self) -> None:
        self._flow = self._begin()
        self._thread.start()

    def _run(self) -> None:
        assert self._flow is not None
        try:
            try:
                pour(self._flow, self.writer, self._halted)
            finally:
                self._verified = self._flow.verified
                self._flow.close()
        except BaseException as error:  # noqa: BLE001 - looked at by whoever started it
            self.error = error

    @property
    def busy(self) -> bool:
        """It is under way, and its reader has come."""
        return self._thread.is_alive() and isinstance(self.writer, FifoWriter) and self.writer.attached

    @property
    def ended(self) -> bool:
        """Nothing moves any more."""
        return self._flow is not None and not self._thread.is_alive()

    @property
    def verified(self) -> bool:
        """Every byte has passed its check."""
        return self._verified or (self._flow is not None and self._flow.verified)

    @property
    def left(self) -> bool:
        """Its reader went before the end, or never came."""
        return isinstance(self.error, (ReaderGoneError, NoReaderError)) and not self.verified

    @property
    def results(self) -> list[FetchResult]:
        """Of what has been read to its end."""
        return [] if self._flow is None else self._flow.results

    def join(self) -> None:
        if self._flow is not None:
            self._thread.join()

    def close(self) -> None:
        """Let the reader see the end."""
        if not self.closed:
            self.closed = True
            self.writer.close()


# ── several named pipes ──────────────────────────────────────────────────────────────────────────────────────────────


def into_fifos(
    urls: Sequence[str],
    directory: str | os.PathLike[str],
    *,
    digest: str | Digest | None = None,
    start: int = 0,
    stop: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
    on_outcome: OnOutcome | None = None,
    stopped: Callable[[], bool] = lambda: False,
    settings: Settings | None = None,
) -> list[FetchResult]:
    """Stream each URL into a named pipe of its own, all at a time: `directory/NAME`.

    The pipes, and the directory if it is made here, are for this user only, and removed at the end.  The streams share
    the window of the settings.  While some are read, the others may wait for their reader as long as it takes; the
    first failure ends all that have not come to their end.

    Raises:
        ConfigurationError: two URLs end in the same name.
        HydraError: the first failure; see `pipe`.
        CancelledError: `stopped()` is true.
    """
    policies = settings or load()
    orders = ordering.orders(urls, digest=digest, start=start, stop=stop, headers=headers, on_progress=on_progress)
    ordering.check_names(orders)
    keeping = ordering.keep(orders, spool, policies, resume=resume, overwrite=overwrite)
    halt, window, folder = threading.Event(), policies.window // len(orders), Path(directory)
    lanes: list[_Lane] = []

    def lane(order: Order) -> _Lane:
        return _Lane(
            lambda: Inflow(policies, [order], window, _one(keeping, orders, order), decompress, on_outcome),
            lambda ended: FifoWriter(
                folder / (plain_name(order.name) if decompress else order.name), policies.open_timeout, ended, busy
            ),
            halt.is_set,
        )

    def busy() -> bool:
        return any(each.busy for each in lanes)

    with ExitStack() as stack:
        if _make_directory(folder):
            stack.callback(_remove_if_empty, folder)
        for order in orders:
            lanes.append(lane(order))
            stack.callback(lanes[-1].close)
        try:
            for each in lanes:
                each.start()
            _until_ended(lanes, stopped)
        finally:
            halt.set()
            for each in lanes:
                each.join()
    return [result for each in lanes for result in each.results]


def _one(keeping: Keeping | None, orders: Sequence[Order], order: Order) -> Keeping | None:
    """How one of the orders is kept."""
    return None if keeping is None else replace(keeping, paths=[keeping.paths[list(orders).index(order)]])


def _until_ended(lanes: Sequence[_Lane], stopped: Callable[[], bool]) -> None:
    while not all(lane.closed for lane in lanes):
        if stopped():
            raise asyncio.CancelledError
        for lane in lanes:
            if lane.ended and not lane.closed:
                lane.close()
                if lane.error is not None:
                    raise lane.error
        time.sleep(_SLICE)


def _make_directory(path: Path) -> bool:
    """True if it was made, False if it was there."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise SinkError(f"cannot make {path}: {error.strerror}") from error
    return True


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


# ── a command ────────────────────────────────────────────────────────────────────────────────────────────────────────


def arrange(command: Sequence[str], count: int) -> list[str] | None:
    """The command with `{1}`, `{2}`, … for the pipes of so many URLs; None if it reads from its standard input.

    `{}` stands for the URLs in their order; where there are several, each may be named by its number instead.

    Raises:
        ConfigurationError: not every URL has one place.
    """
    plain = sum(word.count("{}") for word in command)
    if plain:
        _check_places(plain == count, f"{plain} {{}} in the command", count)
        numbers = iter(range(1, count + 1))
        return [re.sub(r"\{\}", lambda _: f"{{{next(numbers)}}}", word) for word in command]
    named = [int(each) for word in command for each in _NUMBERED.findall(word)] if count > 1 else []
    if not named:
        return None
    _check_places(sorted(named) == list(range(1, count + 1)), "a place for not every one in the command", count)
    return list(command)


def _check_places(fit: bool, found: str, count: int) -> None:
    if not fit:
        urls = "1 URL" if count == 1 else f"{count} URLs"
        raise ConfigurationError(
            f"{urls}, and {found}: each is a pipe, which can be read once",
            hint="Write {} for each URL, or {1}, {2}, …; without any, all come on standard input, one after another.",
        )


def run(
    urls: Sequence[str],
    command: Sequence[str],
    *,
    digest: str | Digest | None = None,
    start: int = 0,
    stop: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    allow_partial: bool = False,
    on_progress: OnProgress | None = None,
    on_outcome: OnOutcome | None = None,
    stopped: Callable[[], bool] = lambda: False,
    stdout: int | None = None,
    stderr: int | None = None,
    settings: Settings | None = None,
) -> int:
    """Start a command that reads streams from named pipes (see `arrange`), or from its standard input.

    It sees the end of a stream only after everything is verified; on any failure it is killed before, with all of its
    process group.

    Args:
        urls: one for each pipe; or all, one after another, for standard input.
        command: its words.
        digest: `ALGORITHM:HEX` of the file, if there is one URL.
        start: first byte, if there is one URL; see `stream`.
        stop: offset behind the last byte.
        spool: see `stream`; `resume` and `overwrite` are then as for `fetch`.
        resume: see there.
        overwrite: see there.
        decompress: see `stream`; the pipes' names lose the ending that stands for it.
        headers: as for `fetch`.
        allow_partial: its exit code counts although it ended before it had read everything.
        on_progress: as for `fetch`.
        on_outcome: called with the name of each file, and its result or the error that it ended with.
        stopped: tells when to end it all.
        stdout: descriptor that it writes to; default: that of this process.
        stderr: the same for what it says.
        settings: as for `fetch`; the streams share one window.

    Returns:
        The command's exit code; 128 + N if signal N ended it.

    Raises:
        ConfigurationError: the command cannot be started; nothing was transferred.
        ReaderGoneError: the command ended well, but before it had read everything.
        HydraError: see `fetch`.
        CancelledError: `stopped()` is true.
    """
    orders = ordering.orders(urls, digest=digest, start=start, stop=stop, headers=headers, on_progress=on_progress)
    words, policies = arrange(command, len(orders)), settings or load()
    keeping = ordering.keep(orders, spool, policies, resume=resume, overwrite=overwrite)
    job = _Job(
        policies, keeping, decompress=decompress, allow_partial=allow_partial, on_outcome=on_outcome,
        output=(stdout, stderr),
    )  # fmt: skip
    with ExitStack() as stack:
        # Left in the other order: a command that finds its pipe gone may go on to what comes next.
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hydraflow-"))
        stack.callback(job.close)
        if words is None:
            job.feed_input(orders, command)
        else:
            job.feed_pipes(orders, words, Path(directory))
        return job.attend(stopped)


class _Job:
    """A command and the lanes that feed it."""

    def __init__(
        self,
        settings: Settings,
        keeping: Keeping | None,
        *,
        decompress: bool,
        allow_partial: bool,
        on_outcome: OnOutcome | None,
        output: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self._settings, self._keeping, self._decompress = settings, keeping, decompress
        self._stdout, self._stderr = output
        self._allow_partial, self._on_outcome = allow_partial, on_outcome
        self._halt = threading.Event()
        self._lanes: list[_Lane] = []
        self._guards: dict[_Lane, _Guard] = {}
        self._child: subprocess.Popen[bytes] | None = None

    # ── its beginning ────────────────────────────────────────────────────────────────────────────────────────────────

    def feed_pipes(self, orders: Sequence[Order], words: Sequence[str], directory: Path) -> None:
        """Start the command on named pipes, which keep the files' names: tools go by how these end."""
        names = [plain_name(order.name) if self._decompress else order.name for order in orders]
        paths = [_place(directory / str(number), name) for number, name in enumerate(names, 1)]
        for order, path in zip(orders, paths, strict=True):
            kept = _one(self._keeping, orders, order)
            self._lane([order], partial(FifoWriter, path, math.inf), len(orders), kept)
        named = [_NUMBERED.sub(lambda found: str(paths[int(found[1]) - 1]), word) for word in words]
        self._start(named, subprocess.DEVNULL if _is_terminal(0) else None)

    def feed_input(self, orders: Sequence[Order], words: Sequence[str]) -> None:
        """Start the command with everything on its standard input."""
        reading, writing = os.pipe()
        try:
            try:
                self._lane(orders, partial(DescriptorWriter, writing), 1, self._keeping)
            finally:
                os.close(writing)  # the writer has a description of its own
            self._start(words, reading)
        finally:
            os.close(reading)

    def _lane(self, orders: Sequence[Order], opening: Opening, lanes: int, keeping: Keeping | None) -> None:
        window = self._settings.window // lanes
        begin = partial(Inflow, self._settings, orders, window, keeping, self._decompress, self._tell)
        self._lanes.append(_Lane(begin, opening, self._halt.is_set))

    def _tell(self, name: str, outcome: FetchResult | HydraError) -> None:
        # What a reader that goes early means is seen when the command ends.
        if self._on_outcome is not None and not isinstance(outcome, ReaderGoneError):
            self._on_outcome(name, outcome)

    def _start(self, words: Sequence[str], stdin: int | None) -> None:
        try:
            self._child = subprocess.Popen(  # noqa: S603 - it is the user's own
                words, stdin=stdin, stdout=self._stdout, stderr=self._stderr, process_group=0
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"cannot run {words[0]}: {reason}") from error
        for lane in self._lanes:
            self._guards[lane] = _Guard(lane.writer.hold(), self._child.pid)

    # ── its way ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def attend(self, stopped: Callable[[], bool]) -> int:
        """Until the command has ended; its exit code."""
        assert self._child is not None
        for lane in self._lanes:
            lane.start()
        gone_at = math.inf
        while True:
            for lane in self._lanes:
                self._look_at(lane)
            if gone_at == math.inf and _has_ended(self._child.pid):
                gone_at = time.monotonic()
            if gone_at < math.inf:
                if all(lane.closed for lane in self._lanes):
                    return _code(self._child.wait())
                all_read = all(lane.verified for lane in self._lanes)
                if not all_read or time.monotonic() - gone_at > _GRACE:
                    return self._partial()
            if stopped():
                raise asyncio.CancelledError
            time.sleep(_SLICE)

    def _look_at(self, lane: _Lane) -> None:
        if not lane.ended or lane.closed:
            return
        if lane.left:
            # It keeps its writing end, lest another reader of the same pipe take this for the end; no more can come.
            if isinstance(lane.writer, FifoWriter):
                lane.writer.remove()
            return
        if lane.error is None or isinstance(lane.error, ReaderGoneError):  # what it did not read was right
            lane.error = None
            self._guards.pop(lane).release()
            lane.close()
        else:
            raise lane.error

    def _partial(self) -> int:
        """The command has ended, and has not read everything."""
        assert self._child is not None
        self._end()
        code = _code(self._child.wait())
        if code or self._allow_partial:
            return code
        raise ReaderGoneError(
            "the command ended before it had read everything, so not all was verified",
            hint="Pass --allow-partial if that is meant.",
        )

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Kill what still runs, and only then let go of the pipes."""
        if self._child is not None and not all(lane.closed for lane in self._lanes):
            self._end()
        for lane in self._lanes:
            lane.close()
        if self._child is not None and self._child.returncode is None:
            self._kill()  # interrupted while it worked on what it had read

    def _end(self) -> None:
        self._halt.set()
        self._kill()
        for guard in self._guards.values():
            guard.release()
        self._guards.clear()
        for lane in self._lanes:
            lane.join()

    def _kill(self) -> None:
        """All of the group, also what a command that has ended left behind."""
        assert self._child is not None
        if self._child.returncode is None:
            for number in (signal.SIGSTOP, signal.SIGKILL):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._child.pid, number)
            self._child.wait()


class _Guard:
    """A process that holds a pipe open, and kills a group should this process die."""

    def __init__(self, held: int, group: int) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the words are ours
                ["/bin/sh", "-c", _WATCH, "hydraflow-guard", str(group)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[held],
                start_new_session=True,
            )
        except OSError as error:
            raise SinkError(f"cannot run /bin/sh: {error.strerror}") from error
        finally:
            os.close(held)

    def release(self) -> None:
        """All is well, or the group is dead: let go of the pipe."""
        with suppress(BrokenPipeError):
            self._process.communicate(b"done\n")


def _place(directory: Path, name: str) -> Path:
    """Where a pipe goes; nothing in its path means anything to a shell."""
    directory.mkdir(mode=0o700)
    return directory / (re.sub(r"[^A-Za-z0-9._+=,@-]", "_", name).lstrip("-") or "stream")


def _is_terminal(fd: int) -> bool:
    """A group in the background that reads from its terminal is stopped."""
    with suppress(OSError):
        return stat.S_ISCHR(os.fstat(fd).st_mode) and os.isatty(fd)
    return False


def _has_ended(pid: int) -> bool:
    """Without waiting for it: so its number, which is its group's, stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _code(returned: int) -> int:
    return returned if returned >= 0 else 128 - returned
