"""Links drawn from seeds, and what the best fixed number of connections gets out of them."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

from tests.simulation.link import MB, MIB, Fixed, HangsError, Scenario, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from hydraflow.core.limiter import Limiter

GRID = (16, 8, 4, 2, 1)  # and what the server bears


def draw(seed: int) -> Scenario:
    """A scenario; its kind goes round, everything else is drawn."""
    rng = Random(seed)
    kinds = list(KINDS)
    name = kinds[seed % len(kinds)]
    scenario = Scenario(
        name,
        (0,),
        rate=_between(rng, 2 * MB, 1250 * MB),
        rtt=_between(rng, 0.002, 0.25),
        queue=rng.choice((0.3, 1.0, 1.0, 3.0)),
        loss=rng.choice((0.0, 0.0, _between(rng, 1e-6, 1e-4))),
        tls=rng.choice((0, 1)),
        seed=seed,
    )
    scenario = KINDS[name](rng, scenario)
    if scenario.total:
        return scenario
    # So large that it takes some seconds over 16 connections, and a tenth of them about one.
    seconds = _between(rng, 3.0, 20.0) if rng.random() < 0.9 else 1.5
    size = int(min(max(seconds * _speed(scenario, 16), 8 * MIB), 16384 * MIB))
    return replace(scenario, sizes=(size,))


def repeats(scenario: Scenario) -> list[Scenario]:
    """The same link with other luck, where luck decides: the best of several tries would else be the luckiest one."""
    chancy = scenario.loss or scenario.stragglers or scenario.think
    return [replace(scenario, seed=scenario.seed + 10_000 * n) for n in range(2 if chancy else 1)]


def seconds(scenario: Scenario, make: Callable[[], Limiter], longest: float = 3000.0) -> float:
    """How long it takes on average."""
    return fmean(play(each, make(), longest).seconds for each in repeats(scenario))


def best_fixed(scenario: Scenario) -> tuple[int, float]:
    """The fixed number of requests that takes the least time on average, and that time."""
    best, least = 0, math.inf
    for count in sorted({each for each in (*GRID, scenario.bears) if each <= scenario.ceiling}, reverse=True):
        try:
            took = seconds(scenario, lambda count=count: Fixed(count), min(3000.0, 1.5 * least))
        except HangsError:
            if count <= scenario.bears:
                break  # even fewer will not do better
        if took < least:
            best, least = count, took
    return best, least


def ideal(scenario: Scenario) -> float:
    """Seconds that all bytes take at the best speed of the link, the server and the reader, and not one more."""
    ends = [scenario.rate, scenario.server, scenario.reader or math.inf]
    ends.append(scenario.cap * min(scenario.ceiling, scenario.bears))
    return scenario.total / min(ends) + 2 * scenario.rtt


def _between(rng: Random, low: float, high: float) -> float:
    return low * (high / low) ** rng.random()


def _speed(scenario: Scenario, count: int) -> float:
    """About what so many connections get."""
    lossy = 1.3 * 1448 / scenario.rtt / math.sqrt(scenario.loss) if scenario.loss else math.inf
    one = min(scenario.cap, lossy)
    reader = scenario.reader or math.inf
    return min(scenario.rate, scenario.server, reader, min(count, scenario.bears) * one)


def _clean(rng: Random, given: Scenario) -> Scenario:
    del rng
    return replace(given, loss=0.0)


def _lossy(rng: Random, given: Scenario) -> Scenario:
    return replace(given, loss=_between(rng, 1e-5, 2e-3), rtt=_between(rng, 0.01, 0.25))


def _capped(rng: Random, given: Scenario) -> Scenario:
    return replace(given, cap=given.rate / _between(rng, 1.5, 60))


def _limited(rng: Random, given: Scenario) -> Scenario:
    bears = rng.choice((1, 2, 3, 4, 4, 5, 8, 10))
    refusal, after = rng.choice(((503, None), (503, None), (429, None), (429, 1.0), (0, None)))
    cap = given.rate / rng.choice((bears, 2 * bears, 16))
    return replace(given, bears=bears, cap=cap, refusal=refusal, retry_after=after)


def _stragglers(rng: Random, given: Scenario) -> Scenario:
    rate = min(given.rate, 200 * MB)
    return replace(given, rate=rate, cap=rate / _between(rng, 2, 30), stragglers=0.1, slowness=0.1)


def _crossed(rng: Random, given: Scenario) -> Scenario:
    changes = sorted(rng.uniform(0, 20) for _ in range(rng.randint(1, 4)))
    return replace(given, cross=tuple((at, rng.choice((0, 1, 4, 16))) for at in changes))


def _thoughtful(rng: Random, given: Scenario) -> Scenario:
    return replace(given, think=_between(rng, 0.01, 1.0))


def _small(rng: Random, given: Scenario) -> Scenario:
    size = rng.choice((10_000, 100_000, 1_000_000))
    return replace(given, sizes=(size,) * rng.choice((100, 300)), rate=max(given.rate, 20 * MB))


def _several(rng: Random, given: Scenario) -> Scenario:
    total, count = 6 * _speed(given, 16), rng.choice((2, 5, 20))
    return replace(given, sizes=tuple(int(total / count * rng.uniform(0.3, 2.0)) + 1 for _ in range(count)))


def _streamed(rng: Random, given: Scenario) -> Scenario:
    rate = min(given.rate, 200 * MB)
    return replace(given, rate=rate, cap=rate / _between(rng, 1, 20), stragglers=rng.choice((0, 0.1)), reader=10 * rate)


def _read_slowly(rng: Random, given: Scenario) -> Scenario:
    rate = min(given.rate, 200 * MB)
    return replace(given, rate=rate, reader=rate / _between(rng, 1.5, 10))


def _busy(rng: Random, given: Scenario) -> Scenario:
    return replace(given, server=given.rate / _between(rng, 1.2, 8), think=0.05)


KINDS: dict[str, Callable[[Random, Scenario], Scenario]] = {
    "clean": _clean,
    "lossy": _lossy,
    "capped": _capped,
    "limited": _limited,
    "stragglers": _stragglers,
    "crossed": _crossed,
    "thoughtful": _thoughtful,
    "small": _small,
    "several": _several,
    "streamed": _streamed,
    "read slowly": _read_slowly,
    "busy": _busy,
}
