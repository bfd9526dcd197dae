"""Where to look for a file's digest: which provider publishes it in what form (docs/adr/0009-looking-up-digests.md).

Pure: a URL and what the answer has told become questions; `lookup` asks them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, unquote, urlsplit

from hydraflow.core import catalogues, links, metalink, sidecars, urls
from hydraflow.models import Digest, DigestSource, Head

__all__ = ["WORTHWHILE", "Question", "elsewhere", "in_the_answer", "usual"]

#: Bytes from which on a file is worth a few requests to a server that nothing is known of.
WORTHWHILE = 64 << 20

Read = Callable[[bytes], tuple[Digest, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """Something to fetch, and how to read it.

    Attributes:
        url: where it is.
        source: what a digest that is found there is called.
        read: from the bytes to the file's digests; none if they do not tell.
    """

    url: str
    source: DigestSource
    read: Read


def in_the_answer(head: Head, url: str, name: str) -> Iterator[Question]:
    """Metalink files that the answer itself, or one that led to it, refers to (RFC 6249 §4)."""
    for named in links.of_answers(head, url):
        for there in links.described_by(named)[:1]:
            yield Question(there, DigestSource.METALINK, partial(_from_metalink, name=name))


def elsewhere(url: str) -> Iterator[Question]:
    """What the providers publish that are known to; asked in any case, since it is there."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), unquote(parts.path)
    for rule in (_zenodo, _ena):
        yield from rule(host, path)
    if parts.query:
        return
    for pattern, prefix, form in _PUBLISHERS:
        if re.fullmatch(pattern, host) and path.startswith(prefix):
            yield _beside(url, form)


def usual(url: str, *, rare: bool = False) -> Iterator[Question]:
    """What is often found beside files, and what is `rare` too; asked where a file is worth it."""
    if urlsplit(url).query or urls.grants_access(url):
        return
    for form in (*_USUAL, *(_RARE if rare else ())):
        yield _beside(url, form)


_USUAL = (".sha256", ".md5", "SHA256SUMS", "md5checksums.txt")
_RARE = ("MD5SUMS", "CHECKSUMS", "sha256sum.txt", "md5sum.txt")
#: Hosts, directories, and the name of the checksum file: of the directory's files, or with a dot of the one file.
_PUBLISHERS = (
    (r"ftp\.ncbi\.nlm\.nih\.gov", "/genomes/", "md5checksums.txt"),
    (r"ftp\.ncbi\.nlm\.nih\.gov", "/blast/db/", ".md5"),
    (r"ftp\.ncbi\.nlm\.nih\.gov", "/pub/taxonomy/", ".md5"),
    (r"ftp\.ncbi\.nlm\.nih\.gov", "/snp/", ".md5"),
    (r"ftp\.ncbi\.nlm\.nih\.gov", "/pub/clinvar/", ".md5"),
    (r"hgdownload\d?\.(?:soe|gi|cse)\.ucsc\.edu", "/goldenPath/", "md5sum.txt"),
    (r"ftp\.ebi\.ac\.uk", "/pub/databases/gencode/", "MD5SUMS"),
    (r"ftp\.uniprot\.org", "/pub/databases/uniprot/", "RELEASE.metalink"),
    (r"ftp\.ebi\.ac\.uk", "/pub/databases/uniprot/", "RELEASE.metalink"),
)
#: What the name of a checksum file says that it holds.
_ALGORITHM = re.compile(r"\.?(md5|sha256)", re.IGNORECASE)


def _beside(url: str, form: str) -> Question:
    parts = urlsplit(url)
    directory, _, last = parts.path.rpartition("/")
    name = unquote(last)
    path = parts.path + form if form.startswith(".") else f"{directory}/{quote(form)}"
    there = parts._replace(path=path, query="", fragment="").geturl()
    if form.endswith(".metalink"):
        return Question(there, DigestSource.METALINK, partial(_from_metalink, name=name))
    named = _ALGORITHM.match(form)
    algorithm = None if named is None else named[1].lower()
    read = partial(sidecars.digests_of, name=name, algorithm=algorithm, alone=form.startswith("."))
    return Question(there, DigestSource.SIDECAR, read)


def _from_metalink(data: bytes, *, name: str) -> tuple[Digest, ...]:
    try:
        files = metalink.parse(data)
    except ValueError:
        return ()
    mine = [file for file in files if file.name == name]
    return mine[0].digests if len(mine) == 1 else ()


_ZENODO = re.compile(r"/(?:api/)?records?/([0-9]{1,12})/files/(.+?)(?:/content)?")
_RUN = re.compile(r"/vol1/(?:fastq|run|err|srr|drr)/(?:[^/]+/)*([ESD]RR[0-9]{6,12})/[^/]+")


def _zenodo(host: str, path: str) -> Iterator[Question]:
    match = _ZENODO.fullmatch(path) if host in ("zenodo.org", "www.zenodo.org") else None
    if match is not None:
        there = f"https://zenodo.org/api/records/{match[1]}/files"
        yield Question(there, DigestSource.CATALOGUE, partial(catalogues.zenodo, name=match[2]))


def _ena(host: str, path: str) -> Iterator[Question]:
    match = _RUN.fullmatch(path) if host == "ftp.sra.ebi.ac.uk" else None
    if match is not None:
        fields = "fastq_ftp,fastq_md5,submitted_ftp,submitted_md5,sra_ftp,sra_md5"
        there = (
            f"https://www.ebi.ac.uk/ena/portal/api/filereport?accession={match[1]}"
            f"&result=read_run&fields={fields}&format=json"
        )
        yield Question(there, DigestSource.CATALOGUE, partial(catalogues.ena, path=f"{host}{path}"))
