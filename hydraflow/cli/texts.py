"""The help: options in groups, commands, examples by task, settings, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "COMMANDS",
    "CONTEXT",
    "EXAMPLES",
    "EXIT_CODES",
    "PATH",
    "Command",
    "GroupedOption",
    "MainCommand",
    "option",
    "write",
]

#: What exists and cannot be read is told by who reads it, with the exit code for that, and not by click.
PATH = click.Path(path_type=Path, readable=False)

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: Commands beside the plain `hydraflow URL...`, by the word that stands first; each is a module of this package.
COMMANDS = {
    "fetch": "Fetch files: the same as without this word.",
    "run": "Feed a command with verified streams.",
    "lock": "Record what files are now, so that later fetches get the same.",
    "verify": "Check files that are there already.",
    "probe": "Tell what a server can do, and what could be verified.",
    "state": "List or remove what lies half-done.",
    "doctor": "Look at versions, certificates, proxies, disk and limits.",
    "completion": "Print what bash, zsh or fish need to complete command lines.",
}

EXAMPLES = {
    "Fetch": """\
hydraflow https://example.org/genome.fa.gz -o data
hydraflow 'https://example.org/x.bam#md5=9e107d9d372bb6826bd81d3542a419d6'
""",
    "Many files": """\
hydraflow --input samples.tsv -o data --failed failed.jsonl
cut -f 3 table.tsv | hydraflow --input - -o data
""",
    "The same data next year": """\
hydraflow lock samples.tsv -o data.lock
hydraflow --locked data.lock -o data
""",
    "Stream, nothing on disk": """\
hydraflow https://example.org/genome.fa.gz --stream | zcat | grep -c '^>'
hydraflow run https://example.org/x.bam -- samtools flagstat {}
""",
    "Check what is there": """\
hydraflow verify data/x.bam --from https://example.org/x.bam
hydraflow verify data/ --from SHA256SUMS
hydraflow state ls data
""",
    "Ask first": """\
hydraflow probe https://example.org/genome.fa.gz
hydraflow doctor
""",
}

EXIT_CODES = """
Exit codes: 0 done and verified, 2 usage, 3 refused by the server, 4 network, 5 integrity,
6 storage, 7 remote file changed, 8 destination busy, 9 of a manifest some files are done and others failed,
130/143 interrupted, 141 reader gone. Of several URLs that failed, the first one's; all are tried.
"""

_AGAIN = "A fetch that failed or was interrupted goes on from its last checkpoint when the same command is run again."

F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a heading."""

    def __init__(self, *names: Any, group: str = "Options", **options: Any) -> None:
        super().__init__(*names, **options)
        self.group = group


def option(group: str, *names: str, **options: Any) -> Callable[[F], F]:
    """`click.option`, under a heading."""
    return click.option(*names, cls=GroupedOption, group=group, **options)


class Command(click.Command):
    """A command whose options stand in groups, and whose examples are given as they are typed."""

    examples = ""

    def __init__(self, *arguments: Any, examples: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples or self.examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples before the options: they are read first."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_examples(formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)

    def format_examples(self, formatter: click.HelpFormatter) -> None:
        """As they are typed."""
        if self.examples:
            write(formatter, f"\b\nExamples:\n{_indented(self.examples)}")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each group under its heading, in the order of first mention; those without a group come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx) if isinstance(each, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(each, "group", ""), []).append(record)
        rest = groups.pop("", [])
        for group, records in {**groups, "Other options" if groups else "Options": rest}.items():
            with formatter.section(group):
                formatter.write_dl(records)


class MainCommand(Command):
    """The plain command: its help tells of the other ones and of the settings, too."""

    def format_examples(self, formatter: click.HelpFormatter) -> None:
        """The other commands, and examples by task."""
        with formatter.section("Commands (hydraflow COMMAND --help)"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Examples"):
            for task, lines in EXAMPLES.items():
                formatter.write_text(f"\b\n{task}:\n{_indented(lines)}")
                formatter.write_paragraph()
            formatter.write_text(_AGAIN)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Settings and exit codes."""
        from dataclasses import fields

        from hydraflow.settings import Settings

        del ctx
        with formatter.section("Settings from the environment (docs/configuration.md)"):
            formatter.write_dl(
                [(f"HYDRAFLOW_{each.name.upper()}", each.metadata["meaning"]) for each in fields(Settings)]
            )
        write(formatter, EXIT_CODES)


def write(formatter: click.HelpFormatter, text: str) -> None:
    """A paragraph."""
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(text.strip())


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.strip().splitlines())
