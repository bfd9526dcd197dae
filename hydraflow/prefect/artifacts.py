"""What the Prefect UI shows of a transfer that takes its time: a progress bar beside the task run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Self

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import TaskRunContext

if TYPE_CHECKING:
    from uuid import UUID

    from hydraflow.models import Progress

__all__ = ["ProgressBar"]

#: Seconds between two updates, and before the first: each is a request and an event, and most transfers are shorter.
INTERVAL = 2.0
_GRACE = 2.0


class ProgressBar:
    """A progress artifact of a task run, kept up to date from a thread of its own.

    The engine's thread only leaves a note here, so a slow or missing Prefect server never holds up the transfer, and
    never fails it.  Call it with each snapshot; close it at the end.
    """

    def __init__(self, task_run: UUID, flow_run: UUID | None) -> None:
        self._task_run, self._flow_run = task_run, flow_run
        self._latest: Progress | None = None
        self._artifact: UUID | None = None
        self._shown = -1.0
        self._ended = threading.Event()
        # The client of the thread needs the settings of the run.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="hydraflow-artifact", daemon=True
        )
        self._thread.start()

    @classmethod
    def of_this_run(cls) -> Self | None:
        """One for the task run that this is called in; None outside of any."""
        context = TaskRunContext.get()
        return None if context is None else cls(context.task_run.id, context.task_run.flow_run_id)

    def __call__(self, progress: Progress) -> None:
        """Take note of a snapshot."""
        self._latest = progress

    def close(self) -> None:
        """Show the last state, if any was shown before, and end; takes `_GRACE` seconds at most."""
        self._ended.set()
        self._thread.join(_GRACE)

    async def aclose(self) -> None:
        """The same for async callers."""
        self._ended.set()
        await asyncio.to_thread(self._thread.join, _GRACE)

    def _work(self) -> None:
        if self._ended.wait(INTERVAL):
            return
        try:
            with get_client(sync_client=True) as client:
                self._show(client)
                while not self._ended.wait(INTERVAL):
                    self._show(client)
                self._show(client)
        except Exception:  # noqa: BLE001, S110 - a picture of the transfer is not worth the transfer
            pass

    def _show(self, client: SyncPrefectClient) -> None:
        latest = self._latest
        if latest is None or not latest.size:
            return
        percent = round(100 * latest.done / latest.size, 1)
        if percent == self._shown:
            return
        text = f"{latest.name}: {latest.done:,} of {latest.size:,} bytes"
        if self._artifact is None:
            self._artifact = client.create_artifact(self._new(percent, text)).id
        else:
            client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=text))
        self._shown = percent

    def _new(self, percent: float, text: str) -> ArtifactCreate:
        return ArtifactCreate(
            type="progress", data=percent, description=text, task_run_id=self._task_run, flow_run_id=self._flow_run
        )
