"""`hydra_stream` and `hydra_pipe`: a file's bytes in order, for a consumer that takes no broken stream for whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from prefect.cache_policies import NO_CACHE

from hydraflow import api, consumers, runtime
from hydraflow.core import urls
from hydraflow.errors import ConfigurationError, NoReaderError, ReaderGoneError, SinkError
from hydraflow.models import FetchResult
from hydraflow.prefect.artifacts import Board
from hydraflow.prefect.budgets import aheld, held
from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.profiles import HydraProfile, aloaded, loaded, reveal, settle
from hydraflow.prefect.records import PipeResult, Streamed
from hydraflow.prefect.retrying import worth_another_try
from hydraflow.prefect.runs import logger, stopped
from hydraflow.prefect.serialising import SERIALIZER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from pydantic import SecretStr

    from hydraflow.errors import HydraError
    from hydraflow.models import Progress
    from hydraflow.settings import Settings
    from hydraflow.streams import AsyncByteStream, ByteStream

__all__ = ["AsyncHydraStream", "CommandFailedError", "HydraStream", "hydra_pipe", "hydra_stream"]

#: Seconds for the last bytes to be read after the body has ended; then nobody reads any more.
_GRACE = 1.0
_SLICE = 0.02
_TAIL = 64 << 10
_VARIABLE = "HYDRA_FIFO"


class CommandFailedError(SinkError):
    """The command ended with an exit code that is not 0; `returncode` and the end of its `stderr` say more."""

    def __init__(self, message: str, *, returncode: int, stderr: str, url: str | None = None) -> None:
        super().__init__(message, url=url)
        self.returncode, self.stderr = returncode, stderr


class HydraStream:
    """A stream for one consumer, which is one of three; see `hydra_stream`.

    Attributes:
        result: what was read, once everything was read and verified.
    """

    def __init__(
        self,
        url: str,
        *,
        profile: HydraProfile | str | None,
        headers: Mapping[str, str] | None,
        settings: Mapping[str, Any] | None,
        allow_partial: bool,
        on_progress: Callable[[Progress], None] | None,
        **order: Any,
    ) -> None:
        self.result: Streamed | None = None
        self._url, self._allow_partial, self._on_progress = url, allow_partial, on_progress
        self._profile, self._headers, self._given = profile, headers, settings
        self._order = order
        self._stack, self._halted = contextlib.ExitStack(), stopped()
        self._settings: Settings | None = None
        self._used = False
        self._fifo: _Fifo | None = None

    # ── its beginning and its end ────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        policies = self._settle(loaded(self._profile))
        self._settings = self._stack.enter_context(held([self._url], policies, self._halted))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self._fifo is not None:
                self._fifo.end(failed=error is not None)

    async def __aenter__(self) -> AsyncHydraStream:
        policies = self._settle(await aloaded(self._profile))
        lease = aheld([self._url], policies)
        self._lease, self._settings = lease, await lease.__aenter__()
        return AsyncHydraStream(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._fifo is not None:
                await asyncio.to_thread(self._fifo.end, failed=error is not None)
        finally:
            await self._lease.__aexit__(None, None, None)

    def _settle(self, profile: HydraProfile | None) -> Settings:
        self._order["headers"], policies = settle(profile, self._headers, self._given)
        return policies

    def _begin(self) -> Settings:
        if self._settings is None:
            raise ConfigurationError("the stream is not open", hint="Write: with hydra_stream(…) as stream.")
        if self._used:
            raise ConfigurationError("the stream has a consumer already, and bytes come only once")
        self._used = True
        return self._settings

    def _ended(self, _name: str, outcome: FetchResult | HydraError) -> None:
        self.note(outcome if isinstance(outcome, FetchResult) else None)

    def _ended_in(self, directory: Path, name: str, outcome: FetchResult | HydraError) -> None:
        """The pipe is still open: a reader that was started here is killed before it could take this for the end."""
        self._ended(name, outcome)
        if not isinstance(outcome, (FetchResult, ReaderGoneError)):
            _kill_readers(directory)

    def note(self, result: FetchResult | None) -> None:
        """Keep what came of it."""
        if result is not None:
            self.result = Streamed.of(result)

    # ── its consumers ────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> contextlib.AbstractContextManager[ByteStream]:
        """As a binary file: `with s.open() as file: for line in gzip.open(file): …`."""
        settings, order = self._begin(), self._order
        return api.stream(self._url, **order, on_progress=self._on_progress, stopped=self._halted, settings=settings)

    def aopen(self) -> contextlib.AbstractAsyncContextManager[AsyncByteStream]:
        """The same for `async with`."""
        settings, order = self._begin(), self._order
        return api.astream(self._url, **order, on_progress=self._on_progress, settings=settings)

    def __iter__(self) -> Iterator[bytes]:
        with self.open() as opened:
            yield from opened
            self.note(opened.result)

    def __fspath__(self) -> str:
        """A named pipe, for a consumer of one's own; it has the name of the URL's file."""
        if self._fifo is None:
            settings = self._begin()
            self._fifo = _Fifo(
                lambda directory, halted: consumers.into_fifos(
                    [self._url],
                    directory,
                    **self._order,
                    on_progress=self._on_progress,
                    on_outcome=lambda name, outcome: self._ended_in(directory, name, outcome),
                    stopped=lambda: halted() or self._halted(),
                    settings=settings,
                ),
                allow_partial=self._allow_partial,
            )
        return str(self._fifo.path)

    def run(self, command: str | Sequence[str], *, check: bool = True) -> PipeResult:
        """Run a command on the stream; it never sees the end of one that is broken or wrong: it is killed before.

        Args:
            command: for `bash`, with -e, -u and pipefail; or the words of a program.  It reads its standard input, or
                the named pipe `$HYDRA_FIFO`, or `{}` in the words of a program, if one of these is in it.
            check: raise if its exit code is not 0.

        Raises:
            CommandFailedError: its exit code is not 0.
            ReaderGoneError: it ended well, but before it had read everything, and `allow_partial` was not given.
            HydraError: what ended the stream; the command was killed.
        """
        return self.running(command, self._halted, check=check)()

    def running(
        self, command: str | Sequence[str], halted: Callable[[], bool], *, check: bool
    ) -> Callable[[], PipeResult]:
        """What does it, in whichever thread it is called."""
        settings = self._begin()
        return lambda: self._run(settings, command, halted, check=check)

    def _run(
        self, settings: Settings, command: str | Sequence[str], halted: Callable[[], bool], *, check: bool
    ) -> PipeResult:
        with tempfile.TemporaryDirectory(prefix="hydraflow-") as place, _output() as out, _output() as said:
            code = consumers.run(
                [self._url],
                _words(command, Path(place)),
                **self._order,
                allow_partial=self._allow_partial,
                on_progress=self._on_progress,
                on_outcome=self._ended,
                stopped=halted,
                stdout=out.fileno(),
                stderr=said.fileno(),
                settings=settings,
            )
            result = PipeResult(
                returncode=code, stdout=_tail(out), stdout_bytes=_length(out), stderr=_tail(said), stream=self.result
            )
        if check and code:
            last = result.stderr.strip().rpartition("\n")[2]
            raise CommandFailedError(
                f"the command ended with exit code {code}{': ' if last else ''}{last}",
                returncode=code,
                stderr=result.stderr,
                url=urls.redact(self._url),
            )
        return result


class AsyncHydraStream:
    """The awaitable twin of `HydraStream`: `async for chunk in s`, `await s.run(…)`, `os.fspath(s)`."""

    def __init__(self, stream: HydraStream) -> None:
        self._stream = stream

    @property
    def result(self) -> Streamed | None:
        """What was read, once everything was read and verified."""
        return self._stream.result

    def __fspath__(self) -> str:
        return os.fspath(self._stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with self._stream.aopen() as opened:
            async for chunk in opened:
                yield chunk
            self._stream.note(opened.result)

    async def run(self, command: str | Sequence[str], *, check: bool = True) -> PipeResult:
        """The same as `HydraStream.run`; cancelling it kills the command and ends the transfer."""
        halt = threading.Event()
        work = self._stream.running(command, halt.is_set, check=check)
        return await runtime.in_thread(work, halt.set)


# ── a named pipe for a consumer of one's own ─────────────────────────────────────────────────────────────────────────


class _Fifo:
    """A named pipe in a directory of its own, and the thread that feeds it."""

    def __init__(self, feed: Callable[[Path, Callable[[], bool]], object], *, allow_partial: bool) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hydraflow-")
        self._halt, self._allow_partial = threading.Event(), allow_partial
        self._error: BaseException | None = None
        self._feed = feed
        self._thread = threading.Thread(target=self._run, name="hydraflow-feeder", daemon=True)
        self._thread.start()
        self.path = self._found()

    def _run(self) -> None:
        try:
            self._feed(Path(self._directory.name), self._halt.is_set)
        except BaseException as error:  # noqa: BLE001 - raised where the context ends
            self._error = error

    def _found(self) -> Path:
        while self._thread.is_alive():
            for path in Path(self._directory.name).iterdir():
                return path
            time.sleep(_SLICE / 10)
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
            raise ReaderGoneError(
                "the stream was left before everything was read, so not all was verified",
                hint="Pass allow_partial=True if that is meant.",
            )
        if self._error is not None:
            raise self._error


def _kill_readers(directory: Path) -> None:
    """Kill the descendants of this process that have a pipe of this directory open."""
    with contextlib.suppress(OSError):  # not every system has it
        parents = {int(each.name): _parent(each) for each in Path("/proc").iterdir() if each.name.isdigit()}
        for pid in parents:
            if _descends(pid, os.getpid(), parents) and _has_open(pid, f"{directory}{os.sep}"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


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


# ── a command ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(command: str | Sequence[str], place: Path) -> list[str]:
    """What to start; a line for the shell goes into a file, where braces in it mean nothing to anybody else."""
    if not isinstance(command, str):
        return [os.fspath(word) for word in command]
    script = place / "command"
    piped = _VARIABLE in command
    script.write_text(f'export {_VARIABLE}="$1"; shift\n{command}\n' if piped else f"{command}\n")
    return ["bash", "-euo", "pipefail", str(script), *(["{}"] if piped else [])]


def _output() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="hydraflow-")


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _tail(file: IO[bytes]) -> str:
    file.seek(max(0, _length(file) - _TAIL))
    return file.read(_TAIL).decode("utf-8", "backslashreplace")


# ── for users ────────────────────────────────────────────────────────────────────────────────────────────────────────


def hydra_stream(
    url: str | SecretStr,
    *,
    digest: str | None = None,
    keep: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> HydraStream:
    """Open a URL as a stream, in a flow or a task.

    It is a context manager, for `with` and for `async with`: `with hydra_stream(url) as s`.  Nothing is written to
    disk, and nothing is transferred until there is a consumer.  There can be one of

    - `s.run("zcat | grep -c '^>'")`: a command, which is killed before it could take a broken stream for a whole one;
    - `for chunk in s`, or `s.open()` for what reads files: an error is raised where the stream breaks;
    - `os.fspath(s)`: a named pipe for a consumer of one's own.  Processes that this one has started are killed if they
      read from it when the stream breaks; anybody else sees all but the last 64 KiB, and the context raises.

    Args:
        url: http or https; `#sha256=HEX` and its like may stand behind it.
        digest: `ALGORITHM:HEX` that the file must have.
        keep: a file or directory to write it to as well, so that a retry goes on from there.
        decompress: give what is in a file that gzip, Zstandard or xz has compressed.
        headers: as for `hydra_fetch`; so are the next two.
        profile: see there.
        settings: see there.
        allow_partial: a consumer may end before it has read everything, as `head` does.
        on_progress: called at most ten times a second, in a thread of its own.
    """
    return HydraStream(
        reveal(url),
        profile=profile,
        headers=headers,
        settings=settings,
        allow_partial=allow_partial,
        on_progress=on_progress,
        digest=digest,
        spool=keep,
        decompress=decompress,
    )


def _pipe(
    url: str | SecretStr,
    command: str | Sequence[str],
    *,
    digest: str | None = None,
    keep: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    progress: bool = True,
) -> PipeResult:
    """Stream a URL through a command, as a task: nothing on disk, and no result of broken or wrong data.

    A failing transfer kills the command with all that it has started, before it could see the end of its input; then
    the task is retried if that can help.  A command that fails is not retried.

    Args:
        url: as for `hydra_stream`; so are the others.
        command: `"zcat | grep -c '^>'"`, or the words of a program: see `HydraStream.run`.
        digest: see there.
        keep: see there.
        decompress: see there.
        headers: see there.
        profile: see there.
        settings: see there.
        allow_partial: see there.
        progress: show a progress artifact in the UI, for transfers that take more than two seconds.

    Raises:
        CommandFailedError: the command's exit code is not 0.
        HydraError: see `HydraStream.run`.
    """
    with contextlib.ExitStack() as stack:
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.callback(board.close)
        opening = hydra_stream(
            url,
            digest=digest,
            keep=keep,
            decompress=decompress,
            headers=headers,
            profile=profile,
            settings=settings,
            allow_partial=allow_partial,
            on_progress=board,
        )
        return _told(stack.enter_context(opening).run(command))


async def _apipe(
    url: str | SecretStr,
    command: str | Sequence[str],
    *,
    digest: str | None = None,
    keep: str | os.PathLike[str] | None = None,
    decompress: bool = False,
    headers: Mapping[str, str] | None = None,
    profile: HydraProfile | str | None = None,
    settings: Mapping[str, Any] | None = None,
    allow_partial: bool = False,
    progress: bool = True,
) -> PipeResult:
    async with contextlib.AsyncExitStack() as stack:
        board = Board.of_this_run() if progress else None
        if board is not None:
            stack.push_async_callback(board.aclose)
        opening = hydra_stream(
            url,
            digest=digest,
            keep=keep,
            decompress=decompress,
            headers=headers,
            profile=profile,
            settings=settings,
            allow_partial=allow_partial,
            on_progress=board,
        )
        stream = await stack.enter_async_context(opening)
        return _told(await stream.run(command))


def _told(result: PipeResult) -> PipeResult:
    stream = result.stream
    read = "not read to its end" if stream is None else f"{stream.size:,} bytes, {stream.proof}"
    logger().info("streamed: %s; exit code %s", read, result.returncode)
    return result


def _run_name(parameters: dict[str, Any]) -> str:
    command = parameters["command"]
    words = command.split() if isinstance(command, str) else command
    program = Path(os.fspath(words[0])).name if words else ""
    return f"pipe-{urls.file_name(reveal(parameters['url']))}-{program}"


hydra_pipe = HydraTask(
    _pipe,
    _apipe,
    name="hydra_pipe",
    description="Stream a file through a command, verified.",
    task_run_name=_run_name,
    retries=3,
    retry_delay_seconds=[1, 2, 4],
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
    result_serializer=SERIALIZER,
)
