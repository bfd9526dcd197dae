"""`hydraflow run URL... -- COMMAND`: a command on verified streams."""

from __future__ import annotations

from typing import Any

import click

from hydraflow.cli.options import STREAM_ONLY, Options, shared
from hydraflow.cli.tasks import perform
from hydraflow.cli.texts import CONTEXT, Command, write
from hydraflow.errors import ConfigurationError

__all__ = ["command"]

_EXAMPLES = """
hydraflow run https://example.org/x.bam -- samtools flagstat {}
hydraflow run "$LANE1" "$LANE2" -- sh -c 'zcat | wc -l'
hydraflow run "$R1" "$R2" -- bwa mem ref.fa {} {} > out.sam
"""

_EXIT_CODES = "Exit codes: the command's own; or, where hydraflow failed and killed it, those of hydraflow --help."


class _RunCommand(Command):
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
        """Examples, and what is said of exit codes."""
        super().format_epilog(ctx, formatter)
        write(formatter, _EXIT_CODES)


@click.command("hydraflow run", cls=_RunCommand, examples=_EXAMPLES, context_settings=CONTEXT)
@click.option("--allow-partial", is_flag=True, help="The command may end before it has read everything, as head does.")
@shared(*STREAM_ONLY)
@click.pass_context
def command(context: click.Context, /, **values: Any) -> None:
    """Run a command on verified streams: it never sees the end of one that is broken or wrong.

    Each {} becomes a named pipe with the bytes of a URL, in their order, or {1}, {2}, … by number; without any, all
    come on the command's standard input, one after another.  On failure the command is killed, with all that it has
    started, before it can take what came for the whole; on success its exit code is passed on.
    """
    if not (values["urls"] or values["locked"]):
        raise click.UsageError("Missing argument 'URL...'.")
    words = context.meta["command"]
    if not words:
        raise ConfigurationError("no command is given", hint="Write it behind two dashes: URL... -- COMMAND.")
    context.exit(perform(Options(**values, command=words), context.obj))
