"""What the Prefect UI shows of transfers: a progress bar beside the task run, and at the end what was verified."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from typing import TYPE_CHECKING, Any, Self

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import TaskRunContext

from hydraflow.core import urls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from hydraflow.models import Progress
    from hydraflow.prefect.records import FetchedFile

__all__ = ["TABLE", "Board"]

#: Seconds between two updates, and before the first: each is a request and an event, and most transfers are shorter.
INTERVAL = 2.0
_GRACE = 2.0
#: The key of the table, by which the UI keeps its history; no row beyond the last is shown.
TABLE = "hydraflow-files"
_ROWS = 1000


class Board:
    """Artifacts of a task run, made and kept up to date from a thread of its own.

    The engine's thread only leaves a note here, so a slow or missing Prefect server never holds up the transfers, and
    never fails them.  Call it with each snapshot; close it at the end.

    Args:
        task_run: whose artifacts they are.
        flow_run: its flow's run.
        count: files that are transferred.
    """

    def __init__(self, task_run: UUID, flow_run: UUID | None, count: int = 1) -> None:
        self._run = {"task_run_id": task_run, "flow_run_id": flow_run}
        self._count = count
        self._latest: dict[str, Progress] = {}
        self._ended_files = 0
        self._bar: UUID | None = None
        self._shown = -1.0
        self._last: ArtifactCreate | None = None
        self._ended = threading.Event()
        # The client of the thread needs the settings of the run.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="hydraflow-artifact", daemon=True
        )
        self._thread.start()

    @classmethod
    def of_this_run(cls, count: int = 1) -> Self | None:
        """One for the task run that this is called in; None outside of any."""
        context = TaskRunContext.get()
        return None if context is None else cls(context.task_run.id, context.task_run.flow_run_id, count)

    def __call__(self, progress: Progress) -> None:
        """Take note of a snapshot."""
        self._latest[progress.name] = progress

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
        self._last = ArtifactCreate(key=TABLE, type="table", data=data, description=description, **self._run)

    def close(self) -> None:
        """Show the last state, and end; takes `_GRACE` seconds at most."""
        self._ended.set()
        self._thread.join(_GRACE)

    async def aclose(self) -> None:
        """The same for async callers."""
        self._ended.set()
        await asyncio.to_thread(self._thread.join, _GRACE)

    # ── in the thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        if self._ended.wait(INTERVAL) and self._last is None:
            return
        try:
            with get_client(sync_client=True) as client:
                self._follow(client)
        except Exception:  # noqa: BLE001, S110 - a picture of the transfer is not worth the transfer
            pass

    def _follow(self, client: SyncPrefectClient) -> None:
        if not self._ended.is_set():
            self._show(client)
            while not self._ended.wait(INTERVAL):
                self._show(client)
            self._show(client)
        if self._last is not None:
            client.create_artifact(self._last)

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
