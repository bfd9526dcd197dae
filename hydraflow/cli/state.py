"""`hydraflow state`: what lies half-done below a directory, and away with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hydraflow.cli.output import print_json, print_line
from hydraflow.cli.texts import CONTEXT, PATH, Command
from hydraflow.errors import ConfigurationError, HydraError

if TYPE_CHECKING:
    from hydraflow.inspecting import Leftover

__all__ = ["command"]

_EXAMPLES = """
hydraflow state ls data
hydraflow state rm data/x.bam
hydraflow state rm /scratch --older-than 7d
"""


@click.command("hydraflow state", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.argument("action", metavar="ls|rm", type=click.Choice(["ls", "rm"]))
@click.argument("places", metavar="[PATH]...", nargs=-1, type=PATH)
@click.option("--older-than", metavar="TIME", help="Only what was last written to so long ago: 90, 12h, 7d.")
@click.option("--json", "json", is_flag=True, help="One JSON line for each.")
@click.pass_context
def command(
    context: click.Context, /, action: str, places: tuple[Path, ...], older_than: str | None, json: bool
) -> None:
    """Tell what lies half-done below directories or for files, or remove it.

    ls tells how much of which file is there, since when, and who works on it; without a PATH, below this directory.  rm
    removes it, unless somebody works on it: the next fetch begins anew.  Files at their final names stay as they are.
    """
    if action == "rm" and not places:
        raise ConfigurationError("what to remove must be named", hint="Give a directory or a file.")
    codes: list[int] = []
    found = list(_found(places or (Path(),), _seconds(older_than), codes))
    if action == "rm":
        codes += _remove(found)
    for each in found:
        if json:
            print_json(each.as_dict())
    if not json:
        _show(found, removed=action == "rm")
    context.exit(codes[0] if codes else 0)


def _seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    from hydraflow import environment

    try:
        return environment.seconds(text)
    except ValueError:
        raise ConfigurationError(f"--older-than: a time such as 90, 12h or 7d was expected, not {text!r}") from None


def _found(places: Sequence[Path], least: float, codes: list[int]) -> Iterator[Leftover]:
    """Of directories that cannot be read the codes are added."""
    from hydraflow import inspecting
    from hydraflow.progress import error_line, say

    def passed_over(error: HydraError) -> None:
        codes.append(error.exit_code)
        say(error_line(error, ""))

    for place in places:
        yield from (each for each in inspecting.leftovers(place, passed_over) if each.age >= least)


def _remove(found: list[Leftover]) -> list[int]:
    """Those that cannot be removed leave the list; their exit codes."""
    from hydraflow import inspecting
    from hydraflow.progress import error_line, say

    codes = []
    for each in list(found):
        try:
            inspecting.remove(each)
        except HydraError as error:
            codes.append(error.exit_code)
            found.remove(each)
            say(error_line(error, ""))
    return codes


def _show(found: list[Leftover], *, removed: bool) -> None:
    from hydraflow.progress import plain, size_text

    for each in found:  # from a disk that others write to
        print_line(plain("  ".join(filter(None, (str(each.path), *_words(each))))))
    space = size_text(sum(each.on_disk for each in found))
    count = f"{len(found):,} unfinished file{'s' if len(found) != 1 else ''}"
    print_line(f"{count}, {space} {'removed' if removed else 'on disk'}")


def _words(leftover: Leftover) -> Iterator[str]:
    from hydraflow.progress import size_text

    if leftover.done:
        of = f" of {size_text(leftover.size)} ({100 * leftover.done // leftover.size} %)" if leftover.size else ""
        yield f"{size_text(leftover.done)}{of}"
    yield leftover.note
    yield f"{leftover.owner} is at work" if leftover.owner else f"untouched for {_time(leftover.age)}"
    yield leftover.url or ""


def _time(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
