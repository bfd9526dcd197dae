# ruff: noqa: INP001 - a module of the site's hooks, in no package
"""The reference, made from the code: commands from click, functions from their docstrings, errors, settings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import click

import hydraflow
from hydraflow import errors, settings
from hydraflow.cli.texts import COMMANDS, EXAMPLES

__all__ = ["pages"]


def pages() -> dict[str, str]:
    """Page by path."""
    made = {"cli": _cli, "python": _python, "errors": _errors, "settings": _settings}
    return {f"reference/{name}.md": "\n".join(make()) + "\n" for name, make in made.items()}


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cli() -> Iterator[str]:
    yield "# Command line\n"
    yield "Made from the program: `hydraflow --help` and `hydraflow COMMAND --help` say the same.\n"
    for task, lines in EXAMPLES.items():
        yield f"**{task}**\n\n```text\n{lines.strip()}\n```\n"
    for name in ("fetch", *(each for each in COMMANDS if each != "fetch")):
        command: click.Command = importlib.import_module(f"hydraflow.cli.{name}").command
        yield from _command("hydraflow" if name == "fetch" else f"hydraflow {name}", command)


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    formatter = click.HelpFormatter(width=100)
    command.format_usage(context, formatter)
    yield f"## {name}\n"
    yield f"```text\n{formatter.getvalue().strip()}\n```\n"
    yield f"{_escaped(inspect.cleandoc(command.help or ''))}\n"
    groups: dict[str, list[str]] = {}
    for each in command.get_params(context):
        record = each.get_help_record(context) if isinstance(each, click.Option) else None
        if record is not None:
            line = f"| `{record[0]}` | {_escaped(record[1])} |"
            groups.setdefault(getattr(each, "group", "Other options"), []).append(line)
    for group, lines in groups.items():
        yield f"| {group} | |\n|---|---|"
        yield from lines
        yield ""
    examples = getattr(command, "examples", "")
    if examples:
        yield f"```text\n{examples.strip()}\n```\n"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>*_#\[\]])", r"\\\1", " ".join(text.split()))


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _python() -> Iterator[str]:
    yield "# Python\n"
    yield "Everything below is in the package `hydraflow` itself; made from the docstrings.\n"
    for name in hydraflow.__all__:
        value = getattr(hydraflow, name)
        if name == "__version__":
            continue
        yield f"## {name}\n"
        yield f"```python\n{name}{_signature(value)}\n```\n"
        yield f"```text\n{inspect.getdoc(value)}\n```\n"
        if inspect.isclass(value):
            yield from _methods(value)


def _methods(kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        if not name.startswith("_") and inspect.isfunction(value):
            yield f"**{name}{_signature(value)}**\n\n{_escaped(inspect.getdoc(value) or '')}\n"


def _signature(value: Any) -> str:
    if inspect.isclass(value) and not (dataclasses.is_dataclass(value) or value is hydraflow.Hydra):
        return ""  # who makes one is not who uses it
    return str(inspect.signature(value)).replace("'", "")


# ── errors and settings ──────────────────────────────────────────────────────────────────────────────────────────────


def _errors() -> Iterator[str]:
    yield "# Errors and exit codes\n"
    yield "Each line leads to what may be behind the error, and what to do.\n"
    yield "| error | exit code | what it means | hint |\n|---|---|---|---|"
    for name in errors.__all__:
        kind = getattr(errors, name)
        meaning = _escaped((inspect.getdoc(kind) or "").split("\n\n")[0])
        anchor = f"../troubleshooting.md#{name.lower()}"
        yield f"| [{name}]({anchor}) | {kind.exit_code} | {meaning} | {_escaped(kind.default_hint)} |"
    yield f"\n```text\n{inspect.cleandoc(errors.__doc__ or '')}\n```\n"


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "[How to give them, and what they are good for](../configuration.md).\n"
    yield "| setting | variable | default | meaning |\n|---|---|---|---|"
    for each in dataclasses.fields(settings.Settings):
        default = "" if each.default in (None, "") else f"`{each.default}`"
        meaning = _escaped(each.metadata["meaning"])
        yield f"| `{each.name}` | `HYDRAFLOW_{each.name.upper()}` | {default} | {meaning} |"
