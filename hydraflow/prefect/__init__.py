"""hydraflow in Prefect flows: `hydra_fetch(url)` as a task.

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

from hydraflow.prefect.dispatch import HydraTask
from hydraflow.prefect.fetching import hydra_fetch
from hydraflow.prefect.records import FetchedFile
from hydraflow.prefect.retrying import worth_another_try

__all__ = ["FetchedFile", "HydraTask", "hydra_fetch", "worth_another_try"]

del _prefect
