"""The command line: options in, exit code out. All work is done by `api`.

Standard output carries bytes (`--stream`) or JSON (`--json`) and nothing else; people read standard error.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hydraflow import __version__
from hydraflow.errors import ConfigurationError, HydraError, ReaderGoneError, StorageError
from hydraflow.models import FetchResult

if TYPE_CHECKING:
    from hydraflow.progress import Reporter
    from hydraflow.settings import Settings

__all__ = ["run"]

_EXAMPLES = """
\b
Examples:
  hydraflow https://example.org/genome.fa.gz
  hydraflow https://example.org/reads.fastq.gz#md5=9e107d9d372bb6826bd81d3542a419d6 -o data
  hydraflow https://example.org/genome.fa.gz --stream | zcat | grep -c '^>'
  hydraflow run https://example.org/x.bam -- samtools flagstat {}
  hydraflow verify data/x.bam --from https://example.org/x.bam

A fetch that failed or was interrupted goes on from its last checkpoint when the same command is run again.
"""

_RUN_EXAMPLES = """
\b
Examples:
  hydraflow run https://example.org/x.bam -- samtools flagstat {}
  hydraflow run "$LANE1" "$LANE2" -- sh -c 'zcat | wc -l'
  hydraflow run "$R1" "$R2" -- bwa mem ref.fa {} {} > out.sam

Exit codes: the command's own; or, where hydraflow failed and killed it, those of hydraflow --help.
"""

_EXIT_CODES = """
\b
Exit codes: 0 done and verified, 2 usage, 3 refused by the server, 4 network, 5 integrity,
6 storage, 7 remote file changed, 8 destination busy, 130/143 interrupted, 141 reader gone.
Of several URLs that failed, the first one's; all are tried.
"""

#: Options that are settings of the same name.
_SETTINGS = ("threads", "aggressive", "output", "buffer", "limit_rate", "max_wait", "verify")
_STDOUT, _STDERR = 1, 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds between two looks at whether a signal has come.
_SLICE = 0.05
#: Seconds that a signal leaves for checkpoints, and for everything: neither slow disk nor stuck terminal holds it up.
_FLUSH, _LEAVE = 0.6, 0.9
#: Seconds for the rest: named pipes are removed, a command is killed.
_TIDY = 0.25


class _Command(click.Command):
    """A command whose help tells of the settings too."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from hydraflow.settings import Settings

        del ctx
        _write(formatter, _EXAMPLES)
        with formatter.section("Settings from the environment (docs/configuration.md)"):
            formatter.write_dl(
                [(f"HYDRAFLOW_{each.name.upper()}", each.metadata["meaning"]) for each in fields(Settings)]
            )
        _write(formatter, _EXIT_CODES)


def _write(formatter: click.HelpFormatter, text: str) -> None:
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(text.strip())


@dataclass(frozen=True, slots=True)
class _Options:
    urls: tuple[str, ...]
    threads: int | None
    aggressive: bool | None
    no_ui: bool
    quiet: bool
    verbose: bool
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
    overwrite: bool = False
    command: tuple[str, ...] = ()
    allow_partial: bool = False
    mirror: tuple[str, ...] = ()

    @property
    def streaming(self) -> bool:
        """No file comes of it."""
        return self.stream or bool(self.command) or self.fifo is not None or self.fifo_dir is not None


@click.command(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("-t", "--threads", type=int, metavar="N", help="Most connections at a time.  [HYDRAFLOW_THREADS, or 16]")
@click.option(
    "--aggressive",
    is_flag=True,
    default=None,
    help="Up to 128 connections, as long as more of them pay.  [HYDRAFLOW_AGGRESSIVE, or no]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where files go.  [HYDRAFLOW_OUTPUT, or download/]",
)
@click.option("-s", "--stream", is_flag=True, help="Write the bytes, in order, to standard output; nothing on disk.")
@click.option(
    "--fifo", type=click.Path(path_type=Path), metavar="PATH", help="Stream into this named pipe, made if missing."
)
@click.option(
    "--fifo-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Stream each URL into a named pipe DIR/NAME, all at a time.",
)
@click.option("--decompress", is_flag=True, help="Stream what is in a file compressed by gzip, Zstandard or xz.")
@click.option("--keep", is_flag=True, help="Write what is streamed to --output too, and go on from what is there.")
@click.option("--range", metavar="A-B", help="Stream bytes A to B only, both included, from 0 on; A- for the rest.")
@click.option("-nu", "--no-ui", is_flag=True, help="Plain lines instead of the live display.")
@click.option("-q", "--quiet", is_flag=True, help="Silent on success; errors are still printed.")
@click.option("-v", "--verbose", is_flag=True, help="Tell how many connections are used and why, and what limits it.")
@click.option("--md5", metavar="HEX", help="MD5 that the file must have.")
@click.option("--digest", metavar="ALG:HEX", help="Digest that the file must have, e.g. sha256:9f86d08….")
@click.option(
    "-b",
    "--buffer",
    metavar="BYTES",
    help="Memory for streaming, e.g. 64MB.  [HYDRAFLOW_BUFFER, or threads × 5 MB]",
)
@click.option(
    "--limit-rate",
    metavar="RATE",
    help="Most bytes per second of all files together, e.g. 5MB.  [HYDRAFLOW_LIMIT_RATE, or no limit]",
)
@click.option(
    "--max-wait",
    metavar="TIME",
    help="Patience without a new byte: 90, 10m, 2h; 0 gives up at the first failure.  [HYDRAFLOW_MAX_WAIT, or 15m]",
)
@click.option(
    "--verify",
    metavar="HOW",
    help="auto; require: fail where no digest is known; none: only by one given here.  [HYDRAFLOW_VERIFY, or auto]",
)
@click.option("--json", is_flag=True, help="One JSON line per file on standard output.")
@click.option("--mirror", multiple=True, metavar="URL", help="Another URL of the same file (may be repeated).")
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated).")
@click.option("--no-resume", is_flag=True, help="Throw away what an earlier run left, and begin anew.")
@click.option("--overwrite", is_flag=True, help="Replace another file at the destination.")
@click.version_option(__version__, "-V", "--version", prog_name="hydraflow")
@click.pass_context
def _command(context: click.Context, /, **values: Any) -> None:
    """Fetch files over several connections, verify them, and stream them if asked.

    A file at its final name is whole and verified; an interrupted transfer goes on where it ended.  The URL may carry
    what is known of the file: URL#sha256=HEX, URL#md5=HEX&size=N, URL#mirror=URL2.  `hydraflow run URL... -- COMMAND`
    feeds a command, which never takes a broken stream for a whole one: see hydraflow run --help.
    """
    session: _Session = context.obj
    context.exit(_perform(_Options(**values), session))


class _RunCommand(_Command):
    """Its command line has another one in it, behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave what is behind `--` alone."""
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[cut + 1 :])
        return super().parse_args(ctx, args[:cut])

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As it has to be typed."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] URL... -- COMMAND [ARG]...")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples only; the rest is in the other help."""
        del ctx
        _write(formatter, _RUN_EXAMPLES)


#: Those of the plain command that mean the same here.
_SHARED = (
    "urls", "threads", "aggressive", "no_ui", "quiet", "verbose", "md5", "digest", "buffer", "limit_rate", "max_wait",
    "verify", "mirror", "header", "range", "decompress",
)  # fmt: skip
#: These too, where what is streamed is kept.
_FILING = ("keep", "output", "no_resume", "overwrite")


@click.command(cls=_RunCommand, context_settings=_command.context_settings)
@click.option("--allow-partial", is_flag=True, help="The command may end before it has read everything, as head does.")
@click.pass_context
def _run_command(context: click.Context, /, **values: Any) -> None:
    """Run a command on verified streams: it never sees the end of one that is broken or wrong.

    Each {} becomes a named pipe with the bytes of a URL, in their order, or {1}, {2}, … by number; without any, all
    come on the command's standard input, one after another.  On failure the command is killed, with all that it has
    started, before it can take what came for the whole; on success its exit code is passed on.
    """
    command = context.meta["command"]
    if not command:
        raise ConfigurationError("no command is given", hint="Write it behind two dashes: URL... -- COMMAND.")
    session: _Session = context.obj
    context.exit(_perform(_Options(**values, command=command), session))


def _verify_command() -> click.Command:
    from hydraflow.cli_verify import command

    return command


_run_command.params[:0] = [each for each in _command.params if each.name in (*_SHARED, *_FILING)]
#: Commands beside the plain `hydraflow URL...`, by the word that stands first.
_COMMANDS: dict[str, Callable[[], click.Command]] = {"run": lambda: _run_command, "verify": _verify_command}


# ── what the options mean ────────────────────────────────────────────────────────────────────────────────────────────


def _perform(options: _Options, session: _Session) -> int:
    from hydraflow import progress
    from hydraflow.settings import load

    _check(options)
    options = replace(options, urls=_with_mirrors(options))
    if not options.streaming or options.keep or options.fifo_dir is not None:
        _check_names(options.urls)
    settings = load(**{name: getattr(options, name) for name in _SETTINGS})
    # Beside a command that prints for itself, a display that is drawn again and again would tear.
    plain = options.no_ui or bool(options.command)
    reporter = progress.choose(quiet=options.quiet, plain=plain, verbose=options.verbose)
    task = session.task = _Task(options, _digest(options), _headers(options.header), settings, reporter)
    try:
        if options.command:
            return task.run(session.signalled)
        if options.fifo_dir is not None:
            return task.stream_apart(options.fifo_dir, session.signalled)
        return task.stream() if options.streaming else task.fetch()
    finally:
        reporter.close()


def _with_mirrors(options: _Options) -> tuple[str, ...]:
    """The URLs, with what `--mirror` says in their fragments."""
    from urllib.parse import quote

    named = "&".join(f"mirror={quote(mirror, safe='')}" for mirror in options.mirror)
    if not named:
        return options.urls
    url, _, fragment = options.urls[0].partition("#")
    return (f"{url}#{fragment}&{named}" if "=" in fragment else f"{url}#{named}",)


#: Options of which one can be given.
_EXCLUSIVE = (("--quiet", "--verbose"), ("--stream", "--fifo", "--fifo-dir"), ("--range", "--decompress"))
#: Options that mean something for streams only.
_STREAMING = {
    "--keep": "Leave it out: files are kept anyway.",
    "--range": "Add --stream, and write it where you like.",
    "--decompress": "Add --stream, and write it where you like.",
}


def _check(options: _Options) -> None:
    """Refuse what cannot be meant."""

    def given(name: str) -> bool:
        return getattr(options, name[2:].replace("-", "_")) not in (None, False)

    for group in _EXCLUSIVE:
        if len(ways := [name for name in group if given(name)]) > 1:
            raise ConfigurationError(f"{ways[0]} and {ways[1]} exclude each other")
    for name, hint in _STREAMING.items():
        if given(name) and not options.streaming:
            raise ConfigurationError(f"{name} is for streams", hint=hint)
    if options.streaming and options.output is not None and not options.keep:
        raise ConfigurationError("--output has no meaning for a stream that leaves nothing on disk", hint="Add --keep.")
    if options.mirror and len(options.urls) > 1:
        raise ConfigurationError("--mirror is of one URL, and there are several", hint="Put #mirror=URL behind each.")
    _check_output(options)


def _check_output(options: _Options) -> None:
    if options.json and options.stream:
        raise ConfigurationError("--json and --stream both need standard output")
    if (options.stream or options.json) and sys.stdout is None:
        raise ConfigurationError("standard output is closed")
    if options.stream and sys.stdout.isatty():
        raise ConfigurationError("standard output is a terminal", hint="Pipe it into a program, or use --output.")


def _check_names(urls: Sequence[str]) -> None:
    """A locale without UTF-8 may have no spelling for a file's name: better known before the transfer than after."""
    from hydraflow.core.urls import file_name

    for name in map(file_name, urls):
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"the file name {name!a} cannot be spelt in this locale", hint="Set LC_ALL=C.UTF-8."
            ) from None


def _digest(options: _Options) -> str | None:
    if options.md5 is not None and options.digest is not None:
        raise ConfigurationError("--md5 and --digest exclude each other")
    digest = f"md5:{options.md5}" if options.md5 is not None else options.digest
    if digest is not None and len(options.urls) > 1:
        raise ConfigurationError(
            "one digest cannot be that of several URLs", hint="Write each URL with its own: URL#md5=HEX."
        )
    return digest


def _range(text: str | None) -> tuple[int, int | None]:
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


def _headers(lines: Sequence[str]) -> dict[str, str]:
    # No message shows a line: it may be a credential, however it is spelt.
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ConfigurationError("a header is written 'Name: value'")
        if name.lower() in (known.lower() for known in headers):
            raise ConfigurationError(f"the header {name} is given twice")
        headers[name] = value
    return headers


# ── the work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Task:
    options: _Options
    digest: str | None
    headers: dict[str, str]
    settings: Settings
    reporter: Reporter
    told: list[HydraError] = field(default_factory=list)

    def fetch(self) -> int:
        """All URLs into files; the first failure's code, after all were tried."""
        from hydraflow import api, progress

        try:
            outcomes = api.fetch_all(
                self.options.urls,
                self.settings.output,
                digest=self.digest,
                headers=self.headers,
                resume=not self.options.no_resume,
                overwrite=self.options.overwrite,
                on_progress=self.reporter.update,
                on_outcome=self._tell,
                settings=self.settings,
            )
        except BaseExceptionGroup as group:
            # What `_tell` raised, if nobody reads standard output any more.
            raise group.exceptions[0] from None
        if len(outcomes) > 1:
            self.reporter.note(progress.totals(outcomes))
        return next((outcome.exit_code for outcome in outcomes if isinstance(outcome, HydraError)), 0)

    def stream(self) -> int:
        """Several URLs one after another; the first failure ends it, since the rest would be misplaced."""
        from hydraflow import api

        fifo = self.options.fifo
        if fifo is not None:
            self.reporter.note(f"streaming into {fifo}, which must be opened within {self.settings.open_timeout:g} s")
        return self._code(lambda: api.pipe_all(self.options.urls, _STDOUT if fifo is None else fifo, **self._terms()))

    def stream_apart(self, directory: Path, stopped: Callable[[], bool]) -> int:
        """Each URL into a named pipe of its own."""
        from hydraflow import api, consumers

        api.check_names(api.orders(self.options.urls, digest=self.digest))
        timeout = self.settings.open_timeout
        self.reporter.note(f"streaming into named pipes in {directory}, which must be opened within {timeout:g} s")
        return self._code(lambda: consumers.into_fifos(self.options.urls, directory, stopped=stopped, **self._terms()))

    def run(self, stopped: Callable[[], bool]) -> int:
        """A command on streams; its exit code."""
        from hydraflow import consumers

        options = self.options
        return self._code(
            lambda: consumers.run(
                options.urls, options.command, allow_partial=options.allow_partial, stopped=stopped, **self._terms()
            )
        )

    def _terms(self) -> dict[str, Any]:
        """What is the same for all kinds of streams."""
        start, stop = _range(self.options.range)
        return {
            "start": start,
            "stop": stop,
            "spool": f"{self.settings.output}/" if self.options.keep else None,
            "resume": not self.options.no_resume,
            "overwrite": self.options.overwrite,
            "decompress": self.options.decompress,
            "digest": self.digest,
            "headers": self.headers,
            "on_progress": self.reporter.update,
            "on_outcome": self._tell,
            "settings": self.settings,
        }

    def _code(self, work: Callable[[], int | list[FetchResult]]) -> int:
        """The exit code of a stream; a failure that has been told of is not told again."""
        try:
            done = work()
        except HydraError as error:
            if error not in self.told:
                raise
            return error.exit_code
        return done if isinstance(done, int) else 0

    def _tell(self, name: str, outcome: FetchResult | HydraError) -> None:
        if isinstance(outcome, HydraError):
            self.told.append(outcome)
            self.reporter.failed(outcome, name)
        else:
            self.reporter.finished(outcome, name)
        if self.options.json:
            _print(json.dumps(_as_json(name, outcome)))


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


def _print(line: str) -> None:
    """A line on standard output, without a buffer that would fail again at the interpreter's end."""
    view = memoryview(f"{line}\n".encode())
    try:
        while view:
            view = view[os.write(_STDOUT, view) :]
    except BrokenPipeError:
        raise ReaderGoneError("the reader closed standard output") from None
    except OSError as error:
        raise StorageError(f"cannot write to standard output: {error.strerror}", code=error.errno) from error


# ── the ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Session:
    """A command line, carried out in a thread of its own.

    So the main thread has nothing to do but wait for signals: none is late, and none breaks into other code.
    """

    def __init__(self, arguments: Sequence[str] | None) -> None:
        self.headers = _headers
        self.task: _Task | None = None
        self._arguments = arguments
        self._code = 1
        self._error: BaseException | None = None
        self._signal = 0
        self._thread = threading.Thread(target=self._run, name="hydraflow-command", daemon=True)

    def run(self) -> int:
        """The exit code; a signal ends the process instead."""
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup means it
        for number in heeded:
            signal.signal(number, self._note)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(_SLICE)
            if self._signal:
                self._leave(128 + self._signal)
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
        if self._error is not None:
            raise self._error
        return self._code

    def signalled(self) -> bool:
        """A signal has come: who works with processes and pipes ends them."""
        return bool(self._signal)

    def _run(self) -> None:
        try:
            self._code = _attempt(self._arguments, self)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error

    def _note(self, number: int, frame: FrameType | None) -> None:
        from hydraflow.progress import show_cursor

        del frame
        self._signal = number
        show_cursor()
        for each in _SIGNALS:  # whoever cannot wait for the checkpoint sends a second signal
            signal.signal(each, signal.SIG_DFL)

    def _leave(self, code: int) -> NoReturn:
        """Flush the checkpoints, say how to go on, end: not by way of threads that may be stuck in a system call."""
        from hydraflow.progress import say

        limit = threading.Timer(_LEAVE, os._exit, (code,))
        limit.daemon = True
        limit.start()
        if self.task is None:
            say("interrupted")
        else:
            flushed = self._end(self.task)
            if not self._code and not self._thread.is_alive():
                os._exit(0)  # all was done when the signal came
            say(_farewell(self.task.options, self.task.reporter, flushed=flushed))
        os._exit(code)

    def _end(self, task: _Task) -> bool:
        from hydraflow import runtime

        flushed = runtime.stop(within=_FLUSH)
        self._thread.join(_TIDY)  # it removes what it has made, a named pipe say
        task.reporter.close()
        return flushed


def _farewell(options: _Options, reporter: Reporter, *, flushed: bool) -> str:
    standing = reporter.standing()
    stood = f"interrupted, {standing}" if standing else "interrupted"
    if options.streaming and not options.keep:
        return f"{stood}; a stream is not kept: the same command begins anew"
    if not reporter.resumable():
        return f"{stood}; the server gives nothing to tell versions apart by: the same command begins anew"
    without = " without --no-resume" if options.no_resume else ""
    place = "" if flushed else " from the last checkpoint that the disk took in time"
    return f"{stood}; run the same command again{without} to go on{place}"


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; every failure is one line on standard error.

    SIGINT, SIGTERM and SIGHUP end the process, with the code 128 + N, within a second.
    """
    _occupy_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the help has signs that not every locale has
    return _Session(arguments).run()


def _attempt(arguments: Sequence[str] | None, session: _Session) -> int:
    from hydraflow.progress import error_line, say

    name, command, rest = _chosen(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(command.main(rest, prog_name=name, standalone_mode=False, obj=session) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        say(f"error: {_redacted(error.format_message())} Try '{name} --help'.")
        return error.exit_code
    except HydraError as error:
        say(error_line(error, ""))
        return error.exit_code
    except BrokenPipeError:
        return ReaderGoneError.exit_code


def _chosen(arguments: Sequence[str]) -> tuple[str, click.Command, list[str]]:
    """What to call it, which command it is, and its own arguments; no URL can be taken for the name of a command."""
    make = _COMMANDS.get(arguments[0]) if arguments else None
    if make is None:
        return "hydraflow", _command, list(arguments)
    return f"hydraflow {arguments[0]}", make(), list(arguments[1:])


def _occupy_standard_descriptors() -> None:
    """Where one of 0, 1, 2 is closed, the next file to be opened would take its number, and the prints meant for it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)


def _redacted(text: str) -> str:
    """A message about options, which may have been mixed up with URLs."""
    from hydraflow.core.urls import redact

    return re.sub(r"\w+://\S+", lambda found: redact(found[0]), text)
