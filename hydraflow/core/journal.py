r"""Checkpoint records to bytes and back.

::

    journal     ┌──────────────────┬───────┬───────┬───────┬── ⋯
                │ "HYDRAJ1\n"      │ frame │ frame │ frame │
                │ 8 bytes          │       │       │       │
                └──────────────────┴───────┴───────┴───────┴── ⋯
    frame       ┌────────────┬────────────┬────────┬──────────────────┐
                │ length     │ CRC-32     │ type   │ payload          │
                │ u32        │ u32        │ u8     │ `length` bytes   │   the CRC is of type and payload
                └────────────┴────────────┴────────┴──────────────────┘
    type "R"    UTF-8 JSON object: url, size, etag, last_modified, date_is_strong, claims, part
                the resource that the part file is of; what was durable before is not so any more
    type "D"    ┌────────────┬────────────┬── ⋯
                │ start u64  │ stop u64   │       one or more pairs: bytes [start, stop) of the part file are on disk
                └────────────┴────────────┴── ⋯

All numbers are big-endian.  A journal is only ever appended to.  Replay stops at the first frame that is torn, damaged
or out of bounds and believes nothing from there on, so a journal cut or flipped anywhere yields an earlier truth, never
a lie.  That rests on the order of writing: a "D" is appended after its bytes are synced, and an "R" is synced before
any byte that it disowns is touched.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydraflow.core import headers
from hydraflow.core.ranges import RangeSet
from hydraflow.models import ByteRange, Claim, Digest, DigestSource, Validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Identity", "Replay", "encode_durable", "encode_header", "encode_resource", "replay"]

_MAGIC = b"HYDRAJ1\n"
_HEAD = struct.Struct(">IIc")  # payload length, CRC-32, type
_PAIR = struct.Struct(">QQ")
_MAX_PAYLOAD = 1 << 20
_RESOURCE, _DURABLE = b"R", b"D"
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_FIELDS = {"url", "size", "etag", "last_modified", "date_is_strong", "claims", "part"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a part file is a part of.

    Attributes:
        url: canonical, without credentials.
        size: bytes of the whole.
        validator: the version.
        claims: digests that the server announced.
        part: name of the part file, in the journal's directory.
    """

    url: str
    size: int
    validator: Validator
    claims: tuple[Claim, ...]
    part: str

    def __post_init__(self) -> None:
        if not 0 <= self.size <= headers.MAX_SIZE:
            raise ValueError(f"not a size in bytes: {self.size}")
        if not _PART.fullmatch(self.part):
            raise ValueError(f"not the name of a part file: {self.part!r}")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal says.

    Attributes:
        identity: None if it says nothing of use.
        durable: bytes of the part file that are on disk.
        valid_length: bytes of the journal that make sense; the next record belongs there. 0 if it is no journal.
    """

    identity: Identity | None
    durable: RangeSet
    valid_length: int


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_header() -> bytes:
    """The first bytes of a journal."""
    return _MAGIC


def encode_resource(identity: Identity) -> bytes:
    """The record that begins a part file.

    Raises:
        ValueError: it would be longer than a frame may be.
    """
    fields = {
        "url": identity.url,
        "size": identity.size,
        "etag": identity.validator.etag,
        "last_modified": identity.validator.last_modified,
        "date_is_strong": identity.validator.date_is_strong,
        "claims": [[str(claim.digest), str(claim.source)] for claim in identity.claims],
        "part": identity.part,
    }
    payload = json.dumps(fields, separators=(",", ":")).encode("ascii")
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError(f"a record has at most {_MAX_PAYLOAD} bytes, not {len(payload)}")
    return _frame(_RESOURCE, payload)


def encode_durable(ranges: Iterable[ByteRange]) -> bytes:
    """Records that say that these bytes are on disk; nothing for no bytes."""
    payload = b"".join(_PAIR.pack(each.start, each.stop) for each in ranges if each.start < each.stop)
    pieces = (payload[at : at + _MAX_PAYLOAD] for at in range(0, len(payload), _MAX_PAYLOAD))
    return b"".join(_frame(_DURABLE, piece) for piece in pieces)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(kind + payload), kind) + payload


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def replay(data: bytes) -> Replay:
    """Read a journal as far as it makes sense; never raises, whatever the bytes."""
    identity: Identity | None = None
    durable = RangeSet()
    if not data.startswith(_MAGIC):
        return Replay(None, durable, 0)
    valid = len(_MAGIC)
    for kind, payload, end in _frames(data, valid):
        try:
            if kind == _RESOURCE:
                identity, durable = _resource(payload), RangeSet()
            elif kind == _DURABLE and identity is not None:
                _apply(durable, payload, identity.size)
            else:
                break
        except (ValueError, RecursionError):
            break
        valid = end
    return Replay(identity, durable, valid)


def _frames(data: bytes, offset: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Type, payload and end of each intact frame, up to the first that is not."""
    while len(data) - offset >= _HEAD.size:
        length, crc, kind = _HEAD.unpack_from(data, offset)
        end = offset + _HEAD.size + length
        payload = data[offset + _HEAD.size : end]
        if length > _MAX_PAYLOAD or len(payload) < length or zlib.crc32(kind + payload) != crc:
            return
        yield kind, payload, end
        offset = end


def _apply(durable: RangeSet, payload: bytes, size: int) -> None:
    """Add the pairs, all or none."""
    pairs = list(_PAIR.iter_unpack(payload)) if payload and len(payload) % _PAIR.size == 0 else [(0, 0)]
    if not all(start < stop <= size for start, stop in pairs):
        raise ValueError("not pairs of offsets in the file")
    for start, stop in pairs:
        durable.add(start, stop)


def _resource(payload: bytes) -> Identity:
    """Read an "R" record with distrust: every field ends up in a request, a path or a decision."""
    fields = json.loads(payload.decode("utf-8"))
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise ValueError("not the fields of a resource")
    return Identity(
        url=_typed(fields["url"], str),
        size=_typed(fields["size"], int),
        validator=_validator(fields),
        claims=tuple(_claim(pair) for pair in _typed(fields["claims"], list)),
        part=_typed(fields["part"], str),
    )


def _validator(fields: dict[str, Any]) -> Validator:
    etag, modified = fields["etag"], fields["last_modified"]
    if etag is not None and not headers.is_etag(_typed(etag, str)):
        raise ValueError("not an entity tag")
    if modified is not None and headers.http_date(_typed(modified, str)) is None:
        raise ValueError("not an HTTP date")
    return Validator(etag, modified, _typed(fields["date_is_strong"], bool))


def _claim(pair: object) -> Claim:
    digest, source = _typed(pair, list)
    return Claim(Digest.parse(_typed(digest, str)), DigestSource(source))


def _typed(value: Any, kind: type[Any]) -> Any:
    # Exact: True is not a size.
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected")
    return value
