"""The origin is honest until told otherwise, and lies exactly as told."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.faults.origin import Origin

DATA = bytes(range(256)) * 1024  # 256 KiB
PATH = "/x.bin"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


def connect(origin: Origin) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(origin.url).netloc, timeout=10)


def ask(connection: http.client.HTTPConnection, path: str = PATH, method: str = "GET", **headers: str) -> Got:
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def get(origin: Origin, path: str = PATH, method: str = "GET", **headers: str) -> Got:
    connection = connect(origin)
    try:
        return ask(connection, path, method, **headers)
    finally:
        connection.close()


def talk(origin: Origin, range_: str | None = None) -> tuple[bytes, str]:
    """Everything that the server sends until it ends the connection, and how it ended it."""
    fields = f"Range: {range_}\r\n" if range_ else ""
    with socket.create_connection(("127.0.0.1", urlsplit(origin.url).port), timeout=10) as peer:
        peer.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        received = b""
        while True:
            try:
                piece = peer.recv(1 << 16)
            except ConnectionResetError:
                return received, "reset"
            if not piece:
                return received, "closed"
            received += piece


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
def origin(origin: Origin) -> Origin:
    origin.add(PATH, DATA, last_modified=DATE, headers={"X-Mark": "yes"})
    return origin


class TestHonest:
    def test_whole(self, origin):
        got = get(origin)
        assert (got.status, got.body) == (200, DATA)
        assert got.headers["etag"] == '"v1"'
        assert got.headers["last-modified"] == DATE
        assert got.headers["accept-ranges"] == "bytes"
        assert got.headers["x-mark"] == "yes"
        assert "date" in got.headers

    @pytest.mark.parametrize(
        ("range_", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-99", 10, 100),
            ("bytes=262000-", 262000, 262144),
            ("bytes=262140-999999", 262140, 262144),
            ("bytes=-7", 262137, 262144),
            ("bytes=-999999", 0, 262144),
        ],
    )
    def test_range(self, origin, range_, start, stop):
        got = get(origin, Range=range_)
        assert (got.status, got.body) == (206, DATA[start:stop])
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"

    @pytest.mark.parametrize("range_", ["bytes=262144-", "bytes=-0", "bytes=5-4"])
    def test_unsatisfiable(self, origin, range_):
        got = get(origin, Range=range_)
        assert got.status == 416
        assert got.headers["content-range"] == f"bytes */{len(DATA)}"

    def test_several_ranges_give_the_whole(self, origin):
        assert get(origin, Range="bytes=0-1,4-5").status == 200

    def test_no_ranges(self, origin):
        origin.add("/plain", DATA, ranges=False)
        got = get(origin, "/plain", Range="bytes=0-0")
        assert (got.status, got.headers["accept-ranges"], got.body) == (200, "none", DATA)

    def test_empty_file(self, origin):
        origin.add("/empty", b"")
        assert (get(origin, "/empty").status, get(origin, "/empty").body) == (200, b"")
        assert get(origin, "/empty", Range="bytes=0-").status == 416

    @pytest.mark.parametrize(
        ("condition", "status"), [('"v1"', 206), ('"v2"', 200), ('W/"v1"', 200), (DATE, 206), ("Thu, 02 Jan", 200)]
    )
    def test_if_range(self, origin, condition, status):
        assert get(origin, Range="bytes=0-0", If_Range=condition).status == status

    def test_weak_etag_never_holds(self, origin):
        origin.add("/weak", DATA, etag='W/"v1"')
        assert get(origin, "/weak", Range="bytes=0-0", If_Range='W/"v1"').status == 200

    def test_head(self, origin):
        got = get(origin, method="HEAD")
        assert (got.status, got.body, got.headers["content-length"]) == (200, b"", str(len(DATA)))

    def test_refused_head(self, origin):
        origin.add("/nohead", DATA, refuse_head=True)
        assert get(origin, "/nohead", method="HEAD").status == 405
        assert get(origin, "/nohead").status == 200

    def test_unknown_path_and_query(self, origin):
        assert get(origin, "/other").status == 404
        assert get(origin, f"{PATH}?signature=1").status == 200

    def test_keep_alive(self, origin):
        connection = connect(origin)
        assert [ask(connection, Range="bytes=0-9").status for _ in range(3)] == [206, 206, 206]
        connection.close()
        assert {record.connection for record in origin.ledger} == {1}
        assert origin.peak_connections == origin.peak_requests == 1

    def test_close_on_request(self, origin):
        assert get(origin, Connection="close").body == DATA


class TestLedger:
    def test_records(self, origin):
        get(origin, Range="bytes=0-9", User_Agent="tests")
        get(origin, "/other")
        first, second = origin.ledger
        assert (first.n, first.method, first.path, first.range, first.status) == (1, "GET", PATH, "bytes=0-9", 206)
        assert (first.body_bytes_sent, first.fault, first.headers["user-agent"]) == (10, None, "tests")
        assert (second.n, second.connection, second.status) == (2, 2, 404)
        assert origin.requests("/other") == [second]
        assert origin.requests(method="HEAD") == []
        assert origin.bytes_served(PATH) == 10

    def test_peak_of_requests(self, origin):
        origin.when().head_delay(0.3)
        connections = [connect(origin) for _ in range(3)]
        for connection in connections:
            connection.request("GET", PATH)
        for connection in connections:
            assert connection.getresponse().read() == DATA
            connection.close()
        assert origin.peak_requests == origin.peak_connections == 3


class TestConditions:
    def statuses(self, origin, count=6):
        return [get(origin).status for _ in range(count)]

    def test_request(self, origin):
        rule = origin.when(request=3).status(503)
        assert self.statuses(origin) == [200, 200, 503, 200, 200, 200]
        assert (rule.fired, rule.matched) == (1, 6)

    def test_every(self, origin):
        origin.when(every=2).status(503)
        assert self.statuses(origin) == [200, 503, 200, 503, 200, 503]

    def test_times(self, origin):
        origin.when(times=2).status(503)
        assert self.statuses(origin) == [503, 503, 200, 200, 200, 200]

    def test_path_and_method(self, origin):
        origin.when(path="/other").status(503)
        origin.when(method="HEAD").status(403)
        assert [get(origin).status, get(origin, "/other").status, get(origin, method="HEAD").status] == [200, 503, 403]

    def test_range_start(self, origin):
        origin.when(range_start=5).status(503)
        assert [get(origin, Range=f"bytes={n}-").status for n in (4, 5, 6)] == [206, 503, 206]

    def test_busy(self, origin):
        rule = origin.when(busy=1).status(429)
        origin.when(request=1).head_delay(0.5)
        slow = connect(origin)
        slow.request("GET", PATH)
        while not origin.ledger:
            time.sleep(0.01)
        assert get(origin).status == 429
        assert slow.getresponse().status == 200
        slow.close()
        assert rule.fired == 1

    def test_every_rule_counts_every_request(self, origin):
        origin.when(request=1).status(503)
        origin.when(request=2).status(429)
        assert self.statuses(origin, 3) == [503, 429, 200]


class TestCuts:
    def test_drop(self, origin):
        rule = origin.when(request=1).drop(after=1000)
        answer, end = talk(origin)
        assert (body(answer), end) == (DATA[:1000], "closed")
        assert rule.fired == 1
        assert (origin.ledger[0].fault, origin.bytes_served()) == ("drop", 1000)
        assert get(origin).body == DATA

    def test_drop_right_after_the_head(self, origin):
        origin.when().drop()
        answer, end = talk(origin)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (body(answer), end) == (b"", "closed")

    def test_reset(self, origin):
        origin.when().reset(after=1000)
        answer, end = talk(origin)
        assert (body(answer), end) == (DATA[:1000], "reset")

    def test_cut_beyond_the_end_does_not_fire(self, origin):
        rule = origin.when().drop(after=len(DATA))
        assert get(origin).body == DATA
        assert rule.fired == 0
        assert origin.ledger[0].fault is None

    def test_stall(self, origin):
        origin.when().stall(after=1000, seconds=0.3)
        start = time.monotonic()
        assert get(origin).body == DATA
        assert 0.3 <= time.monotonic() - start < 3

    def test_stall_for_ever_ends_with_the_client(self, origin):
        origin.when(request=1).stall(after=10)
        connection = connect(origin)
        connection.request("GET", PATH)
        response = connection.getresponse()
        assert response.read(10) == DATA[:10]
        connection.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            response.read(1)
        response.close()
        connection.close()
        assert get(origin).body == DATA

    def test_slow(self, origin):
        origin.add("/slow", bytes(2000))
        origin.when().slow(10_000)
        start = time.monotonic()
        assert len(get(origin, "/slow").body) == 2000
        assert time.monotonic() - start >= 0.19

    def test_head_delay(self, origin):
        origin.when().head_delay(0.2)
        start = time.monotonic()
        get(origin, Range="bytes=0-0")
        assert time.monotonic() - start >= 0.2

    def test_chained(self, origin):
        origin.when(request=1).head_delay(0.1).drop(after=5)
        assert body(talk(origin)[0]) == DATA[:5]
        assert origin.ledger[0].fault == "head_delay+drop"


class TestLies:
    def test_status(self, origin):
        origin.when().status(503, headers={"Retry-After": "1"}, body=b"busy")
        got = get(origin)
        assert (got.status, got.headers["retry-after"], got.body) == (503, "1", b"busy")
        assert origin.ledger[0].status == 503

    def test_redirect(self, origin):
        origin.when(path="/old").redirect(PATH, status=307)
        got = get(origin, "/old")
        assert (got.status, got.headers["location"]) == (307, PATH)

    def test_wrong_range(self, origin):
        rule = origin.when().wrong_range(shift=5)
        got = get(origin, Range="bytes=10-19")
        assert (got.headers["content-range"], got.body) == (f"bytes 15-24/{len(DATA)}", DATA[10:20])
        assert get(origin).status == 200
        assert rule.fired == 1

    def test_wrong_total(self, origin):
        origin.when().wrong_total(by=-1)
        assert get(origin, Range="bytes=0-1").headers["content-range"] == f"bytes 0-1/{len(DATA) - 1}"

    def test_short(self, origin):
        origin.when().short(10)
        with pytest.raises(http.client.IncompleteRead) as caught:
            get(origin)
        assert (caught.value.partial, caught.value.expected) == (DATA, 10)

    def test_extra(self, origin):
        origin.when(request=1).extra(3)
        connection = connect(origin)
        assert ask(connection).body == DATA
        assert connection.sock.recv(10) == b"\xee" * 3
        connection.close()

    def test_extra_announced(self, origin):
        origin.when().extra(3, announced=True)
        got = get(origin, Range="bytes=0-9")
        assert (got.body, got.headers["content-length"]) == (DATA[:10] + b"\xee" * 3, "13")
        assert got.headers["content-range"] == f"bytes 0-9/{len(DATA)}"

    def test_flip(self, origin):
        rule = origin.when().flip(15)
        assert get(origin, Range="bytes=10-19").body == DATA[10:15] + bytes([DATA[15] ^ 1]) + DATA[16:20]
        assert get(origin, Range="bytes=20-29").body == DATA[20:30]
        assert rule.fired == 1

    def test_replace(self, origin):
        origin.when(request=2).replace(b"new", etag='"v2"')
        assert [get(origin).headers["etag"] for _ in range(3)] == ['"v1"', '"v2"', '"v2"']
        assert get(origin, Range="bytes=0-0", If_Range='"v1"').body == b"new"

    def test_ignore_range(self, origin):
        rule = origin.when().ignore_range()
        got = get(origin, Range="bytes=0-0")
        assert (got.status, got.body) == (200, DATA)
        assert (rule.fired, origin.ledger[0].range) == (1, "bytes=0-0")
        get(origin)
        assert rule.fired == 1

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
    def test_raw(self, origin, sent):
        origin.when().raw(sent)
        assert talk(origin) == (sent, "closed")

    def test_garbage(self, origin):
        origin.when().garbage()
        with pytest.raises(http.client.BadStatusLine):
            get(origin)


class TestFraming:
    def test_no_length(self, origin):
        origin.when().no_length()
        got = get(origin)
        assert got.body == DATA
        assert "content-length" not in got.headers

    def test_chunked(self, origin):
        origin.when().chunked()
        connection = connect(origin)
        assert [ask(connection).body for _ in range(2)] == [DATA, DATA]
        assert ask(connection, method="HEAD").headers["transfer-encoding"] == "chunked"
        assert ask(connection, Range="bytes=3-4").body == DATA[3:5]
        connection.close()

    def test_truncated_chunked(self, origin):
        origin.when().truncated_chunked()
        with pytest.raises(http.client.IncompleteRead) as caught:
            get(origin)
        assert caught.value.partial == DATA[: len(DATA) // 2]


class TestOutage:
    def test_pause_and_resume(self, origin):
        origin.when(request=1).stall(after=10)
        connection = connect(origin)
        connection.request("GET", PATH)
        response = connection.getresponse()
        assert response.read(10) == DATA[:10]
        origin.pause()
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            response.read()
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            get(origin)
        url = origin.url
        origin.resume()
        assert origin.url == url
        assert get(origin).body == DATA

    def test_what_is_no_http_is_ignored(self, origin):
        with socket.create_connection(("127.0.0.1", urlsplit(origin.url).port)) as peer:
            peer.sendall(b"hello\r\n\r\n")
            assert peer.recv(10) == b""
        assert origin.ledger == []


def test_tls(certificates):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.certificate, certificates.key)
    client = ssl.create_default_context(cafile=str(certificates.authority))
    with Origin(tls=server) as origin:
        url = origin.add(PATH, DATA)
        origin.when(request=2).drop(after=100)
        assert fetch(url, client) == DATA
        with pytest.raises((http.client.IncompleteRead, OSError)):
            fetch(url, client)


def fetch(url: str, context: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(url, context=context, timeout=10) as response:
        return response.read()
