"""File names from strangers: out of URLs and headers, made safe to write to and to print."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from hydraflow.models import Head

__all__ = ["NAMELESS", "announced", "is_vague", "safe", "with_suffix"]

NAMELESS = "download"
_LONGEST = 200  # bytes; file systems take 255, and the state directory's name is longer
_SUFFIXES = re.compile(r"(?:\.[A-Za-z0-9]{1,10}){1,3}\Z")
#: Names of devices on Windows, whatever stands behind their first dot: such a file could not be copied there.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|\Z)", re.IGNORECASE)


def safe(text: str) -> str:
    """One path component in NFC of at most 200 bytes of UTF-8, the text as far as that goes.  Never raises.

    It keeps its suffixes (`.fastq.gz`); it neither hides (`.x`) nor looks like an option (`-x`); slashes, backslashes
    and what does not print (control and escape characters, marks that turn the direction of writing) become `_`; it is
    no device of Windows and does not end in a dot, which Windows drops.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in text).strip()
    name = re.sub(r"[. ]+\Z", "_", name) if name.strip(". ") else NAMELESS
    name = re.sub(r"^[.-]+", "_", name)
    return _shorten(f"_{name}" if _DEVICE.match(name) else name)


def _shorten(name: str) -> str:
    if len(name.encode()) <= _LONGEST:
        return name
    stem = _SUFFIXES.sub("", name)
    suffixes = name[len(stem) :]
    short = stem.encode()[: _LONGEST - len(suffixes)].decode(errors="ignore") + suffixes
    return re.sub(r"[. ]\Z", "_", short)


# ── names that say nothing ───────────────────────────────────────────────────────────────────────────────────────────

_VAGUE = frozenset(
    {NAMELESS, "bitstream", "content", "data", "export", "file", "files", "get", "object", "raw", "view"}
)
_SCRIPTS = (".php", ".cgi", ".asp", ".aspx", ".jsp", ".do", ".action")


def is_vague(name: str) -> bool:
    """The name is one of the server's doings and not of a file: `content`, `12345`, `get.php`."""
    return name.lower() in _VAGUE or name.isdecimal() or name.lower().endswith(_SCRIPTS)


#: What the names of such files end in; not those that say nothing, as application/octet-stream.
_BY_TYPE = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/vnd.apache.parquet": ".parquet",
    "application/x-7z-compressed": ".7z",
    "application/x-bzip2": ".bz2",
    "application/x-gzip": ".gz",
    "application/x-hdf5": ".h5",
    "application/x-tar": ".tar",
    "application/x-xz": ".xz",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "application/zstd": ".zst",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tiff",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/tab-separated-values": ".tsv",
    "text/xml": ".xml",
}


def with_suffix(name: str, media_type: str | None) -> str:
    """The name with what files of this type end in, if it has no suffix of its own."""
    suffix = _BY_TYPE.get(media_type or "", "")
    return name if _SUFFIXES.search(name) else safe(f"{name}{suffix}")


# ── Content-Disposition ──────────────────────────────────────────────────────────────────────────────────────────────

_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*([!#$&+.^_`|~0-9A-Za-z-]{1,40}\*?)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.){0,2000})\"|([^\s\";,]{1,2000}))"
)
_KIND = re.compile(r"[ \t]*[A-Za-z0-9-]{1,40}")
_EXTENDED = re.compile(
    r"(utf-8|iso-8859-1)'[^']{0,40}'((?:%[0-9A-Fa-f]{2}|[!#$&+.^_`|~0-9A-Za-z-]){1,2000})", re.IGNORECASE
)


def announced(head: Head) -> str | None:
    """The file name of Content-Disposition (RFC 6266), safe; None if there is none that can be used.

    `filename*` (RFC 8187) goes before `filename`.  Of a path, which it must not be (§4.3), the last component counts.
    """
    value = head.get("content-disposition") or ""
    kind = _KIND.match(value)
    at, found = kind.end() if kind else len(value), dict[str, str]()
    while match := _PARAMETER.match(value, at):
        at = match.end()
        text = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        found.setdefault(match[1].lower(), text)
    text = _extended(found.get("filename*", "")) or _raw(found.get("filename", ""))
    name = re.split(r"[/\\]", text)[-1]
    return safe(name) if name.strip(". ") else None


def _extended(value: str) -> str:
    """An ext-value (RFC 8187 §3.2.1): character set, language, percent-encoded text; empty if it is none."""
    match = _EXTENDED.fullmatch(value)
    if match is None:
        return ""
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return ""


def _raw(value: str) -> str:
    """Bytes that are not ASCII came as Latin-1 (RFC 9110 §5.5); many servers mean UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
