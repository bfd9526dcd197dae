"""URLs as users write them: taken apart, made safe to show, to compare and to name files after.

Three forms go round: the URL itself, with its secrets, goes to the server and nowhere else; `redact` makes the form for
people, logs and results; `canonical` the one that a checkpoint remembers.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from hydraflow.core import names
from hydraflow.errors import ConfigurationError
from hydraflow.models import ALGORITHMS, Digest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PLACEHOLDER", "RESERVED", "Target", "canonical", "file_name", "grants_access", "origin", "parse", "redact"]

#: Shown instead of what is no URL, since nobody knows where a secret would be in it.
PLACEHOLDER = "<not a URL>"
#: Fragment options that mean nothing here, and are handed on.
RESERVED = frozenset({"mirror", "stream"})

_OPTIONS = (*ALGORITHMS, "size", *sorted(RESERVED))
_PORTS = {"http": 80, "https": 443}
_DIGITS = re.compile(r"[0-9]{1,18}")


# ── what the user wrote ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Target:
    """A URL and what its fragment says of the file.

    Attributes:
        url: without fragment, secrets included.
        digest: from `#sha256=HEX` and its like, the strongest if there are several.
        size: in bytes, from `#size=N`.
        options: `(name, value)` of the names in `RESERVED`, in order, percent-decoded.
    """

    url: str
    digest: Digest | None = None
    size: int | None = None
    options: tuple[tuple[str, str], ...] = ()


def parse(text: str) -> Target:
    """Read a URL with its options: `https://host/file#sha256=HEX&size=N`.

    A fragment without `=` is a plain anchor, and dropped; unless it begins as a digest does elsewhere (`#sha256:HEX`):
    it would not be verified, and nobody would notice.

    Raises:
        ConfigurationError: it is no http or https URL, or an option is unknown, wrong or contradicts another.
    """
    url, _, fragment = text.strip().partition("#")
    _check(url)
    options = _options(fragment, url) if "=" in fragment or _digests_name(fragment) else []
    handed_on = tuple((name, value) for name, value in options if name in RESERVED)
    return Target(url, _digest(options, url), _size(options, url), handed_on)


def _check(url: str) -> None:
    if not all(char.isprintable() and char != " " for char in url):
        raise ConfigurationError("the URL has a space or an unprintable character in it", hint="Percent-encode it.")
    parts = _split(url)
    if parts is None:
        # Not shown: nobody knows where in it a password may stand.
        raise ConfigurationError("this is not a URL with a host", hint="A URL begins with https:// and a host name.")
    if parts.scheme not in _PORTS:
        raise ConfigurationError(
            f"the scheme {parts.scheme!r} is not supported: {redact(url)}", hint="Use the file's https:// address."
        )
    try:
        (parts.hostname or "").encode("idna")  # a label is of 1 to 63 characters (RFC 1035, section 2.3.4)
    except UnicodeError:
        raise ConfigurationError(f"no host can have this name: {redact(url)}", hint="Check the URL.") from None
    if "\\" in parts.netloc:
        raise ConfigurationError(f"the host has a backslash in it: {redact(url)}", hint="Write / instead.")


def _options(fragment: str, url: str) -> list[tuple[str, str]]:
    options = []
    for option in fragment.split("&"):
        name, value = _name(option), option.partition("=")[2]
        if _digests_name(option) and "=" not in option:
            message = f"in the URL's fragment a digest is written sha256=HEX, not {option!r}"
            raise ConfigurationError(message, url=redact(url))
        if name not in _OPTIONS:
            raise ConfigurationError(
                f"unknown option {name!r} in the URL's fragment, expected one of {', '.join(_OPTIONS)}", url=redact(url)
            )
        options.append((name, unquote(value).strip()))
    return options


def _digests_name(text: str) -> bool:
    return _name(re.split("[:=&]", text)[0]) in ALGORITHMS


def _digest(options: list[tuple[str, str]], url: str) -> Digest | None:
    digests: dict[str, Digest] = {}
    for name, value in options:
        if name not in ALGORITHMS:
            continue
        try:
            digest = Digest.parse(f"{name}:{value}")
        except ValueError as error:
            raise ConfigurationError(f"in the URL's fragment: {error}", url=redact(url)) from None
        if digests.setdefault(name, digest) != digest:
            raise ConfigurationError(f"two {name} digests in the URL's fragment", url=redact(url))
    return max(digests.values(), key=lambda digest: ALGORITHMS[digest.algorithm], default=None)


def _size(options: list[tuple[str, str]], url: str) -> int | None:
    sizes = {value for name, value in options if name == "size"}
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not _DIGITS.fullmatch(size):
        raise ConfigurationError("size in the URL's fragment: one number of bytes expected", url=redact(url))
    return int(size)


# ── what others may see ──────────────────────────────────────────────────────────────────────────────────────────────

#: Query parameters that grant access (Amazon, Google, Azure, CloudFront, habits), spelt as `_name` spells them.
_SECRETS = frozenset({
    "accesskey", "accesstoken", "apikey", "auth", "authorization", "awsaccesskeyid", "clientsecret", "credential",
    "googleaccessid", "idtoken", "jwt", "key", "keypairid", "passwd", "password", "policy", "privatetoken",
    "refreshtoken", "secret", "secretkey", "sessiontoken", "sig", "signature", "token", "xamzcredential",
    "xamzsecuritytoken", "xamzsignature", "xapikey", "xgoogcredential", "xgoogsignature",
})  # fmt: skip
#: Parameters that come with a signature and change with it; where there is none, they are anybody's names.
_COMPANIONS = {
    "sig": {"se", "si", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "ss", "srt", "st",
            "sv"},
    "signature": {"expires"},
}  # fmt: skip
_SIGNED = ("xamz", "xgoog")


def redact(url: str) -> str:
    """The URL without secrets, safe to print: for logs, results and messages.  Never raises.

    User name, password and fragment go; values of parameters that grant access become `***`; characters that a terminal
    would not print as they are come percent-encoded.  What is no URL becomes `PLACEHOLDER`.
    """
    parts = _split("".join(map(_printable, url.strip())))
    if parts is None:
        return PLACEHOLDER
    hidden = _hidden(parts.query)
    query = "&".join(_conceal(piece, hidden, _mask) for piece in parts.query.split("&"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


def canonical(url: str) -> str:
    """What names the resource, without what grants access to it: the identity that a checkpoint keeps.

    Scheme and host are in lower case; the default port, the fragment, user and password, signatures with their dates,
    and other secrets are dropped.  `key`, which is a secret here and a file's name there, is replaced by a short hash.

    Raises:
        ConfigurationError: it is not a URL.
    """
    parts = _split(url.strip())
    if parts is None:
        raise ConfigurationError("this is not a URL with a host")
    hidden = _hidden(parts.query, _SIGNED)
    pieces = (_conceal(piece, hidden, _fingerprint).strip(";") for piece in parts.query.split("&"))
    port = None if parts.port == _PORTS.get(parts.scheme) else parts.port
    netloc = _host(parts) if port is None else f"{_host(parts)}:{port}"
    query = "&".join(filter(None, pieces))
    return parts._replace(netloc=netloc, path=parts.path or "/", query=query, fragment="").geturl()


def grants_access(url: str) -> bool:
    """The URL carries a password, a token or a signature: it is for one request, and not to be varied."""
    parts = _split(url.strip())
    return parts is not None and ("@" in parts.netloc or bool(_hidden(parts.query, _SIGNED)))


def origin(url: str) -> str:
    """`scheme://host:port` (RFC 6454 §4), the port always written out; `null` for what is not a URL."""
    parts = _split(url.strip())
    if parts is None:
        return "null"
    port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    return f"{parts.scheme}://{_host(parts)}:{port}"


def _split(url: str) -> SplitResult | None:
    """The URL's parts if it has a host and a sound port; nothing is decoded."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises unless it is a number of a port
    except ValueError:
        return None
    return parts if parts.hostname else None


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def _name(parameter: str) -> str:
    """A parameter's name in a form in which `API_Key`, `api-key` and `%61piKey` are one."""
    return re.sub(r"[-_.\s]", "", unquote_plus(parameter.partition("=")[0])).lower()


def _hidden(query: str, prefixes: tuple[str, ...] = ()) -> set[str]:
    """Names of the query's parameters that grant access, belong to what does, or begin with one of `prefixes`."""
    present = {_name(parameter) for parameter in re.split("[&;]", query) if "=" in parameter}
    hidden = _SECRETS.union(*(names for signature, names in _COMPANIONS.items() if signature in present))
    return {name for name in present if name in hidden or name.startswith(prefixes)}


def _conceal(piece: str, hidden: set[str], replace: Callable[[str], str]) -> str:
    """Replace a `&`-separated piece from its first hidden parameter on: a `;` may separate, or belong to the secret."""
    parameters = piece.split(";")
    for index, parameter in enumerate(parameters):
        if "=" in parameter and _name(parameter) in hidden:
            return ";".join([*parameters[:index], replace(";".join(parameters[index:]))])
    return piece


def _mask(parameter: str) -> str:
    return f"{parameter.partition('=')[0]}=***"


def _fingerprint(parameter: str) -> str:
    if _name(parameter) != "key":
        return ""
    return f"key={hashlib.sha256(parameter.encode(errors='replace')).hexdigest()[:8]}"


def _printable(char: str) -> str:
    return char if char.isprintable() and char != " " else quote(char, safe="", errors="replace")


# ── a name on disk ───────────────────────────────────────────────────────────────────────────────────────────────────


def file_name(url: str) -> str:
    """A name for the file, from the URL's last path segment, decoded once; see `names.safe`.  Never raises."""
    path = url.strip().partition("#")[0].partition("?")[0].partition("://")[2]
    return names.safe(unquote(path.partition("/")[2].rpartition("/")[2]))
