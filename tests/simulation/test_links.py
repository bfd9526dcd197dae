"""Is the policy as fast as the best fixed number of connections, on hundreds of links, and polite?

`LINKS=300 pytest tests/simulation/test_links.py -s` draws more than the few of every day, and tells.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from statistics import fmean

import pytest

from hydraflow.core.limiter import Limiter
from hydraflow.core.throttle import Throttle
from hydraflow.models import Bound
from tests.simulation.link import MB, MIB, Fixed, HangsError, Link, Outcome, Scenario, play
from tests.simulation.link_scenarios import KINDS, best_fixed, draw, ideal, repeats

COUNT = int(os.environ.get("LINKS", "36"))

LOSSY = Scenario("1 Gbit/s, 80 ms, lossy", (1024 * MIB,), 125 * MB, 0.08, loss=0.0003, ceiling=128)
CAPPED = Scenario("5 MB/s for each", (256 * MIB,), 125 * MB, 0.02, cap=5 * MB)
STRAGGLERS = replace(CAPPED, name="one in ten at a tenth", stragglers=0.1)


def several(scenario: Scenario, count: int = 10) -> list[Outcome]:
    """How it goes with other luck, the quickest first."""
    outcomes = [play(replace(scenario, seed=seed)) for seed in range(count)]
    return sorted(outcomes, key=lambda outcome: outcome.seconds)


@pytest.mark.timeout(max(120, 10 * COUNT))
def test_as_fast_as_the_best_fixed_number():
    rows = []
    for seed in range(COUNT):
        scenario = draw(seed)
        outcomes = [play(each) for each in repeats(scenario)]
        seconds = fmean(outcome.seconds for outcome in outcomes)
        count, best = best_fixed(scenario)
        rows.append((best / seconds, ideal(scenario) / seconds, scenario, count, outcomes))
    ratios = sorted(row[0] for row in rows)
    requests = sum(outcome.requests for row in rows for outcome in row[4])
    refused = sum(outcome.refused for row in rows for outcome in row[4])
    said = [f"{COUNT} links: {_spread(ratios)} of the best fixed number; {refused / requests:.1%} refused"]
    said.append(f"{sum(ratio >= 0.9 for ratio in ratios) / COUNT:.1%} are within 10 % of it")
    said.append(f"{_spread(sorted(row[1] for row in rows))} of what the link could carry")
    said += [f"{name}: {_spread(sorted(row[0] for row in rows if row[2].name == name))}" for name in KINDS]
    said += [f"{row[0]:.2f} of {row[3]} connections: {row[2]}" for row in sorted(rows, key=lambda row: row[0])[:10]]
    if "LINKS" in os.environ:
        sys.stdout.write("\n" + "\n".join(said) + "\n")
    assert sum(ratio >= 0.9 for ratio in ratios) >= 0.95 * COUNT
    assert ratios[0] >= 0.7
    assert refused <= 0.02 * requests


def _spread(ratios: list[float]) -> str:
    at = [ratios[int(share * (len(ratios) - 1))] for share in (0.0, 0.05, 0.1, 0.25, 0.5)]
    return "min {:.2f}, 5 % {:.2f}, 10 % {:.2f}, 25 % {:.2f}, median {:.2f}".format(*at)


# Named links.


def test_a_long_lossy_link_is_filled_by_many():
    outcomes = several(LOSSY)
    middle = outcomes[len(outcomes) // 2]
    assert LOSSY.total / middle.seconds >= 0.75 * LOSSY.rate
    after = [sample for sample in middle.samples if 4.0 <= sample[0] <= middle.seconds - 1.0]
    assert (after[-1][1] - after[0][1]) / (after[-1][0] - after[0][0]) >= 0.85 * LOSSY.rate


def test_where_each_connection_is_capped_all_are_used():
    outcome = play(CAPPED)
    assert outcome.seconds <= 1.15 * CAPPED.total / (16 * CAPPED.cap)
    assert outcome.peak == 16


@pytest.mark.parametrize("refusal", [503, 429, 0])
def test_a_server_that_bears_four_gets_four(refusal):
    scenario = replace(CAPPED, bears=4, refusal=refusal, sizes=(1024 * MIB,))
    outcome = play(scenario)
    assert outcome.seconds <= 1.1 * scenario.total / (4 * scenario.cap)
    assert outcome.refused <= 16
    assert outcome.busy / outcome.seconds <= 4.1


def test_stragglers_are_not_waited_for():
    outcomes = several(STRAGGLERS)
    assert outcomes[-1].seconds <= 4.1
    assert fmean(outcome.seconds for outcome in outcomes) <= 3.9
    assert max(outcome.received for outcome in outcomes) == STRAGGLERS.total


def test_nothing_hangs_on_connections_that_fall_silent():
    outcomes = several(replace(CAPPED, stalls=0.2), 5)
    assert outcomes[-1].seconds <= 4.2


def test_a_stream_does_not_wait_for_stragglers():
    outcomes = several(replace(STRAGGLERS, rate=1250 * MB, reader=1000 * MB))
    assert fmean(outcome.seconds for outcome in outcomes) <= 4.0
    assert outcomes[-1].seconds <= 4.2


def tail(outcome: Outcome) -> float:
    """Seconds at the end in which less than a quarter of the mean goodput came."""
    mean, last = outcome.received / outcome.seconds, 0.0
    for before, after in zip(outcome.samples, outcome.samples[2:], strict=False):
        if after[1] - before[1] >= mean / 4 * (after[0] - before[0]):
            last = after[0]
    return outcome.seconds - last


#: Links on which some connections are slower than the others, and how.
UNEVEN = {
    "a tenth": STRAGGLERS,
    "many": replace(STRAGGLERS, stragglers=0.3),
    "trickle": replace(STRAGGLERS, slowness=0.002),
    "silent": replace(CAPPED, stalls=0.3),
    "far": replace(STRAGGLERS, rtt=0.1),
    "lossy": replace(LOSSY, ceiling=16, sizes=(128 * MIB,)),
    "small": replace(STRAGGLERS, sizes=(32 * MIB,)),
}


@pytest.mark.parametrize("reader", [None, 1000 * MB], ids=["file", "stream"])
@pytest.mark.parametrize("name", UNEVEN)
def test_nothing_waits_for_a_straggler(name, reader):
    """Neither the end of a file nor a stream's reader; and hardly a byte is asked for twice to that end."""
    scenario = replace(UNEVEN[name], reader=reader)
    outcomes = several(scenario, 5)
    # The last is the time to notice, and for a new connection.
    longest = max(0.5, 10 * scenario.rtt) + 0.15
    assert max(map(tail, outcomes)) <= longest
    assert max(outcome.starved for outcome in outcomes) <= longest
    assert max(outcome.wasted / outcome.received for outcome in outcomes) <= 0.02


def test_a_reader_who_is_slow_needs_few_connections():
    outcome = play(Scenario("slow reader", (256 * MIB,), 125 * MB, 0.02, reader=10 * MB))
    assert outcome.busy / outcome.seconds < 1.5
    assert outcome.seconds < 27.2


@pytest.mark.parametrize("reader", [None, 1000 * MB])
@pytest.mark.parametrize("link", [CAPPED, STRAGGLERS, replace(LOSSY, ceiling=16)], ids=lambda link: link.name)
def test_the_user_s_own_limit_is_kept_over_few_connections(link, reader):
    """As many as it takes to reach it, and no straggler is seen where all are slow by turns."""
    limit = 4 * MB if link.cap < math.inf else 2 * MB
    outcome = play(replace(link, sizes=(int(30 * limit),), limit=limit, reader=reader))
    assert outcome.seconds == pytest.approx(30.0, rel=0.05)
    assert outcome.busy / outcome.seconds <= 3.0
    assert outcome.connections <= 8


def test_a_limit_above_what_one_connection_gets_is_reached_by_several():
    outcome = play(replace(CAPPED, sizes=(int(30 * 18 * MB),), limit=18 * MB))
    assert outcome.seconds == pytest.approx(30.0, rel=0.05)
    assert 3.5 <= outcome.busy / outcome.seconds <= 7.0
    assert outcome.peak <= 8


def test_a_clean_fast_link_is_not_hurt_by_tries():
    """That few are enough there is for `tests/core/test_limiter.py`: here noise makes them look dear."""
    scenario = Scenario("near", (8192 * MIB,), 1000 * MB, 0.003)
    outcome = play(scenario)
    assert outcome.seconds < 1.1 * play(scenario, Fixed(2)).seconds
    assert outcome.busy / outcome.seconds < 12


def test_many_small_files_are_under_way_soon():
    outcome = play(Scenario("small", (100_000,) * 200, 125 * MB, 0.04))
    full_at = next(at for at, _, running, _ in outcome.samples if running >= 15)
    assert full_at <= 0.3
    assert outcome.seconds < 1.1


def test_an_outage_is_probed_by_one_at_a_time():
    scenario = Scenario("outage", (64 * MIB,) * 8, 20 * MB, 0.02, drops=((3.0, 40.0),))
    link = Link(scenario, Limiter(16))
    outcome = link.run()
    asked = [at for at, _ in link.sent if 8.0 <= at < 40.0]
    assert len(asked) <= 12
    # One at a time, also when it is over: nobody comes before the first answer does.
    after = [at for at, _ in link.sent if at >= 40.0]
    assert {count for at, count in link.sent if 8.0 <= at <= after[0]} == {1}
    assert after[1] - after[0] >= 2 * scenario.rtt
    assert outcome.seconds < 40.0 + 20.0 + scenario.total / scenario.rate


@pytest.mark.parametrize(("refusal", "after"), [(429, None), (429, 1.0), (503, None)])
@pytest.mark.parametrize("pace", [3.0, 10.0])
def test_a_server_that_bears_few_requests_per_second_gets_those(refusal, after, pace):
    """As interfaces to databases do it: three per second for each address, say."""
    scenario = Scenario("pace", (20_000,) * 400, 125 * MB, 0.04, refusal=refusal, retry_after=after, pace=pace)
    outcome = play(scenario)
    assert outcome.refused <= 0.06 * outcome.requests
    assert outcome.seconds <= 1.6 * 400 / pace


def test_files_of_one_origin_share_it_fairly():
    """A small one that comes later does not wait for the large one."""
    link = Link(Scenario("fair", (512 * MIB, 32 * MIB), 40 * MB, 0.02, cap=5 * MB), Limiter(8))
    link.run()
    large, small = (job.ended_at for job in link.jobs)
    assert small < 0.35 * large


NEAR = Scenario("near", (2048 * MIB,), 100 * MB, 0.02)


@pytest.mark.parametrize(
    ("scenario", "bound"),
    [
        (replace(NEAR, sizes=(8192 * MIB,), ceiling=64), Bound.LINK),
        (CAPPED, Bound.CEILING),
        (replace(CAPPED, bears=4), Bound.SERVER),
        (replace(NEAR, reader=20 * MB), Bound.READER),
        (replace(NEAR, reader=1000 * MB, ceiling=64, window=512 * MIB), Bound.LINK),
        (replace(STRAGGLERS, stragglers=0.5, slowness=0.02, reader=1000 * MB, sizes=(512 * MIB,)), Bound.CEILING),
        (replace(NEAR, limit=10 * MB, sizes=(256 * MIB,)), Bound.LIMIT_RATE),
    ],
    ids=lambda each: "" if isinstance(each, Scenario) else str(each),
)
def test_what_limits_a_transfer_is_named(scenario, bound):
    throttle = None if scenario.limit is None else Throttle(scenario.limit)
    link = Link(scenario, Limiter(scenario.ceiling, throttle=throttle), throttle)
    link.run()
    assert link.jobs[0].transfer.limited_by is bound


# The simulator itself.


def test_a_fixed_number_is_what_it_says():
    outcome = play(replace(CAPPED, sizes=(64 * MIB,)), Fixed(4))
    assert outcome.peak == 4
    assert outcome.seconds == pytest.approx(64 * MIB / (4 * CAPPED.cap), rel=0.15)


def test_a_clean_connection_fills_the_link():
    scenario = Scenario("clean", (512 * MIB,), 50 * MB, 0.05)
    assert play(scenario, Fixed(1)).seconds == pytest.approx(512 * MIB / scenario.rate, rel=0.25)


def test_a_lossy_connection_is_as_fast_as_measured():
    """0.1 % of lost segments cost a real connection (CUBIC, 80 ms) down to 0.8 to 2.3 MB/s: here that is 0.03 %."""
    outcome = play(replace(LOSSY, sizes=(64 * MIB,), ceiling=16), Fixed(1))
    assert 0.8 * MB < 64 * MIB / outcome.seconds < 2.5 * MB


def test_what_takes_too_long_is_ended():
    with pytest.raises(HangsError):
        play(CAPPED, Fixed(1), longest=5.0)
