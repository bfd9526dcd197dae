"""Lists of files to fetch, as people have them: URLs, or a manifest in any form that the command takes, locks too."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydraflow.core import manifests
from hydraflow.errors import ConfigurationError, StorageError
from hydraflow.prefect.profiles import reveal
from hydraflow.prefect.runs import logger

if TYPE_CHECKING:
    from pydantic import SecretStr

    from hydraflow.core.manifests import Entry

__all__ = ["items", "read"]


def read(manifest: str | os.PathLike[str] | Iterable[str | SecretStr]) -> list[str]:
    """URLs, each with what is known of its file in the fragment; names and headers have no place there.

    Args:
        manifest: the URLs; or a file in one of the forms of docs/manifests.md.

    Raises:
        ConfigurationError: it cannot be understood.
        StorageError: the file cannot be read.
    """
    return [item if isinstance(item, str) else item.target for item in items(manifest)]


def items(manifest: str | os.PathLike[str] | Iterable[str | SecretStr]) -> list[str | Entry]:
    """The URLs, or the files of a manifest with all that it knows of them; see `read`."""
    if isinstance(manifest, Iterator):
        raise ConfigurationError("a list of URLs is expected: what can be read only once cannot be retried")
    if not isinstance(manifest, (str, os.PathLike)):
        return [reveal(url) for url in manifest]
    shown = os.fspath(manifest)
    if "://" in shown:
        raise ConfigurationError("a list of URLs or the path of a manifest is expected, not a URL", hint="Write [URL].")
    try:
        found = manifests.parse(_bytes(Path(manifest)))
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}: {error}", hint=error.hint) from None
    if not found.entries:
        raise ConfigurationError(f"{shown} lists no file")
    if found.ignored:
        logger().warning("%s: passed over, since it means nothing here: %s", shown, ", ".join(found.ignored))
    return list(found.entries)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(manifests.MAX_BYTES + 1)
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}") from error
