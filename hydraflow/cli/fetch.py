"""`hydraflow URL...`: files, and streams to standard output and named pipes."""

from __future__ import annotations

from typing import Any

import click

from hydraflow import __version__
from hydraflow.cli.options import Options, shared
from hydraflow.cli.tasks import perform
from hydraflow.cli.texts import CONTEXT, MainCommand

__all__ = ["command"]


@click.command("hydraflow", cls=MainCommand, context_settings=CONTEXT)
@shared()
@click.version_option(__version__, "-V", "--version", prog_name="hydraflow")
@click.pass_context
def command(context: click.Context, /, **values: Any) -> None:
    """Fetch files over several connections, verify them, and stream them if asked.

    A file at its final name is whole and verified; an interrupted transfer goes on where it ended.  The URL may carry
    what is known of the file: URL#sha256=HEX, URL#md5=HEX&size=N, URL#mirror=URL2.  `hydraflow run URL... -- COMMAND`
    feeds a command, which never takes a broken stream for a whole one: see hydraflow run --help.
    """
    if not (values["urls"] or values["input"] or values["locked"]):
        raise click.UsageError("Missing argument 'URL...'.")
    context.exit(perform(Options(**values), context.obj))
