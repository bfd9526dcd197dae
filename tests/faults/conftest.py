"""Settings that make failures quick, and the two ways in which bytes leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hydraflow import settings as hydraflow_settings
from tests.faults.fronts import FileFront, StreamFront

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hydraflow.settings import Settings
    from tests.faults.origin import Origin


@pytest.fixture
def origin(origin: Origin) -> Iterator[Origin]:
    """The origin, which ends in order: clients may come in that very moment, or not take what is sent to them."""
    yield origin
    origin.pause()
    origin._call(_abort_all())


async def _abort_all() -> None:
    for _ in range(5):  # who has been accepted gets its transport
        await asyncio.sleep(0)
    for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
        transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
def settings() -> Settings:
    return hydraflow_settings.load(
        threads=4,
        retry_delay=0.05,
        retry_delay_max=0.2,
        first_wait=0.5,
        max_wait=3,
        read_timeout=0.3,
        connect_timeout=2,
    )


@pytest.fixture
def file_front(tmp_path: Path, settings: Settings) -> FileFront:
    directory = tmp_path / "files"
    directory.mkdir()
    return FileFront(directory, settings)


@pytest.fixture
def stream_front(settings: Settings) -> StreamFront:
    return StreamFront(settings)


@pytest.fixture(params=["file", "stream"])
def front(request: pytest.FixtureRequest, file_front: FileFront, stream_front: StreamFront) -> FileFront | StreamFront:
    return file_front if request.param == "file" else stream_front
