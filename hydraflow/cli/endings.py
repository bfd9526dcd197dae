"""What a run leaves when a signal cuts it short: all that its end would have written, so that the rest can be had."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydraflow.cli.output import as_json, print_json
from hydraflow.core import urls
from hydraflow.errors import HydraError
from hydraflow.models import FetchResult
from hydraflow.progress import UnfinishedError, error_line, say

if TYPE_CHECKING:
    from hydraflow.cli.tasks import Task

__all__ = ["cut_short"]


def cut_short(task: Task, code: int) -> None:
    """The lists, the report and the table of a run that ends with this code before all of its files have.

    What other programs go on with comes first: a terminal or a pipe that is stuck must not keep it from the disk.
    """
    if task.over.is_set():
        return
    options = task.options
    task.ended[:] = list(_so_far(task))
    outcomes = [outcome for _, outcome in task.ended]
    if options.failed is not None:
        _write(lambda path: task.list_failed(path, outcomes, "what is not done"), options.failed)
    if options.report is not None and task.history:
        _write(task.write_report, options.report)
    if options.streaming:
        return
    if options.json:
        left = (each for each in task.ended if isinstance(each[1], UnfinishedError))
        print_json(*(as_json(*each) | {"exit_code": code} for each in left))
    task.reporter.report(task.ended)


def _write(write: Callable[[Path], None], path: Path) -> None:
    try:
        write(path)
    except HydraError as error:
        say(error_line(error, ""))


def _so_far(task: Task) -> Iterator[tuple[str, FetchResult | HydraError]]:
    """What became of each file, in the order in which they were asked for.

    They are told apart by URL.  Of several whose URLs differ in their secrets only, all count as unfinished until all
    have ended: to ask again for what is there does no harm.
    """
    shown = [urls.redact(urls.parse(item).url if isinstance(item, str) else item.url) for item in task.options.items]
    ended: dict[str | None, deque[tuple[str, FetchResult | HydraError]]] = defaultdict(deque)
    for name, outcome in list(task.ended):
        ended[outcome.url].append((name, outcome))
    whole = {url for url, count in Counter(shown).items() if len(ended[url]) == count}
    for name, url in zip(task.names, shown, strict=True):
        yield ended[url].popleft() if url in whole else (name, task.reporter.unfinished(name, url))
