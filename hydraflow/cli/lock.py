"""`hydraflow lock`: what files are now, written down, so that a later fetch gets the same or fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hydraflow.cli import lists, products
from hydraflow.cli.options import headers_of
from hydraflow.cli.tasks import choose
from hydraflow.cli.texts import CONTEXT, PATH, Command
from hydraflow.errors import ConfigurationError, HydraError, StorageError

if TYPE_CHECKING:
    from hydraflow.core.locks import Lock, Locked
    from hydraflow.locking import Made
    from hydraflow.progress import Reporter

__all__ = ["command"]

_STDOUT = Path("-")

_EXAMPLES = """
hydraflow lock samples.tsv -o data.lock
hydraflow --locked data.lock -o data
hydraflow lock --check data.lock
"""


@click.command("hydraflow lock", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.argument("sources", metavar="MANIFEST|URL...", nargs=-1, type=click.Path(readable=False, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    default=Path("data.lock"),
    help="Where the lock goes, - for standard output; default data.lock.",
)
@click.option("--check", type=PATH, metavar="LOCK", help="Tell what has changed since; no fetch.")
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated).")
@click.option("-q", "--quiet", is_flag=True, help="Silent on success; errors are still printed.")
@click.pass_context
def command(
    context: click.Context, /, sources: tuple[str, ...], output: Path, check: Path | None, header: tuple[str, ...],
    quiet: bool,
) -> None:  # fmt: skip
    """Record what files are now: URL, size, digest, and what the server tells versions apart by.

    Digests are taken from the manifest, or found as for a fetch; a file of which nobody promises one is read to its end
    once.  `hydraflow --locked LOCK` fetches exactly these files, or fails with what was and what is.  A lock has no
    secrets in it: keep it beside the code.  Exit codes: 0 done, 7 (of --check) something has changed, others as for a
    fetch.
    """
    if bool(sources) == (check is not None):
        raise click.UsageError("Either a manifest or URLs to lock are needed, or --check LOCK.")
    reporter = choose(quiet=quiet, plain=False)
    headers = headers_of(header)
    try:
        if check is not None:
            context.exit(_check(check, headers, reporter))
        context.exit(_lock(sources, output, headers, reporter))
    finally:
        reporter.close()


def _lock(sources: tuple[str, ...], output: Path, headers: dict[str, str], reporter: Reporter) -> int:
    from hydraflow import locking
    from hydraflow.core import locks

    if output != _STDOUT:
        products.check(output, products.LOCK)
    entries = [entry for source in sources for entry in _entries(source, reporter.note)]
    made = locking.make(entries, headers=headers, on_made=_teller(reporter), on_progress=reporter.update)
    failed = [each.error for each in made if each.error is not None]
    if failed:
        reporter.note(f"{len(failed)} of {len(made)} files cannot be locked; {output} is left as it was")
        return failed[0].exit_code
    files = [each.locked for each in made if each.locked is not None]
    for line in _news(files, output):
        reporter.note(line)
    if output == _STDOUT:
        sys.stdout.buffer.write(locks.encode(files))
        return 0
    products.write(output, locks.encode(files), products.LOCK)
    count = f"{len(files):,} file{'s' if len(files) != 1 else ''}"
    reporter.note(f"{output}: {count} locked; fetch them by: hydraflow --locked {output}")
    return 0


def _entries(source: str, note: Callable[[str], None]) -> list[Any]:
    if lists.is_url(source):
        return [lists.entry_of(source)]
    return lists.read(source, note)


def _teller(reporter: Reporter) -> Callable[[Made], None]:
    from hydraflow.progress import size_text

    def tell(made: Made) -> None:
        if made.error is not None:
            reporter.failed(made.error, made.url)
        elif made.read and made.locked is not None:
            name, size = made.locked.name, size_text(made.read)
            reporter.note(f"{name}: nobody promises a digest; computed from {size} that were read")

    return tell


def _news(files: list[Locked], output: Path) -> list[str]:
    """What is different from an earlier lock of that name."""
    from hydraflow import locking

    if not products.is_plain(output):
        return []
    try:
        earlier = {each.url: each for each in locking.read(output).files}
    except (StorageError, ConfigurationError):
        return []
    lines = []
    for each in files:
        before = earlier.get(each.url)
        if before is not None and (before.digest, before.size) != (each.digest, each.size):
            lines.append(
                f"{each.name}: was {before.digest}, {before.size:,} bytes; is {each.digest}, {each.size:,} bytes"
            )
    return lines


def _check(path: Path, headers: dict[str, str], reporter: Reporter) -> int:
    from hydraflow import locking
    from hydraflow.core import locks

    lock: Lock = locking.read(path)
    codes = []
    for locked, found in locking.compare(lock, headers=headers):
        error = found if isinstance(found, HydraError) else locks.changed(found, locked, str(path)) if found else None
        if error is not None:
            codes.append(error.exit_code)
            reporter.failed(error, locked.name)
    same = len(lock.files) - len(codes)
    reporter.note(f"{path}: {same:,} of {len(lock.files):,} files are as they were, as far as their server tells")
    return codes[0] if codes else 0
