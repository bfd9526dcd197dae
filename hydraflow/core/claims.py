"""Digests that an answer's header announces for the whole file.

A wrong reading is worse than none, so a digest counts only where it is certain what it is of:

- of the whole file, not of the part that a 206 encloses;
- of the file's bytes, not of a coded body: who compresses on the way often leaves the origin's digest as it was;
- a digest at all: the ETag of an S3 object is one only if it was neither encrypted nor put together from parts.

Nothing here raises: a field that is malformed counts as absent.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from hydraflow.core import headers
from hydraflow.models import Claim, Digest, DigestSource, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ambiguous", "announced", "is_s3", "linked_size", "part_size"]

_OK, _PARTIAL = 200, 206
#: Names of the IANA registry of RFC 9530 §5, which takes up those of RFC 3230; the rest of it are 16 or 32 bits long.
_HTTP_NAMES = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
_AMZ_NAMES = ("sha512", "sha256", "crc64nvme", "sha1", "crc32c", "crc32", "md5")
_GOOG_NAMES = ("md5", "crc32c")
_S3_ETAG = re.compile(r'"([0-9A-Fa-f]{32})(?:-([1-9][0-9]{0,4}))?"')
_AMZ_VALUE = re.compile(r"([A-Za-z0-9+/]+=*)(?:-([1-9][0-9]{0,4}))?")
_LINKED_ETAG = re.compile(r'"?([0-9A-Fa-f]{64})"?')
_SIZE = re.compile(r"[0-9]{1,18}")


def announced(head: Head, *, bodiless: bool = False) -> tuple[Claim, ...]:
    """Digests that the server announces for the whole file, most trusted first.

    Args:
        head: of a 200 or 206, and of the answers that led to it.
        bodiless: it answers HEAD, so that a digest of its content is one of nothing (RFC 9530 appendix B.2).
    """
    enclosed = head.status == _OK or _covers_all(head)
    plain = headers.content_encoding(head) is None
    found: list[Claim] = [claim for answer in head.redirects for claim in _redirected(answer)]
    if plain:
        found += [*_instance_digest(head), *_structured(head, "repr-digest", DigestSource.REPR_DIGEST)]
    found += _goog_hash(head)
    if enclosed:
        found += _amz_checksum(head)
    if enclosed and plain and not bodiless:
        found += _structured(head, "content-digest", DigestSource.CONTENT_DIGEST)
    if enclosed and plain:
        found += _content_md5(head)
    return (*found, *_s3_etag(head))


def ambiguous(head: Head) -> bool:
    """A 206 carries a digest that may be of the part or of the whole, which a HEAD request can tell.

    RFC 1864 says of Content-MD5 that it is the part's, many servers say the whole's.
    """
    return head.status == _PARTIAL and not _covers_all(head) and _md5(head) is not None


def linked_size(head: Head) -> int | None:
    """Bytes of the file as the server says that redirected here, beside a digest of its own (Hugging Face)."""
    for answer in head.redirects:
        value = answer.get("x-linked-size") or ""
        if _SIZE.fullmatch(value) and _linked_etag(answer) is not None:
            return int(value)
    return None


# ── of answers that redirect ─────────────────────────────────────────────────────────────────────────────────────────


def _redirected(head: Head) -> Iterator[Claim]:
    """What a redirecting answer says of the file that it leads to; its other fields are about itself."""
    digest = _linked_etag(head)
    if digest is not None:
        yield Claim(digest, DigestSource.LINKED_ETAG)
    if re.search(r"\brel\s*=\s*\"?(?:duplicate|describedby)\b", head.get("link") or "", re.IGNORECASE):
        # A download redirector of RFC 6249: §6 has the file's digest here.
        yield from _instance_digest(head)


def _linked_etag(head: Head) -> Digest | None:
    """Hugging Face tells the SHA-256 of a large file; of a small one it is Git's SHA-1, which is none of the bytes."""
    match = _LINKED_ETAG.fullmatch(head.get("x-linked-etag") or "")
    return None if match is None else Digest("sha256", match[1].lower())


# ── by the standards ─────────────────────────────────────────────────────────────────────────────────────────────────


def _structured(head: Head, name: str, source: DigestSource) -> Iterator[Claim]:
    """`Repr-Digest` and `Content-Digest` (RFC 9530 §2 and §3), which are dictionaries of byte sequences."""
    value = head.get(name)
    if value is None:
        return
    import http_sf  # costs 20 ms, and few servers send these fields

    try:
        members: Any = http_sf.parse(value.encode("latin-1", "replace"), tltype="dictionary")
    except (ValueError, RecursionError):
        return
    for field, algorithm in _HTTP_NAMES.items():
        raw = members[field][0] if field in members else None
        digest = _from_bytes(algorithm, raw) if isinstance(raw, bytes) else None
        if digest is not None:
            yield Claim(digest, source)


def _instance_digest(head: Head) -> Iterator[Claim]:
    """`Digest: SHA-256=…,MD5=…` (RFC 3230 §4.3.2), the forerunner of Repr-Digest: of the whole in every answer."""
    pairs = _pairs(head.get("digest") or "", fold=True)
    for field, algorithm in _HTTP_NAMES.items():
        digest = _only(algorithm, pairs.get(field, ()))
        if digest is not None:
            yield Claim(digest, DigestSource.DIGEST)


def _content_md5(head: Head) -> Iterator[Claim]:
    digest = _md5(head)
    if digest is not None:
        yield Claim(digest, DigestSource.CONTENT_MD5)


def _md5(head: Head) -> Digest | None:
    return _from_base64("md5", head.get("content-md5") or "")


# ── Google ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _goog_hash(head: Head) -> Iterator[Claim]:
    """`x-goog-hash: crc32c=…,md5=…`, on one line or several."""
    stored = head.get("x-goog-stored-content-encoding")
    if stored not in (None, "identity", head.get("content-encoding")):
        return  # the server decompresses on the way: the hash is of what it stores, not of what it sends
    pairs = _pairs(head.get("x-goog-hash") or "")
    for algorithm in _GOOG_NAMES:
        digest = _only(algorithm, pairs.get(algorithm, ()))
        if digest is not None:
            yield Claim(digest, DigestSource.GOOG_HASH)


# ── Amazon, and those who speak its protocol ─────────────────────────────────────────────────────────────────────────


def _amz_checksum(head: Head) -> Iterator[Claim]:
    """`x-amz-checksum-…`, of the object, or of the checksums of its parts (COMPOSITE, which ends in `-PARTS`)."""
    kind = (head.get("x-amz-checksum-type") or "").strip().upper()
    for algorithm in _AMZ_NAMES:
        match = _AMZ_VALUE.fullmatch((head.get(f"x-amz-checksum-{algorithm}") or "").strip(" \t"))
        parts = int(match[2] or 0) if match is not None else 0
        if match is None or (kind == "FULL_OBJECT" and parts) or (kind == "COMPOSITE" and not parts):
            continue
        digest = _from_base64(algorithm, match[1], parts)
        if digest is not None:
            yield Claim(digest, DigestSource.AMZ_CHECKSUM)


def _s3_etag(head: Head) -> Iterator[Claim]:
    """The ETag of an S3 object is its MD5, or that of its parts' MD5s, unless it is encrypted with a key of its own."""
    match = _S3_ETAG.fullmatch(head.get("etag") or "")
    if match is None or not is_s3(head) or _has_opaque_etag(head):
        return
    try:
        yield Claim(Digest("md5", match[1].lower(), int(match[2] or 0)), DigestSource.S3_ETAG)
    except ValueError:  # more parts than there can be
        return


def is_s3(head: Head) -> bool:
    """The answer comes from a server that speaks S3's protocol."""
    marks = head.get_all("x-amz-request-id") or head.get_all("x-amz-id-2")
    return bool(marks) or (head.get("server") or "").strip().lower() == "amazons3"


def part_size(head: Head, digest: Digest, size: int | None) -> int:
    """Bytes of an S3 object's parts, by the answer to HEAD `?partNumber=1`; 0 if it does not tell."""
    length = headers.content_range(head.get("content-range"))
    parts = (head.get("x-amz-mp-parts-count") or "").strip()
    if head.status != _PARTIAL or parts != str(digest.parts) or length is None or length.start != 0 or size is None:
        return 0
    assert length.stop is not None
    fits = length.total == size and -(-size // length.stop) == digest.parts
    return length.stop if fits else 0


def _has_opaque_etag(head: Head) -> bool:
    """Objects under SSE-KMS or SSE-C, and those of directory buckets, have ETags that only look like an MD5."""
    encryption = (head.get("x-amz-server-side-encryption") or "").strip().lower()
    customer_key = head.get("x-amz-server-side-encryption-customer-algorithm") is not None
    directory = (head.get("x-amz-storage-class") or "").strip().upper() == "EXPRESS_ONEZONE"
    return encryption.startswith("aws:kms") or customer_key or directory


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _covers_all(head: Head) -> bool:
    part = headers.content_range(head.get("content-range"))
    return head.status == _PARTIAL and part is not None and part.whole


def _pairs(value: str, *, fold: bool = False) -> dict[str, set[str]]:
    """The values of each name in a list of `name=value`."""
    pairs: dict[str, set[str]] = {}
    for pair in value.split(","):
        name, equals, text = pair.strip(" \t").partition("=")
        if equals:
            pairs.setdefault(name.lower() if fold else name, set()).add(text)
    return pairs


def _only(algorithm: str, values: Iterable[str]) -> Digest | None:
    """The digest, if there is one value: two say that something is wrong."""
    texts = list(values)
    return _from_base64(algorithm, texts[0]) if len(texts) == 1 else None


def _from_base64(algorithm: str, value: str, parts: int = 0) -> Digest | None:
    try:
        return _from_bytes(algorithm, base64.b64decode(value.strip(" \t"), validate=True), parts)
    except ValueError:
        return None


def _from_bytes(algorithm: str, raw: bytes, parts: int = 0) -> Digest | None:
    try:
        return Digest(algorithm, raw.hex(), parts)
    except ValueError:
        return None
