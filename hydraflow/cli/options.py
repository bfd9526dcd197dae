"""The options of the commands that fetch and stream: what they are, and what they cannot mean."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hydraflow.cli.texts import COMMANDS, PATH, option
from hydraflow.errors import ConfigurationError

if TYPE_CHECKING:
    from hydraflow.core.manifests import Entry

__all__ = [
    "SETTINGS",
    "STREAM_ONLY",
    "Options",
    "byte_range",
    "caller_digest",
    "check",
    "check_words",
    "headers_of",
    "shared",
]

#: Options that are settings of the same name.
SETTINGS = ("threads", "aggressive", "output", "buffer", "limit_rate", "max_wait", "verify")

_WHERE, _TRUST, _STREAMS = "Destination", "Request and trust", "Streams"
_LISTS, _SPEED, _TELL = "Many files", "Speed and patience", "Messages"


@dataclass(frozen=True, slots=True)
class Options:
    """A command line, taken apart."""

    urls: tuple[str, ...]
    threads: int | None
    aggressive: bool | None
    no_ui: bool
    quiet: bool
    verbose: int
    md5: str | None
    digest: str | None
    buffer: str | None
    limit_rate: str | None
    max_wait: str | None
    verify: str | None
    header: tuple[str, ...]
    output: Path | None = None
    stream: bool = False
    fifo: Path | None = None
    fifo_dir: Path | None = None
    range: str | None = None
    keep: bool = False
    decompress: bool = False
    json: bool = False
    no_resume: bool = False
    name: str | None = None
    overwrite: bool = False
    command: tuple[str, ...] = ()
    allow_partial: bool = False
    mirror: tuple[str, ...] = ()
    input: tuple[str, ...] = ()
    failed: Path | None = None
    locked: Path | None = None
    report: Path | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def items(self) -> tuple[str | Entry, ...]:
        """What is to be fetched."""
        return self.entries or self.urls

    @property
    def streaming(self) -> bool:
        """No file comes of it."""
        return self.stream or bool(self.command) or self.fifo is not None or self.fifo_dir is not None

    def with_mirrors(self) -> Options:
        """What `--mirror` says stands in the manifest's entry then, or in the URL's fragment."""
        from urllib.parse import quote

        if self.entries and self.mirror:
            return replace(self, entries=(self.entries[0].with_mirrors(self.mirror),))
        named = "&".join(f"mirror={quote(mirror, safe='')}" for mirror in self.mirror)
        if not named:
            return self
        url, _, fragment = self.urls[0].partition("#")
        return replace(self, urls=(f"{url}#{fragment}&{named}" if "=" in fragment else f"{url}#{named}",))


_TABLE: dict[str, Callable[[Any], Any]] = {
    "input": option(
        _LISTS,
        "-i",
        "--input",
        type=click.Path(readable=False),
        multiple=True,
        metavar="FILE",
        help="Fetch what this manifest lists; - reads standard input (may be repeated).",
    ),
    "failed": option(
        _LISTS,
        "--failed",
        type=PATH,
        metavar="FILE",
        help="List what failed, or a signal left undone, to be the next run's --input.",
    ),
    "locked": option(
        _LISTS,
        "--locked",
        type=PATH,
        metavar="LOCK",
        help="Fetch what this data lock lists, or of it what is named, and only as it was locked.",
    ),
    "output": option(
        _WHERE, "-o", "--output", type=PATH, metavar="DIR", help="Where files go.  [HYDRAFLOW_OUTPUT, or download/]"
    ),
    "name": option(_WHERE, "--name", metavar="NAME", help="What the file is called there, if not as in its URL."),
    "overwrite": option(_WHERE, "--overwrite", is_flag=True, help="Replace another file at the destination."),
    "no_resume": option(
        _WHERE, "--no-resume", is_flag=True, help="Throw away what an earlier run left, and begin anew."
    ),
    "md5": option(_TRUST, "--md5", metavar="HEX", help="MD5 that the file must have."),
    "digest": option(
        _TRUST, "--digest", metavar="ALG:HEX", help="Digest that the file must have, e.g. sha256:9f86d08…."
    ),
    "verify": option(
        _TRUST,
        "--verify",
        metavar="HOW",
        shell_complete=lambda _context, _option, begun: [
            each for each in ("auto", "require", "none") if each.startswith(begun)
        ],
        help="auto; require: fail where no digest is known; none: only by one given here.  [HYDRAFLOW_VERIFY, or auto]",
    ),
    "mirror": option(
        _TRUST, "--mirror", multiple=True, metavar="URL", help="Another URL of the same file (may be repeated)."
    ),
    "header": option(
        _TRUST, "--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated)."
    ),
    "stream": option(
        _STREAMS, "-s", "--stream", is_flag=True, help="Write the bytes, in order, to standard output; nothing on disk."
    ),
    "fifo": option(
        _STREAMS, "--fifo", type=PATH, metavar="PATH", help="Stream into this named pipe, made if missing."
    ),
    "fifo_dir": option(
        _STREAMS,
        "--fifo-dir",
        type=PATH,
        metavar="DIR",
        help="Stream each URL into a named pipe DIR/NAME, all at a time.",
    ),
    "decompress": option(
        _STREAMS, "--decompress", is_flag=True, help="Stream what is in a file compressed by gzip, Zstandard or xz."
    ),
    "keep": option(
        _STREAMS, "--keep", is_flag=True, help="Write what is streamed to --output too, and go on from what is there."
    ),
    "range": option(
        _STREAMS,
        "--range",
        metavar="A-B",
        help="Stream bytes A to B only, both included, from 0 on; A- for the rest.",
    ),
    "buffer": option(
        _STREAMS,
        "-b",
        "--buffer",
        metavar="BYTES",
        help="Memory for streaming, e.g. 64MB.  [HYDRAFLOW_BUFFER, or threads × 5 MB]",
    ),
    "threads": option(
        _SPEED, "-t", "--threads", type=int, metavar="N", help="Most connections at a time.  [HYDRAFLOW_THREADS, or 16]"
    ),
    "aggressive": option(
        _SPEED,
        "--aggressive",
        is_flag=True,
        default=None,
        help="Up to 128 connections, or -t, as long as more of them pay.  [HYDRAFLOW_AGGRESSIVE, or no]",
    ),
    "limit_rate": option(
        _SPEED,
        "--limit-rate",
        metavar="RATE",
        help="Most bytes per second of all files together, e.g. 5MB.  [HYDRAFLOW_LIMIT_RATE, or no limit]",
    ),
    "max_wait": option(
        _SPEED,
        "--max-wait",
        metavar="TIME",
        help="Patience without a new byte: 90, 10m, 2h; 0 gives up at the first failure.  [HYDRAFLOW_MAX_WAIT, or 15m]",
    ),
    "no_ui": option(_TELL, "-nu", "--no-ui", is_flag=True, help="Plain lines instead of the live display."),
    "quiet": option(_TELL, "-q", "--quiet", is_flag=True, help="Silent on success; errors are still printed."),
    "verbose": option(
        _TELL,
        "-v",
        "--verbose",
        count=True,
        help="Tell how many connections are used and why, and what limits it; -vv is a log with times.",
    ),
    "report": option(
        _TELL,
        "--report",
        type=PATH,
        metavar="FILE",
        help="Write a page of HTML about the run: rate, connections, verdicts.",
    ),
    "json": option(_TELL, "--json", is_flag=True, help="One JSON line per file on standard output."),
}  # fmt: skip

#: Options that mean something without a stream only, and have no place where there is always one.
STREAM_ONLY = ("input", "failed", "name", "stream", "fifo", "fifo_dir", "json")


def shared(*without: str) -> Callable[[Any], Any]:
    """URLs, and all options but these, in the order of the table."""

    def decorate(function: Any) -> Any:
        for name, add in reversed(_TABLE.items()):
            if name not in without:
                function = add(function)
        return click.argument("urls", metavar="URL...", nargs=-1)(function)

    return decorate


# ── what cannot be meant ─────────────────────────────────────────────────────────────────────────────────────────────

#: Options of which one can be given.
_EXCLUSIVE = (("--quiet", "--verbose"), ("--stream", "--fifo", "--fifo-dir"), ("--range", "--decompress"))
#: Options that mean something for streams only.
_STREAMING = {
    "--keep": "Leave it out: files are kept anyway.",
    "--range": "Add --stream, and write it where you like.",
    "--decompress": "Add --stream, and write it where you like.",
}
#: Options that mean something for files only.
_FILES = {
    "--failed": "A stream ends at the first failure.",
    "--name": "A stream that is kept has the name in its URL.",
}
#: Options that are about one file.
_SINGLE = {
    "--mirror": "Put #mirror=URL behind each.",
    "--name": "Names for many stand in a manifest: see --input.",
}


def check(options: Options) -> None:
    """Refuse what cannot be meant.

    Raises:
        ConfigurationError: with the options that contradict each other.
    """

    def given(name: str) -> bool:
        return getattr(options, name[2:].replace("-", "_")) not in (None, False, 0, ())

    for group in _EXCLUSIVE:
        if len(ways := [name for name in group if given(name)]) > 1:
            raise ConfigurationError(f"{ways[0]} and {ways[1]} exclude each other")
    for wrong, hints, message in (
        (not options.streaming, _STREAMING, "is for streams"),
        (options.streaming, _FILES, "is for files"),
        (len(options.items) != 1, _SINGLE, "is of one URL, and there are several"),
    ):
        for name in filter(given, hints if wrong else ()):
            raise ConfigurationError(f"{name} {message}", hint=hints[name])
    _check_output(options)
    if not options.streaming or options.keep or options.fifo_dir is not None:
        _check_names(options.items)


def check_words(words: Sequence[str]) -> None:
    """Refuse what stands where a URL should, and is plainly something else; the rest is for who reads URLs.

    Raises:
        ConfigurationError: with what was meant, as far as one can guess.
    """
    import difflib

    for word in words:
        if "://" in word or set(word) & set("@?#:"):  # not to be shown: a password may stand in it
            continue
        close = difflib.get_close_matches(word, COMMANDS, 1)
        hint = f"Did you mean hydraflow {close[0]}?" if close else ""
        if os.path.isfile(word):  # noqa: PTH113 - Path's raises where it may not look
            hint = f"To fetch what a file lists: --input {word}."
        elif re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}/.*", word, re.IGNORECASE):
            hint = f"Write https://{word}."
        if hint:
            raise ConfigurationError(f"this is not a URL: {word!r}", hint=hint)


def _check_output(options: Options) -> None:
    if options.streaming and options.output is not None and not options.keep:
        raise ConfigurationError("--output has no meaning for a stream that leaves nothing on disk", hint="Add --keep.")
    _check_directory(options)
    if options.json and options.stream:
        raise ConfigurationError("--json and --stream both need standard output")
    if (options.stream or options.json) and sys.stdout is None:
        raise ConfigurationError("standard output is closed")
    if options.stream and sys.stdout.isatty():
        raise ConfigurationError("standard output is a terminal", hint="Pipe it into a program, or use --output.")


def _check_directory(options: Options) -> None:
    """`-o x.fa.gz` means a file to curl and wget; here it would make a directory of that name."""
    if options.output is None or len(options.items) != 1 or os.path.isdir(options.output):  # noqa: PTH112 - Path's raises
        return
    suffix = options.output.suffix
    if suffix and suffix == Path(_name_of(options.items[0])).suffix:
        name = options.output.name
        raise ConfigurationError(
            f"--output is a directory, and {name!r} looks like a file", hint="Write -o DIR --name NAME."
        )


def _name_of(item: str | Entry) -> str:
    from hydraflow.core.urls import file_name

    return file_name(item) if isinstance(item, str) else item.name or file_name(item.url)


def _check_names(items: Sequence[str | Entry]) -> None:
    """A locale without UTF-8 may have no spelling for a file's name: better known before the transfer than after."""
    from hydraflow.ordering import spelt

    for item in items:
        spelt(_name_of(item))


# ── words that stand for values ──────────────────────────────────────────────────────────────────────────────────────


def caller_digest(options: Options) -> str | None:
    """What `--md5` or `--digest` says."""
    if options.md5 is not None and options.digest is not None:
        raise ConfigurationError("--md5 and --digest exclude each other")
    digest = f"md5:{options.md5}" if options.md5 is not None else options.digest
    if digest is not None and len(options.items) > 1:
        raise ConfigurationError(
            "one digest cannot be that of several URLs", hint="Write each URL with its own: URL#md5=HEX."
        )
    return digest


def byte_range(text: str | None) -> tuple[int, int | None]:
    """First byte, and the offset behind the last one."""
    if text is None:
        return 0, None
    found = re.fullmatch(r"([0-9]{1,18})-([0-9]{0,18})", text.strip())
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        raise ConfigurationError(
            f"not a range: {text!r}",
            hint="Write the first and the last byte, --range 0-499, or --range 500- for the rest.",
        )
    return int(found[1]), int(found[2]) + 1 if found[2] else None


def headers_of(lines: Sequence[str]) -> dict[str, str]:
    """What `--header` says. No message shows a line: it may be a credential, however it is spelt."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ConfigurationError("a header is written 'Name: value'")
        if name.lower() in (known.lower() for known in headers):
            raise ConfigurationError(f"the header {name} is given twice")
        headers[name] = value
    return headers
