"""A resource that is replaced, or that cannot be told from another: bytes of two versions never meet.

`test_version_matrix` has every kind of validator; here are the histories that do not fit into a table.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import replace

import pytest

from hydraflow.errors import DigestMismatchError, HydraError, RemoteProtocolError, ResourceChangedError
from hydraflow.models import Outcome
from tests.faults.fronts import MIB, noise

SIZE = 9 * MIB
OLD, NEW = noise(SIZE, 1), noise(SIZE, 2)
DATE, LATER = "Wed, 01 Jan 2025 00:00:00 GMT", "Thu, 02 Jan 2025 00:00:00 GMT"


class TestReplaced:
    """Same size, new ETag, at any request."""

    @pytest.mark.parametrize("request_number", [2, 3, 4])
    def test_file(self, origin, file_front, request_number):
        url = origin.add("/x.bin", OLD)
        rule = origin.when(request=request_number).replace(NEW, etag='"v2"')
        got = file_front.get(url)
        assert rule.fired == 1
        assert got.data == NEW
        assert (got.result.etag, got.result.restarts) == ('"v2"', 1)

    def test_stream_before_a_byte_was_read(self, origin, stream_front):
        """Nobody has seen the old version yet, so it can be forgotten: its first answer breaks before any byte."""
        url = origin.add("/x.bin", OLD)
        origin.when(request=1).drop(after=0)
        rule = origin.when(request=2).replace(NEW, etag='"v2"')
        got = stream_front.get(url)
        assert rule.fired == 1
        assert got.data == NEW

    def test_stream_in_the_middle(self, origin, stream_front):
        url = origin.add("/x.bin", OLD)
        origin.when(range_start=0).slow(32 * MIB)
        rule = origin.when(range_start=4 * MIB).replace(NEW, etag='"v2"')
        stream_front.settings = replace(stream_front.settings, threads=1)
        error = stream_front.refuse(url, ResourceChangedError)
        assert rule.fired == 4  # three more times, since it may have been a replica that lags behind
        assert "fetch a file" in error.hint
        assert (error.was, error.exit_code) == ('"v1"', 7)
        assert '"v2"' in error.now
        assert stream_front.received == OLD[: len(stream_front.received)]
        assert not stream_front.had_the_end_of(OLD)

    def test_other_size(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        new = noise(5 * MIB, 3)
        rule = origin.when(request=3).replace(new, etag='"v2"')
        assert file_front.get(url).data == new
        assert rule.fired == 1

    def test_by_date_alone(self, origin, file_front):
        url = origin.add("/x.bin", OLD, etag=None, last_modified=DATE)
        rule = origin.when(request=3).replace(NEW, etag=None, last_modified=LATER)
        assert file_front.get(url).data == NEW
        assert rule.fired == 1
        assert origin.ledger[1].headers["if-range"] == DATE

    def test_again_and_again(self, origin, file_front):
        """A file that never stands still comes over one connection in the end, as one version."""
        url = origin.add("/x.bin", OLD)
        rules = [origin.when(request=n).replace(noise(SIZE, n % 3), etag=f'"v{n}"') for n in range(2, 200)]
        got = file_front.get(url)
        assert got.data in [noise(SIZE, seed) for seed in range(3)]
        assert got.result.restarts == 3
        assert sum(rule.fired for rule in rules) >= 4

    def test_gone_shorter(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        rule = origin.when(request=4).replace(OLD[: 2 * MIB], etag='"v2"')
        assert file_front.get(url).data == OLD[: 2 * MIB]
        assert rule.fired == 1


class TestServersNotOfOneMind:
    """Several servers, or caches, behind one name."""

    def flap(self, origin):
        """Every second request meets a server that has the same bytes and gives them another tag."""
        url = origin.add("/x.bin", OLD)
        other = origin.when(every=2).replace(OLD, etag='"v2"')
        origin.when().replace(OLD, etag='"v1"')
        return url, other

    def test_two_tags_for_the_same_bytes(self, origin, file_front):
        url, other = self.flap(origin)
        got = file_front.get(url)
        assert got.data == OLD
        assert got.result.restarts <= 3
        assert other.fired >= 2

    def test_two_tags_in_a_stream(self, origin, stream_front):
        stream_front.settings = replace(stream_front.settings, threads=1, read_timeout=5)
        url = origin.add("/x.bin", OLD)
        other = origin.when(request=2).wait(head=stream_front.reading).replace(OLD, etag='"v2"')
        origin.when().replace(OLD, etag='"v1"')
        got = stream_front.get(url)
        assert got.data == OLD
        assert (other.fired, got.result.restarts) == (1, 0)

    def test_a_cache_with_an_old_part(self, origin, file_front):
        """A proxy has one part of the old version and does not look at If-Range."""
        url = origin.add("/x.bin", NEW, etag='"v2"')

        def stale(answer):
            answer.body = OLD[answer.start : answer.start + len(answer.body)]
            answer.headers["ETag"] = '"v1"'
            return answer

        rule = origin.when(range_start=4 * MIB).deaf()._add("stale", stale)
        got = file_front.get(url)
        assert got.data == NEW
        assert rule.fired == got.result.restarts == 3

    def test_a_redirect_that_leads_elsewhere(self, origin, file_front):
        """The target that was asked so far refuses; where the name leads to now is another file."""
        origin.add("/old.bin", OLD)
        origin.add("/new.bin", NEW, etag='"v2"')
        origin.when(path="/x.bin", request=1).redirect("/old.bin")
        origin.when(path="/x.bin").redirect("/new.bin")
        gone = [origin.when(path="/old.bin", request=n).status(403) for n in range(3, 9)]
        got = file_front.get(origin.url + "/x.bin")
        assert got.data == NEW
        assert sum(rule.fired for rule in gone) >= 1
        assert got.result.final_url.endswith("/new.bin")


class TestPartsThatDoNotFit:
    def test_a_part_that_does_not_tell_its_version(self, origin, front):
        """The first answer has a tag, no later one: these parts may be of any version."""
        url = origin.add("/x.bin", OLD)
        rule = origin.when().mute()
        if front.name == "file":
            got = front.get(url)
            assert (got.data, got.result.restarts) == (OLD, 0)
            assert origin.ledger[-1].range is None
        else:
            rule.wait(head=lambda: not origin.ledger[0].body_bytes_sent or front.reading())
            front.settings = replace(front.settings, read_timeout=5)
            front.refuse(url, RemoteProtocolError)
            assert front.received == OLD[: len(front.received)]
        assert rule.fired >= 1

    def test_parts_shorter_than_asked_for(self, origin, front):
        """A server may send less; the rest is asked for again, at once and over the same connections."""
        url = origin.add("/x.bin", OLD)
        rule = origin.when().less(MIB // 2)
        got = front.get(url)
        assert (got.data, got.result.retries, got.result.restarts) == (OLD, 0, 0)
        assert rule.fired >= 4
        assert {record.status for record in origin.ledger} == {206}
        assert origin.bytes_served() == SIZE
        assert max(record.connection for record in origin.ledger) <= 4

    def test_parts_shorter_than_asked_for_without_a_validator(self, origin, front):
        url = origin.add("/x.bin", OLD[: 2 * MIB], etag=None)
        rule = origin.when().less(MIB)
        got = front.get(url)
        assert got.data == OLD[: 2 * MIB]
        assert rule.fired == 1
        assert [record.status for record in origin.ledger] == [206, 200]

    def test_a_part_that_is_compressed_all_at_once(self, origin, front):
        """Same tag, same length, other bytes: the tag is a lie, and the coding tells."""
        url = origin.add("/x.bin", OLD)
        rule = origin.when(request=2)
        rule._add("gzip", lambda answer: answer.headers.update({"Content-Encoding": "gzip"}) or answer)
        rule._add("squeezed", lambda answer: setattr(answer, "body", bytes(len(answer.body))) or answer)
        assert front.get(url).data == OLD
        assert rule.fired == 1

    def test_a_part_under_another_digest(self, origin, file_front):
        """No validator, but the server says of which file this is a part."""
        url = origin.add("/x.bin", OLD, etag=None, headers={"x-goog-hash": f"md5={md5(OLD)}"})
        rule = origin.when(request=3).replace(NEW, etag=None)
        rule._prepare(
            "hash", lambda _request, resource: resource.headers.update({"x-goog-hash": f"md5={md5(NEW)}"}) or 1
        )
        got = file_front.get(url)
        assert (got.data, got.result.restarts) == (NEW, 1)
        assert rule.fired == 1

    def test_416_for_a_range_inside_of_the_file(self, origin, front):
        """It is the server's mistake, and nothing is thrown away for it."""
        url = origin.add("/x.bin", OLD)
        rule = origin.when(request=2).status(416, headers={"Content-Range": f"bytes */{SIZE}"})
        got = front.get(url)
        assert (got.data, got.result.restarts, got.result.retries) == (OLD, 0, 1)
        assert rule.fired == 1


class TestBetweenRuns:
    """A checkpoint of one version meets another."""

    def half(self, origin, front, url):
        """Leave a checkpoint of the first 4 MiB."""
        front.settings = replace(front.settings, max_wait=0.3)
        origin.when(request=1).slow(64 * MIB)
        dead = origin.when().raw(b"")
        front.refuse(url, HydraError, keeps=True)
        assert dead.fired >= 1
        origin.rules.clear()
        return origin.bytes_served()

    def test_the_same(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        got = file_front.get(url)
        assert got.data == OLD
        assert (got.result.outcome, got.result.bytes_from_checkpoint) == (Outcome.RESUMED, 4 * MIB)
        assert origin.bytes_served() == SIZE

    def test_another(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        origin.add("/x.bin", NEW, etag='"v2"')
        got = file_front.get(url)
        assert got.data == NEW
        assert (got.result.outcome, got.result.bytes_from_checkpoint, got.result.restarts) == (Outcome.FETCHED, 0, 1)

    def test_part_shorter_than_its_journal_says(self, origin, file_front):
        """The file system lost its end: what the journal says of it is not believed, or a hole would be left."""
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        [part] = (file_front.directory / ".out.bin.hydra").glob("part-*")
        os.truncate(part, MIB)
        got = file_front.get(url)
        assert (got.data, got.result.bytes_from_checkpoint) == (OLD, 0)

    def test_another_url(self, origin, file_front):
        self.half(origin, file_front, origin.add("/x.bin", OLD))
        got = file_front.get(origin.add("/y.bin", NEW))
        assert got.data == NEW
        assert got.result.bytes_from_checkpoint == 0

    def test_same_etag_other_bytes(self, origin, file_front):
        """A server that breaks its own promise is found out by the digest, and the whole is fetched anew."""
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        origin.add("/x.bin", NEW)
        got = file_front.get(url, digest=f"sha256:{hashlib.sha256(NEW).hexdigest()}")
        assert got.data == NEW
        assert got.result.restarts == 1

    def test_same_etag_and_wrong_for_good(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        file_front.refuse(url, DigestMismatchError, digest="sha256:" + "0" * 64)

    def test_no_resume(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        served = self.half(origin, file_front, url)
        got = file_front.get(url, resume=False)
        assert got.data == OLD
        assert got.result.bytes_from_checkpoint == 0
        assert origin.bytes_served() == served + SIZE

    def test_the_server_has_no_ranges_any_more(self, origin, file_front):
        url = origin.add("/x.bin", OLD)
        self.half(origin, file_front, url)
        origin.add("/x.bin", OLD, ranges=False)
        assert file_front.get(url).data == OLD


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


class TestWithoutStrongValidator:
    """Pieces that nobody could prove to be of one version are not put together."""

    @pytest.mark.parametrize(
        "options", [{"etag": None}, {"etag": 'W/"v1"'}, {"etag": 'W/"v1"', "last_modified": "soon"}]
    )
    def test_one_connection(self, origin, front, options):
        url = origin.add("/x.bin", OLD, **options)
        got = front.get(url)
        assert got.data == OLD
        assert got.result.peak_connections == 1
        assert [record.range for record in origin.ledger][1:] == [None]
        assert origin.bytes_served() <= 1.1 * SIZE

    def test_small_file_costs_one_request(self, origin, front):
        url = origin.add("/x.bin", OLD[:1000], etag=None)
        assert front.get(url).data == OLD[:1000]
        assert len(origin.ledger) == 1

    def test_broken_file_begins_at_zero(self, origin, file_front):
        url = origin.add("/x.bin", OLD, etag=None)
        rule = origin.when(request=2).drop(after=5 * MIB)
        got = file_front.get(url)
        assert rule.fired == 1
        assert got.data == OLD
        assert (got.result.restarts, got.result.bytes_from_checkpoint) == (1, 0)
        assert {record.range for record in origin.ledger[2:]} <= {"bytes=0-4194303", None}

    def test_replaced_meanwhile(self, origin, file_front):
        url = origin.add("/x.bin", OLD, etag=None)
        rule = origin.when(request=2).drop(after=5 * MIB)
        other = origin.when(request=3).replace(NEW, etag=None)
        assert file_front.get(url).data == NEW
        assert (rule.fired, other.fired) == (1, 1)

    def test_broken_stream_cannot_begin_anew(self, origin, stream_front):
        url = origin.add("/x.bin", OLD, etag=None)
        rule = origin.when(request=2).slow(32 * MIB).drop(after=5 * MIB)
        stream_front.refuse(url, HydraError)
        assert rule.fired == 1
        assert stream_front.received == OLD[: len(stream_front.received)]

    def test_with_a_digest_pieces_are_fine(self, origin, file_front):
        url = origin.add("/x.bin", OLD, etag=None)
        got = file_front.get(url, digest=f"sha256:{hashlib.sha256(OLD).hexdigest()}")
        assert got.data == OLD
        assert got.result.peak_connections > 1

    def test_with_a_digest_a_mixture_is_found_out(self, origin, file_front):
        url = origin.add("/x.bin", OLD, etag=None)
        rule = origin.when(request=3).replace(NEW, etag=None)
        file_front.refuse(url, DigestMismatchError, digest=f"sha256:{hashlib.sha256(OLD).hexdigest()}")
        assert rule.fired == 1

    def test_a_stream_is_not_in_pieces_even_with_a_digest(self, origin, stream_front):
        """Its reader would have had both versions by the time when the digest tells."""
        url = origin.add("/x.bin", OLD, etag=None)
        got = stream_front.get(url, digest=f"sha256:{hashlib.sha256(OLD).hexdigest()}")
        assert (got.data, got.result.peak_connections) == (OLD, 1)
        assert origin.ledger[-1].range is None

    def test_no_checkpoint_without_any_proof(self, origin, file_front):
        """What is left of an unproved file is not gone on from, not even by the next run."""
        url = origin.add("/x.bin", OLD, etag=None)
        file_front.settings = replace(file_front.settings, max_wait=0.3)
        origin.when(request=1).slow(64 * MIB)
        rule = origin.when(request=2).drop(after=5 * MIB)
        origin.when().raw(b"")
        with pytest.raises(HydraError):
            file_front.get(url)
        assert rule.fired == 1
        origin.rules.clear()
        origin.add("/x.bin", NEW, etag=None)
        assert file_front.get(url).data == NEW
