"""A long line in place of a short cable: it has a rate, a delay, loss and a queue, by the program in `link.c`."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.process import MissingBinaryError

__all__ = ["Link"]

_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True, slots=True)
class Link:
    """What a line is like, in the direction of downloads; the other one only delays.

    Attributes:
        rate: bits per second.
        round_trip: seconds.
        loss: share of the TCP segments.
        queue: bytes that wait before it at most; default: what it carries in a round trip.
    """

    rate: float
    round_trip: float
    loss: float = 0.0
    queue: float | None = None

    def arguments(self) -> list[str]:
        """Those of the program, behind the two process ids."""
        queue = self.rate / 8 * self.round_trip if self.queue is None else self.queue
        figures = (self.rate / 1e6, self.round_trip / 2 * 1e3, self.loss * 100, max(queue, 100_000) / 1e3, 1)
        return [f"{figure:g}" for figure in figures]

    @staticmethod
    def build(directory: Path) -> Path:
        """Compile the program into a directory.

        Raises:
            MissingBinaryError: there is no C compiler.
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise MissingBinaryError("no C compiler (cc or gcc) for the emulated link")
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", directory / "link", _SOURCE], check=True)
        return directory / "link"
