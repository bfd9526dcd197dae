"""`hydra_stream`: a file's bytes in order, for a consumer that takes no broken stream for whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from hydraflow import api, consumers, runtime
from hydraflow.core import urls
from hydraflow.errors import ConfigurationError, SinkError
from hydraflow.models import FetchResult
from hydraflow.prefect import pinning
from hydraflow.prefect.budgets import aheld, held
from hydraflow.prefect.fifos import Fifo, left_early
from hydraflow.prefect.profiles import HydraProfile, aloaded, loaded, reveal, settle
from hydraflow.prefect.records import PipeResult, Streamed
from hydraflow.prefect.runs import stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from pydantic import SecretStr

    from hydraflow.models import Progress
    from hydraflow.settings import Settings
    from hydraflow.streams import AsyncByteStream, ByteStream

__all__ = ["AsyncHydraStream", "CommandFailedError", "HydraStream", "hydra_stream"]

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
        lock: pinning.Path,
        profile: HydraProfile | str | None,
        headers: Mapping[str, str] | None,
        settings: Mapping[str, Any] | None,
        allow_partial: bool,
        on_progress: Callable[[Progress], None] | None,
        **order: Any,
    ) -> None:
        self.result: Streamed | None = None
        self._url, self._lock, self._allow_partial = url, lock, allow_partial
        self._profile, self._headers, self._given = profile, headers, settings
        self._order = {**order, "on_progress": on_progress}
        self._stack = contextlib.ExitStack()
        self._astack = contextlib.AsyncExitStack()
        self._halted = stopped()
        self._open = self._used = False
        self._fifo: Fifo | None = None
        self._opened: ByteStream | AsyncByteStream | None = None

    # ── its beginning and its end ────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        policies = self._settle(loaded(self._profile))
        with contextlib.ExitStack() as stack:
            self._url = stack.enter_context(pinning.pinned(self._url, self._lock))
            self._order["settings"] = stack.enter_context(held([self._url], policies, self._halted))
            stack.push(self._end)
            self._stack, self._open = stack.pop_all(), True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> AsyncHydraStream:
        policies = self._settle(await aloaded(self._profile))
        async with contextlib.AsyncExitStack() as stack:
            self._url = stack.enter_context(pinning.pinned(self._url, self._lock))
            self._order["settings"] = await stack.enter_async_context(aheld([self._url], policies))
            stack.push_async_exit(self._aend)
            self._astack, self._open = stack.pop_all(), True
        return AsyncHydraStream(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        await self._astack.__aexit__(kind, error, trace)

    def _settle(self, profile: HydraProfile | None) -> Settings:
        self._order["headers"], policies = settle(profile, self._headers, self._given)
        return policies

    def _end(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._fifo is not None:
            self._fifo.end(failed=error is not None)
        left = self._opened is not None and self._opened.left
        if left and error is None and not self._allow_partial:
            raise left_early()

    async def _aend(self, kind: object, error: BaseException | None, trace: object) -> None:
        await asyncio.to_thread(self._end, kind, error, trace)

    def _begin(self) -> dict[str, Any]:
        """The order for the one consumer."""
        if not self._open:
            raise ConfigurationError("the stream is not open", hint="Write: with hydra_stream(…) as stream.")
        if self._used:
            raise ConfigurationError("the stream has a consumer already, and bytes come only once")
        self._used = True
        return self._order

    def _note(self, result: FetchResult | None) -> None:
        if result is not None:
            self.result = Streamed.of(result)

    # ── its consumers ────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> contextlib.AbstractContextManager[ByteStream]:
        """As a binary file: `with s.open() as file: for line in gzip.open(file): …`."""
        return self._opening(api.stream(self._url, **self._begin(), stopped=self._halted))

    @contextlib.contextmanager
    def _opening(self, opening: contextlib.AbstractContextManager[ByteStream]) -> Iterator[ByteStream]:
        with opening as opened:
            self._opened = opened
            yield opened
            self._note(opened.result)

    def __iter__(self) -> Iterator[bytes]:
        # It ends with the context, also for a consumer that leaves its loop early.
        opened = self._stack.enter_context(self.open())
        yield from opened
        self._note(opened.result)

    async def achunks(self) -> AsyncIterator[bytes]:
        """The same for `async for`."""
        opened = self._opened = await self._astack.enter_async_context(api.astream(self._url, **self._begin()))
        async for chunk in opened:
            yield chunk
        self._note(opened.result)

    def __fspath__(self) -> str:
        """A named pipe, for a consumer of one's own; it has the name of the URL's file."""
        if self._fifo is None:
            order = self._begin()
            self._fifo = Fifo(self._url, self._halted, self._note, allow_partial=self._allow_partial, **order)
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
        return self._run(self._begin(), command, self._halted, check=check)

    async def arun(self, command: str | Sequence[str], *, check: bool = True) -> PipeResult:
        """The same, awaitable; cancelling it kills the command and ends the transfer."""
        halt, order = threading.Event(), self._begin()
        return await runtime.in_thread(lambda: self._run(order, command, halt.is_set, check=check), halt.set)

    def _run(
        self, order: Mapping[str, Any], command: str | Sequence[str], halted: Callable[[], bool], *, check: bool
    ) -> PipeResult:
        with tempfile.TemporaryDirectory(prefix="hydraflow-") as place, _output() as out, _output() as said:
            code = consumers.run(
                [self._url],
                _words(command, Path(place)),
                **order,
                allow_partial=self._allow_partial,
                on_outcome=lambda _, outcome: self._note(outcome if isinstance(outcome, FetchResult) else None),
                stopped=halted,
                stdout=out.fileno(),
                stderr=said.fileno(),
            )
            result = PipeResult(
                returncode=code, stdout=_tail(out), stdout_bytes=_length(out), stderr=_tail(said), stream=self.result
            )
        if check and code:
            raise _command_failed(result, self._url)
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

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.achunks()

    async def run(self, command: str | Sequence[str], *, check: bool = True) -> PipeResult:
        """The same as `HydraStream.run`; cancelling it kills the command and ends the transfer."""
        return await self._stream.arun(command, check=check)


# ── a command ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(command: str | Sequence[str], place: Path) -> list[str]:
    """What to start; a line for the shell goes into a file, where braces in it mean nothing to anybody else."""
    if not isinstance(command, str):
        return [os.fspath(word) for word in command]
    script = place / "command"
    piped = _VARIABLE in command
    script.write_text(f'export {_VARIABLE}="$1"; shift\n{command}\n' if piped else f"{command}\n")
    return ["bash", "-euo", "pipefail", str(script), *(["{}"] if piped else [])]


def _command_failed(result: PipeResult, url: str) -> CommandFailedError:
    last = result.stderr.strip().rpartition("\n")[2]
    return CommandFailedError(
        f"the command ended with exit code {result.returncode}{': ' if last else ''}{last}",
        returncode=result.returncode,
        stderr=result.stderr,
        url=urls.redact(url),
    )


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
    lock: pinning.Path = None,
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
    - `for chunk in s`, or `s.open()` for what reads files: an error is raised where the stream breaks, and by the
      context if it was left in the middle;
    - `os.fspath(s)`: a named pipe for a consumer of one's own.  Processes that this one has started are killed if they
      read from it when the stream breaks; anybody else sees all but the last 64 KiB, and the context raises.

    Args:
        url: http or https; `#sha256=HEX` and its like may stand behind it.
        digest: `ALGORITHM:HEX` that the file must have.
        keep: a file or directory to write it to as well, so that a retry goes on from there.
        decompress: give what is in a file that gzip, Zstandard or xz has compressed.
        lock: a data lock that knows the URL, as for `hydra_fetch`; so are the next three.
        headers: see there.
        profile: see there.
        settings: see there.
        allow_partial: a consumer may end before it has read everything, as `head` does.
        on_progress: called at most ten times a second, in a thread of its own.
    """
    return HydraStream(
        reveal(url),
        lock=lock,
        profile=profile,
        headers=headers,
        settings=settings,
        allow_partial=allow_partial,
        on_progress=on_progress,
        digest=digest,
        spool=keep,
        decompress=decompress,
    )
