"""Several places of one file: what admits a source, whose turn it is, and what becomes of a bad one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hydraflow import errors
from hydraflow.core import events, sources
from hydraflow.core.limiter import Limiter
from hydraflow.core.ranges import RangeSet
from hydraflow.core.responses import Ask
from hydraflow.core.sources import Place, Source, Standing
from hydraflow.core.transfer import State
from hydraflow.models import Claim, Digest, DigestSource, Resource, Validator
from tests.core.test_transfer import BAD, CALLER, DROPPED, GOOD, URL, Rig, left_over, partial, status, whole

MIRROR = "http://m1/x"
STRONG, OTHER, NONE = Validator('"v1"'), Validator('"v2"'), Validator()
HEADER = Claim(Digest("md5", GOOD), DigestSource.GOOG_HASH)
LIE = Claim(Digest("md5", BAD), DigestSource.S3_ETAG)


# Whose turn it is.


def three(*standings: Standing) -> list[Source]:
    return [Source(index, f"u{index}", Limiter(4), standing=standing) for index, standing in enumerate(standings)]


def test_who_has_kept_nobody_waiting_is_asked_first():
    first, second = three(Standing.UNKNOWN, Standing.UNKNOWN)
    assert sources.pick([first, second], [0, 0], 0.0, lead=None) is first
    first.silences = 1
    assert sources.pick([first, second], [0, 0], 0.0, lead=None) is second
    second.attempts = 2
    assert sources.pick([first, second], [0, 0], 0.0, lead=None) is first
    first.resting, second.standing = [1.0], Standing.FAILED
    assert sources.pick([first, second], [0, 0], 0.0, lead=None) is None


def test_a_new_source_gets_one_request_then_the_fastest_gets_them():
    lead, mirror, third = three(Standing.ADMITTED, Standing.UNKNOWN, Standing.ADMITTED)
    every = [lead, mirror, third]
    third.pace = 5.0
    assert sources.pick(every, [1, 0, 1], 0.0, lead=lead) is mirror
    assert sources.pick(every, [1, 1, 1], 0.0, lead=lead) is lead
    assert sources.pick(every, [4, 1, 4], 0.0, lead=lead) is third, "the lead may be slow: a few requests tell"
    lead.pace, third.pace = 5.0, 4.0
    assert sources.pick(every, [4, 1, 4], 0.0, lead=lead) is lead
    lead.pace, third.pace = 4.0, 5.0
    assert sources.pick(every, [1, 1, 1], 0.0, lead=lead) is third
    third.put_off(0.0)
    assert sources.pick(every, [1, 1, 1], 4.9, lead=lead) is lead
    assert sources.pick([third], [1, 1, 1], 4.9, lead=lead) is third, "better slow than not at all"
    assert sources.pick(every, [1, 1, 0], 5.1, lead=lead) is third
    assert sources.pick(every, [1, 1, 1], 5.1, lead=lead) is lead, "one request, until it is shown to be worth more"


def test_who_is_not_known_gets_no_more_because_the_lead_bears_no_more():
    lead, mirror = three(Standing.ADMITTED, Standing.UNKNOWN)
    assert sources.pick([lead, mirror], [4, 0], 0.0, lead=lead, spent=[lead]) is mirror
    assert sources.pick([lead, mirror], [4, 1], 0.0, lead=lead, spent=[lead]) is None
    lead.resting = [9.0]
    assert sources.pick([lead, mirror], [0, 1], 0.0, lead=lead, spent=[lead]) is mirror, "it is alone"
    assert sources.pick([lead, mirror], [0, 0], 0.0, lead=None, spent=[mirror]) is None


def test_what_is_new_is_not_asked_in_the_stead_of_what_is_known():
    lead, mirror = three(Standing.ADMITTED, Standing.UNKNOWN)
    assert sources.pick([lead, mirror], [0, 0], 0.0, lead=lead) is lead
    assert sources.pick([lead, mirror], [1, 0], 0.0, lead=lead) is mirror
    assert sources.pick([mirror], [1, 0], 0.0, lead=lead) is mirror
    lead.standing = Standing.FAILED
    assert sources.pick([lead, mirror], [0, 0], 0.0, lead=lead) is mirror


def test_a_source_is_slow_by_connection_and_in_all():
    late, other = three(Standing.ADMITTED, Standing.ADMITTED)
    late.pace, late.flow, other.pace, other.flow = 1.0, 16.0, 16.0, 16.0
    assert sources.slowest([late, other], [late, other], 0.0) is None, "sixteen connections that share a link"
    late.flow = 1.0
    assert sources.slowest([late, other], [late, other], 0.0) is late
    assert sources.slowest([late, other], [other], 0.0) is None, "nothing was measured now"
    other.resting = [9.0]
    assert sources.slowest([late, other], [late], 0.0) is None, "nobody else is there"


def test_who_is_left_out_as_slow_makes_nobody_else_look_slow():
    late, other = (Source(n, f"u{n}", Limiter(4), standing=Standing.ADMITTED) for n in range(2))
    other.measure(0.0, 1000.0, 1)
    late.measure(0.0, 10.0, 1)
    assert sources.slowest([late, other], [late], 0.0) is late
    other.put_off(0.0)
    assert sources.slowest([late, other], [late], 0.0) is None
    assert sources.slowest([late, other], [late], 1000.0) is late


def test_a_moment_without_bytes_is_not_slow():
    """Servers that hold a rate send in bursts."""
    source = Source(0, "u", Limiter(4))
    source.measure(10.0, 1000.0, 4)
    source.measure(11.0, 0.0, 4)
    assert (source.pace, source.flow) == (500.0, 2000.0)
    source.measure(13.0, 200.0, 4)
    assert (source.pace, source.flow) == (200.0, 800.0)


def test_who_is_as_fast_as_the_others_after_all_is_trusted_again():
    one, two = (Source(n, f"u{n}", Limiter(4), standing=Standing.ADMITTED) for n in range(2))
    one.put_off(0.0)
    sources.forgive([one, two], [one])
    assert one.slow == 1, "nothing is known of either"
    one.measure(1.0, 100.0, 1)
    two.measure(1.0, 200.0, 1)
    sources.forgive([one, two], [one, two])
    assert one.slow == 1
    one.measure(2.0, 300.0, 1)
    sources.forgive([one, two], [two])
    assert one.slow == 1, "it was not measured now"
    sources.forgive([one, two], [one])
    assert one.slow == 0


def test_the_pace_is_of_late():
    (source,) = three(Standing.ADMITTED)
    source.note_rate(None)
    assert source.pace is None
    source.note_rate(10.0)
    source.note_rate(20.0)
    assert source.pace == pytest.approx(13.0)


# What becomes of one within a transfer.


def racing(*, etag: str | None = '"v1"', size: int = 1000, threads: int = 3, **options) -> Rig:
    """The lead has answered, and the first mirror was asked."""
    rig = Rig(threads=threads, mirrors=options.pop("mirrors", 1), **options).begin()
    rig.head(partial(0, 40, size, etag))
    assert rig.did[1] == "open 40-50 of 1"
    return rig


def asked(rig: Rig, source: int) -> int:
    """Index of the first request that a source has."""
    return next(index for index, (lease, _) in enumerate(rig.open) if lease.source == source)


def standing(rig: Rig) -> list[Standing]:
    return [each.standing for each in rig.transfer.sources]


def answer(rig: Rig, source: int, *, size: int = 1000, etag: str | None = '"v1"', **fields: str) -> Rig:
    index = asked(rig, source)
    ask = rig.open[index][1]
    assert ask.stop is not None
    return rig.head(partial(ask.start, ask.stop, size, etag, **fields), index)


def finish(rig: Rig) -> Rig:
    """All sources answer rightly, and send all."""
    for _ in range(100):
        if rig.state is not State.FETCHING:
            return rig
        lease, ask = rig.open[0]
        if lease.answered is None:
            rig.head(partial(ask.start, ask.stop or 0, 1000, '"v1"' if lease.source == 0 else '"v2"'))
        rig.end()
    raise AssertionError("no end")


def test_a_mirror_with_the_same_tag_gets_its_share():
    rig = answer(racing(), 1)
    assert standing(rig) == [Standing.ADMITTED] * 2
    rig.now, rig.transfer.sources[0].pace = 1.0, 5.0
    rig.end(asked(rig, 1))
    assert "of 1" in rig.did[0]
    assert rig.open[asked(rig, 1)][1].if_range == '"v1"'
    assert rig.transfer.sources[1].received == RangeSet([(40, 50)])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"etag": '"v2"'}, "neither a common strong ETag nor a digest shows"),
        ({"size": 1001}, 'another file: 1001 bytes, "v1"'),
    ],
)
def test_one_without_evidence_is_left_out(fields: dict, reason: str):
    rig = answer(racing(), 1, **fields)
    assert reason in rig.said[-1]
    assert rig.said[-1].startswith(f"{MIRROR} is left out: ")
    assert standing(rig) == [Standing.ADMITTED, Standing.ASIDE]
    assert not any(lease.source for lease, _ in rig.open)


def test_mirrors_that_the_first_answer_names_join():
    others = tuple(Place(f"http://m{n}/x", Limiter(3)) for n in (1, 2))
    rig = Rig(threads=3).begin().head(partial(0, 40, 1000), mirrors=others)
    assert rig.said == ["the server names 2 mirrors"]
    assert [each.url for each in rig.transfer.sources] == [URL, MIRROR, "http://m2/x"]
    answer(rig, 1, etag='"v2"')
    assert standing(rig)[:2] == [Standing.ADMITTED, Standing.ASIDE]
    assert [share.bytes for share in rig.transfer.sources.shares()] == [0, 0, 0]
    assert rig.transfer.sources.shares()[1].trouble.startswith("the size is the same")
    rig = Rig(threads=3).begin().head(partial(0, 40, 1000), mirrors=others[:1])
    assert rig.said == ["the server names 1 mirror"]
    rig = Rig(threads=3).begin().head(partial(0, 30, 30), mirrors=others)
    assert rig.said == [], "nobody else will be asked"
    assert len(rig.transfer.sources) == 3


def test_who_begins_anew_knows_the_mirrors_already():
    other = (Place(MIRROR, Limiter(3)),)
    rig = Rig(threads=3).begin().head(partial(0, 40, 1000), mirrors=other)
    rig.head(whole(1000, '"v3"'), 2).after(2.0).head(partial(0, 40, 1000, '"v3"'), mirrors=other)
    assert rig.transfer.restarts == 1
    assert [each.url for each in rig.transfer.sources] == [URL, MIRROR]
    assert "the server names" not in rig.said[-1]


def test_mirrors_of_what_comes_in_one_piece_are_of_no_use():
    rig = Rig(threads=3).begin().head(whole(1000), mirrors=(Place(MIRROR, Limiter(3)),))
    assert len(rig.transfer.sources) == 1
    assert rig.transfer.sources.shares() == ()


def test_the_callers_digest_admits_it_to_a_file_but_not_to_a_stream():
    assert standing(answer(racing(claim=CALLER), 1, etag='"v2"'))[1] is Standing.ADMITTED
    assert standing(answer(racing(claim=CALLER, horizon=600), 1, etag='"v2"'))[1] is Standing.ASIDE


def test_a_mirror_without_ranges_or_with_an_odd_answer_is_left_out():
    rig = racing()
    rig.head(whole(1000), asked(rig, 1))
    assert rig.said[-1] == f'{MIRROR} is left out: it answers with "v1", 1000 bytes'
    rig = racing()
    rig.head(replace(partial(40, 50, 1000), headers=(("content-range", "bytes 40-49/*"),)), asked(rig, 1))
    assert rig.said[-1] == f"{MIRROR} is left out: the server does not tell the size in Content-Range"


def test_a_mirror_that_refuses_for_good_is_given_up():
    rig = racing()
    rig.head(status(404), asked(rig, 1))
    assert rig.said[-1] == f"{MIRROR} is given up: 404 Not Found"
    assert standing(rig) == [Standing.ADMITTED, Standing.FAILED]
    assert finish(rig).state is State.VERIFYING


def test_a_mirror_that_fails_rests_alone():
    rig = racing()
    rig.fail(DROPPED, asked(rig, 1))
    assert rig.said[-1].startswith(f"{MIRROR}: connection dropped; trying again")
    assert len(rig.open) == 3
    assert not any(lease.source for lease, _ in rig.open)
    assert rig.transfer.wake_at(rig.now) == 0.5


def test_a_mirror_that_changes_is_left_out_later_too():
    rig = answer(racing(), 1)
    rig.now, rig.transfer.sources[0].pace = 1.0, 5.0
    rig.end(asked(rig, 1))
    rig.head(whole(1000, '"v3"'), asked(rig, 1))
    assert rig.said[-1].startswith(f'{MIRROR} is left out: it changed: "v3"')
    assert rig.transfer.restarts == 0


def test_a_stream_goes_on_from_a_mirror_if_the_first_url_changes():
    rig = answer(racing(horizon=600), 1)
    rig.given = True
    rig.head(whole(1000, '"v3"'), 2)
    assert standing(rig) == [Standing.ASIDE, Standing.ADMITTED]
    assert rig.transfer.sources.lead is rig.transfer.sources[1]
    assert all(lease.source for lease, _ in rig.open)


def test_a_file_whose_first_url_changes_begins_anew():
    rig = answer(racing(), 1)
    rig.head(whole(1000, '"v3"'), 2)
    assert rig.did == ["reset"]
    assert standing(rig) == [Standing.UNKNOWN] * 2


def test_a_lead_that_goes_leaves_the_rest_to_the_mirror():
    rig = answer(racing(), 1)
    rig.head(status(404), 2)
    assert standing(rig) == [Standing.FAILED, Standing.ADMITTED]
    assert [lease.source for lease, _ in rig.open] == [1, 1, 1]
    assert rig.transfer.restarts == 0


def test_a_lead_that_goes_while_nobody_else_has_the_same_leaves_all_to_the_next():
    rig = answer(racing(), 1, etag='"v2"').receive(10)
    rig.head(status(404), 1)
    assert "reset" not in rig.did, "it has to answer first"
    answer(rig, 1, etag='"v2"')
    assert rig.said[-1] == "no other source has provably the same file; starting anew"
    assert rig.did == ["reset", "open 0-40 of 1"]
    assert rig.transfer.restarts == 1


def test_a_stream_that_has_begun_fails_with_all_reasons_instead():
    rig = answer(racing(horizon=600), 1, etag='"v2"')
    rig.given = True
    rig.head(status(404), 1)
    message = str(rig.error(errors.NotFoundError, keep=True))
    assert message.startswith(f"no source is left: {URL}: 404 Not Found; {MIRROR}: the size is the same, but")


def test_what_may_pass_is_the_error_where_all_have_failed():
    rig = Rig(mirrors=1).begin().head(status(404))
    rig.now = 70.0
    rig.head(status(503))
    error = rig.error(errors.TransferError, keep=True)
    assert str(error).startswith(f"no source is left: {URL}: 404 Not Found; {MIRROR}: 503 Service Unavailable (no new")


# The first answer.


def test_the_next_one_is_asked_at_once_where_a_digest_will_tell():
    rig = Rig(mirrors=1, claim=CALLER).begin().fail()
    assert rig.did == ["open 0-40 of 1"]
    rig.head(partial(0, 40, 1000, '"v2"'))
    assert rig.transfer.sources.lead is rig.transfer.sources[1]


def test_the_next_one_is_asked_after_three_failures_where_nothing_will():
    rig = Rig(mirrors=1).begin().fail()
    assert rig.did == []
    rig.after(0.6).fail().after(5.0)
    assert rig.asks == [Ask(0, 40)]
    assert not rig.open[0][0].source
    rig.fail()
    assert rig.did == ["open 0-40 of 1"]


@pytest.mark.parametrize(("claim", "silence"), [(CALLER, 1.0), (None, 5.0)])
def test_a_silent_one_is_passed_over(claim: Claim | None, silence: float):
    rig = Rig(mirrors=1, claim=claim).begin().after(silence - 0.1)
    assert rig.did == []
    rig.after(0.2)
    assert rig.did == ["open 0-40 of 1"]
    assert rig.said == [f"{URL} has not answered for {silence:.0f} s; asking another source"]


def test_one_that_breaks_off_what_cannot_be_taken_up_is_not_the_next_to_be_asked():
    rig = Rig(mirrors=1).begin()
    for _ in range(3):
        rig.head(whole()).receive(10).fail()
        rig.after(5.0)
    assert [lease.source for lease, _ in rig.open] == [1]
    rig.given = True
    rig.head(whole()).receive(10).fail()
    error = rig.error(errors.ConnectionDroppedError, keep=False)
    assert str(error).startswith("no source is left: ")


def test_a_silent_one_is_waited_for_where_no_other_is_left():
    rig = Rig(mirrors=1, claim=CALLER).begin().after(1.1).head(status(404)).after(30.0)
    assert [lease.source for lease, _ in rig.open] == [0]


def test_a_first_url_of_another_size_is_passed_over():
    rig = Rig(mirrors=1, size=900).begin().head(partial(0, 40, 1000))
    assert standing(rig)[0] is Standing.FAILED
    assert rig.did == ["open 0-40 of 1"]
    rig.head(partial(0, 40, 1000))
    error = rig.error(errors.SizeMismatchError, keep=True)
    assert str(error).count("size mismatch") == 2


# What a later run must know.


def prepared(rig: Rig, claim: Claim | None = None) -> Resource:
    lease = rig.open[0][0]
    head = partial(0, 40, 1000, '"v2"', **({"x-goog-hash": "md5=" + "ERERERERERERERERERERERE="[:24]} if claim else {}))
    commands = rig.feed(events.HeadReceived(lease, head, 0.0))
    return next(command.resource for command in commands if isinstance(command, events.Prepare))


def test_the_digest_that_mirrors_rest_on_outlives_the_run():
    several = prepared(Rig(mirrors=1, claim=CALLER).begin())
    assert (several.claims, several.validator) == ((CALLER,), Validator()), (
        "no validator may vouch for a mirror's bytes"
    )
    for rig in (Rig(mirrors=1), Rig(claim=CALLER), Rig(mirrors=1, claim=CALLER, horizon=600)):
        alone = prepared(rig.begin())
        assert (alone.claims, alone.validator) == ((), Validator('"v2"'))


def test_a_mirrors_validator_says_nothing_to_the_first_url():
    assert prepared(Rig(mirrors=1, claim=CALLER).begin().fail()).validator == Validator()
    assert prepared(Rig(mirrors=1).begin().head(status(404))).validator == Validator('"v2"')


def resuming(claim: Claim | None, *recorded: Claim) -> Rig:
    """A checkpoint of the first URL, which is gone; the mirror is asked."""
    validator = Validator() if recorded else STRONG  # as they are written down
    left = left_over(1000, validator, recorded)
    rig = Rig(threads=3, mirrors=1, claim=claim).begin(left, (0, 500)).head(status(404))
    assert rig.did == ["open 500-540 of 1"]
    assert rig.asks[0].if_range is None
    return rig


def test_a_checkpoint_is_gone_on_from_at_a_mirror_that_is_shown_to_have_the_same():
    rig = resuming(None).head(partial(500, 540, 1000))
    assert (rig.state, rig.transfer.from_checkpoint) == (State.FETCHING, 500)
    rig = resuming(CALLER, CALLER).head(partial(500, 540, 1000, '"v2"'))
    assert (rig.state, rig.transfer.from_checkpoint) == (State.FETCHING, 500)


def test_a_checkpoint_that_rests_on_a_validator_is_not_added_to_on_the_word_of_a_digest():
    left = left_over(1000, STRONG, (CALLER,))
    rig = Rig(threads=3, mirrors=1, claim=CALLER).begin(left, (0, 500)).head(partial(500, 540, 1000))
    answer(rig, 1, etag='"v2"')
    assert standing(rig) == [Standing.ADMITTED, Standing.ASIDE]


def test_a_checkpoint_whose_digest_a_later_run_would_not_know_is_not_added_to():
    rig = resuming(CALLER).head(partial(500, 540, 1000, '"v2"'))
    assert rig.did == ["reset", "open 0-40 of 1"]
    rig = Rig(threads=3, mirrors=1, claim=CALLER).begin(left_over(1000), (0, 500)).head(partial(500, 540, 1000))
    answer(rig, 1, etag='"v2"')
    assert standing(rig) == [Standing.ADMITTED, Standing.ASIDE]


@pytest.mark.parametrize("head", [whole(1000), partial(500, 540, 900), status(416)])
def test_a_checkpoint_is_not_thrown_away_on_the_word_of_a_mirror(head):
    rig = Rig(mirrors=1, claim=CALLER).begin(left_over(1000, claims=(CALLER,)), (0, 500)).fail()
    assert rig.did == ["open 500-540 of 1"]
    rig.head(head)
    assert standing(rig) == [Standing.UNKNOWN, Standing.ASIDE]
    assert "reset" not in rig.did
    assert rig.after(1.0).did == ["open 500-540"]


# Wrong bytes.


def mixed() -> Rig:
    """Both have given bytes, and all of them are there."""
    rig = answer(racing(claim=CALLER), 1, etag='"v2"')
    rig.end(asked(rig, 1))
    rig = finish(rig)
    assert all(each.received for each in rig.transfer.sources)
    return rig


def test_the_mirrors_bytes_are_fetched_again_from_the_lead():
    rig = mixed()
    theirs = rig.transfer.sources[1].received.total
    rig.feed(events.Verified(BAD))
    assert rig.state is State.FETCHING
    assert f"fetching again what came from {MIRROR}" in rig.said[-1]
    assert rig.planner.done == 1000 - theirs
    assert rig.did[0] == "prepare"
    assert all(not lease.source for lease, _ in rig.open)
    rig = finish(rig)
    assert not rig.transfer.sources[1].received
    rig.feed(events.Verified(GOOD))
    assert rig.said[-1] == f"{MIRROR} gave wrong bytes"
    assert rig.did == ["commit"]


def test_if_it_is_still_wrong_it_was_the_lead():
    rig = mixed()
    rig.feed(events.Verified(BAD))
    finish(rig).feed(events.Verified(BAD))
    assert rig.said[-2].startswith(f"{URL} is given up: md5 mismatch")
    assert rig.did == ["reset", "open 0-40 of 1"]
    rig.head(partial(0, 40, 1000, '"v2"'))
    finish(rig).feed(events.Verified(GOOD))
    assert rig.did == ["commit"]


def test_two_that_give_the_same_show_that_the_digest_is_wrong():
    rig = mixed()
    rig.feed(events.Verified(BAD))
    finish(rig).feed(events.Verified(BAD))
    rig.head(partial(0, 40, 1000, '"v2"'))
    finish(rig).feed(events.Verified(BAD))
    error = rig.error(errors.DigestMismatchError, keep=False)
    assert str(error).endswith(f"{URL} and {MIRROR} give the same bytes: is it the right digest?")


def test_each_alone_and_all_wrong():
    rig = mixed()
    rig.feed(events.Verified(BAD))
    finish(rig).feed(events.Verified(BAD))
    rig.head(partial(0, 40, 1000, '"v2"'))
    finish(rig).feed(events.Verified("3" * 32))
    error = rig.error(errors.DigestMismatchError, keep=False)
    assert str(error).startswith(f"no source is left: {URL}: md5 mismatch")


def test_one_that_is_gone_stays_gone():
    rig = mixed()
    rig.transfer.sources[1].standing = Standing.FAILED
    rig.feed(events.Verified(BAD))
    assert standing(rig) == [Standing.ADMITTED, Standing.FAILED]


def test_alone_a_source_that_goes_leaves_all_to_another():
    rig = mixed()
    rig.feed(events.Verified(BAD))
    rig.receive(1).head(status(404))
    assert rig.did == ["reset", "open 0-40 of 1"]


def test_a_stream_with_wrong_bytes_says_whose_they_are():
    rig = answer(racing(claim=CALLER, horizon=10_000), 1)
    rig.end(asked(rig, 1))
    for _ in range(100):
        if rig.state is State.FETCHING:
            ask = rig.open[0][1]
            rig.head(partial(ask.start, ask.stop or 0, 1000)).end()
    rig.given = True
    rig.feed(events.Verified(BAD))
    error = rig.error(errors.DigestMismatchError, keep=False)
    assert str(error).endswith(f"; the bytes are from {URL} and {MIRROR}")


# The slow.


def test_a_slow_source_is_left_out_for_a_while():
    rig = answer(racing(size=100_000, claim=CALLER), 1, size=100_000, etag='"v2"')
    rig.head(partial(50, 60, 100_000), 2)
    for _ in range(8):
        rig.after(0.2)
        for lease, _ in rig.open:
            if not lease.source and lease.answered is not None and lease.remaining:
                lease.position += min(lease.remaining - 1, 4)
    slow = rig.transfer.sources[1]
    assert slow.slow == 1
    assert any(line.startswith(f"{MIRROR} is slow") for line in rig.said)
    assert not any(lease.source for lease, _ in rig.open)
    assert slow.standing is Standing.ADMITTED


def test_a_mirror_without_ranges_does_not_go_on_from_a_checkpoint():
    rig = Rig(mirrors=1, claim=CALLER).begin(left_over(1000, Validator(), (CALLER,)), (500, 1000)).fail()
    rig.head(whole(1000))
    assert rig.said[-1] == f"{MIRROR} is left out: it does not answer ranges"
