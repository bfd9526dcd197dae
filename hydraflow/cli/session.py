"""A command line from its beginning to its end: which command it is, what becomes of errors and of signals."""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from hydraflow.cli.output import STDERR, redacted
from hydraflow.cli.texts import COMMANDS
from hydraflow.errors import HydraError, ReaderGoneError, StorageError

if TYPE_CHECKING:
    from hydraflow.cli.tasks import Task

__all__ = ["SIGNALS", "run"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds between two looks at whether a signal has come.
_SLICE = 0.05
#: Seconds that a signal leaves for checkpoints, and for everything: neither slow disk nor stuck terminal holds it up.
_FLUSH, _LEAVE = 0.6, 0.9
#: Seconds for the rest: named pipes are removed, a command is killed.
_TIDY = 0.25


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; every failure is one line on standard error.

    SIGINT, SIGTERM and SIGHUP end the process, with the code 128 + N, within a second.
    """
    _occupy_standard_descriptors()
    if arguments is None and "_HYDRAFLOW_COMPLETE" in os.environ:
        from hydraflow.cli import completion

        return completion.answer()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the help has signs that not every locale has
    return _Session(arguments).run()


class _Session:
    """A command line, carried out in a thread of its own.

    So the main thread has nothing to do but wait for signals: none is late, and none breaks into other code.
    """

    def __init__(self, arguments: Sequence[str] | None) -> None:
        self.task: Task | None = None
        self._arguments = arguments
        self._code = 1
        self._error: BaseException | None = None
        self._signal = 0
        self._thread = threading.Thread(target=self._run, name="hydraflow-command", daemon=True)

    def run(self) -> int:
        """The exit code; a signal ends the process instead."""
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup means it
        for number in heeded:
            signal.signal(number, self._note)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(_SLICE)
            if self._signal:
                self._leave(128 + self._signal)
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
        if self._error is not None:
            raise self._error
        return self._code

    def signalled(self) -> bool:
        """A signal has come: who works with processes and pipes ends them."""
        return bool(self._signal)

    def _run(self) -> None:
        try:
            self._code = _attempt(self._arguments, self)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error

    def _note(self, number: int, frame: FrameType | None) -> None:
        from hydraflow.progress import show_cursor

        del frame
        self._signal = number
        for each in SIGNALS:  # whoever cannot wait for the checkpoint sends a second signal
            signal.signal(each, signal.SIG_DFL)
        show_cursor()

    def _leave(self, code: int) -> NoReturn:
        """Flush the checkpoints, say how to go on, end: not by way of threads that may be stuck in a system call."""
        from hydraflow.cli.endings import cut_short
        from hydraflow.progress import say

        limit = threading.Timer(_LEAVE, os._exit, (code,))
        limit.daemon = True
        limit.start()
        if self.task is None:
            say("interrupted")
        else:
            flushed = self._end(self.task)
            if not self._code and not self._thread.is_alive():
                os._exit(0)  # all was done when the signal came
            with suppress(HydraError):  # nobody reads standard output any more
                cut_short(self.task, code)
            say(self.task.farewell(flushed=flushed))
        os._exit(code)

    def _end(self, task: Task) -> bool:
        from hydraflow import runtime

        flushed = runtime.stop(within=_FLUSH)
        self._thread.join(_TIDY)  # it removes what it has made, a named pipe say
        task.reporter.close()
        return flushed


def _attempt(arguments: Sequence[str] | None, session: _Session) -> int:
    from hydraflow.progress import error_line, say

    name, command, rest = _chosen(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(command.main(rest, prog_name=name, standalone_mode=False, obj=session) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        said = " ".join(error.format_message().split())
        say(f"error: {redacted(said).rstrip('.')}. Try '{name} --help'.")
        return error.exit_code
    except HydraError as error:
        say(error_line(error, ""))
        return error.exit_code
    except (OSError, SystemExit) as error:  # the help could not be written: click ends the process at a closed pipe
        if isinstance(error, SystemExit) or error.errno == errno.EPIPE:
            return ReaderGoneError.exit_code
        if error.filename is not None:
            said = f"{os.fsdecode(error.filename)}: {error.strerror}"
        elif isinstance(error, FileNotFoundError):
            said = str(error.strerror) if _is_somewhere() else "the directory that this was started in is gone"
        else:
            said = f"cannot write to standard output: {error.strerror}"
        say(f"error: {said}")
        return StorageError.exit_code


def _is_somewhere() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109 - the same
    except FileNotFoundError:
        return False


def _chosen(arguments: Sequence[str]) -> tuple[str, click.Command, list[str]]:
    """What to call it, which command it is, and its own arguments; no URL can be taken for the name of a command."""
    name = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    command: click.Command = importlib.import_module(f"hydraflow.cli.{name or 'fetch'}").command
    return f"hydraflow {name}".strip(), command, list(arguments[1:] if name else arguments)


def _occupy_standard_descriptors() -> None:
    """Where one of 0, 1, 2 is closed, the next file to be opened would take its number, and the prints meant for it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
