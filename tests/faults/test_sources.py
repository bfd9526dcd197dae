"""Every source of a digest against every state that it can be in, and what the user is told: no wrong verdict."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import google_crc32c
import pytest

from hydraflow.api import fetch, probe
from hydraflow.errors import (
    DestinationExistsError,
    DigestConflictError,
    DigestMismatchError,
    HydraError,
    UnverifiableError,
)
from hydraflow.models import DigestSource, Outcome, Verification
from hydraflow.sources import lookup
from tests.core.test_integrity import of_parts
from tests.faults.fronts import MIB, FileFront, StreamFront, noise
from tests.faults.origin import Origin

DATA = noise(9 * MIB)
WRONG = bytes([DATA[0] ^ 1]) + DATA[1:]
OTHER = noise(1000, seed=1)
S3 = {"x-amz-request-id": "0123", "Server": "AmazonS3"}


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def crc64nvme(data: bytes) -> bytes:
    from awscrt import checksums

    return checksums.crc64nvme(data).to_bytes(8, "big")


@dataclass(frozen=True)
class Place:
    """A source: what it is called, and what it says of bytes under a name."""

    source: DigestSource
    says: Callable[[bytes, str], str]
    header: str = ""
    path: str = ""
    etag: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    redirecting: bool = False
    names_files: bool = False


def listing(data: bytes, name: str) -> str:
    return f"{sha256(data)}  {name}\n"


def metalink(data: bytes, name: str) -> str:
    return f'<metalink><file name="{name}"><hash type="sha-256">{sha256(data)}</hash></file></metalink>'


DESCRIBED = {"Link": '<x.bin.meta4>; rel=describedby; type="application/metalink4+xml"'}
HTTP = DigestSource.SIDECAR_HTTP  # the origin speaks plain http; test_over_https has the other name
PLACES = {
    "repr-digest": Place(DigestSource.REPR_DIGEST, lambda d, n: f"sha-256=:{b64(bytes.fromhex(sha256(d)))}:",
                         "Repr-Digest"),
    "digest": Place(DigestSource.DIGEST, lambda d, n: f"SHA-256={b64(bytes.fromhex(sha256(d)))}", "Digest"),
    "content-md5": Place(DigestSource.CONTENT_MD5, lambda d, n: b64(bytes.fromhex(md5(d))), "Content-MD5"),
    "goog md5": Place(DigestSource.GOOG_HASH, lambda d, n: f"md5={b64(bytes.fromhex(md5(d)))}", "x-goog-hash"),
    "goog crc32c": Place(DigestSource.GOOG_HASH,
                         lambda d, n: f"crc32c={b64(google_crc32c.value(d).to_bytes(4, 'big'))}", "x-goog-hash"),
    "s3 etag": Place(DigestSource.S3_ETAG, lambda d, n: md5(d), etag=True, extra=S3),
    "s3 sha256": Place(DigestSource.AMZ_CHECKSUM, lambda d, n: b64(bytes.fromhex(sha256(d))),
                       "x-amz-checksum-sha256", extra=S3),
    "s3 sha1": Place(DigestSource.AMZ_CHECKSUM, lambda d, n: b64(hashlib.sha1(d).digest()),
                     "x-amz-checksum-sha1", extra=S3),
    "s3 crc32c": Place(DigestSource.AMZ_CHECKSUM, lambda d, n: b64(google_crc32c.value(d).to_bytes(4, "big")),
                       "x-amz-checksum-crc32c", extra=S3),
    "s3 crc32": Place(DigestSource.AMZ_CHECKSUM, lambda d, n: b64(zlib.crc32(d).to_bytes(4, "big")),
                      "x-amz-checksum-crc32", extra=S3),
    "s3 crc64nvme": Place(DigestSource.AMZ_CHECKSUM, lambda d, n: b64(crc64nvme(d)),
                          "x-amz-checksum-crc64nvme", extra={**S3, "x-amz-checksum-type": "FULL_OBJECT"}),
    "hugging face": Place(DigestSource.LINKED_ETAG, lambda d, n: f'"{sha256(d)}"', "X-Linked-ETag", redirecting=True),
    "download redirector": Place(DigestSource.DIGEST, lambda d, n: f"SHA-256={b64(bytes.fromhex(sha256(d)))}", "Digest",
                                 extra={"Link": "</x.bin>; rel=duplicate"}, redirecting=True),
    "sha256 file": Place(HTTP, listing, path="/x.bin.sha256", names_files=True),
    "md5 file, bare": Place(HTTP, lambda d, n: f"{md5(d)}\n", path="/x.bin.md5"),
    "SHA256SUMS": Place(HTTP, lambda d, n: f"{'0' * 64}  y\n{listing(d, n)}", path="/SHA256SUMS", names_files=True),
    "md5checksums.txt": Place(HTTP, lambda d, n: f"{md5(d)}  ./{n}\n", path="/md5checksums.txt", names_files=True),
    "MD5SUMS": Place(HTTP, lambda d, n: f"{md5(d)}  {n}\n", path="/MD5SUMS", names_files=True),
    "CHECKSUMS": Place(HTTP, listing, path="/CHECKSUMS", names_files=True),
    "sha256sum.txt": Place(HTTP, listing, path="/sha256sum.txt", names_files=True),
    "md5sum.txt": Place(HTTP, lambda d, n: f"{md5(d)} *{n}\n", path="/md5sum.txt", names_files=True),
    "metalink": Place(HTTP, metalink, path="/x.bin.meta4", extra=DESCRIBED, names_files=True),
}  # fmt: skip


def offer(origin: Origin, place: Place, text: str | None, data: bytes = DATA) -> str:
    """A file whose digest is said to be `text` in that place; where that is None, there is none."""
    fields = {} if place.redirecting else dict(place.extra)
    if text is not None and place.header and not place.redirecting:
        fields[place.header] = text
    url = origin.add("/x.bin", data, headers=fields, etag=f'"{text}"' if place.etag and text else '"v1"')
    if text is not None and place.path:
        origin.add(place.path, text.encode())
    if place.redirecting:
        origin.add("/hub.bin", b"")
        to = {**place.extra, "Location": "/x.bin", **({} if text is None else {place.header: text})}
        origin.when(path="/hub.bin").status(302, headers=to)
        url = f"{origin.url}/hub.bin"
    return url


@pytest.fixture(params=["file", "stream"])
def picky(request, file_front, stream_front) -> FileFront | StreamFront:
    """Both fronts, with `verify` set to `require`."""
    front = file_front if request.param == "file" else stream_front
    front.settings = replace(front.settings, verify="require")
    return front


def cut_short(text: str) -> str:
    return text[:7]


def garble(text: str) -> str:
    return text.replace("=", "?").replace('"', "").replace("  ", " | ")[3:]


each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


@each_place
def test_right(origin, picky, place):
    got = picky.get(offer(origin, place, place.says(DATA, "x.bin")))
    assert got.data == DATA
    assert got.result.digest_source is place.source
    assert got.result.verification in (Verification.SERVER, Verification.SIDECAR)
    assert (got.result.digest_url is None) == (not place.path)
    assert got.result.digest.value in (sha256(DATA), md5(DATA), hashlib.sha1(DATA).hexdigest(),
                                       crc64nvme(DATA).hex(), f"{zlib.crc32(DATA):08x}",
                                       f"{google_crc32c.value(DATA):08x}")  # fmt: skip


@each_place
def test_one_bit_wrong(origin, picky, place):
    url = offer(origin, place, place.says(DATA, "x.bin"), WRONG)
    error = picky.refuse(url, DigestMismatchError)
    assert error.source == str(place.source)
    assert "--verify none" in error.hint
    if picky.name == "stream":
        assert not picky.had_the_end_of(DATA)


@each_place
def test_absent(origin, picky, place):
    served = origin.bytes_served
    error = picky.refuse(offer(origin, place, None), UnverifiableError)
    assert "--verify auto" in error.hint
    assert error.exit_code == 5
    assert served() < 6 * MIB, "it fails before the transfer"


@each_place
@pytest.mark.parametrize("spoil", [cut_short, garble])
def test_malformed(origin, picky, place, spoil):
    picky.refuse(offer(origin, place, spoil(place.says(DATA, "x.bin"))), UnverifiableError)


listed = pytest.mark.parametrize(
    "place", [place for place in PLACES.values() if place.names_files], ids=[n for n in PLACES if PLACES[n].names_files]
)


@listed
@pytest.mark.parametrize("name", ["y.bin", "x.bin.tbi", "sub/x.bin", "X.bin", "x", "../x.bin2"])
def test_another_files_digest(origin, picky, place, name):
    alone = place.path == "/x.bin.sha256" and name.endswith("/x.bin")
    url = offer(origin, place, place.says(OTHER, name))
    picky.refuse(url, DigestMismatchError if alone else UnverifiableError)


@listed
def test_decoy_lines(origin, picky, place):
    """Of others before and behind, and one that is about this file among them."""
    texts = [place.says(OTHER, name) for name in ("y.bin", "x.bin.gz", "my x.bin")]
    text = "\n".join([*texts[:1], place.says(DATA, "x.bin"), *texts[1:]])
    if "metalink" in text:
        text = f"<metalink>{text.replace('<metalink>', '').replace('</metalink>', '')}</metalink>"
    assert picky.get(offer(origin, place, text)).data == DATA


# S3: digests of parts.

MULTIPART = Place(DigestSource.S3_ETAG, lambda d, n: f"{of_parts(d, 8 * MIB)}-2", etag=True, extra=S3)


@pytest.mark.parametrize("part_size", [8 * MIB, 5 * MIB, 8_000_000])
def test_an_etag_of_parts(origin, picky, part_size):
    url = offer(origin, MULTIPART, f"{of_parts(DATA, part_size)}-2")
    got = picky.get(url)
    assert got.data == DATA
    assert got.result.digest_source is DigestSource.S3_ETAG
    assert (got.result.digest.value, got.result.digest.parts) == (of_parts(DATA, part_size), 2)


def composite(data: bytes, name: str) -> str:
    """S3's checksum of the SHA-256s of parts of 8 MiB."""
    parts = (data[begin : begin + 8 * MIB] for begin in range(0, len(data), 8 * MIB))
    return f"{b64(hashlib.sha256(b''.join(hashlib.sha256(part).digest() for part in parts)).digest())}-2"


@pytest.mark.parametrize("told", [True, False], ids=["size told", "size guessed"])
def test_a_checksum_of_parts(origin, picky, told):
    place = Place(DigestSource.AMZ_CHECKSUM, composite, "x-amz-checksum-sha256",
                  extra={**S3, "x-amz-checksum-type": "COMPOSITE"})  # fmt: skip
    for served in (DATA, WRONG):
        url = offer(origin, place, composite(DATA, "x.bin"), served)
        if told:
            s3_tells_parts(origin, 8 * MIB)
        if served is DATA:
            got = picky.get(url, **({"overwrite": True} if picky.name == "file" else {}))
            assert (got.data, got.result.digest_source, got.result.digest.parts) == (DATA, place.source, 2)
            _clear(picky)
        elif picky.name == "file" and not told:
            picky.refuse(url, UnverifiableError, keeps=True)
        else:
            picky.refuse(url, DigestMismatchError if told else UnverifiableError)


def test_an_etag_of_parts_that_nobody_can_guess(origin, file_front):
    """It shows nothing that no usual size yields it: the file is taken, and the verdict says by what."""
    url = offer(origin, MULTIPART, f"{of_parts(DATA, 7_777_777)}-2")
    told = []
    got = file_front.get(url, on_progress=lambda progress: told.append(progress.message))
    assert (got.result.verification, got.result.digest, got.result.digest_source) == (Verification.SIZE, None, None)
    assert any("no size of parts in use yields it" in message for message in told)
    again = file_front.get(url)
    assert (again.result.outcome, again.result.verification) == (Outcome.ALREADY_PRESENT, Verification.SIZE)


def test_an_etag_of_parts_that_nobody_can_guess_where_one_is_required(origin, picky):
    url = offer(origin, MULTIPART, f"{of_parts(DATA, 7_777_777)}-2")
    if picky.name == "stream":
        picky.refuse(url, UnverifiableError)
    else:
        picky.refuse(url, UnverifiableError, keeps=True)


def s3_tells_parts(origin: Origin, size: int) -> None:
    def answer(answer):
        answer.status = 206
        answer.headers |= {"Content-Range": f"bytes 0-{size - 1}/{len(DATA)}", "x-amz-mp-parts-count": "2"}
        return answer

    origin.when(method="HEAD", path="/x.bin", request=2)._add("part", answer)  # after that for the checksums


@pytest.mark.parametrize(("served", "right"), [(DATA, True), (WRONG, False)], ids=["right", "wrong"])
def test_s3_tells_the_size_of_the_parts(origin, front, served, right):
    url = offer(origin, MULTIPART, f"{of_parts(DATA, 7_777_777)}-2", served)
    s3_tells_parts(origin, 7_777_777)
    if not right:
        front.refuse(url, DigestMismatchError)
        return
    result = front.get(url).result
    assert (result.verification, result.digest.parts, result.digest.part_size) == (Verification.SERVER, 2, 7_777_777)


def test_s3_is_not_asked_in_the_name_of_another(origin, front):
    """A signature is of one request, and credentials are the caller's to use."""
    url = offer(origin, MULTIPART, f"{of_parts(DATA, 8 * MIB)}-2")
    front.get(f"{url}?X-Amz-Signature=1")
    _clear(front)
    front.get(url, headers={"Authorization": "Bearer x"})
    assert "HEAD" not in {record.method for record in origin.ledger}


def _clear(front) -> None:
    if front.name == "file":
        (front.directory / "out.bin").unlink(missing_ok=True)


# Looking up: costs, credentials, time.


def large(origin: Origin, monkeypatch) -> str:
    """A file that is worth a few requests."""
    monkeypatch.setattr("hydraflow.sources.publishers.WORTHWHILE", len(DATA))
    return origin.add("/d/x.bin", DATA)


def asked(origin: Origin) -> list[str]:
    return [record.path for record in origin.ledger if record.path != "/d/x.bin"]


USUAL = ["/d/x.bin.sha256", "/d/x.bin.md5", "/d/SHA256SUMS", "/d/md5checksums.txt"]


def test_a_small_file_of_an_unknown_server_costs_no_request_more(origin, front):
    origin.add("/d/x.bin", DATA[:1000])
    result = front.get(f"{origin.url}/d/x.bin").result
    assert (result.verification, asked(origin)) == (Verification.SIZE, [])


def test_a_large_one_costs_four(origin, front, monkeypatch):
    result = front.get(large(origin, monkeypatch)).result
    assert (result.verification, asked(origin)) == (Verification.SIZE, USUAL)


def test_files_of_a_directory_share_an_answer(origin, file_front, monkeypatch):
    url = large(origin, monkeypatch)
    origin.add("/d/y.bin", DATA)
    origin.add("/d/SHA256SUMS", listing(DATA, "x.bin").encode() + listing(DATA, "y.bin").encode())
    for name in ("x.bin", "y.bin"):
        result = fetch(url.replace("x.bin", name), file_front.directory / name, settings=file_front.settings)
        assert result.verification is Verification.SIDECAR
    assert asked(origin).count("/d/SHA256SUMS") == 1


def test_nothing_is_looked_up_without_need(origin, file_front, monkeypatch):
    url = large(origin, monkeypatch)
    file_front.get(url, digest=f"sha256:{sha256(DATA)}")
    file_front.settings = replace(file_front.settings, verify="none")
    file_front.get(url, overwrite=True)
    origin.add("/d/x.bin", DATA, headers={"Content-MD5": b64(bytes.fromhex(md5(DATA)))})
    file_front.settings = replace(file_front.settings, verify="auto")
    file_front.get(url, overwrite=True)
    assert asked(origin) == []


def test_credentials_go_to_the_origin_and_no_further(origin, front, monkeypatch):
    url = large(origin, monkeypatch)
    with Origin() as elsewhere:
        there = elsewhere.add("/x.bin.sha256", listing(DATA, "x.bin").encode())
        origin.when(path="/d/x.bin.sha256").redirect(there)
        result = front.get(url, headers={"Authorization": "Bearer s3cr3t", "X-Token": "abc"}).result
        assert result.verification is Verification.SIDECAR
        assert [record.headers.get("authorization") for record in elsewhere.ledger] == [None]
        assert [record.headers.get("x-token") for record in elsewhere.ledger] == [None]
    own = [record.headers.get("authorization") for record in origin.ledger if record.path == "/d/x.bin.sha256"]
    assert own == ["Bearer s3cr3t"]


def test_credentials_do_not_go_where_the_answer_points(origin, front):
    with Origin() as elsewhere:
        there = elsewhere.add("/x.meta4", metalink(DATA, "x.bin").encode())
        link = f'<{there}>; rel=describedby; type="application/metalink4+xml"'
        url = origin.add("/x.bin", DATA, headers={"Link": link})
        result = front.get(url, headers={"Authorization": "Bearer s3cr3t", "X-Token": "abc"}).result
        assert (result.verification, result.digest_url) == (Verification.SIDECAR, there)
        assert [record.headers.get("authorization") for record in elsewhere.ledger] == [None]
        assert [record.headers.get("x-token") for record in elsewhere.ledger] == [None]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_refusals_are_silent(origin, front, monkeypatch, status):
    url = large(origin, monkeypatch)
    rules = [origin.when(path=path).status(status) for path in USUAL]
    told = []
    got = front.get(url, on_progress=lambda progress: told.append(progress.message))
    assert (got.data, got.result.verification, got.result.retries) == (DATA, Verification.SIZE, 0)
    assert all(rule.fired == 1 for rule in rules)
    assert not any(told)


def test_one_without_an_end_is_left(origin, file_front, monkeypatch):
    monkeypatch.setattr("hydraflow.core.sidecars.MAX_BYTES", MIB)
    url = large(origin, monkeypatch)
    origin.add("/d/x.bin.sha256", listing(DATA, "x.bin").encode() + b"#" * (40 * MIB))
    assert file_front.get(url).result.verification is Verification.SIZE
    assert origin.bytes_served() < len(DATA) + 30 * MIB


@pytest.mark.parametrize("front_name", ["file", "stream"])
def test_a_silent_one_holds_nothing_up_for_long(origin, file_front, stream_front, monkeypatch, front_name):
    monkeypatch.setattr(lookup, "PATIENCE", 0.6)
    monkeypatch.setattr("hydraflow.engine._LOOKUP_WAIT", 0.3)
    front = file_front if front_name == "file" else stream_front
    front.settings = replace(front.settings, read_timeout=20)
    url = large(origin, monkeypatch)
    for path in USUAL:
        origin.when(path=path).head_delay(10)
    begun = time.monotonic()
    assert front.get(url).result.verification is Verification.SIZE
    assert time.monotonic() - begun < 4


def test_a_late_one_is_in_time_for_a_file(origin, file_front, monkeypatch):
    """The file is there long before its digest; it is hashed from its beginning then."""
    url = large(origin, monkeypatch)
    origin.add("/d/x.bin.sha256", listing(DATA, "x.bin").encode())
    origin.when(path="/d/x.bin.sha256").head_delay(0.2)
    result = file_front.get(url).result
    assert (result.verification, result.digest_url) == (Verification.SIDECAR, f"{url}.sha256")


@pytest.mark.parametrize("answered", ["before", "after"])
def test_replaced_with_its_checksum(origin, file_front, monkeypatch, answered):
    """What was said of the first version, before the file changed or after it, is not held against the second."""
    url, new, beside = large(origin, monkeypatch), noise(9 * MIB, seed=2), "/d/x.bin.sha256"
    origin.add(beside, listing(DATA, "x.bin").encode())
    if answered == "after":
        origin.when(path=beside, request=1).wait(head=lambda: replaced.fired > 0)
    origin.when(path=beside, request=2).replace(listing(new, "x.bin").encode(), etag='"v2"')
    replaced = origin.when(path="/d/x.bin", request=3).replace(new, etag='"v2"')
    replaced.wait(head=lambda: answered == "after" or beside in asked(origin))
    got = file_front.get(url)
    assert (got.data, got.result.restarts, replaced.fired) == (new, 1, 1)
    assert (got.result.verification, got.result.digest.value) == (Verification.SIDECAR, sha256(new))


def test_a_coded_body_is_not_the_file_that_is_listed(origin, front, monkeypatch):
    url = large(origin, monkeypatch)
    origin.add("/d/x.bin", DATA, headers={"Content-Encoding": "gzip"})
    origin.add("/d/x.bin.sha256", listing(b"plain", "x.bin").encode())
    assert front.get(url).result.verification is Verification.SIZE
    assert asked(origin) == []


# Whom to believe.


def test_two_that_differ_are_an_error_that_shows_both(origin, front):
    one, two = b64(bytes.fromhex(md5(DATA))), b64(bytes(16))
    url = origin.add("/x.bin", DATA, headers={"Content-MD5": one, "x-goog-hash": f"md5={two}"})
    error = front.refuse(url, DigestConflictError)
    assert md5(DATA) in str(error)
    assert "0" * 32 in str(error)
    front.get(url, digest=f"md5:{md5(DATA)}")


def test_the_origin_is_believed_before_the_place_that_it_leads_to(origin, front):
    hub = PLACES["hugging face"]
    url = offer(origin, hub, hub.says(DATA, "x.bin"))
    origin.add("/x.bin", DATA, headers={"Repr-Digest": f"sha-256=:{b64(bytes(32))}:"})
    result = front.get(url).result
    assert (result.digest.value, result.digest_source) == (sha256(DATA), DigestSource.LINKED_ETAG)


def test_the_place_has_another_size_than_the_origin_says(origin, front):
    origin.add("/x.bin", DATA)
    to = {"Location": "/x.bin", "X-Linked-ETag": PLACES["hugging face"].says(DATA, "x.bin"), "X-Linked-Size": "5"}
    origin.when(path="/hub.bin").status(302, headers=to)
    error = front.refuse(f"{origin.url}/hub.bin", HydraError)
    assert "the redirect promises 5" in str(error)


def test_over_https(trusted, file_front):
    import ssl

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(trusted.certificate, trusted.key)
    file_front.settings = replace(file_front.settings, verify="require")
    with Origin(tls=server) as secure:
        url = secure.add("/x.bin", DATA)
        secure.add("/x.bin.sha256", listing(DATA, "x.bin").encode())
        assert file_front.get(url).result.digest_source is DigestSource.SIDECAR


# `verify`.


def test_none_takes_what_the_server_promises_for_nothing(origin, front):
    url = origin.add("/x.bin", DATA, headers={"Content-MD5": b64(bytes(16))})
    front.settings = replace(front.settings, verify="none")
    result = front.get(url).result
    assert (result.verification, result.digest, result.digest_source) == (Verification.SIZE, None, None)
    _clear(front)
    front.refuse(url, DigestMismatchError, digest="md5:" + "0" * 32)


def test_what_is_there_is_verified_by_the_same_sources(origin, file_front):
    file_front.settings = replace(file_front.settings, verify="require")
    place = PLACES["SHA256SUMS"]
    url = offer(origin, place, place.says(DATA, "x.bin"))
    file_front.get(url)
    again = file_front.get(url).result
    assert (again.outcome, again.verification) == (Outcome.ALREADY_PRESENT, Verification.SIDECAR)
    (file_front.directory / "out.bin").write_bytes(WRONG)
    with pytest.raises(HydraError, match="exists with sha256"):
        fetch(url, file_front.directory / "out.bin", settings=file_front.settings)


def test_what_is_there_cannot_be_verified(origin, file_front):
    url = origin.add("/x.bin", DATA)
    file_front.get(url)
    file_front.settings = replace(file_front.settings, verify="require")
    with pytest.raises(UnverifiableError):
        fetch(url, file_front.directory / "out.bin", settings=file_front.settings)


def test_what_is_there_is_not_what_the_caller_wants(origin, file_front):
    url = origin.add("/x.bin", DATA)
    file_front.get(url)
    for digest in (f"md5:{'0' * 32}-2", f"md5:{'0' * 32}-7", f"md5:{'0' * 32}"):
        with pytest.raises(DestinationExistsError):
            fetch(url, file_front.directory / "out.bin", digest=digest, settings=file_front.settings)


def test_a_digest_of_parts_from_the_caller(origin, front):
    url = origin.add("/x.bin", DATA)
    assert front.get(url, digest=f"md5:{of_parts(DATA, 8 * MIB)}-2").result.verification is Verification.CALLER
    _clear(front)
    front.refuse(url, DigestMismatchError, digest=f"md5:{'0' * 32}-2")
    front.refuse(url, UnverifiableError, digest=f"md5:{'0' * 32}-7")


def test_a_probe_shows_what_the_origin_says(origin, settings):
    hub = PLACES["hugging face"]
    resource = probe(offer(origin, hub, hub.says(DATA, "x.bin")), settings=settings)
    assert [claim.source for claim in resource.claims] == [DigestSource.LINKED_ETAG]
