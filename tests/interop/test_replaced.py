"""A file that is replaced while nginx serves it: by rename, as one should, and in place, as cp does."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import fetch, stream
from hydraflow.errors import ResourceChangedError
from lab.nginx import Nginx
from lab.process import MissingBinaryError
from tests.faults.fronts import MIB, noise
from tests.interop.conftest import _missing

SIZE = 24 * MIB
OLD, NEW = noise(SIZE, 1), noise(SIZE, 2)
LATER = 1_700_000_100


@pytest.fixture
def server(tmp_path):
    """nginx with one file, slow enough that it is still under way when it changes."""
    (tmp_path / "www").mkdir()
    file = tmp_path / "www" / "x.bin"
    file.write_bytes(OLD)
    os.utime(file, (LATER - 100, LATER - 100))
    try:
        nginx = Nginx(tmp_path / "www", limit_rate="12m")
    except MissingBinaryError as error:
        _missing(str(error))
    with nginx:
        yield nginx


def rename(file):
    new = file.with_name("new")
    new.write_bytes(NEW)
    os.utime(new, (LATER, LATER))
    new.replace(file)


def in_place(file):
    with file.open("r+b") as opened:
        opened.truncate(0)
        opened.write(NEW)
    os.utime(file, (LATER, LATER))


@pytest.fixture
def settings():
    return hydraflow_settings.load(threads=2, retry_delay=0.05, retry_delay_max=0.2, user_agent="interop/replaced")


@pytest.mark.parametrize("replace", [rename, in_place])
def test_file(server, settings, tmp_path, replace):
    changed = []

    def watch(progress):
        if progress.done > 6 * MIB and not changed:
            changed.append(progress.done)
            replace(server.root / "x.bin")

    result = fetch(f"{server.url}/x.bin", tmp_path / "out.bin", settings=settings, on_progress=watch)
    assert (tmp_path / "out.bin").read_bytes() == NEW
    assert changed[0] < SIZE
    assert result.restarts >= 1


def test_stream(server, settings):
    """A reader gets the beginning of the old version, and an error.

    Not in place: nginx goes on with the new bytes under the head that it has sent for the old ones, and no client that
    gives them away can know.
    """
    received = bytearray()
    with (  # noqa: PT012 - where in the loop it comes is the network's choice
        pytest.raises(ResourceChangedError),
        stream(f"{server.url}/x.bin", settings=replace(settings, buffer=8 * MIB)) as opened,
    ):
        for chunk in opened:
            if not received:
                rename(server.root / "x.bin")
            received += chunk
    assert 0 < len(received) < SIZE
    assert received == OLD[: len(received)]
