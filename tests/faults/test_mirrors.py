"""Several URLs of one file: none but the right bytes come out, and one good source is enough."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hydraflow import errors
from hydraflow.api import afetch, fetch, fetch_all, stream
from tests.faults.fronts import MIB, FileFront, StreamFront, noise
from tests.faults.origin import Origin
from tests.faults.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hydraflow.settings import Settings

Front = FileFront | StreamFront
DATA = noise(16 * MIB)
SHA = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
STEADY = 6.0 * MIB  # bytes per second of each connection: slow enough for a second source to be of use


@pytest.fixture
def mirror() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin
        origin.pause()


class Told:
    """What was said on the way."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, progress: object) -> None:
        self.said.append(progress.message)  # type: ignore[attr-defined]

    def of(self, origin: Origin, what: str) -> bool:
        return any(origin.url in line and what in line for line in self.said)


def steady(*origins: Origin) -> None:
    for each in origins:
        each.when().slow(STEADY)


def interrupt(when: Callable[[], bool], url: str, path: Path, **options: Any) -> None:
    """Begin to fetch, and go away when something has come."""

    async def begin() -> None:
        task = asyncio.create_task(afetch(url, path, **options))
        while not when():
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(begin())


def test_both_are_used_where_a_strong_etag_is_the_same(origin: Origin, mirror: Origin, front: Front):
    steady(origin, mirror)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    delivered = front.get(url, mirrors=[other])
    assert delivered.data == DATA
    assert min(origin.bytes_served(), mirror.bytes_served()) > MIB // 2
    assert origin.bytes_served() + mirror.bytes_served() < 1.1 * len(DATA)


def test_both_are_used_where_a_digest_will_tell(origin: Origin, mirror: Origin, file_front: FileFront):
    steady(origin, mirror)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA, etag='"another"')
    assert file_front.get(f"{url}#mirror={other}", digest=SHA).data == DATA
    assert min(origin.bytes_served(), mirror.bytes_served()) > MIB // 2


def test_a_stream_takes_no_byte_on_the_word_of_a_digest_at_its_end(
    origin: Origin, mirror: Origin, stream_front: StreamFront
):
    steady(origin)
    told, wrong = Told(), bytes(len(DATA))
    url, other = origin.add("/a", DATA), mirror.add("/b", wrong, etag='"another"')
    assert stream_front.get(url, mirrors=[other], digest=SHA, on_progress=told).data == DATA
    assert told.of(mirror, "is left out: the size is the same, but")


def test_the_same_size_alone_is_not_enough(origin: Origin, mirror: Origin, front: Front):
    steady(origin)
    told = Told()
    url, other = origin.add("/a", DATA), mirror.add("/b", bytes(len(DATA)), etag='"another"')
    assert front.get(url, mirrors=[other], on_progress=told).data == DATA
    assert told.of(mirror, "is left out: the size is the same, but")


@pytest.mark.parametrize("digest", [None, SHA])
def test_another_size_is_dropped_and_named(origin: Origin, mirror: Origin, front: Front, digest: str | None):
    steady(origin)
    told = Told()
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA[:-1])
    assert front.get(url, mirrors=[other], digest=digest, on_progress=told).data == DATA
    assert told.of(mirror, f"another file: {len(DATA) - 1} bytes")


def test_a_wrong_byte_costs_the_bytes_of_the_mirror_alone(origin: Origin, mirror: Origin, file_front: FileFront):
    steady(origin, mirror)
    told, wrong = Told(), bytearray(DATA)
    for offset in range(0, len(DATA), 64 << 10):
        wrong[offset] ^= 1
    url, other = origin.add("/a", DATA), mirror.add("/b", bytes(wrong))
    delivered = file_front.get(url, mirrors=[other], digest=SHA, on_progress=told)
    assert delivered.data == DATA
    assert mirror.bytes_served() > MIB // 2
    assert told.of(mirror, "gave wrong bytes")
    assert delivered.result.restarts == 0
    assert origin.bytes_served() < 1.1 * len(DATA)


def test_a_first_url_with_wrong_bytes_is_found_out_too(origin: Origin, mirror: Origin, file_front: FileFront):
    steady(origin, mirror)
    told, wrong = Told(), bytes([1]) * len(DATA)
    url, other = origin.add("/a", wrong, etag='"bad"'), mirror.add("/b", DATA)
    assert file_front.get(url, mirrors=[other], digest=SHA, on_progress=told).data == DATA
    assert told.of(origin, "is given up: sha256 mismatch")


def test_a_digest_that_nobody_has_is_said_to_be_wrong(origin: Origin, mirror: Origin, file_front: FileFront):
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    error = file_front.refuse(url, errors.DigestMismatchError, mirrors=[other], digest=f"md5:{'0' * 32}")
    assert "give the same bytes: is it the right digest?" in str(error)


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_a_mirror_that_refuses_costs_nothing(origin: Origin, mirror: Origin, front: Front, status: int):
    mirror.when().status(status)
    steady(origin)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    assert front.get(url, mirrors=[other]).data == DATA
    assert len(mirror.ledger) <= 20


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_a_first_url_that_refuses_is_not_missed(origin: Origin, mirror: Origin, front: Front, status: int):
    origin.when().status(status)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    begun = time.monotonic()
    assert front.get(url, mirrors=[other]).data == DATA
    assert time.monotonic() - begun < 5


def test_a_source_that_goes_in_the_midst_is_not_missed(origin: Origin, mirror: Origin, front: Front):
    for number in range(2, 60):
        origin.when(request=number).status(404)
    steady(origin, mirror)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    assert front.get(url, mirrors=[other]).data == DATA


def test_a_silent_first_url_is_not_waited_for(origin: Origin, mirror: Origin, file_front: FileFront):
    origin.when().head_delay(20)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    begun = time.monotonic()
    assert file_front.get(url, mirrors=[other], digest=SHA).data == DATA
    assert time.monotonic() - begun < 4


def test_all_of_them_are_named_where_all_have_failed(origin: Origin, mirror: Origin, front: Front):
    url, other = origin.url + "/a", mirror.add("/b", DATA)
    mirror.when().status(403)
    error = front.refuse(url, errors.NotFoundError, mirrors=[other])
    assert str(error) == f"no source is left: {url}: 404 Not Found; {other}: 403 Forbidden"


def test_headers_go_to_their_own_origin_only(origin: Origin, mirror: Origin, front: Front):
    steady(origin, mirror)
    url, beside, other = origin.add("/a", DATA), origin.add("/c", DATA), mirror.add("/b", DATA)
    front.get(url, mirrors=[other, beside], headers={"Authorization": "Bearer secret"})
    assert mirror.ledger
    assert all("authorization" not in record.headers for record in mirror.ledger)
    assert all(record.headers["authorization"] == "Bearer secret" for record in origin.ledger)
    assert {record.path for record in origin.ledger} == {"/a", "/c"}


def test_what_a_mirror_gave_on_a_digest_is_verified_by_a_later_run_without_one(
    origin: Origin, mirror: Origin, tmp_path: Path, settings: Settings
):
    steady(origin, mirror)
    wrong = bytes([7]) * len(DATA)
    url, other = origin.add("/a", DATA), mirror.add("/b", wrong, etag='"another"')
    path = tmp_path / "out.bin"
    interrupt(lambda: mirror.bytes_served() > MIB // 2, url, path, mirrors=[other], digest=SHA, settings=settings)
    assert (tmp_path / ".out.bin.hydra").exists()
    origin.rules.clear()
    result = fetch(url, path, settings=settings)
    assert path.read_bytes() == DATA
    assert result.restarts == 1


def test_a_checkpoint_of_one_url_is_gone_on_from_with_mirrors_and_without(
    origin: Origin, mirror: Origin, tmp_path: Path, settings: Settings
):
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA, etag='"another"')
    path = tmp_path / "out.bin"
    steady(origin, mirror)
    first = {"mirrors": [other], "digest": SHA, "settings": settings}
    interrupt(lambda: mirror.bytes_served() > MIB // 2, url, path, **first)
    served = origin.bytes_served()
    interrupt(lambda: origin.bytes_served() > served + 2 * MIB, url, path, digest=SHA, settings=settings)
    result = fetch(url, path, mirrors=[other], digest=SHA, settings=settings)
    assert path.read_bytes() == DATA
    assert result.bytes_from_checkpoint > 2 * MIB


def named(*others: str) -> dict[str, str]:
    """The field that names them (RFC 6249 §3)."""
    return {"Link": ", ".join(f"<{each}>; rel=duplicate; pri={n}" for n, each in enumerate(others, 1))}


def test_what_the_answer_names_is_used_on_the_same_evidence(origin: Origin, mirror: Origin, front: Front):
    steady(origin, mirror)
    told, wrong = Told(), bytes(len(DATA))
    others = [mirror.add("/same", DATA), mirror.add("/wrong", wrong, etag='"another"'), f"{mirror.url}/gone"]
    url = origin.add("/a", DATA, headers=named(*others))
    delivered = front.get(url, on_progress=told)
    assert delivered.data == DATA
    assert mirror.bytes_served("/same") > MIB // 2
    assert told.of(mirror, "/wrong is left out: the size is the same, but")
    assert told.of(mirror, "/gone is given up: 404")
    assert "the server names 3 mirrors" in told.said
    shares = delivered.result.sources
    assert [each.url for each in shares] == [url, *others]
    assert sum(each.bytes for each in shares) == len(DATA)
    assert [(each.bytes > 0, bool(each.trouble)) for each in shares] == [(True, False)] * 2 + [(False, True)] * 2


def test_a_redirecting_answer_names_them_too(origin: Origin, mirror: Origin, file_front: FileFront):
    """As download redirectors do: the target of the redirect is one of those that it names."""
    origin.when(path="/here").slow(STEADY)
    steady(mirror)
    here, there = origin.add("/here", DATA), mirror.add("/there", DATA)
    origin.when(path="/file").status(302, headers={"Location": here, **named(here, there)})
    delivered = file_front.get(f"{origin.url}/file", digest=SHA)
    assert delivered.data == DATA
    assert [each.url for each in delivered.result.sources] == [f"{origin.url}/file", there]
    assert mirror.bytes_served() > MIB // 2


def test_what_is_named_stands_in_for_who_names_it(origin: Origin, mirror: Origin, front: Front):
    steady(origin, mirror)
    url = origin.add("/a", DATA, headers=named(mirror.add("/b", DATA)))

    def withdraw(progress: object) -> None:
        del progress
        if mirror.bytes_served() > MIB // 2 and len(origin.rules) == 1:
            origin.rules.insert(0, Rule().status(403))

    delivered = front.get(url, on_progress=withdraw)
    assert delivered.data == DATA
    assert "403" in delivered.result.sources[0].trouble


def test_a_mirror_that_keeps_silent_is_asked_once(origin: Origin, mirror: Origin, front: Front):
    steady(origin)
    mirror.when().head_delay(30.0)
    front.settings = replace(front.settings, read_timeout=20.0)
    url, other = origin.add("/a", DATA), mirror.add("/b", DATA)
    assert front.get(url, mirrors=[other]).data == DATA
    assert len(mirror.requests()) == 1


def test_a_strangers_mirror_gets_nothing_of_the_callers(origin: Origin, mirror: Origin, file_front: FileFront):
    steady(origin, mirror)
    url = origin.add("/a", DATA, headers=named(mirror.add("/b", DATA)))
    assert file_front.get(url, headers={"Authorization": "Bearer secret"}).data == DATA
    assert {request.headers.get("authorization") for request in origin.requests()} == {"Bearer secret"}
    assert {request.headers.get("authorization") for request in mirror.requests()} == {None}


@pytest.mark.parametrize("by_caller", [True, False])
def test_netrc_is_for_mirrors_that_the_caller_named(
    origin: Origin, mirror: Origin, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_caller: bool
):
    (tmp_path / "netrc").write_text("machine localhost login anna password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    steady(origin, mirror)
    other = mirror.add("/b", DATA).replace("127.0.0.1", "localhost")
    url = origin.add("/a", DATA, headers={} if by_caller else named(other))
    assert front.get(url, mirrors=[other] if by_caller else []).data == DATA
    sent = {request.headers.get("authorization") for request in mirror.requests()}
    assert sent == {"Basic YW5uYTpzM2NyM3Q=" if by_caller else None}
    assert {request.headers.get("authorization") for request in origin.requests()} == {None}


@pytest.mark.parametrize("named_by", ["caller", "server"])
def test_an_outage_of_all_of_them_leaves_the_checkpoint(
    origin: Origin, mirror: Origin, tmp_path: Path, settings: Settings, named_by: str
):
    steady(origin, mirror)
    other = mirror.add("/b", DATA[::-1], etag='"another"')
    url = origin.add("/a", DATA, headers=named(other) if named_by == "server" else {})
    options = {"mirrors": [other] if named_by == "caller" else [], "settings": replace(settings, max_wait=1.0)}

    def cut(progress: object) -> None:
        del progress
        if origin.bytes_served() > 6 * MIB:
            for each in (origin, mirror):
                each.pause()

    with pytest.raises(errors.ConnectError):
        fetch(url, tmp_path / "out.bin", on_progress=cut, **options)
    for each in (origin, mirror):
        each.resume()
    assert fetch(url, tmp_path / "out.bin", **options).bytes_from_checkpoint > 4 * MIB
    assert (tmp_path / "out.bin").read_bytes() == DATA


@pytest.mark.parametrize("bad", ["http://h:port/x", "http://xn--/x", "http://[v1.a]/x", "http://a\x7f/x"])
def test_what_is_no_url_is_no_mirror_and_breaks_nothing(origin: Origin, front: Front, bad: str):
    meta = f'<{bad}>; rel=describedby; type="application/metalink4+xml"'
    url = origin.add("/a", DATA, headers={"Link": f"<{bad}>; rel=duplicate, {meta}"})
    assert front.get(url).data == DATA


def test_mute_mirrors_do_not_delay_a_small_file_one_after_the_other(origin: Origin, mirror: Origin, front: Front):
    mirror.when().head_delay(20)
    url = origin.add("/a", DATA[: 5 * MIB], headers=named(*(mirror.add(f"/{n}", DATA[: 5 * MIB]) for n in range(4))))
    begun = time.monotonic()
    assert front.get(url).data == DATA[: 5 * MIB]
    assert time.monotonic() - begun < 1.2


def test_mirrors_need_one_url(origin: Origin, settings: Settings):
    with pytest.raises(errors.ConfigurationError, match="mirrors are of one URL"):
        fetch_all([origin.url + "/a", origin.url + "/b"], mirrors=["http://m/x"], settings=settings)


def test_a_reader_gets_nothing_that_a_mirror_gave_on_the_word_of_a_digest(
    origin: Origin, mirror: Origin, tmp_path: Path, settings: Settings
):
    steady(origin, mirror)
    url, other = origin.add("/a", DATA), mirror.add("/b", bytes([7]) * len(DATA), etag='"another"')
    path = tmp_path / "out.bin"
    interrupt(lambda: mirror.bytes_served() > MIB // 2, url, path, mirrors=[other], digest=SHA, settings=settings)
    origin.rules.clear()
    with stream(url, digest=SHA, spool=path, settings=settings) as opened:
        assert b"".join(opened) == DATA
    assert path.read_bytes() == DATA


def test_the_command_takes_mirrors(origin: Origin, mirror: Origin, tmp_path: Path):
    other = mirror.add("/b&c", DATA)
    command = [sys.executable, "-m", "hydraflow", "-nu", f"{origin.url}/gone.bin#{SHA.replace(':', '=')}"]
    done = subprocess.run(
        [*command, "--mirror", other, "-o", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gone.bin").read_bytes() == DATA
    assert f"{origin.url}/gone.bin is given up: 404 Not Found" in done.stderr
    done = subprocess.run([*command, "http://h/y", "--mirror", other], capture_output=True, text=True, check=False)
    assert (done.returncode, "--mirror is of one URL" in done.stderr) == (2, True)
