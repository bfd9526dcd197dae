"""The nouns of hydraflow: small frozen values, safe to share between threads and processes."""

from __future__ import annotations

import enum
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Bound",
    "ByteRange",
    "Claim",
    "Decision",
    "Digest",
    "DigestSource",
    "FetchResult",
    "Head",
    "Outcome",
    "Phase",
    "Progress",
    "Resource",
    "Validator",
    "Verification",
]

#: Bits of each digest that hydraflow can compute. Names follow the IANA registries where they have one.
ALGORITHMS = {
    "md5": 128,
    "sha1": 160,
    "sha224": 224,
    "sha256": 256,
    "sha384": 384,
    "sha512": 512,
    "crc32": 32,
    "crc32c": 32,
    "crc64nvme": 64,
}
_HEX = re.compile(r"[0-9a-f]+")
_PARTED = re.compile(r"([0-9a-f]+)(?:-([0-9]{1,5})(?:/([0-9]{1,15}))?)?")
_MOST_PARTS = 10_000  # of one upload, says Amazon


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Half-open interval of byte offsets: `start` is included, `stop` is not."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a byte range: [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Digest:
    """A checksum.

    Attributes:
        algorithm: a key of `ALGORITHMS`.
        value: lower-case hexadecimal of the right length.
        parts: 0 for a digest of the file; otherwise it is the digest of so many digests of parts, one after another,
            as S3 has it of what was uploaded in pieces (`"9bb58f26192e4ba00f01e2e7b136bbd8-5"`).
        part_size: bytes of each part but the last; 0 if nobody has told.
    """

    algorithm: str
    value: str
    parts: int = 0
    part_size: int = 0

    def __post_init__(self) -> None:
        bits = ALGORITHMS.get(self.algorithm)
        if bits is None:
            raise ValueError(f"unknown digest algorithm {self.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
        if len(self.value) != bits // 4 or not _HEX.fullmatch(self.value):
            raise ValueError(f"a {self.algorithm} digest has {bits // 4} hexadecimal digits, not {self.value!r}")
        if not 0 <= self.parts <= _MOST_PARTS:
            raise ValueError(f"a digest of parts has 1 to {_MOST_PARTS:,} parts, not {self.parts:,}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `ALGORITHM:HEX`, in any case, `-` in names allowed (`SHA-256:…`).

        Behind a digest of parts stand `-PARTS` and, if it is known, `/PART_SIZE`: `md5:HEX-5/8388608`.

        Raises:
            ValueError: it is not of that form.
        """
        algorithm, colon, value = text.strip().partition(":")
        if not colon:
            raise ValueError(f"a digest is written ALGORITHM:HEX (sha256:9f86…), not {text!r}")
        algorithm, value = algorithm.strip().lower().replace("-", ""), value.strip().lower()
        match = _PARTED.fullmatch(value)
        if match is None:
            return cls(algorithm, value)
        return cls(algorithm, match[1], int(match[2] or 0), int(match[3] or 0))

    def __str__(self) -> str:
        parts = f"-{self.parts}" if self.parts else ""
        size = f"/{self.part_size}" if self.part_size else ""
        return f"{self.algorithm}:{self.value}{parts}{size}"


class DigestSource(enum.StrEnum):
    """Who promised a digest. Later members are trusted less: `docs/security.md` has the reasons."""

    CALLER = "caller"
    FRAGMENT = "url fragment"
    MANIFEST = "manifest"
    CATALOGUE = "provider's catalogue"
    METALINK = "Metalink file"
    SIDECAR = "checksum file"
    LINKED_ETAG = "X-Linked-ETag header"
    DIGEST = "Digest header"
    REPR_DIGEST = "Repr-Digest header"
    GOOG_HASH = "x-goog-hash header"
    AMZ_CHECKSUM = "x-amz-checksum header"
    CONTENT_DIGEST = "Content-Digest header"
    CONTENT_MD5 = "Content-MD5 header"
    S3_ETAG = "S3 ETag"
    SIDECAR_HTTP = "checksum file over http"


class Verification(enum.StrEnum):
    """What the strongest check that a file passed rests on."""

    CALLER = "caller"  # a digest given by the caller
    CATALOGUE = "catalogue"  # a digest from the provider's catalogue
    SERVER = "server"  # a digest announced by the server
    SIDECAR = "sidecar"  # a digest published beside the file
    SIZE = "size"  # the announced size, or complete framing; no digest known
    NONE = "none"  # the server announced neither size nor framing


class Outcome(enum.StrEnum):
    """How a transfer came to its end."""

    FETCHED = "fetched"
    RESUMED = "resumed"
    ALREADY_PRESENT = "already present"
    STREAMED = "streamed"


class Phase(enum.StrEnum):
    """What a transfer is doing now, for people who watch."""

    CONNECTING = "connecting"
    TRANSFERRING = "transferring"
    WAITING = "waiting"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"


class Bound(enum.StrEnum):
    """What keeps a transfer from being faster."""

    LINK = "link"  # more connections bring no more bytes
    SERVER = "server"  # it refuses more requests, or cannot send parts
    CEILING = "ceiling"  # as many connections as the settings allow
    READER = "reader"  # whoever reads the stream takes no more
    DISK = "disk"  # most of the time goes into writing to it
    LIMIT_RATE = "limit-rate"  # the setting of that name


@dataclass(frozen=True, slots=True)
class Decision:
    """So many connections (`limit`) were allowed from then on, `at` seconds, and why."""

    at: float
    limit: int
    reason: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A digest, and who says that it is the file's; `url`, redacted, is where that stands if not in the answer."""

    digest: Digest
    source: DigestSource
    url: str | None = None

    def __str__(self) -> str:
        return str(self.source) if self.url is None else f"{self.source} {self.url}"


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells two versions of one resource apart (RFC 9110 §8.8).

    Attributes:
        etag: the entity tag as sent, quotes and `W/` included.
        last_modified: the HTTP date as sent.
        date_is_strong: Last-Modified may be used as a strong validator (RFC 9110 §8.8.2.2).
    """

    etag: str | None = None
    last_modified: str | None = None
    date_is_strong: bool = False

    @property
    def strong_etag(self) -> str | None:
        """The entity tag if it is a strong one."""
        return self.etag if self.etag is not None and not self.etag.startswith("W/") else None

    @property
    def strong(self) -> bool:
        """It tells any two versions apart: a strong tag, or a date that is as good as one."""
        return self.strong_etag is not None or self.date_is_strong

    @property
    def if_range(self) -> str | None:
        """The value for `If-Range` (RFC 9110 §13.1.5): a strong tag, or a strong date where there is no tag at all."""
        return self.strong_etag or (self.last_modified if self.date_is_strong and self.etag is None else None)

    def __str__(self) -> str:
        return self.etag or self.last_modified or "no validator"


@dataclass(frozen=True, slots=True)
class Head:
    """A response head as it came: status, header fields in order (names in lower case), final URL, HTTP version.

    `redirects` are the heads of the answers that led here, the first one first.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    url: str
    http_version: str = "HTTP/1.1"
    redirects: tuple[Head, ...] = ()

    def get(self, name: str) -> str | None:
        """The field's value, its lines joined by a comma (RFC 9110 §5.2); None if it is absent."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def get_all(self, name: str) -> list[str]:
        """The field's lines, in order."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Resource:
    """What is known of a remote file.

    Attributes:
        url: as asked for, redacted.
        final_url: after redirects, redacted.
        size: in bytes; None if the server does not say.
        ranges: the server answers range requests.
        validator: tells this version from another.
        claims: digests that the server announced for the whole file, most trusted first.
        media_type: Content-Type without parameters.
        framed: the end of the body can be told from a broken connection.
        http_version: of the answer, e.g. `HTTP/1.1`.
        encoding: Content-Encoding, which is asked not to be there and is never undone; None for plain bytes.
    """

    url: str
    final_url: str
    size: int | None
    ranges: bool
    validator: Validator
    claims: tuple[Claim, ...] = ()
    media_type: str | None = None
    framed: bool = True
    http_version: str = "HTTP/1.1"
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of one transfer, delivered at most ten times a second.

    Attributes:
        url: redacted.
        name: the file's name.
        phase: what is going on.
        done: bytes present, those from a checkpoint included.
        size: bytes in all, None while unknown.
        from_checkpoint: bytes that an earlier run had left.
        connections: requests in flight.
        message: what it waits for, or why it failed; empty otherwise.
        resumable: a later run can go on from what is present, as far as is known now.
        bound: what keeps it from being faster, None while that is not known.
        decision: how many connections are allowed from now on, and why; empty if nothing was decided since the last
            snapshot. It is about all transfers from one server, so only one of them tells it.
    """

    url: str
    name: str
    phase: Phase
    done: int = 0
    size: int | None = None
    from_checkpoint: int = 0
    connections: int = 0
    message: str = ""
    resumable: bool = True
    bound: Bound | None = None
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several places of a file gave: bytes of what was delivered, and why no more, if it was left out."""

    url: str
    bytes: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What happened, and what it rests on. Sizes in bytes, times in seconds, URLs redacted.

    Attributes:
        digest: the digest that was verified; None if there was none to verify.
        digest_source: who promised it.
        digest_url: where that is written, if not in the answer itself.
        bytes_from_network: body bytes received, those thrown away included.
        bytes_from_checkpoint: bytes of the file that an earlier run had left and this one used.
        requests: requests sent, redirects not counted.
        retries: requests that failed and were tried again.
        restarts: times that everything was thrown away and begun anew.
        peak_connections: most requests in flight at one time.
        limited_by: what kept it from being faster for most of the time; None if it was too short to tell.
        decisions: the last ones about the number of connections to the server, `at` counted from the beginning.
        sources: what each place gave, where the file was had from several; empty where there was one.
    """

    url: str
    final_url: str
    path: Path | None
    size: int
    digest: Digest | None
    verification: Verification
    digest_source: DigestSource | None
    etag: str | None
    last_modified: str | None
    outcome: Outcome
    bytes_from_network: int
    bytes_from_checkpoint: int
    requests: int
    retries: int
    restarts: int
    peak_connections: int
    http_version: str
    elapsed: float
    limited_by: Bound | None = None
    decisions: tuple[Decision, ...] = ()
    digest_url: str | None = None
    sources: tuple[Share, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        values = asdict(self)
        values["path"] = None if self.path is None else str(self.path)
        values["digest"] = None if self.digest is None else str(self.digest)
        return values
