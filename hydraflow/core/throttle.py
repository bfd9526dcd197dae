"""A limit of bytes per second that all transfers share.

A token bucket, kept as one number: the moment at which everything that was read is paid for.  Who wants to read waits
for that moment, reads a piece, and then says how much it was.  A debt is never forgiven, so the rate holds on average;
a credit is worth `BURST` seconds at most, so what comes in any span of time is no more than `BURST` and one round of
pieces above it.  Pure: time is an argument.
"""

from __future__ import annotations

import math

__all__ = ["Throttle"]

BURST = 0.1  # seconds' worth that may be read at once after a rest
ROUND = 0.1  # seconds' worth that all readers together may have in hand: so long is the longest wait for a turn
GRAIN = 0.004  # seconds: a shorter wait is left for the next time, it would cost more than it is worth
MEMORY = 0.25  # seconds after a wait for which the limit counts as the reason that it is not faster


class Throttle:
    """One bucket. `rate` is in bytes per second.

    Attributes:
        readers: who reads or waits for a turn, at the moment.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.readers = 0
        self._paid_at = self._bound_until = -math.inf

    @property
    def piece(self) -> int:
        """Bytes that a reader may take at a time."""
        return max(1, int(self.rate * ROUND / max(1, self.readers)))

    def delay(self, now: float) -> float:
        """Seconds to wait before the next piece."""
        wait = self._paid_at - now
        if wait < GRAIN:
            return 0.0
        self._bound_until = self._paid_at + MEMORY
        return wait

    def spend(self, count: int, now: float) -> None:
        """So many bytes have been read."""
        self._paid_at = max(self._paid_at, now - BURST) + count / self.rate

    def binds(self, now: float) -> bool:
        """It is this limit that keeps transfers from being faster; neither the link nor the server."""
        return now < self._bound_until
