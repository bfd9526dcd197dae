"""Reading no faster than agreed.

Nothing is read while it is not our turn, so the socket's buffer fills up and TCP's own flow control slows the server
down.  No timeout runs meanwhile: those of the network begin with a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hydraflow.core.throttle import Throttle

__all__ = ["paced"]

Read = Callable[[memoryview], Awaitable[int]]


def paced(read: Read, throttle: Throttle, now: Callable[[], float]) -> Read:
    """The same `read`, by turns with all others of this throttle; `now` tells monotonic seconds."""

    async def read_in_turn(view: memoryview) -> int:
        throttle.readers += 1
        try:
            # One wait, however many came first meanwhile: who asked again after each of them might never have a turn.
            if delay := throttle.delay(now()):
                await asyncio.sleep(delay)
            count = await read(view[: throttle.piece])
        finally:
            throttle.readers -= 1
        throttle.spend(count, now())
        return count

    return read_in_turn
