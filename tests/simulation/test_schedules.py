"""The whole state machine in a thousand and more worlds, each drawn from one seed."""

from __future__ import annotations

from random import Random

import pytest

from hydraflow import errors
from hydraflow.core.transfer import State
from hydraflow.models import Claim, DigestSource
from tests.simulation.origin import Origin, draw_traits, draw_versions, md5
from tests.simulation.outputs import FileOutput, StreamOutput
from tests.simulation.world import Job, World


def draw(seed: int) -> World:
    rng = Random(seed)
    world = World(rng, threads=rng.choice((1, 2, 4, 8)), ticking=rng.random() < 0.5)
    traits = draw_traits(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        versions = draw_versions(rng, rng.choice((1000, 20_000)), rng.choice((0, 0, 1, 2, 9)))
        streams = rng.random() < 0.4
        output = StreamOutput(rng.choice((600, 4000)), 64) if streams else FileOutput()
        claim = Claim(md5(rng.choice(versions).content), DigestSource.CALLER) if rng.random() < 0.3 else None
        size = len(rng.choice(versions).content) if rng.random() < 0.2 else None
        Job(world, Origin(rng, traits, versions), output, claim=claim, size=size, reruns=0 if streams else 2)
    for _ in range(rng.choice((0, 0, 1, 3))):
        how, pause = rng.choice(("kill", "power", "interrupt")), rng.choice((0.0, 1.0, 15.0))
        world.at(rng.random() * rng.choice((1.0, 20.0)), lambda how=how, pause=pause: world.kill(how, pause))
    return world


@pytest.mark.parametrize("block", range(30))
def test_schedules(block: int):
    for seed in range(block * 200, block * 200 + 200):
        world = draw(seed)
        try:
            world.run()
            for job in world.jobs:
                judge(job)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def judge(job: Job) -> None:
    if job.error is None:
        assert job.transfer.state is State.DONE
        whole = [each.content for each in job.origin.versions]
        assert job.output.result in whole
