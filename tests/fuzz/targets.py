"""The targets: one function for each parser. A fault is an exception, a broken promise, or more than two seconds."""

from __future__ import annotations

import asyncio
import gzip
import json
import lzma
import socket
import unicodedata
from collections.abc import Callable

import h11
import httpx
from backports import zstd
from hypothesis import strategies as st

from hydraflow import verifying
from hydraflow.adapters import decoding, network, ownership
from hydraflow.core import (
    catalogues,
    claims,
    headers,
    journal,
    links,
    locks,
    metalink,
    names,
    responses,
    sidecars,
    urls,
)
from hydraflow.core import manifests as lists
from hydraflow.core.responses import Ask
from hydraflow.errors import ConfigurationError, IntegrityError, RemoteProtocolError
from hydraflow.models import Digest, Head

__all__ = ["TARGETS"]

MD5, SHA256 = "8d777f385d3dfec8815d20f7496026dc", "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
BASE64 = "Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="
NAME = "genome.fa.gz"

edits = st.lists(
    st.tuples(st.sampled_from(["cut", "put", "copy"]), st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=9)),
    max_size=6,
)


def spoil(sample: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    """The sample with pieces cut out, put in, or repeated."""
    data = sample
    for kind, where, length, piece in changes:
        at = where % (len(data) + 1)
        if kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "put":
            data = data[:at] + piece + data[at:]
        else:
            data = data[:at] + data[at : at + length] * 3 + data[at + length :]
    return data


def spoilt(*samples: bytes | str) -> st.SearchStrategy[bytes]:
    raw = [sample if isinstance(sample, bytes) else sample.encode() for sample in samples]
    return st.builds(spoil, st.sampled_from(raw), edits) | st.binary(max_size=300)


def text(data: bytes) -> str:
    """As a header comes."""
    return data.decode("latin-1")


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS = {
    "content-range": "bytes 0-99/1234",
    "content-length": "1234",
    "etag": f'"{MD5}-3"',
    "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
    "date": "Sunday, 06-Nov-94 08:49:37 GMT",
    "retry-after": "Sun Nov  6 08:49:37 1994",
    "content-type": "text/plain; charset=utf-8",
    "content-encoding": "gzip",
    "x-goog-hash": "crc32c=4waSgw==,md5=jXd/OF09/siBXSD3SWAm3A==",
    "content-md5": "jXd/OF09/siBXSD3SWAm3A==",
    "repr-digest": f"sha-256=:{BASE64}:, md5=:jXd/OF09/siBXSD3SWAm3A==:;x=1",
    "content-digest": f"sha-256=:{BASE64}:",
    "digest": f"SHA-256={BASE64}",
    "x-amz-checksum-sha256": f"{BASE64}-3",
    "x-amz-checksum-type": "COMPOSITE",
    "x-amz-mp-parts-count": "3",
    "x-amz-request-id": "1",
    "x-linked-etag": f'"{SHA256}"',
    "x-linked-size": "1234",
    "link": '<x.meta4>; rel="describedby duplicate"; type="application/metalink4+xml"; pri=1',
    "content-disposition": "attachment; filename=\"x.gz\"; filename*=UTF-8''%e2%82%ac.gz",
}
field = st.one_of([st.tuples(st.just(name), spoilt(value).map(text)) for name, value in FIELDS.items()])
fields = st.lists(field, max_size=8).map(tuple)
heads = st.builds(
    lambda status, lines, before: Head(status, lines, "http://h/x", redirects=(Head(302, before, "http://h/y"),)),
    st.sampled_from([200, 206, 302, 404, 416, 503]),
    fields,
    fields,
)


def check_head(head: Head) -> None:
    """Facts, claims and verdicts of an answer."""
    for claim in claims.announced(head):
        assert Digest.parse(str(claim.digest)) == claim.digest
        claims.part_size(head, claim.digest, 1234)
    claims.linked_size(head)
    claims.ambiguous(head)
    responses.size(head)
    headers.validator(head)
    headers.retry_after(head.get("retry-after"), 0.0)
    for ask in (Ask(), Ask(0, 100), Ask(100, 200, '"v1"')):
        responses.introduce(head, ask, url="http://h/x", final_url="http://h/x", now=0.0)
    try:
        headers.content_length(head)
    except RemoteProtocolError as error:
        assert str(error).isprintable()  # noqa: PT017 - it need not raise


def check_link(data: bytes) -> None:
    """Mirrors and descriptions: addresses of the web and nothing else."""
    found = links.parse(text(data), "https://h/d/x")
    assert all(link.url.startswith(("http://", "https://")) for link in found)
    links.mirrors(found)
    links.described_by(found)


def check_name(data: bytes) -> None:
    """A name is one component, can be printed, and stays as it is."""
    announced = names.announced(Head(200, (("content-disposition", text(data)),), "http://h/x"))
    for name in filter(None, (announced, names.safe(text(data)), urls.file_name(f"http://h/{text(data)}"))):
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\\0")
        assert name.isprintable()
        assert name[0] not in ".- "
        assert len(name.encode()) <= 200
        assert unicodedata.is_normalized("NFC", name)
        assert names.safe(name) == name


def check_url(data: bytes) -> None:
    """A URL is refused in one line, or has all its forms, none of which shows a password."""
    shown = urls.redact(text(data))
    assert shown.isprintable()
    try:
        target = urls.parse(text(data))
    except ConfigurationError as error:
        assert str(error).isprintable()  # noqa: PT017 - it need not raise
        return
    urls.canonical(target.url)
    assert urls.origin(target.url) != "null"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_sidecar(data: bytes) -> None:
    """Digests of the right form; and none for a file that does not stand there."""
    for alone in (False, True):
        for digest in sidecars.digests_of(data, NAME, alone=alone):
            assert digest.value.encode() in data.lower()
    if NAME.encode() not in data:
        assert sidecars.digests_of(data, NAME) == ()


def check_metalink(data: bytes) -> None:
    """Files, or a ValueError."""
    try:
        files = metalink.parse(data)
    except ValueError:
        return
    for file in files:
        assert all(url.startswith(("http://", "https://")) for url in file.urls)
        assert all(Digest.parse(str(digest)) == digest for digest in file.digests)


def check_catalogue(data: bytes) -> None:
    """One digest or none."""
    assert len(catalogues.zenodo(data, NAME)) <= 1
    assert len(catalogues.ena(data, NAME)) <= 1


def check_manifest(data: bytes) -> None:
    """Entries, or an error of the user's."""
    try:
        entries = verifying._entries(data, "manifest")
    except ConfigurationError:
        return
    assert all(isinstance(entry.name, str) for entry in entries)


def check_list(data: bytes) -> None:
    """Entries whose names stay below a directory, or an error of the user's."""
    try:
        found = lists.parse(data)
    except ConfigurationError:
        return
    for entry in found.entries:
        parts = entry.name.split("/")
        assert entry.name == "" or not {"", ".", ".."} & set(parts)
        assert urls.parse(entry.target).url == entry.url


def check_lock(data: bytes) -> None:
    """A lock that can be written again, or an error of the user's."""
    try:
        lock = locks.parse(data)
    except ConfigurationError:
        return
    assert set(locks.parse(locks.encode(lock.files)).files) == set(lock.files)


def check_journal(data: bytes) -> None:
    """Replay never raises, and claims no byte beyond the size."""
    found = journal.replay(data)
    assert 0 <= found.valid_length <= len(data)
    for piece in found.durable:
        assert found.identity is not None
        assert 0 <= piece.start < piece.stop <= found.identity.size


def check_record(data: bytes) -> None:
    """A record of ownership is understood, or is nobody's."""
    parsed = ownership._parse(data)
    assert parsed is None or {"pid", "host", "url"} <= parsed.keys()
    owner = ownership.Owner(data, 0, certain=False)
    assert str(owner).isprintable()
    owner.wants("http://h/x")


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_decoding(data: bytes) -> None:
    """Pieces of bounded size, or an IntegrityError; and nothing of gzip's that another decoder would not give."""
    decoder, found = decoding._Decoder("http://h/x"), bytearray()
    try:
        for begin in range(0, len(data), 100):
            for piece in decoder.feed(data[begin : begin + 100]):
                assert 0 < len(piece) <= decoding._PIECE
                found += piece
                if len(found) > 64 << 20:
                    return  # it expands as it likes, piece by piece
        decoder.finish()
    except IntegrityError:
        return
    if data.startswith(b"\x1f\x8b"):
        assert gzip.decompress(data) == found


REQUEST = httpx.Request("GET", "http://h/x")


def check_framing(data: bytes) -> None:
    """Our own way to read a body, past h11, gives what h11 alone gives, or fails."""
    found = _runner.run(_answer(data))
    assert found is None or found == _by_h11(data)


async def _answer(data: bytes) -> tuple[int, bytes] | None:
    """Status and body, as they come over a socket; None if they are refused."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = network._Connection(network._Socket(ours, 1.0))
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    try:
        response, body = await connection.exchange(REQUEST)
        found, view = bytearray(), memoryview(bytearray(100))
        while count := await body.read_into(view):
            found += view[:count]
        return response.status_code, bytes(found)
    except network.TransportFailure:
        return None
    finally:
        connection.close()
        theirs.close()


def _by_h11(data: bytes) -> tuple[int, bytes]:
    connection, status, found = h11.Connection(h11.CLIENT), 0, bytearray()
    connection.send(h11.Request(method="GET", target="/x", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            found += event.data
    return status, bytes(found)


_runner = asyncio.Runner()
BODY = b"the very bytes" * 20
LENGTH = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 280\r\nContent-Range: bytes 0-279/900\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n118;a=b\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + LENGTH
CLOSED = b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" + BODY
GZIPPED = gzip.compress(BODY, mtime=0) + gzip.compress(b"more", mtime=0) + bytes(9)

METALINK = f"""<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="{NAME}"><size>4</size>
<hash type="sha-256">{SHA256}</hash><url priority="1">https://m/x</url></file></metalink>"""
LISTING = f"{MD5}  ./{NAME}\n{SHA256} *other\nMD5 ({NAME}) = {MD5}\n\\{MD5}  a\\nb\n"
ZENODO = json.dumps({"entries": [{"key": NAME, "checksum": f"md5:{MD5}", "size": 4}]})
ENA = json.dumps([{"fastq_ftp": f"a;{NAME}", "fastq_md5": f"{MD5};{MD5}"}])
TABLE = f"url\tmd5\tsize\tname\nhttps://h/x\t{MD5}\t4\td/x\n"
ARIA2 = f"https://h/x\thttps://m/x\n  out=x\n  dir=d\n  checksum=md5={MD5}\n  header=A: b\n"
REPORT = f"fastq_ftp\tfastq_md5\tfastq_bytes\nh/a;h/b\t{MD5};{MD5}\t4;5\n"
LOCK = locks.encode([locks.Locked(NAME, "https://h/x", 4, Digest("sha256", SHA256), '"1"')])
RESULT = json.dumps({"name": NAME, "ok": True, "digest": f"sha256:{SHA256}", "size": 4}) + "\n"
IDENTITY = journal.Identity("http://h/x", 1000, headers.validator(Head(200, (("etag", '"v1"'),), "")), (), "part-1")
JOURNAL = journal.encode_header() + journal.encode_resource(IDENTITY) + journal.encode_durable([])
RECORD = ownership._encode("0123456789abcdef", "http://h/x")
COLOURED = RECORD.replace(b'"host": "', b'"host": "\\u001b[31m')
URL = "https://user:pw@h:8080/d/x%20y.gz?a=b&X-Amz-Signature=1#sha256=" + SHA256

#: By name: what comes in, and what must hold.
TARGETS: dict[str, tuple[st.SearchStrategy, Callable]] = {
    "headers": (heads, check_head),
    "links": (spoilt(FIELDS["link"]), check_link),
    "names": (spoilt(FIELDS["content-disposition"], "../../x.fastq.gz"), check_name),
    "urls": (spoilt(URL), check_url),
    "sidecars": (spoilt(LISTING, MD5), check_sidecar),
    "metalink": (spoilt(METALINK), check_metalink),
    "catalogues": (spoilt(ZENODO, ENA), check_catalogue),
    "manifests": (spoilt(LISTING, METALINK, RESULT), check_manifest),
    "lists": (spoilt(TABLE, ARIA2, REPORT, METALINK, RESULT), check_list),
    "locks": (spoilt(LOCK), check_lock),
    "journal": (spoilt(JOURNAL), check_journal),
    "decoding": (spoilt(GZIPPED, lzma.compress(BODY), zstd.compress(BODY)), check_decoding),
    "framing": (spoilt(LENGTH, CHUNKED, INTERIM, CLOSED), check_framing),
    "ownership": (spoilt(RECORD, COLOURED), check_record),
}
