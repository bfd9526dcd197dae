"""What a transfer has to know of the Prefect run that it is called in: where to log, and when to end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["logger", "own_client", "stopped"]


def logger() -> Any:
    """The run's, or an ordinary one outside of runs."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("hydraflow.prefect")


def own_client() -> SyncPrefectClient:
    """A client of Prefect's server; `get_client` by itself gives that of the run, which is closed at the run's end."""
    return get_client(httpx_settings={}, sync_client=True)


def stopped() -> Callable[[], bool]:
    """What tells whether the flow is ending early, for a task that was submitted to threads.

    On SIGTERM, Ctrl-C, a timeout or failure of the flow, Prefect throws nothing at its threads: it sets a flag that it
    looks at before a task begins, and then waits for those under way.  The flag is Prefect's own, so it is asked for
    with care; without it transfers go on to their end.
    """
    context = FlowRunContext.get()
    flags = getattr(getattr(context, "task_runner", None), "_cancel_events", None)
    if context is None or TaskRunContext.get() is None or not isinstance(flags, dict) or not flags:
        return lambda: False
    run = context.flow_run
    # They are set all at once, so any will do: a task that is called directly in a submitted one has none of its own.
    flag = list(flags.values())[-1]  # in one step: other threads add to them
    # At a good end they are set as well; what nobody has waited for may still come to its own.
    return lambda: flag.is_set() and not (run is not None and run.state is not None and run.state.is_completed())
