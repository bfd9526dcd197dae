"""hydraflow: fetch, verify, stream, as one step of a data pipeline.

>>> import hydraflow
>>> result = hydraflow.fetch("https://example.org/genome.fa.gz", "data/", digest="sha256:…")  # doctest: +SKIP

Names are loaded on first use (PEP 562), so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hydraflow.api import (
        ByteStream,
        Hydra,
        afetch,
        apipe,
        aprobe,
        astream,
        fetch,
        fetch_all,
        pipe,
        probe,
        stream,
    )
    from hydraflow.errors import HydraError
    from hydraflow.locking import locked
    from hydraflow.models import Digest, FetchResult, Outcome, Progress, Resource, Verification
    from hydraflow.settings import Settings

_HOMES = {
    "hydraflow.api": (
        "ByteStream", "Hydra", "afetch", "apipe", "aprobe", "astream", "fetch", "fetch_all", "pipe", "probe", "stream",
    ),
    "hydraflow.errors": ("HydraError",),
    "hydraflow.locking": ("locked",),
    "hydraflow.models": ("Digest", "FetchResult", "Outcome", "Progress", "Resource", "Verification"),
    "hydraflow.settings": ("Settings",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ByteStream",
    "Digest",
    "FetchResult",
    "Hydra",
    "HydraError",
    "Outcome",
    "Progress",
    "Resource",
    "Settings",
    "Verification",
    "__version__",
    "afetch",
    "apipe",
    "aprobe",
    "astream",
    "fetch",
    "fetch_all",
    "locked",
    "pipe",
    "probe",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
