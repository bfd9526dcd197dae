"""Writing a stream into a file descriptor or a named pipe, so that it can always be interrupted.

A FIFO without a writer is instant end-of-file to a reader that opens it without blocking (GNU gzip does), and without a
reader it blocks its writer for ever.  So a `FifoWriter` holds both ends open from the first instant, puts up to a
pipe's worth of bytes in, and lets its own reading end go as soon as somebody else has read.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import stat
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from hydraflow.errors import NoReaderError, ReaderGoneError, SinkError

__all__ = ["DescriptorWriter", "FifoWriter", "Writer"]

_SLICE = 0.1
_PIECE = 1 << 20
_PAGE = 4096
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class Writer(Protocol):
    """Takes bytes in order."""

    def write(self, view: memoryview) -> None:
        """Write `view`, or keep a little of it for later; returns early when interrupted.

        Raises:
            SinkError: the reader is gone, or was never there.
        """
        ...

    def flush(self) -> None:
        """Write what was kept for later."""
        ...

    def check(self) -> None:
        """Raise if the reader is gone, without writing."""
        ...

    def hold(self) -> int:
        """A descriptor more of the writing end, for somebody else: as long as it is open no reader sees the end."""
        ...

    def finish(self) -> None:
        """All has been written; returns when a reader has come who will see the end."""
        ...

    def close(self) -> None:
        """Let go; a reader sees the end of what has been written."""
        ...


class _Pages:
    """Puts bytes forward in whole pages; what is left over waits for more, or for the end.

    GNU tar wants what it reads at a time to be whole blocks of 512 bytes, and a pipe gives what there is in it.
    """

    def __init__(self, put: Callable[[memoryview], None]) -> None:
        self._put = put
        self._rest = bytearray()

    def write(self, view: memoryview) -> None:
        if self._rest:
            missing = _PAGE - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < _PAGE:
                return
            self.flush()
        whole = len(view) - len(view) % _PAGE
        if whole:
            self._put(view[:whole])
        self._rest += view[whole:]

    def flush(self) -> None:
        rest, self._rest = self._rest, bytearray()
        if rest:
            self._put(memoryview(rest))


class DescriptorWriter:
    """Writes to a file descriptor that somebody else owns: standard output, a pipe, a socket, a file."""

    def __init__(self, fd: int, stopped: Callable[[], bool] = lambda: False) -> None:
        self._fd, self._owned, self._stopped = fd, False, stopped
        self._pages = _Pages(self.put)
        with _unless_gone():
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                # A description of our own: making the caller's one non-blocking would change it for every process.
                self._fd = _open_again(fd)
                self._owned = True
                fcntl.fcntl(self._fd, _F_SETPIPE_SZ, _PIECE)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def write(self, view: memoryview) -> None:
        self._pages.write(view)

    def put(self, view: memoryview) -> None:
        """Write all of `view` now."""
        while view:
            if self._stopped():
                return
            try:
                if self._owned and not self._poll.poll(_SLICE * 1000):
                    continue
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                self._poll.poll(_SLICE * 1000)
            except OSError as error:
                raise _reader_error(error) from error

    def check(self) -> None:
        if self._owned and any(event & select.POLLERR for _, event in self._poll.poll(0)):
            raise ReaderGoneError("the reader closed the pipe")

    def hold(self) -> int:
        return _open_again(self._fd)

    def flush(self) -> None:
        self._pages.flush()

    def finish(self) -> None:
        self._pages.flush()

    def close(self) -> None:
        if self._owned:
            os.close(self._fd)


class FifoWriter:
    """Makes a named pipe (unless there is one already), waits for its reader, and feeds it.

    Args:
        path: of the pipe; one that is made here has mode 0600 and is removed at the end.
        timeout: longest wait for a reader, in seconds.
        stopped: tells when to give up early.
        excused: tells when a reader cannot be expected yet, and the wait for it begins anew.

    Raises:
        SinkError: there is something else at `path`, or the pipe cannot be made.
    """

    def __init__(
        self,
        path: Path,
        timeout: float,
        stopped: Callable[[], bool] = lambda: False,
        excused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._path, self._timeout, self._stopped, self._excused = path, timeout, stopped, excused
        self._writer: DescriptorWriter | None = None
        self._pages = _Pages(self._put)
        self._made: tuple[int, int] | None = None
        self._fd = self._keeper = -1
        try:
            made = _make_fifo(path)
            self._keeper = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            facts = os.fstat(self._keeper)
            if made:
                self._made = facts.st_dev, facts.st_ino
            _check_fifo(path, facts)
        except OSError as error:
            self.close()
            raise SinkError(f"cannot use {path} as a named pipe: {error.strerror}") from error
        except SinkError:
            self.close()
            raise

    @property
    def attached(self) -> bool:
        """A reader has come."""
        return self._writer is not None

    def write(self, view: memoryview) -> None:
        self._pages.write(view)

    def _put(self, view: memoryview) -> None:
        if self._writer is None:
            filled = self._prefill(view)
            view = view[filled:]
            self.filled()
            self._await_reader(filled)
        if self._writer is not None:
            self._writer.put(view)

    def _prefill(self, view: memoryview) -> int:
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._keeper, _F_SETPIPE_SZ, _PIECE)
        with contextlib.suppress(BlockingIOError):
            return os.write(self._keeper, view)
        return 0

    def _await_reader(self, filled: int) -> None:
        """A reader is there once the pipe holds less than the `filled` bytes that were put in."""
        if self._wait(lambda: _unread(self._keeper) < filled):
            self._attach()

    def _wait(self, came: Callable[[], bool]) -> bool:
        """Until a reader `came`; False if it was stopped before."""
        since = time.monotonic()
        while not came():
            if self._stopped():
                return False
            if self._excused():
                since = time.monotonic()
            if time.monotonic() - since > self._timeout:
                raise NoReaderError(f"nobody opened {self._path} for reading within {self._timeout:g} s")
            time.sleep(0.01)
        return True

    def _attach(self) -> None:
        self._become_writer()
        self._writer = DescriptorWriter(self._fd, self._stopped)
        self.came()

    def filled(self) -> None:
        """The first bytes are in the pipe, and nobody has read any; for those who inherit."""

    def came(self) -> None:
        """A reader has come; for those who inherit."""

    def empty(self) -> None:
        """Nothing was written at all, and that is all; for those who inherit."""

    def check(self) -> None:
        if self._writer is not None:
            self._writer.check()

    def close(self) -> None:
        """End the pipe."""
        if self._writer is not None:
            self._writer.close()
        for fd in (self._fd, self._keeper):
            if fd >= 0:
                os.close(fd)
        self.remove()

    def hold(self) -> int:
        return _open_again(self._fd if self._keeper < 0 else self._keeper)

    def remove(self) -> None:
        """Take the name away, if it is ours still; who has the pipe open goes on."""
        with contextlib.suppress(OSError):
            facts = self._path.lstat()
            if self._made == (facts.st_dev, facts.st_ino):
                self._path.unlink()

    def flush(self) -> None:
        self._pages.flush()

    def finish(self) -> None:
        self._pages.flush()
        if self._writer is not None or self._stopped():
            return
        self.empty()
        self._become_writer()
        poll = select.poll()
        poll.register(self._fd, 0)
        self._wait(lambda: not poll.poll(0))  # an error: nobody has the other end

    def _become_writer(self) -> None:
        """Let our own reading end go; the pipe has a writer at every moment, or a reader would see its end."""
        try:
            self._fd = _open_again(self._keeper)
        except OSError as error:
            raise SinkError(f"cannot open {self._path}: {error.strerror}") from error
        os.close(self._keeper)
        self._keeper = -1


def _make_fifo(path: Path) -> bool:
    """True if the pipe was made, False if something was there."""
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        return False
    return True


def _check_fifo(path: Path, facts: os.stat_result) -> None:
    """What was opened is a pipe, and in a directory like /tmp nobody else has laid it there to listen."""
    if not stat.S_ISFIFO(facts.st_mode):
        raise SinkError(f"{path} exists and is not a named pipe")
    everyones = path.parent.stat().st_mode & (stat.S_ISVTX | stat.S_IWOTH)
    if everyones and facts.st_uid != os.geteuid():
        raise SinkError(f"the named pipe {path} belongs to another user", hint="Choose a directory of your own.")


def _open_again(fd: int) -> int:
    """The same pipe for writing, with a description of its own, whatever lies at its name by now."""
    return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _unread(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Errors do not matter, but for the one that says that a pipe has no reader."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _reader_error(error) from error


def _reader_error(error: OSError) -> SinkError:
    if error.errno in (errno.EPIPE, errno.ENXIO):
        return ReaderGoneError("the reader closed the pipe")
    return SinkError(f"cannot write the stream: {error.strerror}")
