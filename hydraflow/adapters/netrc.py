"""User names and passwords from `~/.netrc`, or the file that `NETRC` names, as curl has them."""

from __future__ import annotations

import base64
import contextlib
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["authorized"]


def authorized(url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, with what the file has for the URL's host unless they say who asks.

    An entry counts for the host that it names; `default`, which would send a password to every host, does not.  A file
    that cannot be read or understood counts as none, and so does `~/.netrc` if others may read it.
    """
    known = any(name.lower() == "authorization" for name in headers)
    value = None if known else _authorization(url)
    return headers if value is None else {**headers, "Authorization": value}


def _authorization(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname is None or parts.username is not None:
        return None
    named = os.environ.get("NETRC")
    path = Path(named) if named else Path(os.path.expanduser("~"), ".netrc")  # noqa: PTH111 - Path's raises without HOME
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeError):
        if not named and path.stat().st_mode & 0o077:
            return None
        entry = netrc.netrc(path).hosts.get(parts.hostname)
        if entry is not None:
            user, _, password = entry
            return "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return None
