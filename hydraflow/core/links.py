"""The Link header field (RFC 8288), for what RFC 6249 does with it: mirrors, and where a file's digest is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydraflow.models import Head

__all__ = ["Link", "described_by", "duplicates", "mirrors", "of_answers", "parse"]

_MOST = 100
_MOST_MIRRORS = 4  # that are used: each costs a request to tell what it is worth
_TARGET = re.compile(r"[ \t,]*<([^<>]{1,4000})>")
_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*([!#$&+.^_`|~0-9A-Za-z-]{1,40})(?:[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^\";, \t]*)))?"
)
_PRIORITY = re.compile(r"[0-9]{1,6}")
_LAST = 1_000_000


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its target, absolute, and its parameters (names in lower case, the first of each)."""

    url: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The parameter's value; empty if there is none."""
        return next((value for key, value in self.parameters if key == name), "")

    def has_relation(self, name: str) -> bool:
        """`rel` is a list of words."""
        return name in self.get("rel").lower().split()


def parse(value: str | None, base: str) -> tuple[Link, ...]:
    """Read a Link field, relative targets against `base`. What is malformed ends it; nothing raises."""
    text, at = value or "", 0
    found: list[Link] = []
    while len(found) < _MOST and (target := _TARGET.match(text, at)):
        at, parameters = target.end(), []
        while match := _PARAMETER.match(text, at):
            at = match.end()
            quoted = None if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
            parameters.append((match[1].lower(), quoted if quoted is not None else match[3] or ""))
        try:
            url = urljoin(base, target[1].strip())
        except ValueError:
            continue
        if url.startswith(("http://", "https://")):
            found.append(Link(url, tuple(parameters)))
    return tuple(found)


def of_answers(head: Head, url: str) -> Iterator[tuple[Link, ...]]:
    """The links of each answer that led to this one, and of itself; `url` is what was asked for."""
    for index, answer in enumerate((*head.redirects, head)):
        # `Head.url` is redacted, and so not always one to start from; of the first answer it is known in full.
        yield parse(answer.get("link"), answer.url if index else url)


def mirrors(links: tuple[Link, ...]) -> tuple[str, ...]:
    """Other addresses of the very same bytes (`rel=duplicate`, RFC 6249 §3), those with the lowest `pri` first."""
    same = [link for link in links if link.has_relation("duplicate")]
    order = {link.url: _priority(link) for link in reversed(same)}
    return tuple(sorted(dict.fromkeys(link.url for link in same), key=order.__getitem__))


def _priority(link: Link) -> int:
    # Python refuses to read numbers of more than some thousand digits.
    return int(link.get("pri")) if _PRIORITY.fullmatch(link.get("pri")) else _LAST


def duplicates(head: Head, url: str) -> tuple[str, ...]:
    """Mirrors that an answer names, or one that led to it; few, and none over http of what was asked over https.

    Args:
        head: of the answer.
        url: what was asked for, which is no mirror of itself.
    """
    named = (there for links in of_answers(head, url) for there in mirrors(links))
    secure = url.lower().startswith("https://")
    fit = (there for there in named if there not in (url, head.url) and (not secure or there.startswith("https://")))
    return tuple(dict.fromkeys(fit))[:_MOST_MIRRORS]


def described_by(links: tuple[Link, ...]) -> tuple[str, ...]:
    """Metalink files about the resource (`rel=describedby`, RFC 6249 §4)."""
    kind = "application/metalink4+xml"
    found = (link for link in links if link.has_relation("describedby"))
    return tuple(link.url for link in found if link.get("type").partition(";")[0].strip().lower() == kind)
