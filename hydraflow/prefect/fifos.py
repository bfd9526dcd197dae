"""A named pipe for a consumer of one's own, who must not take a stream that broke for one that ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydraflow import consumers
from hydraflow.errors import NoReaderError, ReaderGoneError, SinkError
from hydraflow.models import FetchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hydraflow.errors import HydraError

__all__ = ["Fifo"]

#: Seconds for the last bytes to be read after the body has ended; then nobody reads any more.
_GRACE = 1.0
_SLICE = 0.002
#: Looks for readers that are still there; who outlives them cannot be killed.
_TRIES = 100


class Fifo:
    """A named pipe in a directory of its own, and the thread that feeds it.

    Args:
        url: what it is fed with.
        halted: tells when to end it early.
        note: called with what came of it, if it came to its end.
        allow_partial: a reader may go before the end.
        order: as for `consumers.into_fifos`.

    Raises:
        HydraError: it cannot be made.
    """

    def __init__(
        self,
        url: str,
        halted: Callable[[], bool],
        note: Callable[[FetchResult], None],
        *,
        allow_partial: bool,
        **order: Any,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hydraflow-")
        self._url, self._order, self._note = url, order, note
        self._halted, self._halt, self._allow_partial = halted, threading.Event(), allow_partial
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hydraflow-feeder", daemon=True)
        self._thread.start()
        self.path = self._found()

    def _run(self) -> None:
        try:
            consumers.into_fifos(
                [self._url],
                self._directory.name,
                **self._order,
                on_outcome=self._ended,
                stopped=lambda: self._halt.is_set() or self._halted(),
            )
        except BaseException as error:  # noqa: BLE001 - raised where the context ends
            self._error = error

    def _ended(self, _name: str, outcome: FetchResult | HydraError) -> None:
        """The pipe is still open: a reader that was started here is killed before it could take this for the end."""
        if isinstance(outcome, FetchResult):
            self._note(outcome)
        elif not isinstance(outcome, ReaderGoneError):
            _forbid(Path(self._directory.name))

    def _found(self) -> Path:
        while self._thread.is_alive():
            for path in Path(self._directory.name).iterdir():
                return path
            time.sleep(_SLICE)
        self._directory.cleanup()
        raise self._error or SinkError("no named pipe could be made")

    def end(self, *, failed: bool) -> None:
        """The consumer is done.

        Raises:
            ReaderGoneError: it has not read everything.
            HydraError: what ended the stream.
        """
        try:
            self._thread.join(0 if failed else _GRACE)
            late = self._thread.is_alive()
            self._halt.set()
            self._thread.join()
        finally:
            self._directory.cleanup()
        if failed or (self._allow_partial and (late or isinstance(self._error, (ReaderGoneError, NoReaderError)))):
            return
        if late and isinstance(self._error, asyncio.CancelledError):
            raise left_early()
        if self._error is not None:
            raise self._error


def left_early() -> ReaderGoneError:
    """The error of a consumer that has read a part, ended well, and could not know that it was right."""
    return ReaderGoneError(
        "the stream was left before everything was read, so not all was verified",
        hint="Pass allow_partial=True if that is meant.",
    )


def _forbid(directory: Path) -> None:
    """Let nobody see the end of a pipe of this directory who descends from this process."""
    # Who opened one after the others were found would see an end; who finds none has an error.
    for path in directory.iterdir():
        path.unlink(missing_ok=True)
    for _ in range(_TRIES):
        if not _kill_readers(directory):
            return
        time.sleep(_SLICE)


def _kill_readers(directory: Path) -> bool:
    """Kill the descendants of this process that have one open; True if there were any."""
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):  # not every system has it
        parents = {int(each.name): _parent(each) for each in Path("/proc").iterdir() if each.name.isdigit()}
    found = [pid for pid in parents if _descends(pid, os.getpid(), parents) and _has_open(pid, f"{directory}{os.sep}")]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def _parent(process: Path) -> int:
    try:
        # Behind the name, which may hold anything: state, parent.
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    pid = parents.get(pid, 0)
    while pid not in (0, ancestor):
        pid = parents.get(pid, 0)
    return pid == ancestor


def _has_open(pid: int, prefix: str) -> bool:
    try:
        return any(os.readlink(each).startswith(prefix) for each in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115
    except OSError:  # it has ended meanwhile
        return False
