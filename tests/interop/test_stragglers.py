"""One connection in ten is ten times slower than the others, as with a server or a path that is worn out."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import stream
from lab.data import random_file
from lab.nginx import Nginx
from tests.interop.conftest import MIB, _serving

SIZE = 256 * MIB
PACED = "map $connection $pace { ~0$ 500k; default 5m; }"

#: Reads a stream with a window of 64 MiB in a process of its own, and tells what it took: seconds, and MiB at most.
READ = """
import json, re, sys, time
import hydraflow
from hydraflow.settings import Settings
begun = time.monotonic()
with hydraflow.stream(sys.argv[1], settings=Settings(buffer=64 << 20)) as reader:
    size = 0
    while piece := reader.read(1 << 18):
        size += len(piece)
# Not ru_maxrss: a process has that of its parent from before it became another program.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"size": size, "seconds": time.monotonic() - begun, "peak": peak}))
"""


def read(nginx: Nginx) -> dict[str, float]:
    command = [sys.executable, "-c", READ, f"{nginx.url}/x.bin"]
    told: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    root = tmp_path_factory.mktemp("stragglers")
    random_file(root / "x.bin", SIZE, seed=1)
    yield from _serving(lambda: Nginx(root, http_directives=PACED, server_directives="limit_rate $pace;"))


def test_a_stream_holds_no_more_than_its_window(nginx):
    """What stragglers have not brought holds up the rest; how long that takes is for `make soak` to say."""
    told = read(nginx)
    assert told["size"] == SIZE
    assert told["peak"] <= 64 + 60


def test_a_reader_who_is_slow_has_no_more_than_his_window_fetched(nginx):
    settings, before = hydraflow_settings.load(buffer=16 * MIB), nginx.bytes_sent()
    with stream(f"{nginx.url}/x.bin", settings=settings) as reader:
        for _ in range(20):
            assert len(reader.read(MIB // 2)) > 0
            time.sleep(0.05)
        sent = nginx.bytes_sent() - before
    # What he has had, what his window holds, and what the sockets of the connections that still run do.
    assert sent <= 10 * MIB + 16 * MIB + 8 * MIB
