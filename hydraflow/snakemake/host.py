"""What Snakemake is about in this process, where its plugins are not told.

A workflow may run here, on the head node of a cluster, or within a job of it, and what is asked of a plugin does not
say which.  Where a name is missing, as it may be in another release, the answer is the cautious one.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from typing import Any

__all__ = [
    "ends_unheard",
    "is_scheduling",
    "may_feed",
    "removes_stored_outputs",
    "runs_one_job",
    "takes_for_done",
    "writing_rule",
]


def may_feed() -> bool:
    """A job runs on this machine, and a plugin is told of its end: both are needed for a named pipe.

    On the head node of a cluster nobody would read it, and without metadata no checksum is asked for after the job.
    """
    workflow = _workflow()
    if workflow is None:
        return False
    if workflow.remote_exec:
        # Where local copies are shared nothing is cleaned up after the job, and nobody would hear of its end.
        told = all(usage.name != "STORAGE_LOCAL_COPIES" for usage in workflow.storage_settings.shared_fs_usage)
        return told and removes_stored_outputs()
    return bool(workflow.local_exec and workflow.execution_settings.keep_metadata)


def removes_stored_outputs() -> bool:
    """What a failed job has stored is removed: of outputs in a storage Snakemake does that since 9.24."""
    version = importlib.metadata.version("snakemake").split(".")
    return tuple(int(part) for part in version[:2] if part.isdecimal()) >= (9, 24)


def ends_unheard(file: object) -> bool:
    """The job that has this storage object among its inputs has no outputs: a plugin is not told of its end."""
    jobs = getattr(getattr(_workflow(), "dag", None), "jobs", ())
    inputs = (each for job in jobs if not job.output for each in job.input)
    return any(each.is_storage and each.storage_object is file for each in inputs)


def runs_one_job() -> bool:
    """This is a job on a cluster's node: its end is that of the process, and an error ends nothing else.

    No checksum is asked for, and the last that is heard of it is the cleaning.
    """
    workflow = _workflow()
    return workflow is not None and bool(workflow.remote_exec)


def takes_for_done() -> bool:
    """Jobs are about to be taken for done, and an error still fails the job; at other times it would end everything."""
    return bool(getattr(_scheduler(), "_tofinish", None))


def is_scheduling() -> bool:
    """Jobs are being chosen; what is asked for now is an input of one that is ready."""
    workflow = _workflow()
    return (
        _scheduler() is not None and bool(workflow.local_exec) and not workflow.iocache.active and not workflow.dryrun
    )


def writing_rule(kind: type) -> str | None:
    """A rule that has storage objects of this kind among its outputs or logs, once all rules are read."""
    dag = getattr(_workflow(), "dag", None)
    return None if dag is None else _writing_rule(dag, kind)


@functools.lru_cache(maxsize=1)
def _writing_rule(dag: Any, kind: type) -> str | None:
    for rule in dag.workflow.rules:
        if any(each.is_storage and isinstance(each.storage_object, kind) for each in (*rule.output, *rule.log)):
            return str(rule.name)
    return None


def _scheduler() -> Any:
    return getattr(_workflow(), "scheduler", None)


def _workflow() -> Any:
    """The workflow that this process executes, as every Snakefile sees it."""
    return getattr(sys.modules.get("snakemake.workflow"), "workflow", None)
