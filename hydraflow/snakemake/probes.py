"""What is at each URL: asked once, and for all known URLs as soon as one is needed.

Snakemake asks for one file after the other, and for each one many times.
"""

from __future__ import annotations

import asyncio
import collections
from functools import partial
from typing import TYPE_CHECKING

from hydraflow.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hydraflow.models import Resource

__all__ = ["Probes"]


class Probes:
    """A memory of answers. `resource` runs in the engine thread only, `expect` anywhere.

    Args:
        ask: asks a server.
    """

    def __init__(self, ask: Callable[[str], Awaitable[Resource]]) -> None:
        self._ask = ask
        self._expected: collections.deque[str] = collections.deque()
        self._answers: dict[str, asyncio.Task[Resource | None]] = {}
        self._failed: set[str] = set()

    def expect(self, url: str) -> None:
        """Snakemake will want to know of this URL soon."""
        self._expected.append(url)

    async def resource(self, url: str) -> Resource | None:
        """What is there; None if the server says that there is nothing (404, 410).

        Raises:
            HydraError: nobody knows. The next call asks again.
        """
        self._begin(url)
        while self._expected:
            self._begin(self._expected.popleft())
        # Shielded: who stops waiting must not take the answer away from the others.
        return await asyncio.shield(self._answers[url])

    def known(self, url: str) -> Resource | None:
        """What is there, as far as an answer is there already."""
        task = self._answers.get(url)
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def failed(self, url: str) -> bool:
        """It was asked, and nobody knows; who can do without an answer need not wait for it again."""
        return url in self._failed

    def _begin(self, url: str) -> None:
        if url not in self._answers:
            task = asyncio.get_running_loop().create_task(self._look(url))
            self._answers[url] = task
            task.add_done_callback(partial(self._forget_failure, url))

    async def _look(self, url: str) -> Resource | None:
        try:
            return await self._ask(url)
        except NotFoundError:
            return None

    def _forget_failure(self, url: str, task: asyncio.Task[Resource | None]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._answers[url]
            self._failed.add(url)
