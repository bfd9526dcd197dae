"""`hydraflow verify`: its options, its table, its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hydraflow.cli.options import headers_of
from hydraflow.cli.output import print_json
from hydraflow.cli.texts import CONTEXT, PATH, Command
from hydraflow.errors import ConfigurationError

if TYPE_CHECKING:
    from hydraflow.verifying import Check

__all__ = ["command"]


_EXAMPLES = """
hydraflow verify data/x.bam --from https://example.org/x.bam
hydraflow verify data/ --from SHA256SUMS
hydraflow verify data/ --from https://example.org/md5checksums.txt
hydraflow verify data/x.bam --digest md5:9e107d9d372bb6826bd81d3542a419d6
"""


@click.command("hydraflow verify", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.argument("path", type=PATH)
@click.option(
    "--from",
    "source",
    type=click.Path(readable=False),
    metavar="URL|MANIFEST",
    help="Where the right digest is known from.",
)
@click.option("--digest", metavar="ALG:HEX", help="The right digest, e.g. sha256:9f86d08….")
@click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="Add a request header (may be repeated).")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per file on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Only what is not verified.")
@click.pass_context
def command(
    context: click.Context,
    /,
    path: Path,
    source: str | None,
    digest: str | None,
    header: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Check files that are there already.

    PATH is a file, or a directory with the files that a manifest lists.  A URL's digest is found as for a fetch: in the
    answer, in checksum files beside it, in the provider's catalogue.  A manifest is what --json printed, a data lock,
    a table as for --input, a Metalink file, or a checksum file; the latter two may be URLs.

    Exit codes: 0 all verified by a digest, 5 not, 6 a file is missing.
    """
    checks = _checks(path, source, digest, headers_of(header))
    if as_json:
        print_json(*(check.as_dict() for check in checks))
    shown = [check for check in checks if check.error is not None] if quiet else checks
    if shown and not (as_json and quiet):
        _show(shown)
    context.exit(next((check.error.exit_code for check in checks if check.error is not None), 0))


def _checks(path: Path, source: str | None, digest: str | None, headers: dict[str, str]) -> list[Check]:
    from hydraflow import verifying
    from hydraflow.cli import lists
    from hydraflow.models import Digest

    if (source is None) == (digest is None):
        raise ConfigurationError("one of --from and --digest is needed")
    if digest is not None:
        try:
            return [verifying.against_digest(path, Digest.parse(digest))]
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    assert source is not None
    if lists.is_url(source):
        from hydraflow.core.urls import file_name

        there = path / file_name(source) if path.is_dir() else path
        if verifying.is_list(source) and file_name(source) != path.name and not (path.is_dir() and there.exists()):
            return verifying.against_published(path, source, headers=headers)
        return [verifying.against_url(there, source, headers=headers)]
    return verifying.against_manifest(path, Path(source))


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(check: Check) -> tuple[str, str, str]:
    from hydraflow.progress import plain

    name = plain(os.fspath(check.path))
    if check.error is not None:
        return name, "NOT VERIFIED", f"{check.error}"
    assert check.claim is not None
    return name, f"verified {check.claim.digest.algorithm}", str(check.claim)


def _show(checks: Sequence[Check]) -> None:
    """On standard error: as a table where people look at it, else one line for each file."""
    from hydraflow.progress import say

    rows = [_row(check) for check in checks]
    if sys.stderr is None or not sys.stderr.isatty():
        for name, verdict, by in rows:
            say(f"{name}: {verdict} ({by})")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("file", "verdict", "by")
    for (name, verdict, by), check in zip(rows, checks, strict=True):
        style = "green" if check.error is None else "red"
        table.add_row(Text(name), Text(verdict, style=style), Text(by))
    Console(stderr=True, highlight=False).print(table)
