"""The whole state machine in a thousand and more worlds, each drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from hydraflow import errors
from hydraflow.core.transfer import State
from hydraflow.models import Claim, DigestSource
from tests.simulation.origin import Origin, Traits, Version, draw_traits, draw_versions, md5
from tests.simulation.outputs import FileOutput, StreamOutput
from tests.simulation.world import PATIENCE, Job, World


def any_world(rng: Random) -> World:
    """Files and streams, good servers and bad ones, deaths and second tries."""
    world = World(rng, threads=rng.choice((1, 2, 4, 8)), ticking=rng.random() < 0.5)
    traits = draw_traits(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        versions = draw_versions(rng, rng.choice((1000, 20_000)), rng.choice((0, 0, 1, 2, 9)))
        streams = rng.random() < 0.4
        output = StreamOutput(rng.choice((600, 4000)), 64) if streams else FileOutput()
        size = len(rng.choice(versions).content) if rng.random() < 0.2 else None
        Job(
            world,
            Origin(rng, traits, versions),
            output,
            claim=draw_claim(rng, versions),
            size=size,
            reruns=rng.choice((0, 2)),
        )
    for _ in range(rng.choice((0, 0, 1, 3))):
        draw_end(rng, world)
    return world


def changing_file(rng: Random) -> World:
    """A file that changes often, over bad connections, from a server that hardly tells its versions apart."""
    world = World(rng, threads=rng.choice((1, 4)))
    traits = Traits(
        etag=rng.choice(("weak", "constant", "none")),
        date=rng.choice(("weak", "none")),
        drop=rng.choice((0.1, 0.5)),
        latency=0.1,
        rate=rng.choice((300.0, 3000.0)),
    )
    versions = draw_versions(rng, rng.choice((400, 2000)), 9)
    output = StreamOutput(600, 64) if rng.random() < 0.3 else FileOutput()
    Job(world, Origin(rng, traits, versions), output, claim=draw_claim(rng, versions))
    return world


def many_deaths(rng: Random) -> World:
    """One file, fetched by processes that do not live long, while it may change."""
    world = World(rng, threads=rng.choice((2, 4)))
    traits = Traits(
        ranges_until=rng.choice((1e9, 3.0)),
        etag=rng.choice(("strong", "weak", "constant", "none")),
        date=rng.choice(("strong", "weak", "none")),
        if_range=rng.choice(("yes", "ignored")),
        announces=rng.random() < 0.2,
        drop=rng.choice((0.0, 0.2)),
        stall=rng.choice((0.0, 0.1)),
        rate=300.0,
    )
    versions = draw_versions(rng, 4000, rng.choice((0, 1, 2, 9)))
    Job(world, Origin(rng, traits, versions), FileOutput(), claim=draw_claim(rng, versions), reruns=2)
    for _ in range(4):
        draw_end(rng, world)
    return world


def queue_of_readers(rng: Random) -> World:
    """Streams that are read one after the other through small windows, from a server that bears few requests."""
    world = World(rng, threads=rng.choice((1, 2)))
    traits = Traits(
        ranges=rng.random() < 0.7,
        bears=rng.choice((1, 2, 1000)),
        drop=rng.choice((0.0, 0.1, 0.3)),
        unreachable=rng.choice((0.0, 0.05)),
        rate=3000.0,
    )
    before = None
    for _ in range(rng.choice((1, 2, 3))):
        versions = draw_versions(rng, 5000, 0)
        before = Job(world, Origin(rng, traits, versions), StreamOutput(600, 64), after=before)
    world.must_succeed = traits.ranges  # what drops can be taken up, and whoever waits for a reader is in no hurry
    return world


def mirrored(rng: Random) -> World:
    """One file and other servers that have it, or say so; at least one source is always there and right."""
    world = World(rng, threads=rng.choice((1, 2, 4, 8)), ticking=rng.random() < 0.5)
    versions = draw_versions(rng, rng.choice((1000, 20_000)), 0)
    content = versions[0].content
    streams = rng.random() < 0.4
    claim = Claim(md5(content), DigestSource.CALLER) if rng.random() < 0.6 else None
    good = Traits(latency=rng.choice((0.05, 0.5)), rate=rng.choice((300.0, 3000.0)))
    kinds = ["same", "renamed", "other", "longer", *(["corrupt"] if claim is not None and not streams else [])]
    drawn = [rng.choice(kinds) for _ in range(rng.choice((1, 1, 2, 3)))]
    right = rng.randrange(len(drawn) + 1) if claim is not None or not streams else 0
    first = good if right == 0 else draw_traits(rng)
    if claim is None and right:
        first = replace(first, etag="strong")
    mirrors = []
    for index, kind in enumerate(drawn, 1):
        traits = good if index == right else draw_traits(rng)
        mirrors.append(Origin(rng, traits, [draw_mirror(rng, "same" if index == right else kind, versions[0], index)]))
    output = StreamOutput(rng.choice((600, 4000)), 64) if streams else FileOutput()
    # A reader who has had bytes of a source that breaks the rules cannot be given those of another one.
    world.must_succeed = right == 0 or not streams
    origin, named, reruns = Origin(rng, first, versions), right == 0 and rng.random() < 0.5, rng.choice((0, 2))
    Job(world, origin, output, claim=claim, reruns=reruns, mirrors=tuple(mirrors), named=named)
    for _ in range(rng.choice((0, 0, 1, 2))):
        draw_end(rng, world)
    return world


def draw_mirror(rng: Random, kind: str, version: Version, index: int) -> Version:
    """What a mirror has instead of `version`: the same under the same tag or another, or something else."""
    number, size = version.number + (0 if kind in ("same", "corrupt") else 10 * index), len(version.content)
    if kind in ("same", "renamed"):
        content = version.content
    elif kind == "longer":
        content = version.content + b"x" * rng.randint(1, 100)
    else:
        at = rng.randrange(size) if size else 0
        content = version.content[:at] + b"?" * min(size - at, rng.choice((1, size))) + version.content[at + size :]
        content = content + version.content[len(content) :]
    return replace(version, number=number, content=content)


def draw_claim(rng: Random, versions: list[Version]) -> Claim | None:
    return Claim(md5(rng.choice(versions).content), DigestSource.CALLER) if rng.random() < 0.3 else None


def draw_end(rng: Random, world: World) -> None:
    """Something ends before its time."""
    moment, pause = rng.random() * rng.choice((1.0, 5.0, 20.0)), rng.choice((0.0, 1.0, 15.0))
    how, job = rng.choice(("kill", "power", "interrupt", "cancel")), rng.choice(world.jobs)
    world.at(moment, job.cancel if how == "cancel" else lambda: world.kill(how, pause))


WORLDS = {any_world: 3000, changing_file: 1500, many_deaths: 1000, queue_of_readers: 1000, mirrored: 1500}
BLOCK = 250


@pytest.mark.parametrize(
    ("draw", "first"), [(draw, first) for draw, count in WORLDS.items() for first in range(0, count, BLOCK)]
)
def test_schedules(draw: Callable[[Random], World], first: int) -> None:
    for seed in range(first, first + BLOCK):
        world = draw(Random(seed))
        try:
            world.run()
            for job in world.jobs:
                judge(job)
                assert job.error is None or not world.must_succeed, job.error
        except BaseException as error:
            error.add_note(f"{draw.__name__}, seed {seed}")
            raise


def judge(job: Job) -> None:
    """It is done, and the output is one version, whole; or it failed for a reason, and nothing looks whole."""
    contents = [each.content for origin in job.origins for each in origin.versions]
    if job.error is None:
        assert job.transfer is not None
        assert job.transfer.state is State.DONE
        assert job.output.result in contents
        assert job.claim is None or job.claim.digest == md5(job.output.result)
        assert job.size in (None, len(job.output.result))
    else:
        assert job.output.result is None
        assert len(job.origins) > 1 or REASONS[type(job.error)](job), f"no reason for {job.error!r}"
    if isinstance(job.output, StreamOutput):
        assert any(content.startswith(job.output.read) for content in contents)
        assert job.error is None or not job.output.read or job.output.read not in contents
    largest = max(map(len, contents))
    attempts = job.seen.lives + job.seen.restarts
    assert job.seen.requests <= attempts * (largest // 50 + 10) + 3 * sum(
        origin.faults + origin.lies + 20 * (origin is not job.origin) for origin in job.origins
    )


def patience_spent(job: Job) -> bool:
    """The network was silent for long, or what it broke could not be taken up again."""
    seen = job.seen
    patience = PATIENCE.first_wait if seen.last_byte_at is None else PATIENCE.max_wait
    silent = seen.failed_at - (seen.last_byte_at or seen.started_at) >= patience - PATIENCE.delay_max
    return job.origin.faults + job.origin.lies > 0 and (silent or seen.given or seen.restarts >= PATIENCE.restarts)


def rules_broken(job: Job) -> bool:
    traits = job.origin.traits
    lied = job.origin.lies >= 3 or (job.origin.lies > 0 and patience_spent(job))
    return lied or traits.if_range == "never" or traits.ranges_until < 1e9


def changed(job: Job) -> bool:
    several = len(job.origin.versions) > 1 or job.origin.lies > 0  # a wrong total looks like another version
    return several and (job.seen.given or job.seen.restarts >= PATIENCE.restarts)


def digest_wrong(job: Job) -> bool:
    """The caller's is of another version, or pieces of two were put together; two that the server gives would show."""
    return len(job.origin.versions) > 1 and job.claim is not None


def size_wrong(job: Job) -> bool:
    return job.size is not None and any(len(each.content) != job.size for each in job.origin.versions)


REASONS = {
    errors.NotFoundError: lambda job: job.origin.traits.status == 404,
    errors.AccessDeniedError: lambda job: job.origin.traits.status == 403,
    errors.TransferError: patience_spent,
    errors.ConnectError: patience_spent,
    errors.ConnectionDroppedError: patience_spent,
    errors.StalledError: patience_spent,
    errors.RemoteProtocolError: rules_broken,
    errors.ResourceChangedError: changed,
    errors.DigestMismatchError: digest_wrong,
    errors.SizeMismatchError: size_wrong,
}
