"""Every way in which a resource can be replaced, and what must come of it: never bytes of two versions.

The table holds one row for each kind of validator and each kind of server, and in it one letter for each cell:

    N  the new version, whole               C  ResourceChangedError
    D  DigestMismatchError                  P  RemoteProtocolError: the server does not tell what its parts are of
    B  ConnectionDroppedError: it broke, and could not be taken up without the risk of a mixture

The three letters of a column are for no digest, the old version's digest and the new version's digest, given by the
caller.  The change comes while a connection breaks in the middle of the file, or between a run that ended there and the
next one.  A server honours If-Range, is deaf to it, or is mute: deaf, and its later parts bear no validator at all.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from hydraflow.core.planner import LeasePolicy
from hydraflow.errors import (
    ConnectionDroppedError,
    DigestMismatchError,
    HydraError,
    RemoteProtocolError,
    ResourceChangedError,
)
from tests.faults.fronts import noise

if TYPE_CHECKING:
    from tests.faults.fronts import FileFront, StreamFront
    from tests.faults.origin import Origin
    from tests.faults.rules import Rule

KIB = 1 << 10
SIZE = 512 * KIB
OLD, NEW = noise(SIZE, 1), noise(SIZE, 2)
LAST_YEAR, LAST_WEEK = "Wed, 01 Jan 2025 00:00:00 GMT", "Wed, 08 Jan 2025 00:00:00 GMT"

TABLE = """
    validator             server   | file, midway | stream, midway | file, between | stream, between
    strong tag            honours  |     NDN      |      CCC       |     NDN       |      NDN
    strong tag            deaf     |     NDN      |      CCC       |     NDN       |      NDN
    strong tag            mute     |     NDN      |      PPP       |     NDN       |      PPP
    strong date           honours  |     NDN      |      CCC       |     NDN       |      NDN
    strong date           deaf     |     NDN      |      CCC       |     NDN       |      NDN
    strong date           mute     |     NDN      |      PPP       |     NDN       |      PPP
    weak date             honours  |     NDN      |      BBB       |     NDN       |      NDN
    weak date             deaf     |     NDN      |      BBB       |     NDN       |      NDN
    weak date             mute     |     NDD      |      BBB       |     NDN       |      NDN
    weak date, the same   honours  |     NDD      |      BBB       |     NDN       |      NDN
    weak date, the same   deaf     |     NDD      |      BBB       |     NDN       |      NDN
    weak date, the same   mute     |     NDD      |      BBB       |     NDN       |      NDN
    weak tag              honours  |     NDN      |      BBB       |     NDN       |      NDN
    weak tag              deaf     |     NDN      |      BBB       |     NDN       |      NDN
    weak tag              mute     |     NDD      |      BBB       |     NDN       |      NDN
    weak tag, the same    honours  |     NDD      |      BBB       |     NDN       |      NDN
    weak tag, the same    deaf     |     NDD      |      BBB       |     NDN       |      NDN
    weak tag, the same    mute     |     NDD      |      BBB       |     NDN       |      NDN
    size only             honours  |     NDD      |      BBB       |     NDN       |      NDN
    size only             deaf     |     NDD      |      BBB       |     NDN       |      NDN
    size only             mute     |     NDD      |      BBB       |     NDN       |      NDN
    nothing               honours  |     NDN      |      BBB       |     NDN       |      NDN
    nothing               deaf     |     NDN      |      BBB       |     NDN       |      NDN
    nothing               mute     |     NDN      |      BBB       |     NDN       |      NDN
"""

ERRORS: dict[str, type[HydraError]] = {
    "B": ConnectionDroppedError,
    "C": ResourceChangedError,
    "D": DigestMismatchError,
    "P": RemoteProtocolError,
}
DIGESTS = {
    "without digest": None,
    "old digest": f"sha256:{hashlib.sha256(OLD).hexdigest()}",
    "new digest": f"sha256:{hashlib.sha256(NEW).hexdigest()}",
}


def kinds() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What the server tells of the old version, and of the new one."""
    now, later = formatdate(usegmt=True), formatdate(2_000_000_000, usegmt=True)
    return {
        "strong tag": ({"etag": '"v1"'}, {"etag": '"v2"'}),
        "strong date": ({"last_modified": LAST_YEAR}, {"last_modified": LAST_WEEK}),
        "weak date": ({"last_modified": now}, {"last_modified": later}),
        "weak date, the same": ({"last_modified": now}, {"last_modified": now}),
        "weak tag": ({"etag": 'W/"v1"'}, {"etag": 'W/"v2"'}),
        "weak tag, the same": ({"etag": 'W/"v1"'}, {"etag": 'W/"v1"'}),
        "size only": ({}, {}),
        "nothing": ({"ranges": False}, {"ranges": False}),
    }


def cells() -> list[Any]:
    found = []
    head, *rows = (line.split("|") for line in TABLE.strip().splitlines())
    columns = [tuple(column.strip().split(", ")) for column in head[1:]]
    for name, *letters in rows:
        kind, server = name.strip().rsplit(maxsplit=1)
        for (front, when), three in zip(columns, letters, strict=True):
            for digest, letter in zip(DIGESTS, three.strip(), strict=True):
                cell = (kind.strip(), server, front, when, digest, letter)
                found.append(pytest.param(*cell, id="-".join(cell[:5])))
    return found


class Bench:
    """One cell's server and client."""

    def __init__(self, origin: Origin, front: FileFront | StreamFront, kind: str, server: str) -> None:
        self.origin, self.front = origin, front
        self.kind, self.server = kind, server
        # One connection at a time: which request meets which fault must not be chance.
        self.settings(threads=1, retry_delay=0.01, retry_delay_max=0.02, read_timeout=5)

    def settings(self, **changes: Any) -> None:
        self.front.settings = replace(self.front.settings, **changes)

    def serve(self, data: bytes, version: int) -> str:
        return self.origin.add("/x.bin", data, **({"etag": None} | kinds()[self.kind][version]))

    def when(self, **conditions: Any) -> Rule:
        rule = self.origin.when(**conditions)
        if self.server != "honours":
            getattr(rule, self.server)()
        return rule.chunked() if self.kind == "nothing" else rule

    def read_first(self, rule: Rule, *, pieces: bool) -> Rule:
        """Nothing happens before a reader has had a byte: from then on a stream cannot begin anew."""
        if self.front.name == "file":
            return rule
        return rule.wait(head=self.front.reading) if pieces else rule.wait(end=self.front.reading)

    def break_in_the_middle(self) -> tuple[int, Rule]:
        """The request that breaks, after some bytes."""
        number = 1 if self.kind == "nothing" else 2
        rule = self.read_first(self.when(request=number), pieces="strong" in self.kind)
        return number, rule.drop(after=150 * KIB)

    def change_midway(self, url: str, letter: str, digest: str | None) -> None:
        number, broken = self.break_in_the_middle()
        new = kinds()[self.kind][1]
        changed = self.when(request=number + 1).replace(
            NEW, etag=new.get("etag"), last_modified=new.get("last_modified")
        )
        self.when()
        self.expect(url, letter, digest)
        # What has broken for good is not asked for again.
        assert (broken.fired, changed.fired) == (1, letter != "B")

    def change_between_runs(self, url: str, letter: str, digest: str | None) -> None:
        _, broken = self.break_in_the_middle()
        self.origin.when(request=1) if self.kind != "nothing" else None
        dead = self.origin.when().raw(b"")
        self.settings(max_wait=0.1)
        with pytest.raises(HydraError):
            self.front.get(url, digest=digest)
        assert broken.fired == 1
        assert dead.fired or self.front.name == "stream"
        self.origin.rules.clear()
        self.settings(max_wait=3)
        self.serve(NEW, 1)
        self.when(request=1)
        self.read_first(self.when(), pieces=self.server == "mute" and "strong" in self.kind)
        self.expect(url, letter, digest)

    def expect(self, url: str, letter: str, digest: str | None) -> None:
        if letter == "N":
            assert self.front.get(url, digest=digest).data == NEW
            return
        self.front.refuse(url, ERRORS[letter], digest=digest)
        if self.front.name == "stream":
            received = self.front.received
            assert received in (OLD[: len(received)], NEW[: len(received)]), "bytes of two versions"
            assert not self.front.had_the_end_of(OLD)
            assert received or letter == "D"


@pytest.fixture
def small_pieces(monkeypatch):
    policy = functools.partial(LeasePolicy, first=128 * KIB, smallest=64 * KIB)
    monkeypatch.setattr("hydraflow.engine.LeasePolicy", policy)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("kind", "server", "front", "when", "digest", "letter"), cells(), indirect=["front"])
def test_replaced(origin, front, kind, server, when, digest, letter):
    bench = Bench(origin, front, kind, server)
    url = bench.serve(OLD, 0)
    change = bench.change_midway if when == "midway" else bench.change_between_runs
    change(url, letter, DIGESTS[digest])


def test_the_table_is_complete():
    assert len(cells()) == 8 * 3 * 2 * 2 * 3
    assert {cell.values[0] for cell in cells()} == set(kinds())
