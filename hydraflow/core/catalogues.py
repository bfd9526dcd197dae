"""Answers of data providers' programming interfaces: what Zenodo and ENA know of a file. Nothing here raises."""

from __future__ import annotations

import json
from typing import Any

from hydraflow.models import Digest

__all__ = ["ena", "zenodo"]


def zenodo(data: bytes, name: str) -> tuple[Digest, ...]:
    """The digest of a record's file `name`, from `/api/records/ID` or `/api/records/ID/files`."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    lists = [record.get(field) for field in ("files", "entries")] if isinstance(record, dict) else []
    files = next((each for each in lists if isinstance(each, list)), [])
    mine = {_digest(file.get("checksum")) for file in files if isinstance(file, dict) and file.get("key") == name}
    return _only(mine)


def ena(data: bytes, path: str) -> tuple[Digest, ...]:
    """The MD5 of the file at `path` (`ftp.sra.ebi.ac.uk/vol1/…`), from a file report in JSON.

    A run's files stand in one field with semicolons between them, their digests in another in the same order; if there
    are not as many of these as of those, nobody knows which is whose.
    """
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    mine = set()
    for row in rows if isinstance(rows, list) else ():
        for kind in ("fastq", "submitted", "sra", "bam"):
            paths, digests = (_listed(row, f"{kind}_{field}") for field in ("ftp", "md5"))
            if len(paths) == len(digests):
                mine |= {_digest(f"md5:{md5}") for there, md5 in zip(paths, digests, strict=True) if there == path}
    return _only(mine)


def _listed(row: Any, field: str) -> list[str]:
    value = row.get(field) if isinstance(row, dict) else None
    return value.split(";") if isinstance(value, str) else []


def _digest(text: Any) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _only(found: set[Digest | None]) -> tuple[Digest, ...]:
    """The digest, if there is one and no doubt."""
    digest = found.pop() if len(found) == 1 else None
    return () if digest is None or digest.parts else (digest,)
