"""What is printed for programs, and what must not be printed for anybody."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from hydraflow.errors import HydraError, ReaderGoneError, StorageError
from hydraflow.models import FetchResult

__all__ = ["STDERR", "STDOUT", "as_json", "is_terminal", "print_json", "print_line", "redacted"]

STDOUT, STDERR = 1, 2


def as_json(name: str, outcome: FetchResult | HydraError) -> dict[str, Any]:
    """What became of one file."""
    if isinstance(outcome, FetchResult):
        return {"name": name, "ok": True, **outcome.as_dict(), "exit_code": 0}
    return {
        "name": name,
        "ok": False,
        "url": outcome.url,
        "error": type(outcome).__name__,
        "message": str(outcome),
        "hint": outcome.hint,
        "help": outcome.help,
        "exit_code": outcome.exit_code,
    }


def print_json(*objects: dict[str, Any]) -> None:
    """Each object on a line of its own."""
    if objects:
        print_line("\n".join(map(json.dumps, objects)))


def print_line(line: str) -> None:
    """A line on standard output, without a buffer that would fail again at the interpreter's end.

    Raises:
        ReaderGoneError: nobody reads it.
        StorageError: it cannot be written.
    """
    view = memoryview(f"{line}\n".encode())
    try:
        while view:
            view = view[os.write(STDOUT, view) :]
    except BrokenPipeError:
        raise ReaderGoneError("the reader closed standard output") from None
    except OSError as error:
        raise StorageError(f"cannot write to standard output: {error.strerror}", code=error.errno) from error


def is_terminal() -> bool:
    """People look at standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def redacted(text: str) -> str:
    """A message about options, which may have been mixed up with URLs."""
    from hydraflow.core.urls import redact

    return re.sub(r"\w+://\S+", lambda found: redact(found[0]), text)
