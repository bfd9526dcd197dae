"""What a command line asks for, carried out: files, streams, commands on streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hydraflow.cli.options import SETTINGS, Options, byte_range, caller_digest, check, check_words, headers_of
from hydraflow.cli.output import STDOUT, as_json, is_terminal, print_json
from hydraflow.errors import ConfigurationError, HydraError
from hydraflow.models import FetchResult, Progress

if TYPE_CHECKING:
    from hydraflow.core.history import History
    from hydraflow.core.locks import Lock
    from hydraflow.progress import Reporter
    from hydraflow.settings import Settings

__all__ = ["PARTIAL", "Host", "Task", "choose", "perform"]

#: The exit code where some files of a manifest are done, and others failed.
PARTIAL = 9


class Host(Protocol):
    """Who runs a task, and ends it when a signal has come."""

    task: Task | None

    def signalled(self) -> bool:
        """A signal has come: who works with processes and pipes ends them."""
        ...


def choose(*, quiet: bool, plain: bool, verbosity: int = 0) -> Reporter:
    """The reporter that fits the options and the terminal; a log with times is no display."""
    from hydraflow import progress

    if quiet:
        return progress.Quiet()
    if plain or verbosity > 1 or not progress.is_display():
        return progress.Plain(verbosity=verbosity)
    from hydraflow.display import Live

    return Live(verbosity=verbosity)


def perform(options: Options, host: Host) -> int:
    """Carry out a command line; its exit code."""
    from hydraflow.settings import load

    check_words(options.urls)
    options, lock = _listed(options)
    check(options)
    _check_targets(options)
    options = options.with_mirrors()
    settings = load(**{name: getattr(options, name) for name in SETTINGS})
    # Beside what prints to the same terminal, a display that is drawn again and again would tear.
    plain = options.no_ui or bool(options.command) or (options.json and is_terminal())
    reporter = choose(quiet=options.quiet, plain=plain, verbosity=options.verbose)
    task = host.task = Task(options, caller_digest(options), headers_of(options.header), settings, reporter, lock)
    if options.report is not None:
        from hydraflow.core.history import History

        task.history.append(History(time.monotonic()))
    try:
        code = _carried_out(task, host)
    finally:
        reporter.close()
    if options.report is not None:
        task.write_report(options.report)
    return code


def _check_targets(options: Options) -> None:
    if options.failed is None and options.report is None:
        return
    from hydraflow.cli import products

    for path, kind in ((options.failed, products.FAILURES), (options.report, products.REPORT)):
        if path is not None:
            products.check(path, kind)
    if options.failed == options.report:
        raise ConfigurationError("--failed and --report name one file", hint="Name two.")


def _carried_out(task: Task, host: Host) -> int:
    options = task.options
    if options.command:
        return task.run(host.signalled)
    if options.fifo_dir is not None:
        return task.stream_apart(options.fifo_dir, host.signalled)
    return task.stream() if options.streaming else task.fetch()


def _listed(options: Options) -> tuple[Options, Lock | None]:
    """With what a manifest lists, and as a lock has it."""
    if not options.input and options.locked is None and options.name is None:
        return options, None
    from hydraflow import locking
    from hydraflow.cli import lists
    from hydraflow.progress import say

    entries = [lists.entry_of(url) for url in options.urls]
    for source in options.input:
        entries += lists.read(source, (lambda _: None) if options.quiet else say)
    lock = None if options.locked is None else locking.read(options.locked)
    if lock is not None:
        entries = lists.of_lock(lock, entries)
        if not entries:
            raise ConfigurationError(f"{options.locked} lists no file")
    if options.name is not None and len(entries) == 1:
        entries = [entries[0].named(options.name)]
    if options.streaming:
        lists.check_streamed(entries, keep=options.keep)
        return replace(options, urls=tuple(entry.target for entry in entries)), lock
    return replace(options, urls=(), entries=tuple(entries)), lock


class _Told(NamedTuple):
    """What became of a file, what it is called, and how that is shown to people."""

    outcome: FetchResult | HydraError
    name: str
    shown: FetchResult | HydraError


@dataclass(frozen=True, slots=True)
class Task:
    """One command line at work."""

    options: Options
    digest: str | None
    headers: dict[str, str]
    settings: Settings
    reporter: Reporter
    lock: Lock | None = None
    told: dict[int, _Told] = field(default_factory=dict)  # by the identity of the outcome, which is kept with it
    ended: list[tuple[str, FetchResult | HydraError]] = field(default_factory=list)
    begun: datetime = field(default_factory=lambda: datetime.now().astimezone())
    history: list[History] = field(default_factory=list)  # one, for a report, or none
    over: Event = field(default_factory=Event)  # every file's end is known

    def fetch(self) -> int:
        """All URLs into files, all tried; the first failure's code, or that of a partial success of a manifest."""
        from hydraflow import api

        items = self.options.items
        sizes = [None if isinstance(item, str) else item.size for item in items]
        self.reporter.expect(len(items), None if None in sizes else sum(filter(None, sizes)))
        try:
            found = api.fetch_all(
                items,
                self.settings.output,
                digest=self.digest,
                headers=self.headers,
                resume=not self.options.no_resume,
                overwrite=self.options.overwrite,
                on_progress=self._progress,
                on_outcome=self._tell,
                settings=self.settings,
            )
        except BaseExceptionGroup as group:
            # What `_tell` raised, if nobody reads standard output any more.
            raise group.exceptions[0] from None
        self.ended[:] = [self.told[id(outcome)][1:] for outcome in found]  # in the order of the request
        outcomes = [outcome for _, outcome in self.ended]
        self.over.set()
        self.reporter.report(self.ended)
        if self.options.failed is not None:
            self.list_failed(self.options.failed, outcomes)
        codes = [outcome.exit_code for outcome in outcomes if isinstance(outcome, HydraError)]
        if self.options.entries and 0 < len(codes) < len(outcomes):
            return PARTIAL
        return codes[0] if codes else 0

    @property
    def names(self) -> list[str]:
        """What the files are called, as far as it is known beforehand."""
        from hydraflow.core.urls import file_name

        return [
            file_name(item) if isinstance(item, str) else item.name or file_name(item.url)
            for item in self.options.items
        ]

    def list_failed(self, path: Path, outcomes: Sequence[FetchResult | HydraError], what: str = "what failed") -> None:
        """For the next run, as its `--input`."""
        from hydraflow.cli import lists

        if lists.write_failed(path, self.options.items, outcomes, self.digest):
            self.reporter.note(f"{what} is listed in {path}: to try it again, --input {path}")

    def stream(self) -> int:
        """Several URLs one after another; the first failure ends it, since the rest would be misplaced."""
        from hydraflow import api

        self.reporter.expect(len(self.options.urls), None)

        fifo = self.options.fifo
        if fifo is not None:
            self.reporter.note(f"streaming into {fifo}, which must be opened within {self.settings.open_timeout:g} s")
        return self._code(lambda: api.pipe_all(self.options.urls, STDOUT if fifo is None else fifo, **self._terms()))

    def stream_apart(self, directory: Path, stopped: Callable[[], bool]) -> int:
        """Each URL into a named pipe of its own."""
        from hydraflow import consumers, ordering

        ordering.check_names(ordering.orders(self.options.urls, digest=self.digest))
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
        start, stop = byte_range(self.options.range)
        return {
            "start": start,
            "stop": stop,
            "spool": f"{self.settings.output}/" if self.options.keep else None,
            "resume": not self.options.no_resume,
            "overwrite": self.options.overwrite,
            "decompress": self.options.decompress,
            "digest": self.digest,
            "headers": self.headers,
            "on_progress": self._progress,
            "on_outcome": self._tell,
            "settings": self.settings,
        }

    def _code(self, work: Callable[[], int | list[FetchResult]]) -> int:
        """The exit code of a stream; a failure that has been told of is not told again."""
        try:
            done = work()
        except HydraError as error:
            if id(error) not in self.told:
                raise self._meant(error) from None
            shown = self.told[id(error)].shown
            assert isinstance(shown, HydraError)
            return shown.exit_code
        return done if isinstance(done, int) else 0

    def _meant(self, outcome: Any) -> Any:
        """An outcome, told in the terms of the lock, if there is one."""
        if self.lock is None or not isinstance(outcome, HydraError) or outcome.url is None:
            return outcome
        try:
            return self.lock.find(outcome.url).explain(outcome, self.lock.source)
        except ConfigurationError:
            return outcome

    def _progress(self, progress: Progress) -> None:
        self.reporter.update(progress)
        for history in self.history:
            tally = self.reporter.tally
            history.add(time.monotonic(), tally.received, tally.connections)

    def write_report(self, path: Path) -> None:
        """The run as a page."""
        from hydraflow import report
        from hydraflow.cli import products

        [history] = self.history
        history.end(time.monotonic(), self.reporter.tally.received)
        page = report.page(self.ended, history, self.begun, history.points[-1].at)
        products.write(path, page.encode(), products.REPORT)
        self.reporter.note(f"the report is in {path}")

    def _tell(self, name: str, outcome: FetchResult | HydraError) -> None:
        shown = self._meant(outcome)
        self.ended.append((name, shown))
        self.told[id(outcome)] = _Told(outcome, name, shown)
        if isinstance(outcome, HydraError):
            self.reporter.failed(shown, name)
        else:
            self.reporter.finished(outcome, name)
        if self.options.json:
            print_json(as_json(name, shown))

    def farewell(self, *, flushed: bool) -> str:
        """What to say when a signal ends it: where it stands, and how to go on."""
        standing = self.reporter.standing()
        stood = f"interrupted, {standing}" if standing else "interrupted"
        if self.options.streaming and not self.options.keep:
            return f"{stood}; a stream is not kept: the same command begins anew"
        if not self.reporter.resumable():
            return f"{stood}; the server gives nothing to tell versions apart by: the same command begins anew"
        without = " without --no-resume" if self.options.no_resume else ""
        place = "" if flushed else " from the last checkpoint that the disk took in time"
        return f"{stood}; run the same command again{without} to go on{place}"
