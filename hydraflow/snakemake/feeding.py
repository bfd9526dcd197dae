"""An input that is a named pipe: the job reads it as a file, and nothing is on disk.

Snakemake asks whether a file is there and how old it is, then starts the job, then asks for the file's checksum.  So
the pipe has its first bytes in it before the job starts (a reader that opens it without blocking, as GNU gzip does,
would take an empty one for the end); it is always older than the file in the storage, so that no later run trusts one
that a kill has left; and what became of the stream is said when the checksum is asked for.
"""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import fcntl
import os
import stat
import termios
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hydraflow.adapters.pipes import FifoWriter
from hydraflow.errors import HydraError, ReaderGoneError
from hydraflow.snakemake import retrieval
from hydraflow.streams import Inflow, pour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hydraflow.engine import Order
    from hydraflow.models import FetchResult
    from hydraflow.settings import Settings

__all__ = ["EmptyStreamError", "Feed", "is_fed", "remove_stale"]

#: Seconds that a stream has to come to its end when its job has ended: what was in the pipe is accounted for.
_GRACE = 10.0
#: The same where it is not known yet whether the job has read at all.
_NOTICE = 1.0
_SLICE = 0.02


class EmptyStreamError(Exception):
    """There are no bytes, so none can be in the pipe before its reader comes."""


class _Pipe(FifoWriter):
    """Is at its path only until a reader comes, and shows itself as old as can be."""

    def __init__(
        self, path: Path, stopped: Callable[[], bool], armed: Callable[[], None], taken: Callable[[], None]
    ) -> None:
        self._place, self._armed, self._taken = path, armed, taken
        # However long the job waits for its turn: it is Snakemake who knows that nobody will come.
        super().__init__(path, 1.0, stopped, excused=lambda: True)

    def filled(self) -> None:
        os.utime(self._place, (0, 0))
        self._armed()

    def empty(self) -> None:
        raise EmptyStreamError

    def came(self) -> None:
        self._taken()


class Feed:
    """A stream into a named pipe at `path`, in a thread of its own, from now on until its job has ended.

    Args:
        orders: one, with a digest.
        path: whatever is there is replaced.
        settings: of the engine.
        on_end: called in that thread with the result, or with the error.
        explain: what an error of the stream means.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        path: Path,
        settings: Settings,
        on_end: Callable[[FetchResult | HydraError], None],
        explain: Callable[[HydraError], HydraError],
    ) -> None:
        self._orders, self._path, self._settings = orders, path, settings
        self._on_end, self._explain = on_end, explain
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._flow: Inflow | None = None
        self._pipe: _Pipe | None = None
        self._place = threading.Lock()
        self._replaced = False
        self._stop = threading.Event()
        self._verified = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hydraflow-pipe", daemon=True)
        self._thread.start()

    async def armed(self) -> None:
        """Return when the pipe is there and has bytes in it.

        Raises:
            HydraError: the stream has failed before.
            EmptyStreamError: there is nothing to stream.
        """
        try:
            await asyncio.shield(asyncio.wrap_future(self._ready))
        except asyncio.CancelledError:
            self._stop.set()
            raise

    def end(self) -> None:
        """Give up what has not come to its end."""
        self._stop.set()
        self._thread.join()

    def replace(self, publish: Callable[[], None]) -> None:
        """Have `publish` put the whole verified file where the pipe is, for another job; who reads the pipe goes on."""
        with self._place:
            publish()
            self._replaced = True

    def _taken(self) -> None:
        """A second reader would wait for ever.  He gets ENXIO, and a run after a kill sees what it must not trust."""
        with self._place:
            if not self._replaced:
                retrieval.leave_unreadable(self._path)

    def verdict(self) -> None:
        """Return if the job, which has ended, was given every byte and all of them were right.

        Raises:
            HydraError: it was not.
        """
        begun = time.monotonic()
        while self._is_ending(time.monotonic() - begun):
            time.sleep(_SLICE)
        self.end()
        self._judge()

    def _is_ending(self, waited: float) -> bool:
        """It is about to see that its reader, if there was one, is gone or has everything."""
        return self._thread.is_alive() and waited < (_GRACE if self._came else _NOTICE)

    @property
    def _came(self) -> bool:
        return self._pipe is not None and self._pipe.attached

    def _judge(self) -> None:
        if (self._verified and self._came) or (self._replaced and not self._came):
            return
        if isinstance(self._error, HydraError) and not isinstance(self._error, ReaderGoneError):
            raise self._error
        raise ReaderGoneError(
            "the job ended before it had read all of the stream, which therefore nobody has verified"
            if self._came
            else "the job ended without reading the stream",
            hint="Leave out stream=fifo for jobs that do not read their input to its end.",
        )

    def _run(self) -> None:
        try:
            self._feed()
        except BaseException as failure:  # noqa: BLE001 - told to whoever asks
            error = self._error = self._explain(failure) if isinstance(failure, HydraError) else failure
            if not self._ready.done():
                self._ready.set_exception(error)
            if isinstance(error, HydraError):
                self._on_end(error)
        else:
            assert self._flow is not None
            self._on_end(self._flow.results[0])

    def _feed(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._path.unlink()
        pipe = self._pipe = _Pipe(self._path, self._ended, self._arm, self._taken)
        try:
            self._flow = Inflow(self._settings, self._orders)
            try:
                pour(self._flow, pipe, self._stop.is_set)
            finally:
                self._verified = self._flow.verified
                self._flow.close()
        finally:
            pipe.close()

    def _ended(self) -> bool:
        return self._stop.is_set() or (self._flow is not None and self._flow.broken)

    def _arm(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)


def is_fed(path: Path) -> bool:
    """There is a pipe with bytes in it: somebody holds it open, be it another process (Slurm's jobs are run by two)."""
    try:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        count = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, count)
    finally:
        os.close(fd)
    return count[0] > 0


def remove_stale(path: Path) -> None:
    """Remove a pipe that nobody feeds: what a kill has left behind."""
    with suppress(OSError):
        if stat.S_ISFIFO(path.lstat().st_mode) and not is_fed(path):
            path.unlink()
