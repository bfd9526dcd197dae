"""One budget of connections per host for a whole fleet: a global concurrency limit of Prefect's, by the host's name.

    prefect gcl create hydraflow:ftp.example.org --limit 16

Each process takes a share of it for as long as it has transfers from that host, and a little longer: one lease for a
process, since a lease for each file would wait for its turn again and again.  Its transfers then use as many
connections as the share has slots.  A process that is killed leaves its slots to others when its lease runs out.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import anyio
from httpx import HTTPStatusError
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound

from hydraflow import runtime
from hydraflow.prefect.runs import logger, own_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from hydraflow.settings import Settings

__all__ = ["PREFIX", "aheld", "held"]

#: Before the host's name, in the name of the limit.
PREFIX = "hydraflow:"
#: Seconds that a lease outlives a killed process, and between its renewals.
_LEASE, _RENEW = 60.0, 20.0
#: Seconds without a transfer, after which the slots are given back.
_LINGER = 2.0
#: Seconds between two tries to get slots, and for which "no such limit" is believed.
_TRY, _BELIEVE = 1.0, 60.0
_SLICE = 0.1
_LOCKED = 423


class _Share:
    """What this process may use of one host's limit.

    Attributes:
        slots: connections that may be open; 0 if there is no limit.  To be read once `known` is set.
        users: transfers, or groups of them, that use it.
        hurried: do not wait for more of them.
    """

    def __init__(self, host: str, settings: Settings) -> None:
        self.name, self.slots, self.users = PREFIX + host, 0, 0
        self.known, self.over = threading.Event(), threading.Event()
        self.hurried = False
        self.idle_since = time.monotonic()
        self.gone_at: float | None = None
        self._settings = settings
        # In the context of who came first: Prefect's client takes its settings from there.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="hydraflow-lease", daemon=True
        )
        self._thread.start()

    def usable(self) -> bool:
        """It is held, or awaited, or it was found a moment ago that there is no limit."""
        return self.gone_at is None or (not self.slots and time.monotonic() - self.gone_at < _BELIEVE)

    def join(self) -> None:
        """Wait until what is held is given back."""
        self._thread.join(_LINGER)

    def limited(self) -> Settings:
        """The settings of transfers that keep to it."""
        return (
            dataclasses.replace(self._settings, threads=self.slots, aggressive=False) if self.slots else self._settings
        )

    # ── in the thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        try:
            with own_client() as client:
                lease = self._acquire(client)
                if lease is not None:
                    self._hold(client, lease)
        except Exception as error:  # noqa: BLE001 - Prefect's server is gone: its limit is not worth the transfers
            logger().warning("the limit %s cannot be kept to: %s", self.name, type(error).__name__)
        finally:
            self.gone_at = time.monotonic()
            self.known.set()

    def _acquire(self, client: SyncPrefectClient) -> UUID | None:
        """Half of what is free, so that others get something, too; None if there is no limit, or no need any more."""
        told = False
        while not self._unused():
            try:
                limit = client.read_global_concurrency_limit_by_name(self.name)
            except ObjectNotFound:
                return None
            if not limit.active:
                return None
            wanted = min(self._settings.ceiling, max(1, (limit.limit - limit.active_slots + 1) // 2))
            lease = self._take(client, wanted)
            if lease is not None:
                self.slots = wanted
                self.known.set()
                return lease
            if not told:
                told = True
                logger().info("waiting for a share of the %s connections of %s", limit.limit, self.name)
            self.over.wait(_TRY)
        return None

    def _take(self, client: SyncPrefectClient, slots: int) -> UUID | None:
        try:
            answer = client.increment_concurrency_slots_with_lease([self.name], slots, "concurrency", _LEASE)
        except HTTPStatusError as error:
            if error.response.status_code == _LOCKED:
                return None
            raise
        return UUID(answer.json()["lease_id"])

    def _hold(self, client: SyncPrefectClient, lease: UUID) -> None:
        renewed = time.monotonic()
        try:
            while not self._unused():
                self.over.wait(_SLICE)
                if time.monotonic() - renewed >= _RENEW:
                    renewed = self._renew(client, lease, renewed)
        finally:
            # The next process counts on it that these are closed; at the end of this one they are.
            if not self.over.is_set():
                runtime.start(self.limited(), lambda engine: engine.rest()).wait()
            client.release_concurrency_slots_with_lease(lease)

    def _renew(self, client: SyncPrefectClient, lease: UUID, last: float) -> float:
        """Until when it is renewed; a server that is gone for a moment has not ended it."""
        begun = time.monotonic()
        try:
            client.renew_concurrency_lease(lease, _LEASE)
        except Exception:
            if time.monotonic() - last >= _LEASE:
                raise
            self.over.wait(_TRY)
            return last
        return begun

    def _unused(self) -> bool:
        """Nobody has used it for a while, and from now on nobody can."""
        with _guard:
            idle = self.hurried or time.monotonic() - self.idle_since > _LINGER
            unused = not self.users and idle
            if unused or self.over.is_set():
                self.gone_at = time.monotonic()
                return True
        return False


_shares: dict[tuple[str, Settings], _Share] = {}
_guard = threading.Lock()


def _join(host: str, settings: Settings) -> _Share:
    with _guard:
        share = _shares.get((host, settings))
        if share is None or not share.usable():
            share = _shares[host, settings] = _Share(host, settings)
        share.users += 1
        return share


def _leave(share: _Share, *, signalled: bool) -> bool:
    """True if it is now to be waited for: after a signal there may be no end of the process that gives it back."""
    with _guard:
        share.users -= 1
        share.idle_since = time.monotonic()
        share.hurried = signalled and not share.users
        return share.hurried


@contextlib.contextmanager
def _used(host: str, settings: Settings) -> Iterator[_Share]:
    share, signalled = _join(host, settings), False
    try:
        yield share
    except BaseException as error:
        signalled = not isinstance(error, Exception)
        raise
    finally:
        if _leave(share, signalled=signalled):
            share.join()


@contextlib.asynccontextmanager
async def _aused(host: str, settings: Settings) -> AsyncIterator[_Share]:
    share, signalled = _join(host, settings), False
    try:
        yield share
    except BaseException as error:
        signalled = not isinstance(error, Exception)
        raise
    finally:
        if _leave(share, signalled=signalled):
            with anyio.CancelScope(shield=True):  # Prefect cancels again at every await
                await asyncio.to_thread(share.join)


def _hosts(urls: Iterable[str]) -> list[str]:
    """Each once, in one order for all processes: two that wait for each other's second host would wait for ever.

    None outside of runs: there may be no server to ask, and Prefect would start one.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return []
    return sorted({urlsplit(url).hostname or "" for url in urls} - {""})


def _limited(settings: Settings, shares: list[_Share]) -> Settings:
    return min((share.limited() for share in shares if share.slots), key=lambda each: each.width, default=settings)


@contextlib.contextmanager
def held(urls: Iterable[str], settings: Settings, stopped: Callable[[], bool]) -> Iterator[Settings]:
    """Wait for a share of every host's limit, and keep it; gives the settings to use.

    Raises:
        CancelledError: `stopped()` is true.
    """
    with contextlib.ExitStack() as stack:
        shares: list[_Share] = []
        for host in _hosts(urls):
            shares.append(stack.enter_context(_used(host, settings)))
            while not shares[-1].known.wait(_SLICE):
                if stopped():
                    raise asyncio.CancelledError
        yield _limited(settings, shares)


@contextlib.asynccontextmanager
async def aheld(urls: Iterable[str], settings: Settings) -> AsyncIterator[Settings]:
    """The same for async callers."""
    async with contextlib.AsyncExitStack() as stack:
        shares: list[_Share] = []
        for host in _hosts(urls):
            shares.append(await stack.enter_async_context(_aused(host, settings)))
            while not shares[-1].known.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(_SLICE / 5)
        yield _limited(settings, shares)


@atexit.register
def _end() -> None:
    """Give back what is held: the process ends."""
    shares = list(_shares.values())
    for share in shares:
        share.over.set()
    for share in shares:
        share.join()


def _after_fork() -> None:
    """A fork has none of the threads; the leases are the parent's."""
    global _guard  # noqa: PLW0603 - it may have been held
    _guard = threading.Lock()
    _shares.clear()


os.register_at_fork(after_in_child=_after_fork)
