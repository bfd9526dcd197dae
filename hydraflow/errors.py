"""Every error that hydraflow raises, and the exit code that each one becomes.

::

    HydraError                      .url (redacted) .hint .exit_code
    ├ ConfigurationError            (+ValueError)             2  the call itself is wrong
    ├ RequestError                  .status                   3  the server refused
    │ ├ NotFoundError               404, 410
    │ └ AccessDeniedError           401, 403, 407
    ├ TransferError                 .attempts .last           4  the network, patience spent
    │ ├ ConnectError                no connection could be made
    │ ├ StalledError                no byte for too long
    │ ├ ConnectionDroppedError      the connection ended too early
    │ └ DeadlineExceededError       the caller's time is over
    ├ RemoteProtocolError                                     4  the answer breaks HTTP's rules
    ├ ResourceChangedError          .was .now                 7  the remote file is another one now
    ├ IntegrityError                                          5  the bytes are wrong, or nobody can tell
    │ ├ SizeMismatchError           .expected .actual
    │ ├ DigestMismatchError         .algorithm .expected .actual .source
    │ ├ DigestConflictError         two who are trusted promise different digests
    │ └ UnverifiableError           a digest is required, and none is known
    ├ StorageError                  (+OSError)                6  the local side failed
    │ ├ DiskFullError
    │ ├ DestinationExistsError
    │ └ DestinationBusyError                                  8  another process works on it
    └ SinkError                                               6  the reader of a stream failed
      ├ ReaderGoneError             (+BrokenPipeError)      141
      └ NoReaderError

The message comes first and says what was expected and what was found; `hint` says what to do next.
All of them can be pickled (Snakemake and Prefect move errors between processes).  None is a `TimeoutError`: Prefect
would report the run as TimedOut.  Cancellation is never wrapped.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, Self

__all__ = [
    "AccessDeniedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionDroppedError",
    "DeadlineExceededError",
    "DestinationBusyError",
    "DestinationExistsError",
    "DigestConflictError",
    "DigestMismatchError",
    "DiskFullError",
    "HydraError",
    "IntegrityError",
    "NoReaderError",
    "NotFoundError",
    "ReaderGoneError",
    "RemoteProtocolError",
    "RequestError",
    "ResourceChangedError",
    "SinkError",
    "SizeMismatchError",
    "StalledError",
    "StorageError",
    "TransferError",
    "UnverifiableError",
]


_TROUBLESHOOTING = "https://github.com/hydraflow-io/hydraflow/blob/main/docs/troubleshooting.md"


def _rebuild(cls: type[HydraError], args: tuple[Any, ...], state: dict[str, Any]) -> HydraError:
    error = cls.__new__(cls, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


class HydraError(Exception):
    """Base of every error raised by hydraflow.

    Args:
        message: one line, without secrets.
        url: the redacted URL that it is about, if any.
        hint: what the user can do next, one short sentence.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.hint = self.default_hint if hint is None else hint
        # What a traceback shows below the message: which file, and what to do.
        for note in filter(None, (self.url, self.hint)):
            self.add_note(note)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__

    @property
    def help(self) -> str:
        """Where there is more about errors of this kind: what may be behind them, and what to do."""
        return f"{_TROUBLESHOOTING}#{type(self).__name__.lower()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigurationError(HydraError, ValueError):
    """The call, a setting or an option is wrong; nothing was attempted."""

    exit_code = 2


class RequestError(HydraError):
    """The server answered and refused; asking again would not help. `status` is the HTTP status code."""

    exit_code = 3

    def __init__(self, message: str, *, status: int, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, url=url, hint=hint)
        self.status = status


class NotFoundError(RequestError):
    """404 or 410: there is no such resource."""

    default_hint = "Check the URL; the file may have moved."


class AccessDeniedError(RequestError):
    """401, 403 or 407: credentials are missing, wrong or expired."""

    default_hint = "Pass credentials with --header 'Authorization: …', or renew the signed URL."


class TransferError(HydraError):
    """The network failed for longer than the settings allow.

    `attempts` counts the requests that failed in a row; `last` is the last cause as text.
    """

    exit_code = 4
    default_hint = "Run the same command again: it goes on from the last checkpoint."

    def __init__(
        self, message: str, *, attempts: int = 0, last: str = "", url: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.attempts = attempts
        self.last = last


class ConnectError(TransferError):
    """No connection could be made: refused, unreachable, unknown host, failed TLS handshake."""

    default_hint = "Check the host, the port and the network, then run the same command again."


class StalledError(TransferError):
    """A connection stayed open without a byte for longer than the read timeout."""


class ConnectionDroppedError(TransferError):
    """A connection ended before the promised bytes had come."""


class DeadlineExceededError(TransferError):
    """The caller's own time limit passed."""


class RemoteProtocolError(HydraError):
    """The answer breaks the protocol: wrong Content-Range, more bytes than announced, malformed framing."""

    exit_code = 4
    default_hint = "The server or a proxy between is faulty; try --threads 1 or another mirror."


class ResourceChangedError(HydraError):
    """The remote file was replaced while it was being transferred; `was` and `now` describe the two versions."""

    exit_code = 7
    default_hint = "Run the same command again; if it happens every time, fetch a file instead of streaming."

    def __init__(self, message: str, *, was: str, now: str, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, url=url, hint=hint)
        self.was = was
        self.now = now


class IntegrityError(HydraError):
    """The bytes are not the ones that were promised. Nothing was left at the final name."""

    exit_code = 5
    default_hint = "The file was not kept. Check the expected value, or the source."


class SizeMismatchError(IntegrityError):
    """Sizes in bytes differ."""

    def __init__(
        self, message: str, *, expected: int, actual: int, url: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.expected = expected
        self.actual = actual


class DigestMismatchError(IntegrityError):
    """Digests differ; `expected` and `actual` are lower-case hexadecimal, `source` names who promised it."""

    def __init__(
        self,
        message: str,
        *,
        algorithm: str,
        expected: str,
        actual: str,
        source: str,
        url: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.algorithm = algorithm
        self.expected = expected
        self.actual = actual
        self.source = source


class DigestConflictError(IntegrityError):
    """Two sources that are trusted promise different digests; nothing was transferred."""


class UnverifiableError(IntegrityError):
    """`verify` is `require`, and nobody promises a digest that can be verified."""

    default_hint = "Give one with --digest, or go without: --verify auto."


class StorageError(HydraError, OSError):
    """A local file could not be written, read or replaced. `errno` is set where the system gave one."""

    exit_code = 6

    def __new__(cls, *args: Any, **_options: Any) -> Self:
        # OSError.__new__ would take over the arguments and choose a subclass by errno.
        return super().__new__(cls, *args)

    def __init__(
        self, message: str, *, code: int | None = None, url: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.errno = code

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {**self.__dict__, "errno": self.errno})

    @classmethod
    def wrap(cls, error: OSError, doing: str, *, url: str | None = None) -> StorageError:
        """Map an `OSError` met while `doing` something to the right member of the tree, once, at the border."""
        if isinstance(error, StorageError):
            return error
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else cls
        return kind(f"{doing}: {error.strerror or error}", code=error.errno, url=url)


class DiskFullError(StorageError):
    """No space or quota left. What was written is kept, and a later run goes on from there."""

    default_hint = "Free some space and run the same command again: it goes on from the last checkpoint."


class DestinationExistsError(StorageError):
    """Something else is already at the destination, and `overwrite` was not asked for."""

    default_hint = "Use --overwrite to replace it, or choose another --output."


class DestinationBusyError(StorageError):
    """Another process is writing this destination."""

    exit_code = 8
    default_hint = "Wait for the other process, or choose another --output."


class SinkError(HydraError):
    """The consumer of a stream failed."""

    exit_code = 6


class ReaderGoneError(SinkError, BrokenPipeError):
    """The reader closed its end before the stream was over."""

    exit_code = 141


class NoReaderError(SinkError):
    """Nobody opened the named pipe in time."""

    default_hint = "Start the consumer first, or raise the open timeout."
