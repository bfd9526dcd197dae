"""Checksum files that are published beside data: what they say of one file, and of no other.

Understood are the lines of the GNU and BSD tools and of OpenSSL, which is also what NCBI (`md5checksums.txt`), UCSC
(`md5sum.txt`) and GENCODE (`MD5SUMS`) write::

    d41d8cd98f00b204e9800998ecf8427e  ./genome.fa.gz       text or binary (` *`), a leading backslash for escapes
    MD5 (genome.fa.gz) = d41d8cd98f00b204e9800998ecf8427e  also without the space before the bracket

Ensembl's `CHECKSUMS` hold 16-bit sums of `sum`, which are no digests: such lines say nothing.  Nothing here raises.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from hydraflow.models import ALGORITHMS, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "algorithm_of", "bare", "digests_of", "entries"]

#: A checksum file that is longer is not read.
MAX_BYTES = 8 << 20

_BY_DIGITS = {ALGORITHMS[name] // 4: name for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")}
_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?: [ *]|[ \t])(.+)")
_BSD = re.compile(r"(\\?)(MD5|SHA1|SHA224|SHA256|SHA384|SHA512|SHA2-256|SHA2-512) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,128})")
_BARE = re.compile(r"\s*([0-9A-Fa-f]{32,128})\s*")
_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r"}


def digests_of(data: bytes, name: str, *, algorithm: str | None = None, alone: bool = False) -> tuple[Digest, ...]:
    """What a checksum file says of the file `name` beside it, longest digest first.

    Two different digests of one algorithm say nothing.

    Args:
        data: the checksum file.
        name: the file's own, without directories, as it is in the URL's path, decoded.
        algorithm: the one that the checksum file is named after, if it is; others do not count.
        alone: the checksum file is one of this file only (`x.gz.md5`): the digest may stand there without a name, or
            with a path of its maker's.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace") if len(data) <= MAX_BYTES else ""
    wanted = unicodedata.normalize("NFC", name)
    found: dict[str, set[str]] = {}
    bare = _BARE.fullmatch(text) if alone else None
    listed = [(name, bare[1])] if bare is not None else entries(text)
    for path, value in listed:
        kind = algorithm_of(value)
        if kind is not None and (algorithm is None or kind == algorithm) and _is(path, wanted, alone=alone):
            found.setdefault(kind, set()).add(value.lower())
    agreed = [Digest(each, values.pop()) for each, values in found.items() if len(values) == 1]
    return tuple(sorted(agreed, key=lambda digest: -ALGORITHMS[digest.algorithm]))


def bare(data: bytes) -> Digest | None:
    """The digest that is all there is in a checksum file of one file."""
    match = _BARE.fullmatch(data.decode("utf-8", "replace")) if len(data) < 1000 else None
    algorithm = None if match is None else algorithm_of(match[1])
    return None if match is None or algorithm is None else Digest(algorithm, match[1].lower())


def algorithm_of(value: str) -> str | None:
    """Which one yields so many hexadecimal digits."""
    return _BY_DIGITS.get(len(value))


def _is(path: str, wanted: str, *, alone: bool) -> bool:
    path = unicodedata.normalize("NFC", path)
    return (path.replace("\\", "/").rpartition("/")[2] if alone else path.removeprefix("./")) == wanted


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Path and hexadecimal digest of each line that has the form of one."""
    for line in text.split("\n"):
        line = line.removesuffix("\r")  # noqa: PLW2901 - the same line
        if match := _GNU.fullmatch(line):
            yield _unescape(match[3], escaped=bool(match[1])), match[2]
        elif match := _BSD.fullmatch(line):
            algorithm = match[2].lower().replace("sha2-", "sha")
            if len(match[4]) * 4 == ALGORITHMS[algorithm]:
                yield _unescape(match[3], escaped=bool(match[1])), match[4]


def _unescape(name: str, *, escaped: bool) -> str:
    """Undo what GNU's tools do to names with line breaks and backslashes in them."""
    return re.sub(r"\\([\\nr])", lambda found: _ESCAPES[found[1]], name) if escaped else name
