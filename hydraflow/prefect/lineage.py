"""Where a file came from, in Prefect's asset graph: `https://…` → `file://…`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext
from pydantic import ValidationError

if TYPE_CHECKING:
    from hydraflow.prefect.records import FetchedFile

__all__ = ["materialized"]


def materialized(*files: FetchedFile) -> None:
    """Tell Prefect that this task run made the files; nothing outside of runs.

    It is told when the run ends: nothing of it costs a transfer time, or can fail one.
    """
    context = AssetContext.get()
    if context is None:
        return
    for file in files:
        source, target = _asset(file.url.partition("?")[0], file.path.name), _asset(file_key(file), file.path.name)
        if source is None or target is None:
            continue
        context.direct_asset_dependencies.add(source)
        context.downstream_assets.add(target)
        context.add_asset_metadata(
            target.key,
            {"size": file.size, "digest": file.digest, "verification": str(file.verification), "etag": file.etag},
        )
    context.materialized_by = "hydraflow"
    context.update_tracked_assets()


def file_key(file: FetchedFile) -> str:
    """The file's URI (RFC 8089): with the machine's name, since paths mean something else on another one."""
    return f"file://{socket.gethostname()}{file.path}"


def _asset(key: str, name: str) -> Asset | None:
    try:
        return Asset(key=key, properties=AssetProperties(name=name))
    except ValidationError:  # Prefect takes no key with a space, a % or more than 512 characters in it
        return None
