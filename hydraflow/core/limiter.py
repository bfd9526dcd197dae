"""How many requests one origin gets at a time.

One connection first, up to the ceiling once the server has answered, one fewer for each refusal, which so finds what
the server bears, and one more again after a time of peace.  Pure: time is an argument.
"""

from __future__ import annotations

__all__ = ["Limiter"]


class Limiter:
    """Admission of requests to one origin, shared by all transfers of the process.

    Args:
        ceiling: most requests at a time.
        peace: seconds without a refusal after which one more request is tried.

    Attributes:
        wanted: somebody needs a place and got none; who holds one without using it should give it back.
    """

    def __init__(self, ceiling: int, *, peace: float = 10.0) -> None:
        self.ceiling = ceiling
        self.limit = 1
        self.active = 0
        self.resume_at = 0.0
        self.wanted = False
        self._peace = peace
        self._answered = False
        self._changed_at: float | None = None

    def grant(self, now: float, *, needed: bool = False) -> bool:
        """Take one place, if there is one; `needed` says that bytes wait for it."""
        if now < self.resume_at:
            return False
        if self.active >= self.limit:
            self.wanted = self.wanted or needed
            return False
        self.active += 1
        self.wanted = False
        return True

    def release(self) -> None:
        """Give a place back."""
        self.active -= 1

    def succeeded(self, now: float) -> None:
        """A request was answered as wished."""
        if not self._answered:
            self._answered = True
            if self._changed_at is None:
                self.limit = self.ceiling
        elif self._changed_at is not None and now - self._changed_at >= self._peace:
            self.limit = min(self.ceiling, self.limit + 1)
            self._changed_at = now

    def refused(self, now: float, pause: float = 0.0) -> None:
        """The server said that it is too much (429, 503); `pause` is its Retry-After in seconds.

        The place of the refused request must have been given back: what is active now, the server bears.
        """
        self.resume_at = max(self.resume_at, now + pause)
        self._changed_at = now
        self.limit = max(1, min(self.limit, self.active))
