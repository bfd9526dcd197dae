"""hydraflow in Prefect flows: files, whole and verified, and streams that no consumer takes for more than they are.

>>> from prefect import flow
>>> from hydraflow.prefect import hydra_fetch
>>> @flow
... def count(url: str) -> int:
...     file = hydra_fetch(url)  # in an `async def` flow: await hydra_fetch(url)
...     return file.size

Needs the extra: `pip install 'hydraflow-io[prefect]'`.
"""

from __future__ import annotations

try:
    import prefect as _prefect
except ModuleNotFoundError as error:
    if error.name != "prefect":  # Prefect is there, but something that it needs is not
        raise
    raise ImportError("hydraflow.prefect needs Prefect: pip install 'hydraflow-io[prefect]'", name="prefect") from error

from hydraflow.prefect.caching import FileOnDisk
from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.fetching import hydra_fetch, hydra_fetch_many
from hydraflow.prefect.manifests import read as read_manifest
from hydraflow.prefect.piping import hydra_pipe
from hydraflow.prefect.profiles import HydraProfile
from hydraflow.prefect.records import FetchedFile, PipeResult, Streamed
from hydraflow.prefect.retrying import worth_another_try
from hydraflow.prefect.streaming import CommandFailedError, HydraStream, hydra_stream

__all__ = [
    "CommandFailedError",
    "FetchedFile",
    "FileOnDisk",
    "HydraProfile",
    "HydraStream",
    "HydraTask",
    "PipeResult",
    "Streamed",
    "hydra_fetch",
    "hydra_fetch_many",
    "hydra_pipe",
    "hydra_stream",
    "read_manifest",
    "worth_another_try",
]

del _prefect
