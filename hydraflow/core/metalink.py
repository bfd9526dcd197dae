"""Metalink files, version 4 (RFC 5854) and 3: digests of files, and other places to have them from."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydraflow.models import ALGORITHMS, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "File", "parse"]

#: A Metalink file that is longer is not read.
MAX_BYTES = 8 << 20
_MOST_DEEP = 12
_MOST_URLS = 1000
_SIZE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,6}")
_LAST = 1_000_000


@dataclass(frozen=True, slots=True)
class File:
    """What a Metalink says of one file.

    Attributes:
        name: as it stands there: from a stranger, to compare with and not to write to.
        size: in bytes; None if it is not told.
        digests: of the whole file, longest first.
        urls: http and https addresses of it, the preferred ones first.
    """

    name: str
    size: int | None = None
    digests: tuple[Digest, ...] = ()
    urls: tuple[str, ...] = ()


def parse(data: bytes) -> tuple[File, ...]:
    """Read a Metalink file. Entities and DTDs are refused, elements that are not known are passed over.

    Raises:
        ValueError: it is none.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a Metalink file has at most {MAX_BYTES:,} bytes")
    return tuple(_file(element) for element in _elements(data))


def _elements(data: bytes) -> Iterator[Any]:
    """The `file` elements, each as it is complete."""
    from defusedxml import ElementTree
    from defusedxml.common import DefusedXmlException

    depth = 0
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if depth > _MOST_DEEP:
                raise ValueError("elements are nested too deeply")
            if event == "start" and depth == 1 and _tag(element) != "metalink":
                raise ValueError(f"the root element is {_tag(element)[:40]!r}, not 'metalink'")
            if event == "end" and _tag(element) == "file":
                yield element
                element.clear()
    except (ElementTree.ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError(f"not a Metalink file: {error}") from None


def _file(element: Any) -> File:
    # Version 3 has digests in <verification> and addresses in <resources>; digests of pieces are deeper in both.
    children = [inner for child in element for inner in (child if _tag(child) in _GROUPS else [child])]
    size = next((_text(child) for child in children if _tag(child) == "size"), "")
    urls = sorted((_preference(child), at, _text(child)) for at, child in enumerate(children) if _tag(child) == "url")
    return File(
        name=element.get("name") or "",
        size=int(size) if _SIZE.fullmatch(size) else None,
        digests=_digests(children),
        urls=tuple(url for _, _, url in urls if url.startswith(("https://", "http://")))[:_MOST_URLS],
    )


_GROUPS = ("verification", "resources")


def _digests(children: list[Any]) -> tuple[Digest, ...]:
    found: dict[str, set[str]] = {}
    for child in children:
        algorithm = (child.get("type") or "").lower().replace("-", "")
        value = _text(child).lower()
        if _tag(child) == "hash" and ALGORITHMS.get(algorithm) == 4 * len(value) and re.fullmatch("[0-9a-f]+", value):
            found.setdefault(algorithm, set()).add(value)
    agreed = (Digest(each, values.pop()) for each, values in found.items() if len(values) == 1)
    return tuple(sorted(agreed, key=lambda digest: -ALGORITHMS[digest.algorithm]))


def _preference(element: Any) -> int:
    """Small is good: `priority` of version 4 (1 is best), `preference` of version 3 (100 is best)."""
    priority, preference = element.get("priority") or "", element.get("preference") or ""
    if _NUMBER.fullmatch(priority):
        return int(priority)
    return _LAST - int(preference) if _NUMBER.fullmatch(preference) else _LAST


def _tag(element: Any) -> str:
    """The name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _text(element: Any) -> str:
    return (element.text or "").strip()
