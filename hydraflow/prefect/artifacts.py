"""What the Prefect UI shows of transfers: a progress bar beside the task run, and at the end what was verified."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import json
import math
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Self

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import PREFECT_API_URL

from hydraflow.core import urls
from hydraflow.prefect.runs import own_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from hydraflow.models import Progress
    from hydraflow.prefect.records import FetchedFile

__all__ = ["TABLE", "Board"]

#: Seconds between two updates, and before the first: each is a request and an event, and most transfers are shorter.
INTERVAL = 2.0
#: Longest wait for the last update, in seconds; it is made afterwards, if it takes longer.
_GRACE = 2.0
_SLICE = 0.05
#: Seconds without anything to show, after which the thread ends.
_IDLE = 5.0
#: How the key of the table begins, by which the UI keeps its history; the flow's name follows.
TABLE = "hydraflow-files"
#: No row beyond the last is shown.
_ROWS = 1000


class Board:
    """Artifacts of a task run, made and kept up to date from a thread that all of them share.

    The engine's thread only leaves a note here, so a slow or missing Prefect server never holds up the transfers, and
    never fails them.  Call it with each snapshot; close it at the end.

    Args:
        context: whose artifacts they are.
        count: files that are transferred.
    """

    def __init__(self, context: TaskRunContext, count: int = 1) -> None:
        run = context.task_run
        self._run = {"task_run_id": run.id, "flow_run_id": run.flow_run_id}
        self._count = count
        self._latest: dict[str, Progress] = {}
        self._ended_files = 0
        self._bar: UUID | None = None
        self._shown = -1.0
        #: When it is to be shown next; a file that waits for its turn has nothing to show.
        self._due = math.inf if count == 1 else time.monotonic() + INTERVAL
        self._last: ArtifactCreate | None = None
        self._closed, self._over = False, threading.Event()

    @classmethod
    def of_this_run(cls, count: int = 1) -> Self | None:
        """One for the task run that this is called in; None outside of any."""
        context = TaskRunContext.get()
        if context is None:
            return None
        board = cls(context, count)
        _Poster.add(board)
        return board

    def __call__(self, progress: Progress) -> None:
        """Take note of a snapshot."""
        self._latest[progress.name] = progress
        if progress.size and self._due == math.inf:
            self._due = time.monotonic() + INTERVAL

    def ended(self, name: str, _outcome: object) -> None:
        """Take note of the end of one of several files."""
        self._latest.pop(name, None)
        self._ended_files += 1

    # ── what is shown at the end ─────────────────────────────────────────────────────────────────────────────────────

    def link(self, file: FetchedFile) -> None:
        """Show where a file came from and what it is, if it took so long that its progress was shown."""
        if self._bar is not None:
            text = f"**{file.path.name}** {file.size:,} bytes, {file.proof}, `{file.digest}`, at `{file.path}`"
            if not urls.grants_access(file.url):
                text += f", from <{file.url}>"
            self._last = ArtifactCreate(type="markdown", data=text, description=file.path.name, **self._run)

    def table(self, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show what became of several files."""
        if len(rows) > _ROWS:
            description += f" (the first {_ROWS:,} of {len(rows):,})"
        data = json.dumps(list(rows[:_ROWS]))
        self._last = ArtifactCreate(key=_key(), type="table", data=data, description=description, **self._run)

    def close(self) -> None:
        """Show the last state if any was shown, and end; takes `_GRACE` seconds at most."""
        self._closed = True
        if self._bar is not None or self._last is not None:
            self._over.wait(_GRACE)

    async def aclose(self) -> None:
        """The same for async callers."""
        await asyncio.to_thread(self.close)

    # ── in the thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, client: Callable[[], SyncPrefectClient]) -> bool:
        """Show what is due; True if there will be no more."""
        closed = self._closed
        try:
            if closed:
                if self._bar is not None:
                    self._show(client())
                if self._last is not None:
                    client().create_artifact(self._last)
            elif time.monotonic() >= self._due:
                self._show(client())
                self._due = time.monotonic() + INTERVAL
        except Exception:  # noqa: BLE001 - a picture of the transfer is not worth the transfer
            closed = True
        if closed:
            self._over.set()
        return closed

    def _show(self, client: SyncPrefectClient) -> None:
        found = self._one() if self._count == 1 else self._all()
        if found is None or found[0] == self._shown:
            return
        percent, text = found
        if self._bar is None:
            new = ArtifactCreate(type="progress", data=percent, description=text, **self._run)
            self._bar = client.create_artifact(new).id
        else:
            client.update_artifact(self._bar, ArtifactUpdate(data=percent, description=text))
        self._shown = percent

    def _one(self) -> tuple[float, str] | None:
        for latest in list(self._latest.values()):
            if latest.size:
                text = f"{latest.name}: {latest.done:,} of {latest.size:,} bytes"
                return round(100 * latest.done / latest.size, 1), text
        return None

    def _all(self) -> tuple[float, str]:
        """Sizes are known only of those that have begun: each file counts the same."""
        under_way = list(self._latest.values())
        parts = sum(each.done / each.size for each in under_way if each.size)
        text = f"{self._ended_files:,} of {self._count:,} files"
        if under_way:
            names = ", ".join(sorted(each.name for each in under_way)[:3])
            text += f"; {names}{', …' if len(under_way) > 3 else ''}"
        return round(100 * (self._ended_files + parts) / self._count, 1), text


def _key() -> str:
    """Each flow has a history of its own."""
    context = FlowRunContext.get()
    name = "" if context is None or context.flow is None else context.flow.name
    return "-".join([TABLE, *re.findall("[a-z0-9]+", name.lower())])


class _Poster:
    """The thread of all boards that belong to one server, with one client: making one costs more than its use."""

    _guard = threading.Lock()
    _at: ClassVar[dict[str | None, _Poster]] = {}

    def __init__(self, url: str | None, board: Board) -> None:
        self._url, self._boards = url, [board]
        # The client needs the settings of the run.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name="hydraflow-artifacts", daemon=True).start()

    @classmethod
    def add(cls, board: Board) -> None:
        url = PREFECT_API_URL.value()
        with cls._guard:
            if url in cls._at:
                cls._at[url]._boards.append(board)  # noqa: SLF001 - it is one of this class
            else:
                cls._at[url] = cls(url, board)

    def _work(self) -> None:
        idle_since = time.monotonic()
        with contextlib.ExitStack() as stack:
            client = functools.cache(lambda: stack.enter_context(own_client()))
            while True:
                over = {board for board in list(self._boards) if board.turn(client)}
                with self._guard:
                    self._boards = [board for board in self._boards if board not in over]
                    idle_since = time.monotonic() if self._boards else idle_since
                    if time.monotonic() - idle_since > _IDLE:
                        self._at.pop(self._url, None)
                        return
                time.sleep(_SLICE)


def _after_fork() -> None:
    """A fork has none of the threads."""
    _Poster._guard = threading.Lock()  # noqa: SLF001 - it may have been held
    _Poster._at.clear()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
