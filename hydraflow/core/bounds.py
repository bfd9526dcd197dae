"""What keeps a transfer from being faster, and for how long each thing did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydraflow.models import Bound

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bounds"]

_WATCH = 0.2  # seconds over which it is judged whether the disk is what all wait for


class Bounds:
    """How long it was bound by what.

    Args:
        writing: seconds that writing to a disk has taken so far.
        now: monotonic seconds.

    Attributes:
        disk: of late, more than half of the time went into writing.
    """

    def __init__(self, writing: Callable[[], float], now: float) -> None:
        self.disk = False
        self._writing = writing
        self._written = 0.0
        self._watched_at = self._noted_at = now
        self._seconds: dict[Bound, float] = {}

    def watch(self, now: float) -> None:
        """Look at the disk."""
        passed = now - self._watched_at
        if passed >= _WATCH:
            written = self._writing()
            self.disk = written - self._written > passed / 2
            self._watched_at, self._written = now, written

    def note(self, bound: Bound | None, now: float) -> None:
        """So it was since the last note; None if nothing bound it."""
        if bound is not None:
            self._seconds[bound] = self._seconds.get(bound, 0.0) + now - self._noted_at
        self._noted_at = now

    @property
    def most(self) -> Bound | None:
        """What it was for most of the time; None if it was nothing for long."""
        longest = max(self._seconds, key=lambda bound: self._seconds[bound], default=None)
        return longest if longest is not None and self._seconds[longest] > 0.0 else None
