"""A process that was stopped (Ctrl-Z, a laptop's lid) takes neither its absence for silence nor timers for facts."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop

from hydraflow import engine
from hydraflow.adapters.network import TransportFailure, _Socket
from hydraflow.engine import Clock


def test_time_that_nobody_saw_does_not_count(monkeypatch):
    now = 100.0
    monkeypatch.setattr(engine.time, "monotonic", lambda: now)
    clock = Clock()
    begun = clock.now()
    for _ in range(20):
        now += 0.5
        clock.now()
    assert clock.now() - begun == 10
    now += 3600  # stopped for an hour
    assert clock.now() - begun == 10
    now += 0.5
    assert clock.now() - begun == 10.5
    now += 7  # nothing was to be done: a server's Retry-After runs on meanwhile
    clock.resume()
    assert clock.now() - begun == 17.5


@pytest.mark.parametrize("event", ["bytes", "end", "nothing"])
def test_what_lies_there_comes_before_the_timer(event):
    """libuv runs timers first: after a stop each read would have timed out, whatever had come."""
    near, far = socket.socketpair()
    near.setblocking(False)
    view = memoryview(bytearray(10))

    async def read() -> int:
        return await _Socket(near, 0.1).read_into(view)

    async def stopped() -> int:
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        if event == "bytes":
            far.send(b"late")
        elif event == "end":
            far.close()
        time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands still
        return await reading

    with near, far:
        if event == "nothing":
            with pytest.raises(TransportFailure, match="no byte came"):
                uvloop.run(stopped())
        else:
            assert uvloop.run(stopped()) == (4 if event == "bytes" else 0)
