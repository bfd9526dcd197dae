"""What a fetch leaves for the tasks after it: a file's path, and the proof that it is the right file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from hydraflow.models import DigestSource, Outcome, Verification

if TYPE_CHECKING:
    from hydraflow.models import FetchResult

__all__ = ["FetchedFile"]

_WITHOUT_DIGEST = {
    Verification.SIZE: "size checked, no digest known",
    Verification.NONE: "not verified: the server announced neither size nor digest",
}


class FetchedFile(BaseModel):
    """A fetched file: usable wherever a path is, and stored by Prefect as a few hundred bytes of JSON.

    `open(file)`, `pandas.read_csv(file)` and `subprocess.run(["samtools", "view", file])` take it as it is.
    It names the file and does not hold it: on another machine, or once the file was removed, the path leads nowhere.

    Attributes:
        path: absolute.
        size: in bytes.
        digest: what was verified, as `algorithm:hex`; None if none was known. Fit for `digest=` of a fetch.
        verification: what the strongest check that the file passed rests on.
        digest_source: who promised the digest.
        digest_url: where that is written, if not in the answer itself.
        url: as asked for, redacted.
        final_url: after redirects, redacted.
        outcome: fetched, resumed, or there already.
        bytes_from_network: body bytes received by this run of the task, those thrown away included.
        bytes_from_checkpoint: bytes that an earlier run or try had left.
        requests: requests sent by this run of the task.
        elapsed: seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    size: int
    digest: str | None
    verification: Verification
    digest_source: DigestSource | None
    url: str
    final_url: str
    etag: str | None
    last_modified: str | None
    outcome: Outcome
    bytes_from_network: int
    bytes_from_checkpoint: int
    requests: int
    elapsed: float
    digest_url: str | None = None

    @classmethod
    def of(cls, result: FetchResult) -> Self:
        """The record of an engine's result that has a path.

        Raises:
            ValueError: the result is of a stream.
        """
        if result.path is None:
            raise ValueError("a stream leaves no file")
        values = {name: value for name, value in result.as_dict().items() if name in cls.model_fields}
        # A task after this one may run with another working directory.
        return cls(**values | {"path": result.path.absolute()})

    @property
    def proof(self) -> str:
        """In words, what was verified and who promised it: `verified sha256 (url fragment)`."""
        if self.digest is None:
            return _WITHOUT_DIGEST[self.verification]
        where = "" if self.digest_url is None else f" {self.digest_url}"
        return f"verified {self.digest.partition(':')[0]} ({self.digest_source}{where})"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)
