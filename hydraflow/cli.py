"""The command line: options in, exit code out. All work is done by `api`.

Standard output carries bytes (`--stream`) or JSON (`--json`) and nothing else; people read standard error.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from hydraflow import __version__
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import FetchResult

__all__ = ["main", "run"]

_EPILOG = """
\b
Examples:
  hydraflow https://example.org/genome.fa.gz
  hydraflow https://example.org/reads.fastq.gz#md5=9e107d9d372bb6826bd81d3542a419d6 -o data
  hydraflow https://example.org/genome.fa.gz --stream | zcat | grep -c '^>'
  hydraflow https://example.org/x.bam --fifo x.pipe & samtools flagstat x.pipe

\b
Run the same command again after any failure: it goes on from the last checkpoint.
Every setting can also come from the environment, as HYDRAFLOW_THREADS, HYDRAFLOW_MAX_WAIT, …
(docs/configuration.md lists them all).

\b
Exit codes: 0 done and verified, 2 usage, 3 refused by the server, 4 network, 5 integrity,
6 storage, 7 remote file changed, 8 destination busy, 130/143 interrupted, 141 reader gone.
"""


@dataclass(frozen=True, slots=True)
class _Options:
    urls: tuple[str, ...]
    threads: int | None
    output: Path | None
    stream: bool
    fifo: Path | None
    no_ui: bool
    quiet: bool
    md5: str | None
    digest: str | None
    buffer: str | None
    json: bool
    header: tuple[str, ...]
    no_resume: bool
    overwrite: bool


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("-t", "--threads", type=int, metavar="N", help="Most connections at a time.  [default: 8]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where files go.  [default: download/]"
)
@click.option("-s", "--stream", is_flag=True, help="Write the bytes, in order, to standard output; nothing on disk.")
@click.option(
    "--fifo", type=click.Path(path_type=Path), metavar="PATH", help="Stream into this named pipe, made if missing."
)
@click.option("-nu", "--no-ui", is_flag=True, help="Plain lines instead of the live display.")
@click.option("-q", "--quiet", is_flag=True, help="Silent on success; errors are still printed.")
@click.option("--md5", metavar="HEX", help="MD5 that the file must have.")
@click.option("--digest", metavar="ALG:HEX", help="Digest that the file must have, e.g. sha256:9f86d08….")
@click.option("-b", "--buffer", metavar="BYTES", help="Memory for streaming, e.g. 64MB.  [default: threads × 5 MB]")
@click.option("--json", is_flag=True, help="One JSON line per file on standard output.")
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated).")
@click.option("--no-resume", is_flag=True, help="Throw away what an earlier run left, and begin anew.")
@click.option("--overwrite", is_flag=True, help="Replace another file at the destination.")
@click.version_option(__version__, "-V", "--version", prog_name="hydraflow")
@click.pass_context
def _command(context: click.Context, /, **values: Any) -> None:
    """Fetch files over several connections, verify them, and stream them if asked.

    A file at its final name is whole and verified; an interrupted transfer goes on where it ended.  The URL may carry
    what is known of the file: URL#sha256=HEX, URL#md5=HEX&size=N.
    """
    context.exit(_perform(_Options(**values)))


def _perform(options: _Options) -> int:
    from hydraflow import progress
    from hydraflow.settings import load

    digest = _check(options)
    headers = _headers(options.header)
    settings = load(threads=options.threads, output=options.output, buffer=options.buffer)
    reporter = progress.choose(quiet=options.quiet, plain=options.no_ui)
    try:
        if options.stream or options.fifo is not None:
            target: int | Path = sys.stdout.fileno() if options.fifo is None else options.fifo
            return _stream(options, target, digest, headers, settings, reporter)
        return _fetch(options, digest, headers, settings, reporter)
    finally:
        reporter.close()


def _check(options: _Options) -> str | None:
    """Refuse what cannot be meant; the digest that the options give."""
    if options.md5 is not None and options.digest is not None:
        raise ConfigurationError("--md5 and --digest exclude each other")
    digest = f"md5:{options.md5}" if options.md5 is not None else options.digest
    if digest is not None and len(options.urls) > 1:
        raise ConfigurationError(
            "one digest cannot be that of several URLs", hint="Write each URL with its own: URL#md5=HEX."
        )
    if options.stream and options.fifo is not None:
        raise ConfigurationError("--stream and --fifo exclude each other")
    if options.json and options.stream:
        raise ConfigurationError("--json and --stream both need standard output")
    if options.stream and sys.stdout.isatty():
        raise ConfigurationError("standard output is a terminal", hint="Pipe it into a program, or use --output.")
    return digest


def _headers(lines: Sequence[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ConfigurationError("a header is written 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers


def _fetch(options: _Options, digest: str | None, headers: dict[str, str], settings: Any, reporter: Any) -> int:
    from hydraflow import api

    def landed(name: str, outcome: FetchResult | HydraError) -> None:
        _tell(options, reporter, name, outcome)

    outcomes = api.fetch_all(
        options.urls,
        settings.output,
        digest=digest,
        headers=headers,
        resume=not options.no_resume,
        overwrite=options.overwrite,
        on_progress=reporter.update,
        on_outcome=landed,
        settings=settings,
    )
    return next((outcome.exit_code for outcome in outcomes if isinstance(outcome, HydraError)), 0)


def _stream(
    options: _Options, target: int | Path, digest: str | None, headers: dict[str, str], settings: Any, reporter: Any
) -> int:
    """Several URLs follow each other in one stream; the first failure ends it, since the rest would be misplaced."""
    from hydraflow import api
    from hydraflow.core.urls import file_name

    for url in options.urls:
        name = file_name(url)
        try:
            result = api.pipe(
                url, target, digest=digest, headers=headers, on_progress=reporter.update, settings=settings
            )
        except HydraError as error:
            _tell(options, reporter, name, error)
            return error.exit_code
        _tell(options, reporter, name, result)
    return 0


def _tell(options: _Options, reporter: Any, name: str, outcome: FetchResult | HydraError) -> None:
    if isinstance(outcome, HydraError):
        reporter.failed(outcome, name)
    else:
        reporter.finished(outcome, name)
    if options.json:
        click.echo(json.dumps(_as_json(name, outcome)))


def _as_json(name: str, outcome: FetchResult | HydraError) -> dict[str, Any]:
    if isinstance(outcome, FetchResult):
        return {"name": name, "ok": True, **outcome.as_dict()}
    return {
        "name": name,
        "ok": False,
        "url": outcome.url,
        "error": type(outcome).__name__,
        "message": str(outcome),
        "hint": outcome.hint,
        "exit_code": outcome.exit_code,
    }


class _Terminated(BaseException):
    """SIGTERM has come."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise _Terminated


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; every failure is one line on standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    handlers: list[tuple[type[BaseException], Callable[[Any], int]]] = [
        (click.exceptions.Exit, lambda error: int(error.exit_code)),
        (click.ClickException, _show_usage),
        (HydraError, _show),
        (KeyboardInterrupt, lambda _: _interrupted(130)),
        (click.Abort, lambda _: _interrupted(130)),
        (_Terminated, lambda _: _interrupted(143)),
        (asyncio.CancelledError, lambda _: _interrupted(143)),
        (BrokenPipeError, lambda _: 141),
    ]
    try:
        return int(_command.main(arguments, prog_name="hydraflow", standalone_mode=False) or 0)
    except BaseException as error:
        for kind, handle in handlers:
            if isinstance(error, kind):
                return handle(error)
        raise


def _show_usage(error: click.ClickException) -> int:
    error.show()
    return error.exit_code


def _show(error: HydraError) -> int:
    from hydraflow.progress import Quiet

    Quiet().failed(error, "")
    return error.exit_code


def _interrupted(code: int) -> int:
    sys.stderr.write("hydraflow: interrupted; run the same command again to go on from the checkpoint\n")
    return code


def main() -> NoReturn:
    """The `hydraflow` command."""
    sys.exit(run())
