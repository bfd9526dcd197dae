"""Cached results that never name a file which is gone or is another one, and caching by what files hold."""

from __future__ import annotations

import contextvars
import datetime as dt
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect.cache_policies import STABLE_TRANSFORMS, CachePolicy
from prefect.context import TaskRunContext
from prefect.utilities.hashing import stable_hash

from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.models import Digest
from hydraflow.prefect.pinning import pinned
from hydraflow.prefect.profiles import HydraProfile, reveal, settle
from hydraflow.prefect.records import FetchedFile

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["FileOnDisk", "replaceable"]

_LONG_AGO: Any = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: The task run that found its file changed.
_changed: contextvars.ContextVar[UUID | None] = contextvars.ContextVar("hydraflow-changed", default=None)


@dataclass
class FileOnDisk(CachePolicy):
    """A fetch is `Cached` while its file is on this machine as it was left.

    The key is the URL without what grants access, the digest (that of the lock, if there is one), the size, the
    destination and the machine's name.  Where no digest is given, the URL may name another file tomorrow: then the key
    holds the flow run too, so that another run asks the server.  A file that is gone, or has another size or
    modification time than it was left with, is fetched again; only in that case does a fetch replace what is at the
    destination.

    Attributes:
        immutable: what is at a URL never changes, so that no digest is needed to trust a record of another run.
        deep: read the file and compare its digest, too.
    """

    immutable: bool = False
    deep: bool = False

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002 - it is what Prefect calls it with
        **_: Any,
    ) -> str | None:
        """The key, once a record under it that is not true any more has been put out of the way."""
        _changed.set(None)
        key = self._key(task_ctx, inputs)
        if key is not None and (there := _looked_up(task_ctx, key)) is not None and not there.is_intact(deep=self.deep):
            task_ctx.result_store.write(None, key=key, expiration=_LONG_AGO)
            if task_ctx.result_store.cache_result_in_memory:
                task_ctx.result_store.cache.clear()
            _changed.set(task_ctx.task_run.id)
        return key

    def _key(self, context: TaskRunContext, inputs: dict[str, Any]) -> str | None:
        try:
            with pinned(reveal(inputs["url"]), inputs.get("lock")) as url:
                target = urls.parse(url)
            given = inputs.get("digest")
            digest = target.digest if given is None else Digest.parse(str(given))
        except (HydraError, ValueError):  # the task itself says what is wrong
            return None
        run = "" if digest is not None or self.immutable else context.task_run.flow_run_id
        if run is None:
            return None
        size = inputs.get("size") or target.size
        dest = inputs.get("dest")
        if dest is None:
            profile = inputs.get("profile")
            own = profile if isinstance(profile, HydraProfile) else None
            dest = f"{settle(own, None, inputs.get('settings'))[1].output}/"
        parts = urls.canonical(target.url), digest, size, _place(dest), socket.gethostname(), run
        digest_of_parts: str = stable_hash("\0".join(map(str, parts)))
        return f"hydraflow-{digest_of_parts}"


def _place(dest: Any) -> str:
    """Absolute, and with the slash that makes it a directory."""
    text: str = os.fspath(dest)
    return os.path.abspath(text) + (os.sep if text.endswith(os.sep) else "")  # noqa: PTH100 - Path drops the slash


def _looked_up(context: TaskRunContext, key: str) -> FetchedFile | None:
    store = context.result_store
    if not store.exists(key):
        return None
    found = store.read(key).result
    return found if isinstance(found, FetchedFile) else None


def replaceable() -> bool:
    """What is at the destination was left there by an earlier run of this fetch, and changed by somebody since."""
    context, changed = TaskRunContext.get(), _changed.get()
    return context is not None and changed is not None and changed == context.task_run.id


def _content(file: FetchedFile) -> Any:
    """What a task that takes the file depends on: what is in it, wherever it lies and however it came there."""
    return (str(file.path), file.size, file.mtime_ns) if file.digest is None else (file.digest, file.size)


# A task with Prefect's own `INPUTS` stays cached though its file was fetched anew, or lies elsewhere.
STABLE_TRANSFORMS[FetchedFile] = _content
