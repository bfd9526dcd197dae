"""Redirects: followed within bounds, without the caller's headers to other hosts, never from https to http."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from hydraflow.api import fetch
from hydraflow.errors import AccessDeniedError, HydraError, NotFoundError, RemoteProtocolError
from tests.faults.answers import plain
from tests.faults.fronts import MIB, noise
from tests.faults.origin import Origin

DATA = noise(9 * MIB)
SECRET = {"Authorization": "Bearer s3cr3t", "X-Token": "abc"}


@pytest.fixture
def other():
    with Origin() as other:
        yield other


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_same_origin(origin, front, status):
    origin.add("/new.bin", DATA)
    rule = origin.when(path="/old.bin").redirect("/new.bin", status=status)
    got = front.get(f"{origin.url}/old.bin", headers=SECRET)
    assert rule.fired >= 1
    assert got.data == DATA
    assert got.result.final_url == f"{origin.url}/new.bin"
    assert all(record.headers.get("authorization") == "Bearer s3cr3t" for record in origin.ledger)
    assert all(record.headers.get("x-token") == "abc" for record in origin.ledger)
    assert origin.bytes_served("/new.bin") <= 1.1 * len(DATA)


@pytest.mark.parametrize("body", [b"", b"<html>302 Found</html>"])
def test_one_connection_for_the_redirects_of_many_files(origin, other, settings, tmp_path, body):
    for name in "abc":
        target = other.add(f"/{name}", DATA[:1000])
        origin.when(path=f"/{name}").status(302, headers={"Location": target}, body=body)
        fetch(f"{origin.url}/{name}", tmp_path / name, settings=settings)
    assert [record.connection for record in origin.ledger] == [1, 1, 1]


@pytest.mark.parametrize("after", [0, 1 << 20])
def test_a_redirect_that_does_not_come_to_its_end(origin, front, after):
    """What it has to say is waited for no longer than it is long."""
    target = origin.add("/new.bin", DATA)
    rule = origin.when(path="/old.bin").status(302, headers={"Location": target}, body=bytes(2 << 20))
    rule.stall(after=after)
    assert front.get(f"{origin.url}/old.bin").data == DATA
    assert rule.fired == 1


def test_to_another_origin(origin, other, front):
    target = other.add("/new.bin", DATA)
    rule = origin.when(path="/old.bin").redirect(f"{target}?X-Amz-Signature=s3cr3t")
    got = front.get(f"{origin.url}/old.bin", headers=SECRET)
    assert rule.fired >= 1
    assert got.data == DATA
    assert all(record.headers.get("authorization") == "Bearer s3cr3t" for record in origin.ledger)
    assert not any("authorization" in record.headers or "x-token" in record.headers for record in other.ledger)
    assert "s3cr3t" not in got.result.final_url
    assert len(origin.ledger) == 1, "the target is remembered"


@pytest.mark.parametrize("absolute", [True, False])
def test_the_password_of_the_url_goes_along_within_its_origin_only(origin, other, front, absolute):
    origin.add("/new.bin", DATA[:1000])
    origin.when(path="/old.bin").redirect(f"{origin.url}/new.bin" if absolute else "/new.bin")
    origin.when(path="/out.bin").redirect(other.add("/new.bin", DATA[:1000]))
    base = origin.url.replace("://", "://anna:s3cr3t@")
    for name in ("old", "out"):
        got = front.get(f"{base}/{name}.bin")
        assert got.data == DATA[:1000]
        assert "s3cr3t" not in str(got.result)
        _remove(front)
    assert [record.path for record in origin.ledger if "authorization" not in record.headers] == []
    assert "authorization" not in other.ledger[0].headers


def test_there_and_back(origin, other, front):
    """Headers that were left at a border do not come back on the other side."""
    origin.add("/end.bin", DATA[:1000])
    origin.when(path="/start.bin").redirect(f"{other.url}/middle.bin")
    other.when(path="/middle.bin").redirect(f"{origin.url}/end.bin")
    assert front.get(f"{origin.url}/start.bin", headers=SECRET).data == DATA[:1000]
    assert "authorization" in origin.requests("/start.bin")[0].headers
    assert "authorization" not in other.ledger[0].headers


def test_target_that_expires(origin, other, front):
    """A signed URL runs out in the middle: the first address is asked for a new one."""
    first = other.add("/signed-1.bin", DATA)
    second = other.add("/signed-2.bin", DATA)
    origin.when(path="/x.bin", request=1).redirect(first)
    origin.when(path="/x.bin").redirect(second)
    other.when(path="/signed-1.bin", request=1).slow(64 * MIB)
    expired = other.when(path="/signed-1.bin").status(403)
    got = front.get(f"{origin.url}/x.bin")
    assert expired.fired >= 1
    assert got.data == DATA
    assert other.bytes_served() <= 1.1 * len(DATA)


@pytest.mark.parametrize("how", ["gone", 500, 503])
def test_target_that_dies(origin, other, front, how):
    """Who redirects knows of another one by then."""
    with Origin() as third:
        origin.when(path="/x.bin", request=1).redirect(other.add("/x.bin", DATA))
        origin.when(path="/x.bin").redirect(third.add("/x.bin", DATA))
        other.when(request=1).slow(8 * MIB)
        if how == "gone":
            other.when().drop(after=0)
        else:
            other.when().status(how)

        def cut(progress):
            if how == "gone" and other.bytes_served() > MIB:
                other.pause()

        got = front.get(f"{origin.url}/x.bin", on_progress=cut)
        assert got.data == DATA
        assert got.result.restarts == 0
        assert third.bytes_served() > MIB
        assert other.bytes_served() + third.bytes_served() <= 1.1 * len(DATA)


def test_what_credentials_opened_stays_closed_to_others(origin, other, file_front, tmp_path):
    """The target of a redirect is remembered for those alone who got it: it may be as good as the credentials."""
    target = other.add("/private.bin", DATA[:1000])
    door = origin.when(path="/x.bin")
    known = []

    def look(request, _resource):
        known.append("authorization" in request.headers)
        return True

    def answer(reply):
        made = plain(302, {"Location": target}) if known[-1] else plain(401)
        reply.status, reply.headers, reply.body = made.status, made.headers, b""
        return reply

    door._prepare("look", look)
    door._add("answer", answer)
    url = origin.add("/x.bin", b"")
    assert file_front.get(url, headers=SECRET).data == DATA[:1000]
    with pytest.raises(AccessDeniedError):
        fetch(url, tmp_path / "mine.bin", settings=file_front.settings)
    assert door.fired == 2


def test_netrc(origin, front, tmp_path, monkeypatch):
    """For the host that it names, and not for where that redirects to."""
    import base64

    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login anna password s3cr3t\ndefault login all password d3f4ult\n")
    monkeypatch.setenv("NETRC", str(file))
    origin.add("/x.bin", DATA[:1000])
    with Origin() as elsewhere:
        there = elsewhere.add("/y.bin", DATA[:1000]).replace("127.0.0.1", "localhost")
        assert front.get(f"{origin.url}/x.bin").data == DATA[:1000]
        _remove(front)
        origin.when(path="/x.bin").redirect(there)
        assert front.get(f"{origin.url}/x.bin").data == DATA[:1000]
        _remove(front)
        assert front.get(there).data == DATA[:1000]
        assert [record.headers.get("authorization") for record in elsewhere.ledger] == [None, None]
        _remove(front)
        front.get(f"{origin.url}/x.bin", headers={"authorization": "Bearer x"})
    sent = [record.headers["authorization"] for record in origin.ledger]
    assert sent == [*["Basic " + base64.b64encode(b"anna:s3cr3t").decode()] * 2, "Bearer x"]


@pytest.mark.parametrize("text", ["", "nonsense", "machine", "machine 127.0.0.1 login anna", "\ud800"])
def test_a_netrc_that_is_of_no_use(origin, front, tmp_path, monkeypatch, text):
    file = tmp_path / "netrc"
    file.write_text(text, errors="surrogatepass")
    monkeypatch.setenv("NETRC", str(file))
    front.get(origin.add("/x.bin", DATA[:1000]))


def test_a_netrc_that_others_may_read_is_not_used(origin, front, tmp_path, monkeypatch):
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".netrc"
    file.write_text("machine 127.0.0.1 login anna password s3cr3t\n")
    url = origin.add("/x.bin", DATA[:1000])
    for mode in (0o644, 0o600):
        file.chmod(mode)
        front.get(url)
        _remove(front)
    assert ["authorization" in record.headers for record in origin.ledger] == [False, True]


def _remove(front) -> None:
    if front.name == "file":
        (front.directory / "out.bin").unlink()


def test_loop(origin, front):
    rule = origin.when().redirect("/x.bin")
    error = front.refuse(f"{origin.url}/x.bin", HydraError)
    assert "redirects" in str(error)
    assert 10 < rule.fired <= 40


def test_chain_of_ten(origin, front):
    origin.add("/10", DATA[:1000])
    for n in range(10):
        origin.when(path=f"/{n}").redirect(f"/{n + 1}")
    assert front.get(f"{origin.url}/0").data == DATA[:1000]


def test_to_nowhere(origin, front):
    rule = origin.when(path="/x.bin").redirect("/gone.bin")
    front.refuse(f"{origin.url}/x.bin", NotFoundError)
    assert rule.fired >= 1


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/", "data:,x"])
def test_to_another_scheme(origin, front, to):
    rule = origin.when().redirect(to)
    front.refuse(f"{origin.url}/x.bin", RemoteProtocolError)
    assert rule.fired >= 1


@pytest.mark.parametrize("to", ["", "http://", "http://[::1", "//", "http://127.0.0.1:99999/x", "http://xn--/x"])
def test_to_what_is_no_url(origin, front, to):
    rule = origin.when().redirect(to)
    front.refuse(f"{origin.url}/x.bin", HydraError)
    assert rule.fired >= 1


def test_without_location(origin, front):
    rule = origin.when().status(302)
    front.refuse(f"{origin.url}/x.bin", HydraError)
    assert rule.fired >= 1


def test_from_https_to_http(origin, front, trusted):
    origin.add("/x.bin", DATA[:1000])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(trusted.certificate, trusted.key)
    with Origin(tls=server) as secure:
        rule = secure.when().redirect(f"{origin.url}/x.bin")
        error = front.refuse(f"{secure.url}/x.bin", RemoteProtocolError)
        assert rule.fired >= 1
        assert "from https to http" in str(error)
        assert origin.ledger == []
        front.settings = replace(front.settings, insecure_redirects=True)
        assert front.get(f"{secure.url}/x.bin", headers=SECRET).data == DATA[:1000]
    assert "authorization" not in origin.ledger[0].headers


def test_from_http_to_https(origin, front, trusted):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(trusted.certificate, trusted.key)
    with Origin(tls=server) as secure:
        target = secure.add("/x.bin", DATA)
        rule = origin.when().redirect(target)
        assert front.get(f"{origin.url}/x.bin").data == DATA
        assert rule.fired >= 1
