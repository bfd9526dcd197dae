"""Queries, the URLs in `storage.hydra(URL)`: whether they are ours, and the names on disk that they become.

A query may be a pattern (`https://host/{sample}.fa#sha256={sum}`) that Snakemake fills in later.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from snakemake_interface_storage_plugins.io import WILDCARD_REGEX  # type: ignore[import-untyped]

from hydraflow.core import urls
from hydraflow.errors import ConfigurationError
from hydraflow.models import Digest

__all__ = [
    "PREFIX",
    "SCHEMES",
    "checksum",
    "fingerprint",
    "hosts",
    "is_pattern",
    "is_stream",
    "local_suffix",
    "objection",
    "scheme",
]

#: `hydra+https://…` says without doubt which provider is meant.
PREFIX = "hydra+"
SCHEMES = ("http", "https")

_FIRST_MASK = 0xE000  # Unicode's private use area: nobody's characters
# Everything else means something to a shell, to a file system, or to Snakemake.
_UNSAFE = re.compile(r"[^A-Za-z0-9._~+=,@%\uE000-\uF8FF-]")
_LONGEST = 200  # characters of a name; file systems take 255 bytes, and state directories have longer names
_HOW = ("mirror=", "stream=")
_SALT = 16  # hexadecimal digits


def is_pattern(query: str) -> bool:
    """There are wildcards to be filled in."""
    return WILDCARD_REGEX.search(query) is not None


def scheme(query: str) -> str:
    """The scheme in lower case, empty if there is none; `hydra+https` counts as one."""
    return query.strip().partition("://")[0].lower() if "://" in query else ""


def objection(query: str) -> str | None:
    """Why this cannot be retrieved; None if it can, as far as a look at the URL tells."""
    plain = query.strip().removeprefix(PREFIX)
    if scheme(plain) not in SCHEMES:
        return "a URL begins with https:// or http://"
    if is_pattern(plain):
        return None
    try:
        target = urls.parse(plain)
    except ConfigurationError as error:
        return f"{error}. {error.hint}".rstrip(". ")
    streams = {value for name, value in target.options if name == "stream"}
    if streams - {"fifo"}:
        return "the option 'stream' in the URL's fragment is stream=fifo, or left out"
    if streams and checksum(target.digest) is None:
        # It tells one version from another, since no file ever will.
        return "stream=fifo needs a digest beside it, such as sha256=HEX"
    return None


def checksum(digest: Digest | None) -> str | None:
    """`ALGORITHM:HEX`, for Snakemake to compare between runs; it knows those of hashlib, which has no CRC."""
    if digest is None or digest.parts or digest.algorithm not in hashlib.algorithms_guaranteed:
        return None
    return str(digest)


def hosts(url: str) -> tuple[str | None, ...]:
    """What a header may name to be sent there: nothing, the host, or host and port as the URL writes them."""
    place = urlsplit(url).netloc.rpartition("@")[2].lower()
    # A port that is written is another server, and must be named.
    return (None, place)


def is_stream(query: str) -> bool:
    """The job is to get a named pipe, if it can have one."""
    return ("stream", "fifo") in urls.parse(query).options


def fingerprint(query: str) -> str:
    """64 hexadecimal digits that name the file asked for: the resource and what is declared of it, but no secrets.

    So a signed URL keeps its checkpoint when it is signed anew, and another digest makes another file.
    """
    return hashlib.sha256(_identity(query).encode(errors="replace")).hexdigest()


def local_suffix(query: str) -> str:
    """Where a file goes below the local prefix: `host/path` or `host+port/path`, as long as that says everything.

    Otherwise (there is a digest, a query string, an odd character, or no dot in the name) the file stands in a
    directory of its own, `host/path/~HASH/name`, so that no two files share a place: not the variants of a `?query`,
    and not the file with the old digest and the one with the new.  The name never leaves the prefix, and needs no
    quoting in a shell.
    """
    masked, wildcards = _mask(query.strip())
    parts = urlsplit(_identity(masked))
    *directories, name = segments = parts.path.removeprefix("/").split("/")
    host = _host(parts)
    place = [_clean(host), *map(_clean, directories), _clean(name or "download")]
    # What has no dot may be the directory of another URL: /entry and /entry/features.
    vague = "." not in name and not any(chr(mask) in name for mask in wildcards)
    if place != [host, *segments] or vague or parts.query or parts.fragment:
        place.insert(-1, f"~{fingerprint(masked)[:_SALT]}")
    return "/".join(place).translate(wildcards)


def _identity(query: str) -> str:
    url, mark, fragment = query.partition("#")
    # A pattern whose port is a wildcard cannot be brought into canonical form; it names nothing yet.
    with suppress(ConfigurationError):
        url = urls.canonical(url)
    # Where else the file can be had from, and how, does not make it another one.
    declared = "&".join(option for option in fragment.split("&") if not option.lower().startswith(_HOW))
    return url + (mark if declared or not fragment else "") + declared


def _host(parts: SplitResult) -> str:
    """The host, and the port unless it is that of https; `+` is in no host name."""
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "http" and not re.search(r":[^]]*\Z", host):
        host += ":80"
    return host.replace(":", "+")


def _clean(segment: str) -> str:
    # A leading dot hides files and names parent directories, a leading hyphen looks like an option.
    return re.sub(r"^([.~-]|$)", "_", _UNSAFE.sub("_", segment)[-_LONGEST:])


def _mask(query: str) -> tuple[str, dict[int, str]]:
    """Put one private character in the place of each wildcard, whose constraint may hold any other (`{x,[^/?#]+}`)."""
    wildcards: dict[int, str] = {}

    def hide(found: re.Match[str]) -> str:
        wildcards[_FIRST_MASK + len(wildcards)] = found[0]
        return chr(_FIRST_MASK + len(wildcards) - 1)

    return WILDCARD_REGEX.sub(hide, query), wildcards
