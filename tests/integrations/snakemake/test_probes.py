"""Each URL is asked about once; failures are forgotten."""

from __future__ import annotations

import asyncio

import pytest

from hydraflow.errors import ConnectError, NotFoundError
from hydraflow.models import Resource, Validator
from hydraflow.snakemake.probes import Probes

HERE = Resource("https://h/a", "https://h/a", 3, True, Validator())


class Web:
    """Answers in the order of a list for each URL, and remembers who asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, url):
        self.asked.append(url)
        await self.gate.wait()
        answer = self.answers[url].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_one_question_for_many_callers():
    web = Web(a=[HERE])

    async def scenario():
        probes = Probes(web)
        first = await asyncio.gather(*(probes.resource("a") for _ in range(5)))
        return [*first, await probes.resource("a")]

    assert asyncio.run(scenario()) == [HERE] * 6
    assert web.asked == ["a"]


def test_expected_ones_are_asked_with_the_first():
    web = Web(a=[HERE], b=[HERE], c=[NotFoundError("no", status=404)])

    async def scenario():
        probes = Probes(web)
        for url in "abcb":
            probes.expect(url)
        await probes.resource("b")
        await asyncio.sleep(0)
        assert web.asked == ["b", "a", "c"]
        return await probes.resource("c")

    assert asyncio.run(scenario()) is None
    assert web.asked == ["b", "a", "c"]


def test_a_failure_is_asked_again():
    web = Web(a=[ConnectError("refused"), HERE])

    async def scenario():
        probes = Probes(web)
        with pytest.raises(ConnectError):
            await probes.resource("a")
        return await probes.resource("a")

    assert asyncio.run(scenario()) == HERE
    assert web.asked == ["a", "a"]


def test_who_stops_waiting_takes_nothing_away():
    web = Web(a=[HERE])
    web.gate.clear()

    async def scenario():
        probes = Probes(web)
        gone, stays = (asyncio.ensure_future(probes.resource("a")) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        web.gate.set()
        return await stays

    assert asyncio.run(scenario()) == HERE
    assert web.asked == ["a"]
