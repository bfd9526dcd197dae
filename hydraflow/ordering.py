"""What a caller means: his words become orders, or an error that says what is wrong with them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydraflow.adapters import netrc
from hydraflow.core import names, urls
from hydraflow.engine import Order
from hydraflow.errors import ConfigurationError
from hydraflow.models import Claim, Digest, DigestSource, Progress
from hydraflow.settings import Settings

if TYPE_CHECKING:
    from hydraflow.core.manifests import Entry

__all__ = [
    "APART",
    "Keeping",
    "OnProgress",
    "check_names",
    "destination",
    "is_named",
    "keep",
    "listed",
    "order",
    "orders",
    "spelt",
]

OnProgress = Callable[[Progress], None]
#: What to do where two files would get one name.
APART = "Fetch them in two commands with different directories."


@dataclass(frozen=True, slots=True)
class Keeping:
    """A stream is kept: each order's file goes to the path of its place.

    `resume` goes on from what an earlier run left, and `overwrite` replaces another file, as in a fetch.
    """

    paths: Sequence[Path]
    resume: bool = True
    overwrite: bool = False


def order(
    url: str,
    digest: str | Digest | None,
    size: int | None,
    headers: Mapping[str, str] | None,
    on_progress: OnProgress | None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
) -> Order:
    """What the caller wants of one URL; the arguments are those of `api.fetch` and `api.stream`.

    Raises:
        ConfigurationError: it cannot be meant.
    """
    target = urls.parse(url)
    if not 0 <= start < (start + 1 if stop is None else stop):
        raise ConfigurationError(f"not a range of bytes: from {start} to before {stop}")
    if (start or stop is not None) and (digest is not None or target.digest is not None):
        raise ConfigurationError(
            "a digest is that of the whole file, and cannot be checked against a part of it",
            hint="Leave one of them out.",
        )
    claim = None
    if digest is not None:
        claim = Claim(_digest(digest), DigestSource.CALLER)
        if target.digest is not None and _contradicts(target.digest, claim.digest):
            raise ConfigurationError(
                f"two digests are given: {claim.digest}, and in the URL {target.digest}", url=urls.redact(target.url)
            )
    elif target.digest is not None:
        claim = Claim(target.digest, DigestSource.FRAGMENT)
    return Order(
        url=target.url,
        name=urls.file_name(target.url),
        claim=claim,
        size=target.size if size is None else size,
        headers=netrc.authorized(target.url, _checked_headers(headers or {})),
        on_progress=on_progress,
        start=start,
        stop=stop,
        mirrors=_mirrors(target, mirrors),
    )


def _mirrors(target: urls.Target, given: Iterable[str]) -> tuple[str, ...]:
    """Every other URL once, in the caller's order, those of the fragment last."""
    named = [*given, *(value for name, value in target.options if name == "mirror")]
    parsed = dict.fromkeys(urls.parse(mirror).url for mirror in named)
    return tuple(url for url in parsed if url != target.url)


def orders(
    url: str | Sequence[str | Entry],
    *,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
    start: int = 0,
    stop: int | None = None,
    headers: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Order]:
    """What the caller wants of each URL, or of each entry of a manifest.

    Raises:
        ConfigurationError: it cannot be meant.
    """
    wanted = [url] if isinstance(url, str) else list(url)
    if len(wanted) > 1 and (digest is not None or size is not None):
        raise ConfigurationError(
            "one digest or size cannot be that of several URLs", hint="Write each URL with its own: URL#md5=HEX&size=N."
        )
    if len(wanted) > 1 and (start or stop is not None):
        raise ConfigurationError("one range cannot be that of several URLs")
    others = tuple(mirrors)
    if len(wanted) > 1 and others:
        raise ConfigurationError(
            "mirrors are of one URL, and there are several", hint="Put #mirror=URL behind each of them."
        )
    return [
        order(each, digest, size, headers, on_progress, others, start, stop)
        if isinstance(each, str)
        else listed(each, headers, on_progress, digest, size, others)
        for each in wanted
    ]


def _contradicts(one: Digest, two: Digest) -> bool:
    kinds = [(each.algorithm, each.parts) for each in (one, two)]
    return kinds[0] == kinds[1] and one.value != two.value


def _digest(value: str | Digest) -> Digest:
    if isinstance(value, Digest):
        return value
    try:
        return Digest.parse(value)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in ("range", "if-range", "host", "content-length", "transfer-encoding", "accept-encoding"):
            raise ConfigurationError(f"the header {name} is hydraflow's own to set")
        if not (name + value).isprintable() or not (name + value).isascii() or not name or set(name) & set(" :\t"):
            raise ConfigurationError(f"not a valid header: {name!r}")
    return dict(headers)


def destination(order: Order, dest: str | os.PathLike[str] | None, settings: Settings) -> Path:
    """Where its file goes: into a directory under its own name, or where the caller says.

    Raises:
        ConfigurationError: that can be no path.
    """
    if dest is None:
        return settings.output / order.name
    text = os.fspath(dest)
    if "\0" in text:
        raise ConfigurationError("the destination has a NUL character in it")
    return Path(text) / order.name if _is_directory(text) else Path(text)


def _is_directory(text: str) -> bool:
    return text.endswith(os.sep) or os.path.isdir(text)  # noqa: PTH112 - Path's raises where a name is too long


def is_named(order: Order, dest: str | os.PathLike[str] | None) -> bool:
    """The caller names the file, or its URL does."""
    return (dest is not None and not _is_directory(os.fspath(dest))) or not names.is_vague(order.name)


def keep(
    wanted: Sequence[Order],
    spool: str | os.PathLike[str] | None,
    settings: Settings,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Keeping | None:
    """How the streams of these orders are kept in `spool`; not at all, if that is None.

    Raises:
        ConfigurationError: only parts are wanted, or two files would get one name.
    """
    if spool is None:
        return None
    if any(order.start or order.stop is not None for order in wanted):
        raise ConfigurationError("a part of a file cannot be kept")
    check_names(wanted)
    paths = [destination(order, spool, settings) for order in wanted]
    if len(set(paths)) < len(paths):
        raise ConfigurationError(f"{spool} is one file, and there are several URLs", hint="Name a directory.")
    return Keeping(paths, resume, overwrite)


def spelt(name: str) -> str:
    """The name, if files can have it here.

    Raises:
        ConfigurationError: the locale, one without UTF-8, has no spelling for it.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        what = f"the file name {name!a} cannot be spelt in this locale"
        raise ConfigurationError(what, hint="Set LC_ALL=C.UTF-8.") from None
    return name


def check_names(wanted: Sequence[Order], given: Collection[str] = ()) -> None:
    """Each order has a name of its own; those that are `given` are meant, also if they say nothing.

    Raises:
        ConfigurationError: two have not.
    """
    seen: dict[str, Order] = {}
    for order in wanted:
        # What the server will call it is not known yet; the URL may stand twice all the same.
        name = order.url if names.is_vague(order.name) and order.name not in given else order.name
        other = seen.setdefault(name, order)
        if other is not order and other != order:
            raise ConfigurationError(
                f"two URLs would be written to one name, {order.name}: "
                f"{urls.redact(other.url)} and {urls.redact(order.url)}",
                hint=APART,
            )
        if other is not order:
            raise ConfigurationError(f"the URL {urls.redact(order.url)} is given twice")


def listed(
    entry: Entry,
    headers: Mapping[str, str] | None,
    on_progress: OnProgress | None,
    digest: str | Digest | None = None,
    size: int | None = None,
    mirrors: Iterable[str] = (),
) -> Order:
    """What an entry of a manifest asks for, and what the caller knows besides."""
    wanted = order(entry.target, digest, size, {**(headers or {}), **dict(entry.headers)}, on_progress, mirrors)
    if digest is None and entry.digest is not None:
        wanted = dataclasses.replace(wanted, claim=Claim(entry.digest, DigestSource.MANIFEST))
    return dataclasses.replace(wanted, name=entry.name or wanted.name)
