"""Work that may block, beside the event loop.

Python's pools of threads take no more work once the interpreter is about to end, while threads of the host program may
still wait for their transfers to finish.  What comes then is done in the loop's own thread: late, but not never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["begin", "to_the_end"]

T = TypeVar("T")


def begin(do: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Do something in a thread. Cancelling the future leaves the thread at work."""
    loop = asyncio.get_running_loop()
    try:
        return loop.run_in_executor(None, lambda: do(*arguments))
    except RuntimeError:
        done: asyncio.Future[T] = loop.create_future()
        try:
            done.set_result(do(*arguments))
        except Exception as error:  # noqa: BLE001 - raised where the future is awaited
            done.set_exception(error)
        return done


async def to_the_end(running: asyncio.Future[T]) -> T:
    """Await what `begin` has begun; a caller that is cancelled waits for its end too, and only then goes.

    For work with files: it would otherwise go on beside whatever comes next, with file descriptors that may be another
    file's by then.
    """
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    running.exception()  # looked at, or asyncio would complain of it
    raise cancelled
