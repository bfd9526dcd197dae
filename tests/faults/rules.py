"""When the origin lies, and how: `origin.when(request=3).drop(after=100_000)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.faults.answers import Answer, Cut, Framing, Request, Resource, plain

__all__ = ["Rule"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
Alteration = Callable[[Answer], Answer | None]  # None: it has no meaning for this answer
Preparation = Callable[[Request, Resource], bool]


@dataclass(slots=True)
class Rule:
    """A condition and the faults that it brings. Faults chain: `.head_delay(0.2).drop(after=10)`.

    A fault that has no meaning for the answer at hand (a cut beyond its end, a bit flipped outside of its range, a
    Content-Range on a 200) is not applied and not counted: `fired` is the number of answers that were really altered.

    Attributes:
        path, method, range_start: the request has these; None matches all.
        busy: more than so many requests are in flight.
        request: only the n-th of the requests that match, from 1.
        every: every n-th of them.
        times: at most so many times.
        matched: requests that matched path, method, range and load.
    """

    path: str | None = None
    method: str | None = None
    range_start: int | None = None
    busy: int | None = None
    request: int | None = None
    every: int = 1
    times: int | None = None
    matched: int = 0
    fired: int = 0
    names: list[str] = field(default_factory=list)
    _before: list[Preparation] = field(default_factory=list)
    _after: list[Alteration] = field(default_factory=list)

    # What the origin asks.

    def due(self, request: Request, in_flight: int) -> bool:
        """Count this request; say whether the faults are for it."""
        wanted = ((self.path, request.path), (self.method, request.method), (self.range_start, request.range_start))
        if any(mine is not None and mine != theirs for mine, theirs in wanted):
            return False
        if self.busy is not None and in_flight <= self.busy:
            return False
        self.matched += 1
        spent = self.times is not None and self.fired >= self.times
        turn = self.matched % self.every == 0 if self.request is None else self.matched == self.request
        return turn and not spent

    def prepare(self, request: Request, resource: Resource) -> bool:
        """Change the request or the resource before the answer is made; say whether anything came of it."""
        return sum(change(request, resource) for change in self._before) > 0  # not any(): it would stop at the first

    def alter(self, answer: Answer) -> bool:
        """Change the answer; say whether anything came of it."""
        return sum(alteration(answer) is not None for alteration in self._after) > 0

    # The faults: cuts and pauses.

    def drop(self, *, after: int = 0) -> Self:
        """Close the connection after so many body bytes."""
        return self._cut("drop", after)

    def reset(self, *, after: int = 0) -> Self:
        """End the connection with RST after so many body bytes."""
        return self._cut("reset", after)

    def stall(self, *, after: int = 0, seconds: float | None = None) -> Self:
        """Send so many body bytes, then nothing for some seconds (None: until the client goes)."""

        def pause(answer: Answer) -> Answer | None:
            if after >= len(answer.body):
                return None
            answer.stall_after, answer.stall_seconds = after, seconds
            return answer

        return self._add("stall", pause)

    def slow(self, bytes_per_second: float) -> Self:
        """Send the body at this rate."""
        return self._set("slow", rate=bytes_per_second)

    def head_delay(self, seconds: float) -> Self:
        """Wait before the head."""
        return self._set("head_delay", head_delay=seconds)

    def wait(self, *, head: Callable[[], bool] | None = None, end: Callable[[], bool] | None = None) -> Self:
        """Send the head, or cut the connection, only when this holds; the client must not have gone before."""
        values = {"head_when": head, "end_when": end}
        return self._set("wait", **{name: value for name, value in values.items() if value is not None})

    # The faults: another answer.

    def status(self, status: int, *, headers: dict[str, str] | None = None, body: bytes = b"") -> Self:
        """Answer with this status."""
        return self._add("status", lambda answer: _become(answer, plain(status, headers, body)))

    def redirect(self, to: str, *, status: int = 302) -> Self:
        """Send the client elsewhere."""
        return self._add("redirect", lambda answer: _become(answer, plain(status, {"Location": to})))

    def raw(self, data: bytes) -> Self:
        """Send exactly these bytes and close; with `b""` the server hangs up without an answer."""
        return self._set("raw", raw=data)

    def garbage(self) -> Self:
        """Answer with what is no HTTP."""
        return self._set("garbage", raw=b"\x00\x16\xff this is not HTTP \r\n\r\n\xfe\xfd" * 4)

    # The faults: wrong facts.

    def wrong_range(self, *, shift: int = 1) -> Self:
        """Content-Range lies: both ends moved by `shift` bytes, the body is right."""
        return self._add("wrong_range", lambda answer: _relabel(answer, shift=shift))

    def wrong_total(self, *, by: int = 1) -> Self:
        """Content-Range lies about the total size."""
        return self._add("wrong_total", lambda answer: _relabel(answer, grow=by))

    def short(self, count: int = 1) -> Self:
        """Content-Length announces so many bytes more than come; then the connection is closed."""

        def announce(answer: Answer) -> Answer:
            answer.headers["Content-Length"] = str(int(answer.headers["Content-Length"]) + count)
            answer.framing = "close"
            return answer

        return self._add("short", announce)

    def extra(self, count: int = 1, *, announced: bool = False) -> Self:
        """Send so many bytes more than the range holds; `announced` in Content-Length or not even there."""

        def lengthen(answer: Answer) -> Answer | None:
            if not answer.body:
                return None
            answer.body = bytes(answer.body) + b"\xee" * count
            if announced:
                answer.headers["Content-Length"] = str(len(answer.body))
            return answer

        return self._add("extra", lengthen)

    def flip(self, offset: int) -> Self:
        """Flip one bit of the byte at this offset of the resource."""

        def damage(answer: Answer) -> Answer | None:
            if not 0 <= offset - answer.start < len(answer.body):
                return None
            body = bytearray(answer.body)
            body[offset - answer.start] ^= 1
            answer.body = bytes(body)
            return answer

        return self._add("flip", damage)

    def replace(self, data: bytes, *, etag: str | None, last_modified: str | None = None) -> Self:
        """The resource is another one from this request on."""

        def change(_request: Request, resource: Resource) -> bool:
            resource.data, resource.etag, resource.last_modified = data, etag, last_modified
            return True

        return self._prepare("replace", change)

    def less(self, most: int) -> Self:
        """Send at most so many bytes of the range asked for, as a 206 may (RFC 9110 §15.3.7)."""

        def cap(request: Request, _resource: Resource) -> bool:
            found = _RANGE.fullmatch(request.headers.get("range", ""))
            if found is None or int(found[2]) < int(found[1]) + most:
                return False
            request.headers["range"] = f"bytes={found[1]}-{int(found[1]) + most - 1}"
            return True

        return self._prepare("less", cap)

    def elsewhere(self, shift: int) -> Self:
        """Send another range than was asked for, under a true Content-Range."""

        def move(request: Request, _resource: Resource) -> bool:
            found = _RANGE.fullmatch(request.headers.get("range", ""))
            if found is None:
                return False
            request.headers["range"] = f"bytes={int(found[1]) + shift}-{int(found[2]) + shift}"
            return True

        return self._prepare("elsewhere", move)

    def deaf(self) -> Self:
        """Overlook If-Range: answer 206 whatever validator it names."""
        return self._prepare("deaf", lambda request, _resource: bool(request.headers.pop("if-range", None)))

    def mute(self) -> Self:
        """Overlook If-Range, and do not tell of which version a later part is."""

        def silence(answer: Answer) -> Answer | None:
            if answer.status != 206 or answer.start == 0:
                return None
            for name in ("ETag", "Last-Modified"):
                answer.headers.pop(name, None)
            return answer

        return self.deaf()._add("mute", silence)

    # The faults: other framing.

    def ignore_range(self) -> Self:
        """Answer 200 with the whole, whatever range was asked for."""
        return self._prepare("ignore_range", lambda request, _resource: bool(request.headers.pop("range", None)))

    def no_length(self) -> Self:
        """No Content-Length: the end of the connection is the end of the body."""
        return self._reframe("no_length", "close")

    def chunked(self) -> Self:
        """Chunked transfer coding."""
        return self._reframe("chunked", "chunked")

    def truncated_chunked(self) -> Self:
        """Chunked transfer coding that ends half-way, without the last chunk."""
        return self._reframe("truncated_chunked", "open")

    def _cut(self, name: Cut, after: int) -> Self:
        def end(answer: Answer) -> Answer | None:
            if after >= max(len(answer.body), 1):
                return None
            answer.cut, answer.cut_after = name, after
            return answer

        return self._add(name, end)

    def _reframe(self, name: str, framing: Framing) -> Self:
        def change(answer: Answer) -> Answer | None:
            if answer.headers.pop("Content-Length", None) is None:
                return None
            answer.framing = framing
            return answer

        return self._add(name, change)

    def _set(self, name: str, **values: object) -> Self:
        def change(answer: Answer) -> Answer:
            for attribute, value in values.items():
                setattr(answer, attribute, value)
            return answer

        return self._add(name, change)

    def _prepare(self, name: str, change: Preparation) -> Self:
        self.names.append(name)
        self._before.append(change)
        return self

    def _add(self, name: str, alteration: Alteration) -> Self:
        self.names.append(name)
        self._after.append(alteration)
        return self


def _become(answer: Answer, other: Answer) -> Answer:
    answer.status, answer.headers, answer.body, answer.start = other.status, other.headers, other.body, 0
    return answer


def _relabel(answer: Answer, *, shift: int = 0, grow: int = 0) -> Answer | None:
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    answer.headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{total + grow}"
    return answer
