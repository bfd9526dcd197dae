"""Lists of files to fetch, in the forms in which people have them; none is more special than another.

- plain lines: a URL on each, `#sha256=HEX&size=N` behind it if known, or a digest behind a space; `#` begins a comment
  line;
- aria2's input files: several URLs of one file on a line, between tabs; below it, indented, `out=`, `dir=`,
  `checksum=`, `header=`;
- tables with a head, of tabs, commas or semicolons: `url`, `digest` (or `md5`, `sha256`, …), `size`, `name`, `mirrors`;
  and those that the European Nucleotide Archive makes (`fastq_ftp`, `fastq_md5`, `fastq_bytes`, …);
- JSON: a list, an object with a list `files`, or an object on each line, of the same names, as `--json` prints it;
- Metalink, of version 3 and 4 (RFC 5854).

A column or a member that means nothing here is passed over, and named in `Manifest.ignored`: a digest that was meant
and not understood must not go unnoticed.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hydraflow.core import metalink, names, sidecars, urls
from hydraflow.errors import ConfigurationError
from hydraflow.models import ALGORITHMS, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["MAX_BYTES", "Entry", "Manifest", "parse"]

#: A manifest that is longer is not read.
MAX_BYTES = 64 << 20

_NAMES = {
    "url": ("url", "uri", "link", "href"),
    "digest": ("digest", "checksum", "hash"),
    "size": ("size", "bytes", "length", "filesize"),
    "name": ("name", "filename", "out", "path", "file"),
    "mirrors": ("mirrors", "mirror"),
}
#: `md5`, `md5sum`, `sha256_hex`, …
_ALGORITHM = re.compile(rf"({'|'.join(ALGORITHMS)})(?:sum|hex|digest|checksum|hash)?")
_MEANING = {spelling: meaning for meaning, spellings in _NAMES.items() for spelling in spellings}
#: What `--json` prints, and what is no news.
_KNOWN = frozenset({
    "ok", "finalurl", "verification", "digestsource", "digesturl", "etag", "lastmodified", "outcome",
    "bytesfromnetwork", "bytesfromcheckpoint", "requests", "retries", "restarts", "peakconnections", "httpversion",
    "elapsed", "sources", "limitedby", "decisions", "error", "message", "hint", "help", "exitcode",
})  # fmt: skip
_ENA = re.compile(r"(fastq|submitted|sra|bam)_(?:ftp|https?)")
_DIGITS = re.compile(r"[0-9]{1,18}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DIGEST_BEHIND_COMMA = re.compile(r"\S+[,;|](?:[A-Za-z0-9-]+:)?[0-9A-Fa-f]{32,128}")
_DIGEST_BEHIND = re.compile(r"(\S+)[ \t]+((?:[A-Za-z0-9-]+:)?[0-9A-Fa-f]{8,128})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is wanted.

    Attributes:
        url: without fragment, secrets included.
        name: where it is to go, below the output directory, `/` between components; empty for the URL's own name.
        digest: that it must have.
        size: that it must have, in bytes.
        mirrors: other URLs of it, the first to be preferred.
        headers: request headers of its own.
    """

    url: str
    name: str = ""
    digest: Digest | None = None
    size: int | None = None
    mirrors: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """All that is known, as one URL with a fragment; the name and the headers have no place in it."""
        known = [] if self.digest is None else [str(self.digest).replace(":", "=", 1)]
        known += [] if self.size is None else [f"size={self.size}"]
        known += [f"mirror={quote(mirror, safe='')}" for mirror in self.mirrors]
        return f"{self.url}#{'&'.join(known)}" if known else self.url

    def named(self, name: str) -> Entry:
        """The same file under another name.

        Raises:
            ConfigurationError: it leads out of the output directory, or is none.
        """
        return replace(self, name=_name([name]))

    def with_mirrors(self, mirrors: Iterable[str]) -> Entry:
        """These URLs are the same file too; they are asked first.

        Raises:
            ConfigurationError: one is no URL.
        """
        return replace(self, mirrors=(*(urls.parse(mirror).url for mirror in mirrors), *self.mirrors))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values that `parse` understands; what is not known is left out."""
        values: dict[str, Any] = {"url": self.url, "name": self.name, "size": self.size}
        values["digest"] = None if self.digest is None else str(self.digest)
        values["mirrors"] = list(self.mirrors)
        values["headers"] = dict(self.headers)
        return {name: value for name, value in values.items() if value not in (None, "", [], {})}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a list says: files, and the columns that mean nothing here."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()


def parse(data: bytes) -> Manifest:
    """Read a list of files; which form it has is seen from its content. The same file twice counts once.

    Raises:
        ConfigurationError: it cannot be understood; the message tells the line, and shows no secret.
    """
    if len(data) > MAX_BYTES:
        raise ConfigurationError(f"a manifest has at most {MAX_BYTES:,} bytes")
    text = data.removeprefix(b"\xef\xbb\xbf")
    start = text.lstrip()[:1]
    if start == b"<":
        return _once(_metalink(text))
    try:
        lines = text.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"it is not a text in UTF-8: byte {error.start + 1} is wrong", hint="Save it as UTF-8."
        ) from None
    if start in (b"{", b"["):
        return _of_rows(_json(lines))
    head = next((line for line in lines.splitlines() if line.strip() and not line.startswith("#")), "")
    separator = _separator(head)
    return _of_rows(_table(lines, separator)) if separator else _once(_lines(lines))


def _once(entries: Iterable[Entry]) -> Manifest:
    return Manifest(tuple(dict.fromkeys(entries)))


# ── rows of named values ─────────────────────────────────────────────────────────────────────────────────────────────

_Row = tuple[str, "Mapping[str, Any]"]


def _of_rows(rows: Iterable[_Row]) -> Manifest:
    entries: dict[Entry, None] = {}
    ignored: dict[str, None] = {}
    for place, row in rows:
        try:
            found, strange = _entries(row)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}", hint=error.hint) from None
        entries.update(dict.fromkeys(found))
        ignored.update(dict.fromkeys(strange))
    return Manifest(tuple(entries), tuple(ignored))


def _entries(row: Mapping[str, Any]) -> tuple[list[Entry], list[str]]:
    """The files of a row, most often one, and the names that mean nothing."""
    archived = [match[1] for name in row if (match := _ENA.fullmatch(name))]
    if archived:
        return list(_archived(row, archived[0])), []
    values, strange = _meant(row)
    return [_entry(values)], strange


def _meant(row: Mapping[str, Any]) -> tuple[dict[str, list[Any]], list[str]]:
    """Values by what they mean: digests as `ALGORITHM:HEX`."""
    values: dict[str, list[Any]] = {}
    strange = []
    for name, value in row.items():
        meaning, algorithm = _meaning(name)
        if meaning == "headers" and isinstance(value, dict):
            values["headers"] = [value]
        elif meaning in (_UNKNOWN, "headers"):
            strange.append(name)
        elif meaning and value not in (None, ""):
            values.setdefault(meaning, []).append(f"{algorithm}:{value}" if algorithm else value)
    return values, strange


_UNKNOWN = "?"


@functools.lru_cache(maxsize=256)
def _meaning(name: str) -> tuple[str, str]:
    """What a heading means, and the algorithm if it is one; empty for what is no news."""
    plain = re.sub(r"[-_ .]", "", name.strip().lower())
    algorithm = _ALGORITHM.fullmatch(plain)
    if algorithm is not None:
        return "digest", algorithm[1]
    if plain == "headers":
        return plain, ""
    return "" if plain in _KNOWN else _MEANING.get(plain, _UNKNOWN), ""


def _entry(values: Mapping[str, list[Any]]) -> Entry:
    if not values.get("url"):
        raise ConfigurationError("there is no URL")
    target = urls.parse(_text(values["url"][0]))
    mirrors = [value for name, value in target.options if name == "mirror"]
    mirrors += [mirror for value in values.get("mirrors", ()) for mirror in _several(value)]
    return Entry(
        target.url,
        _name(values.get("name", [])),
        _digest([*values.get("digest", ()), *([str(target.digest)] if target.digest else [])]),
        _size([*values.get("size", ()), *([target.size] if target.size is not None else [])]),
        tuple(urls.parse(mirror).url for mirror in mirrors),
        tuple((name, _text(value)) for name, value in values.get("headers", [{}])[0].items()),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"a text was expected, not {value!r}")
    return value.strip()


def _several(value: Any) -> list[str]:
    return [_text(each) for each in value] if isinstance(value, list) else _text(value).split()


def _digest(values: Iterable[Any]) -> Digest | None:
    """The longest one; two of one kind must agree."""
    digests: dict[str, Digest] = {}
    for value in values:
        text = _text(value)
        algorithm = None if ":" in text else sidecars.algorithm_of(text)
        try:
            digest = Digest.parse(f"{algorithm}:{text}" if algorithm else text)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if digests.setdefault(digest.algorithm, digest) != digest:
            raise ConfigurationError(f"two different {digest.algorithm} digests")
    return max(digests.values(), key=lambda digest: ALGORITHMS[digest.algorithm], default=None)


def _size(values: Iterable[Any]) -> int | None:
    sizes = {str(value).strip().replace(",", "") for value in values}
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not _DIGITS.fullmatch(size):
        raise ConfigurationError(f"size: one number of bytes was expected, not {size!r}")
    return int(size)


def _name(values: list[Any]) -> str:
    """A place below a directory; from a stranger, who must not choose another one."""
    if not values:
        return ""
    name = _text(values[0]).removeprefix("./")
    parts = name.split("/")
    if any(part in ("", ".", "..") or names.safe(part) != part for part in parts):
        raise ConfigurationError(
            f"{name!a} is not a name for a file below the output directory", hint="Leave it out, or write a plain name."
        )
    return name


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _separator(head: str) -> str:
    """Between the cells of a table's head; empty if this is none."""
    if _URL.search(head):
        return ""
    for separator in ("\t", ",", ";"):
        cells = [cell.strip().strip('"').lower() for cell in head.split(separator)]
        if any(cell in _NAMES["url"] or _ENA.fullmatch(cell) for cell in cells):
            return separator
    return ""


def _table(text: str, separator: str) -> Iterator[_Row]:
    lines = (line if line.strip() and not line.startswith("#") else "" for line in io.StringIO(text, newline=None))
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    head: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not head:
                head = _head(cells, reader.line_num)
                continue
            place = f"line {reader.line_num}"
            if len(cells) > len(head):
                raise ConfigurationError(f"{place}: {len(cells)} cells under {len(head)} headings")
            yield place, {name: cell.strip() for name, cell in zip(head, cells, strict=False) if name}
    except csv.Error as error:
        raise ConfigurationError(f"line {reader.line_num}: {error}") from None


def _head(cells: list[str], line: int) -> list[str]:
    """The headings; of two that are one and mean something, one column would go unnoticed."""
    head = [cell.strip() for cell in cells]
    seen = set()
    for name in head:
        plain = name.lower()
        if plain in seen and _meaning(name)[0] not in ("", _UNKNOWN):
            raise ConfigurationError(f"line {line}: the heading {name!r} stands there twice")
        seen.add(plain)
    return head


def _archived(row: Mapping[str, Any], kind: str) -> Iterator[Entry]:
    """The files of a run, as the European Nucleotide Archive lists them: several in one cell, between semicolons."""

    def cells(name: str) -> list[str]:
        return [cell.strip() for cell in str(row.get(f"{kind}_{name}") or "").split(";")]

    found = next(filter(any, map(cells, ("https", "http", "ftp"))), [])
    for name in ("md5", "bytes"):
        if any(told := cells(name)) and len(told) != len(found):
            raise ConfigurationError(f"{len(found)} files, and the {name} of {len(told)}")
    for at, place in enumerate(found):
        if place:
            url = place if _URL.match(place) else f"https://{place}"
            url = re.sub(r"^ftp://", "https://", url)
            digests, sizes = ([*cells(name), *[""] * len(found)][at] for name in ("md5", "bytes"))
            known = {"url": [url], "digest": [f"md5:{digests}"] if digests else [], "size": [sizes] if sizes else []}
            yield _entry(known)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json(text: str) -> Iterator[_Row]:
    try:
        try:
            whole: Any = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            whole = [*_json_lines(text)]
    except ConfigurationError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: a number with thousands of digits, too
        raise ConfigurationError(f"it is not JSON: {error}") from None
    if isinstance(whole, dict):
        whole = whole["files"] if isinstance(whole.get("files"), list) else [whole]
    for number, item in enumerate(whole, 1):
        yield f"file {number}", _member(item, number)


def _json_lines(text: str) -> Iterator[Any]:
    # Not by splitlines: texts of JSON may have what others take for the end of a line.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        try:
            if line.strip():
                yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"line {number}: it is not JSON: {error.msg} at column {error.colno}") from None


def _member(item: Any, number: int) -> Mapping[str, Any]:
    if isinstance(item, str):
        return {"url": item}
    if not isinstance(item, dict):
        raise ConfigurationError(f"file {number}: an object or a URL was expected")
    if item.get("ok") is False:
        raise ConfigurationError(
            f"file {number}: a failure as --json prints it does not say what was expected of the file",
            hint="Let the run write what failed by --failed FILE, and give that to --input.",
        )
    if "outcome" in item:  # what --json printed: the path is where that run put it
        return {name: value for name, value in item.items() if name != "path"}
    return item


# ── lines, aria2's too ───────────────────────────────────────────────────────────────────────────────────────────────


def _lines(text: str) -> Iterator[Entry]:
    entry: Entry | None = None
    directory = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            if line[0] in " \t" and not _URL.match(line.strip()):
                if entry is None:
                    raise ConfigurationError("an option stands before the first URL")
                entry, directory = _with_option(entry, directory, line.strip())
                continue
            if entry is not None:
                yield _placed(entry, directory)
            entry, directory = _of_line(line.strip()), ""
        except ConfigurationError as error:
            raise ConfigurationError(f"line {number}: {error}", hint=error.hint) from None
    if entry is not None:
        yield _placed(entry, directory)


def _of_line(line: str) -> Entry:
    if behind := _DIGEST_BEHIND.fullmatch(line):
        return _entry({"url": [behind[1]], "digest": [behind[2]]})
    if _DIGEST_BEHIND_COMMA.fullmatch(line):
        raise ConfigurationError("a digest stands behind a comma", hint="Write a blank, or a first line: url,md5.")
    if "://" not in line and re.search(r"[\t,;|]", line):
        raise ConfigurationError(
            "this is no URL, and no head of a table", hint="A table's column of URLs is called url."
        )
    first, *others = line.split("\t")
    return _entry({"url": [first], "mirrors": [[other for other in others if other]]})


def _placed(entry: Entry, directory: str) -> Entry:
    if not directory:
        return entry
    return entry.named(f"{directory}/{entry.name or urls.file_name(entry.url)}")


def _with_option(entry: Entry, directory: str, line: str) -> tuple[Entry, str]:
    """What an indented line says; what only aria2 can do is passed over, as it does with options that it lacks."""
    option, _, value = (part.strip() for part in line.partition("="))
    if option == "dir":
        directory = value.removeprefix("./").rstrip("/")
        return entry, _name([directory]) if directory not in ("", ".") else ""
    if option == "out":
        return entry.named(value), directory
    if option == "checksum":
        return replace(entry, digest=_digest([value.replace("=", ":", 1)])), directory
    if option == "header":
        name, colon, content = (part.strip() for part in value.partition(":"))
        if not colon or not name:
            raise ConfigurationError("header=: 'Name: value' was expected")
        return replace(entry, headers=(*entry.headers, (name, content))), directory
    return entry, directory


# ── Metalink ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _metalink(data: bytes) -> Iterator[Entry]:
    try:
        files = metalink.parse(data)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    for file in files:
        if not file.urls:
            raise ConfigurationError(f"there is no http or https URL of {file.name!a}")
        first, *others = file.urls
        yield _entry({
            "url": [first],
            "name": [file.name] if file.name else [],
            "mirrors": [others],
            "digest": [str(digest) for digest in file.digests[:1]],
            "size": [] if file.size is None else [file.size],
        })  # fmt: skip
