"""The engine thread: one per process, with one event loop, for callers of every kind.

Callers may be plain functions, may sit inside a running event loop (Snakemake calls its plugins so), and may be
interrupted at any moment (Ctrl-C, Prefect's timeouts).  So no transfer ever runs in a caller's own thread; callers wait
in short slices, and when something is thrown at them the transfer is cancelled, its checkpoint flushed, and only then
does the exception go on.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import concurrent.futures.thread  # now, since it cannot be imported once the main thread is over
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from hydraflow.engine import Engine
from hydraflow.errors import ConfigurationError
from hydraflow.settings import Settings

__all__ = ["Call", "in_thread", "start"]

T = TypeVar("T")
_SLICE = 0.1
#: Longest wait, in seconds, for a cancelled transfer to flush its checkpoint.
_GRACE = 10.0


class Call(Generic[T]):
    """A coroutine that runs in the engine thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()
        loop.call_soon_threadsafe(self._start, make)

    def _start(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        try:
            self._task = self._loop.create_task(make())
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller waits for it
            self._future.set_exception(error)
            return
        self._task.add_done_callback(self._finish)
        if self._cancelled:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._future.set_exception(asyncio.CancelledError())
        elif error := task.exception():
            self._future.set_exception(error)
        else:
            self._future.set_result(task.result())

    @property
    def done(self) -> bool:
        """It has ended, in whatever way."""
        return self._future.done()

    def ended(self, within: float) -> bool:
        """Block until it has ended, for so many seconds at most; False if it has not, or not with a true result."""
        try:
            return bool(self._future.result(within))
        except TimeoutError:
            return False

    def cancel(self) -> None:
        """Ask it to end; `done` tells when it has."""
        self._cancelled = True
        with contextlib.suppress(RuntimeError):  # the loop may be closed, at the interpreter's end
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> T:
        """Block until it has ended, and return its result or raise its error.

        Args:
            stopped: asked ten times a second; tells when to end it.

        Raises:
            ConfigurationError: this is called from the engine thread itself, which would wait for itself.
            CancelledError: `stopped()` is true.
        """
        if _running_loop() is self._loop:
            self.cancel()
            raise ConfigurationError("hydraflow was called from a callback in its engine's thread; use another thread")
        try:
            while not self._future.done():
                if stopped():
                    raise asyncio.CancelledError
                concurrent.futures.wait([self._future], timeout=_SLICE)
        except BaseException:
            self.cancel()
            concurrent.futures.wait([self._future], timeout=_GRACE)
            raise
        return self._future.result()

    async def join(self) -> T:
        """The same for a caller in another event loop."""
        return await _join(self._future, self.cancel)


async def _join(future: concurrent.futures.Future[T], cancel: Callable[[], None]) -> T:
    """Await what is done elsewhere; a cancelled caller asks it to end, and waits until it has."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop may be closed by now
            loop.call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(None))

    future.add_done_callback(tell)
    try:
        await asyncio.wait({ended})
    except asyncio.CancelledError:
        cancel()
        deadline = loop.time() + _GRACE
        while not ended.done() and loop.time() < deadline:
            # Some callers (anyio, and so Prefect) cancel again at every await, until the first has come through.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({ended}, timeout=_SLICE)
        raise
    return future.result()


async def in_thread(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Do `work`, which may block for long, in a thread of its own: pools have an end, and then the rest would wait.

    Args:
        work: done in the thread.
        cancel: asks `work` to end; called when the caller is cancelled, which then waits for that end.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            future.set_exception(error)

    threading.Thread(target=run, name="hydraflow-pipe", daemon=True).start()
    return await _join(future, cancel)


class _Thread:
    """The thread, its loop, and one engine for each set of settings in use."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._engines: dict[Settings, Engine] = {}
        self.loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="hydraflow-engine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def engine(self, settings: Settings) -> Engine:
        """Called in the engine thread only."""
        if settings not in self._engines:
            self._engines[settings] = Engine(settings)
        return self._engines[settings]

    def stop(self) -> None:
        """End all transfers, flush their checkpoints, end the thread."""
        if self.pid != os.getpid() or self.loop.is_closed():
            return
        Call(self.loop, self._shut_down).wait()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE)

    async def _shut_down(self) -> None:
        await self.end_all()
        for engine in self._engines.values():
            await engine.aclose()

    async def end_all(self) -> bool:
        """End all transfers and flush their checkpoints; False if some did not end."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        return not tasks or not (await asyncio.wait(tasks, timeout=_GRACE))[1]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_thread: _Thread | None = None
_guard = threading.Lock()


def start(settings: Settings, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> Call[T]:
    """Run `work(engine)` in the engine thread, which is made at the first call and after a fork."""
    global _thread  # noqa: PLW0603 - one per process is the point
    with _guard:
        if _thread is None or _thread.pid != os.getpid():
            _thread = _Thread()
            atexit.register(_thread.stop)
        thread = _thread
    return Call(thread.loop, lambda: work(thread.engine(settings)))


def stop(*, within: float) -> bool:
    """End all transfers of this process and flush their checkpoints, for a program that is about to end.

    Args:
        within: seconds after which to return, whatever is still at work.

    Returns:
        Every checkpoint is flushed.
    """
    thread = _thread
    if thread is None or thread.pid != os.getpid():
        return True
    return Call(thread.loop, thread.end_all).ended(within)


def _after_fork() -> None:
    """A fork copies neither the thread nor its loop."""
    global _thread, _guard
    _thread, _guard = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
