"""What a fetch leaves for the tasks after it: a file's path, and the proof that it is the right file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from hydraflow.delivery import digest_of
from hydraflow.errors import HydraError
from hydraflow.models import Digest, DigestSource, Outcome, Verification

if TYPE_CHECKING:
    from hydraflow.models import FetchResult

__all__ = ["FetchedFile", "PipeResult", "Streamed"]

_WITHOUT_DIGEST = {
    Verification.SIZE: "size checked, no digest known",
    Verification.NONE: "not verified: the server announced neither size nor digest",
}


class Streamed(BaseModel):
    """What was transferred, and the proof that it is right.

    Attributes:
        size: in bytes.
        digest: what was verified, as `algorithm:hex`; None if none was known. Fit for `digest=` of a fetch.
        verification: what the strongest check that it passed rests on.
        digest_source: who promised the digest.
        digest_url: where that is written, if not in the answer itself.
        url: as asked for, redacted.
        final_url: after redirects, redacted.
        bytes_from_network: body bytes received by this run of the task, those thrown away included.
        requests: requests sent by this run of the task.
        elapsed: seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    digest: str | None
    verification: Verification
    digest_source: DigestSource | None
    digest_url: str | None = None
    url: str
    final_url: str
    etag: str | None
    last_modified: str | None
    bytes_from_network: int
    requests: int
    elapsed: float

    @classmethod
    def of(cls, result: FetchResult, **more: object) -> Self:
        """The record of an engine's result."""
        values = {name: value for name, value in result.as_dict().items() if name in cls.model_fields}
        return cls(**values | more)

    @property
    def proof(self) -> str:
        """In words, what was verified and who promised it: `verified sha256 (url fragment)`."""
        if self.digest is None:
            return _WITHOUT_DIGEST[self.verification]
        where = "" if self.digest_url is None else f" {self.digest_url}"
        return f"verified {self.digest.partition(':')[0]} ({self.digest_source}{where})"


class FetchedFile(Streamed):
    """A fetched file: usable wherever a path is, and stored by Prefect as a few hundred bytes of JSON.

    `open(file)`, `pandas.read_csv(file)` and `subprocess.run(["samtools", "view", file])` take it as it is.
    It names the file and does not hold it: on another machine, or once the file was removed, the path leads nowhere.

    Attributes:
        path: absolute.
        outcome: fetched, resumed, or there already.
        bytes_from_checkpoint: bytes that an earlier run or try had left.
        mtime_ns: the file's modification time as it was left, in nanoseconds since 1970; None if it was gone again.
    """

    path: Path
    outcome: Outcome
    bytes_from_checkpoint: int
    mtime_ns: int | None = None

    @classmethod
    def of(cls, result: FetchResult, **more: object) -> Self:
        """The record of an engine's result that has a path.

        Raises:
            ValueError: the result is of a stream.
        """
        if result.path is None:
            raise ValueError("a stream leaves no file")
        # A task after this one may run with another working directory.
        return super().of(result, path=result.path.absolute(), mtime_ns=_mtime(result.path), **more)

    def is_intact(self, *, deep: bool = False) -> bool:
        """The file is on this machine, with the size and the modification time that it was left with.

        Args:
            deep: it has its digest, too; that is all of it to read.
        """
        try:
            facts = self.path.stat()
        except OSError:
            return False
        if (facts.st_size, facts.st_mtime_ns) != (self.size, self.mtime_ns):
            return False
        return not deep or self.digest is None or _has(self.path, Digest.parse(self.digest))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


class PipeResult(BaseModel):
    """What a command made of a stream.

    Attributes:
        returncode: of the command; 128 + N if signal N ended it.
        stdout: the end of what it wrote, at most 64 KiB; bytes that are no UTF-8 are escaped.
        stdout_bytes: how much it wrote in all.
        stderr: the end of what it said, the same.
        stream: what it read; None if it ended before it had read everything, as `allow_partial` lets it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    returncode: int
    stdout: str
    stdout_bytes: int
    stderr: str
    stream: Streamed | None


def _mtime(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _has(path: Path, digest: Digest) -> bool:
    try:
        return digest_of(path, digest) == digest.value
    except (HydraError, ValueError):
        return False
