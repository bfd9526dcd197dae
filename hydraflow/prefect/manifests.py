"""Lists of files to fetch, as people have them: URLs, lines of a file, or a table with a column of URLs."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydraflow.core import sidecars
from hydraflow.errors import ConfigurationError, StorageError
from hydraflow.prefect.profiles import reveal

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["read"]

#: Columns of tables, the first of a kind that is there: URLs, digests, sizes. The second ones are the ENA's.
_URLS = ("url", "fastq_ftp", "submitted_ftp", "sra_ftp")
_DIGESTS = ("digest", "sha512", "sha256", "sha1", "md5")
_ENA = ("_ftp", "_md5", "_bytes")


def read(manifest: str | os.PathLike[str] | Iterable[str | SecretStr]) -> list[str]:
    """URLs, each with what is known of its file in the fragment.

    Args:
        manifest: the URLs; or a file, with one in each line and perhaps a digest behind it, or with a table (tab or
            comma) whose first line names its columns: `url`, and `md5`, `sha1`, `sha256`, `sha512`, `digest`
            (`ALGORITHM:HEX`), `size`, or those of a file report of the European Nucleotide Archive.

    Raises:
        ConfigurationError: it cannot be understood.
        StorageError: the file cannot be read.
    """
    if isinstance(manifest, Iterator):
        raise ConfigurationError("a list of URLs is expected: what can be read only once cannot be retried")
    if not isinstance(manifest, (str, os.PathLike)):
        return [reveal(url) for url in manifest]
    if "://" in os.fspath(manifest):
        raise ConfigurationError("a list of URLs or the path of a manifest is expected, not a URL", hint="Write [URL].")
    lines = [line for line in _text(Path(manifest)).splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigurationError(f"{os.fspath(manifest)} lists no file")
    delimiter = "\t" if "\t" in lines[0] else ","
    columns = [name.strip().lower() for name in lines[0].split(delimiter)]
    try:
        if any(name in columns for name in _URLS):
            return list(_table(columns, csv.reader(lines[1:], delimiter=delimiter)))
        return [_line(line) for line in lines]
    except ValueError as error:
        raise ConfigurationError(f"{os.fspath(manifest)}: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise StorageError.wrap(error, f"cannot read {path}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a text") from None


def _line(line: str) -> str:
    url, _, digest = line.strip().partition("\t" if "\t" in line.strip() else " ")
    if "://" not in url:
        raise ValueError(f"not a URL: {url[:40]!r}")
    return _with(url, digest.strip(), "")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    urls = next(name for name in _URLS if name in columns)
    ena = urls.endswith(_ENA[0])
    digests = urls.replace(_ENA[0], _ENA[1]) if ena else next((name for name in _DIGESTS if name in columns), "")
    sizes = urls.replace(_ENA[0], _ENA[2]) if ena else "size"
    algorithm = "" if digests == "digest" else "md5" if ena else digests
    for row in rows:
        cells = dict(zip(columns, map(str.strip, row), strict=False))
        parts = [cells.get(name, "") for name in (urls, digests, sizes)]
        # The ENA lists the files of a run in one row, by semicolons and without a scheme.
        split = [part.split(";") for part in parts] if ena else [[part] for part in parts]
        for number, url in enumerate(split[0]):
            if url:
                digest, size = (part[number] if number < len(part) else "" for part in split[1:])
                named = f"{algorithm}:{digest}" if algorithm and digest else digest
                yield _with(url if "://" in url else f"https://{url}", named, size)


def _with(url: str, digest: str, size: str) -> str:
    """The URL with `#md5=…&size=…` behind it."""
    known = []
    if digest:
        algorithm, colon, value = digest.partition(":")
        found = algorithm if colon else sidecars.algorithm_of(digest)
        if found is None:
            raise ValueError(f"not a digest: {digest[:40]!r}")
        known.append(f"{found}={value if colon else digest}")
    if size:
        known.append(f"size={size}")
    joint = "&" if "=" in url.partition("#")[2] else "#"
    return f"{url}{joint}{'&'.join(known)}" if known else url
