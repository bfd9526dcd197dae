"""Which failures Prefect shall retry.

The engine has already been patient when it raises: a retry of the task is the second line, for longer outages, and goes
on from the checkpoint.  So whatever cannot be otherwise the next time fails at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydraflow.errors import (
    DestinationBusyError,
    HydraError,
    IntegrityError,
    RemoteProtocolError,
    ResourceChangedError,
    TransferError,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

__all__ = ["worth_another_try"]

# A refusal that may pass, such as a 503, is a TransferError already.
_MAY_PASS = (TransferError, RemoteProtocolError, ResourceChangedError, DestinationBusyError)


# A plain function, because Prefect takes any other callable for "never".
def worth_another_try(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """`retry_condition_fn`: no for 404, 401, 403, wrong bytes, a wrong call and local storage; yes for the network.

    A file that is not the locked one stays so; one that was replaced during the transfer is another file the next time.

    Of several errors one that may pass is enough.  What is no error of hydraflow, such as a timeout of the task, is
    retried as Prefect always does.
    """
    error = state.data
    if isinstance(error, BaseExceptionGroup):
        return any(_may_pass(each) for each in error.exceptions)
    return _may_pass(error)


def _may_pass(error: object) -> bool:
    if isinstance(error, ResourceChangedError) and isinstance(error.__cause__, IntegrityError):
        return False  # told in the terms of a lock
    return isinstance(error, _MAY_PASS) or not isinstance(error, HydraError)
