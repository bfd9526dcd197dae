"""Where a file came from, in Prefect's asset graph: `https://…` → `file://…`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext, FlowRunContext
from prefect.events import emit_event
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hydraflow.prefect.records import FetchedFile

__all__ = ["materialized", "materialized_all"]

#: An event may name 100 others; one that names more is lost, with a traceback in the log.
_MOST = 90
_US = "hydraflow"


def materialized(file: FetchedFile) -> None:
    """Tell Prefect that this task run made the file, and from what; nothing outside of runs.

    It is told when the run ends: nothing of it costs a transfer time, or can fail one.
    """
    context = AssetContext.get()
    source, target = _assets(file)
    if context is None or source is None or target is None:
        return
    if len(context.upstream_assets) > _MOST:
        context.upstream_assets.clear()
    context.direct_asset_dependencies.add(source)
    context.downstream_assets.add(target)
    context.add_asset_metadata(target.key, _facts(file))
    context.materialized_by = _US
    flow_run = FlowRunContext.get()
    # The tasks after this one name what they are made of, too.
    if flow_run is not None and sum(map(len, flow_run.task_run_assets.values())) < _MOST:
        context.update_tracked_assets()


def materialized_all(files: Iterable[FetchedFile]) -> None:
    """The same for files that one task run has made, each from its own source."""
    if AssetContext.get() is None:
        return
    for file in files:
        source, target = _assets(file)
        if source is None or target is None:
            continue
        emit_event("prefect.asset.referenced", resource=AssetContext.asset_as_resource(source), related=[])
        emit_event(
            "prefect.asset.materialization.succeeded",
            resource=AssetContext.asset_as_resource(target),
            related=[AssetContext.asset_as_related(source), AssetContext.related_materialized_by(_US)],
            payload=_facts(file),
        )


def _facts(file: FetchedFile) -> dict[str, object]:
    return {"size": file.size, "digest": file.digest, "verification": str(file.verification), "etag": file.etag}


def _assets(file: FetchedFile) -> tuple[Asset | None, Asset | None]:
    """Source and target; the file's URI (RFC 8089) names the machine, since paths mean something else elsewhere."""
    target = f"file://{socket.gethostname()}{file.path}"
    return _asset(file.url.partition("?")[0], file.path.name), _asset(target, file.path.name)


def _asset(key: str, name: str) -> Asset | None:
    try:
        return Asset(key=key, properties=AssetProperties(name=name))
    except ValidationError:  # Prefect takes no key with a space, a % or more than 512 characters in it
        return None
