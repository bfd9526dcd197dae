"""`hydraflow completion`: what a shell needs to complete command lines, and the answers to it when it asks."""

from __future__ import annotations

import importlib
import os
import subprocess
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from hydraflow.cli.output import print_line
from hydraflow.cli.texts import COMMANDS, CONTEXT, Command
from hydraflow.errors import ConfigurationError

__all__ = ["VARIABLE", "answer", "command"]

#: The shell's question stands in it.
VARIABLE = "_HYDRAFLOW_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = """
eval "$(hydraflow completion bash)"  # in ~/.bashrc
eval "$(hydraflow completion zsh)"   # in ~/.zshrc, below compinit
hydraflow completion fish > ~/.config/fish/completions/hydraflow.fish
"""


@click.command("hydraflow completion", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, /, shell: str) -> None:
    """Print what a shell needs to complete commands, options and file names of hydraflow."""
    del context
    print_line(_completer(shell).source().strip())


class _Words(click.Command):
    """Stands for a command line without a command yet: commands are words of it, too."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, and what the plain command has."""
        words = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [*words, *super().shell_complete(ctx, incomplete)]


def _completer(shell: str) -> ShellComplete:
    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigurationError(f"no shell {shell!r} is known", hint=f"Choose one of {', '.join(_SHELLS)}.")

    class Completer(kind):  # type: ignore[misc, valid-type]
        """As the plain command line is: its first word may be a command."""

        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
            """Of the command that stands first, if there is one."""
            name = args[0] if args and args[0] in COMMANDS else ""
            if not args:
                found: Any = importlib.import_module("hydraflow.cli.fetch").command
                return _Words("hydraflow", params=found.params).shell_complete(click.Context(found), incomplete)
            self.cli = importlib.import_module(f"hydraflow.cli.{name or 'fetch'}").command
            return list(super().get_completions(args[1:] if name else args, incomplete))

    return Completer(command, {}, "hydraflow", VARIABLE)


def answer() -> int:
    """Answer the shell that asks; its question stands in the environment."""
    shell, _, action = os.environ[VARIABLE].partition("_")
    if shell not in _SHELLS or action != "complete":
        return 2
    try:
        text = _completer(shell).complete()
    except (click.ClickException, subprocess.SubprocessError):
        return 1
    if text:
        print_line(text)
    return 0
