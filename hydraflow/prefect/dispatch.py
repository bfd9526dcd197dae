"""One task object for every way to call it.

Prefect's own `async_dispatch` makes a function out of a task, without `submit`, `map` and `with_options`.  `HydraTask`
is a task, with a second body for callers that await.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["HydraTask"]

P = ParamSpec("P")
R = TypeVar("R")


class HydraTask(Task[P, R]):
    """A Prefect task whose direct call gives its result in sync code, and an awaitable of it in async code.

    `submit`, `map` and `delay` work as those of every task, in sync and async flows.

    Args:
        function: the body for sync callers, and for task runners.
        awaitable: the body for async callers; it takes the same arguments.
        options: as for `prefect.task`.
    """

    def __init__(self, function: Callable[P, R], awaitable: Callable[P, Awaitable[R]], **options: Any) -> None:
        super().__init__(function, **options)
        self._awaitable = awaitable

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...

    @overload
    def __call__(self, *args: Any, return_state: bool, wait_for: Any = ..., **kwargs: Any) -> Any: ...

    @overload
    def __call__(self, *args: Any, wait_for: Any, **kwargs: Any) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here: the result, or in async code an awaitable of the result."""
        if _caller_awaits():
            return self._twin()(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def with_options(self, **options: Any) -> Self:
        """A copy with some options changed, as for every task."""
        # The base makes a plain `Task`, which would be without the other body.
        changed = copy.copy(self)
        changed.__dict__.update(super().with_options(**options).__dict__)
        return changed

    def _twin(self) -> Task[P, Any]:
        """This task as it is now, hooks added later included, with the async body."""
        twin: Task[P, Any] = Task.__new__(Task)
        twin.__dict__.update(self.__dict__, fn=self._awaitable, isasync=True)
        return twin


def _caller_awaits() -> bool:
    """The flow or task that calls is async; outside of both, an event loop is running.

    The loop alone would not tell: in a notebook, or under an async flow, sync flows have one running in their thread.
    """
    if task_run := TaskRunContext.get():
        return task_run.task.isasync
    if flow_run := FlowRunContext.get():
        return flow_run.flow is not None and flow_run.flow.isasync
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
