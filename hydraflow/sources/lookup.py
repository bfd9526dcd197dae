"""Asks what `publishers` proposes: few small requests beside a transfer, that never hold it up for long.

Nothing of the caller's crosses to another origin; whatever goes wrong here only means that no digest is known.
"""

from __future__ import annotations

import asyncio
import collections
import time
import weakref
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import unquote, urlsplit

from hydraflow.adapters.transport import Response, Route, TransportFailure
from hydraflow.core import claims, headers, integrity, sidecars, urls
from hydraflow.core.responses import Ask
from hydraflow.errors import HydraError
from hydraflow.models import Claim, DigestSource, Head
from hydraflow.sources import publishers
from hydraflow.sources.publishers import Question

__all__ = ["PATIENCE", "Lookup", "Subject"]

#: Seconds for all questions about one file.
PATIENCE = 5.0
#: An answer is kept for so many seconds: the files of a directory share one checksum file.
_FRESH = 60.0
_MOST_KEPT, _LARGEST_KEPT = 32, 1 << 20
_BLOCK = 64 << 10
_CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}


@dataclass(frozen=True, slots=True)
class Subject:
    """The file that digests are looked for.

    Attributes:
        url: as the caller gave it.
        headers: the caller's, for this origin only.
        size: in bytes, if it is known.
        head: the answer that describes the file; None if there is none now.
    """

    url: str
    headers: Mapping[str, str]
    size: int | None = None
    head: Head | None = None

    @property
    def name(self) -> str:
        """The last segment of the URL's path, decoded."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


class Send(Protocol):
    """Sends a request, and ends it when the context is left."""

    def __call__(self, route: Route, ask: Ask, method: str = "GET") -> AbstractAsyncContextManager[Response]:
        """Its answer."""


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes
    final_url: str
    since: float


class Lookup:
    """What an engine's transfers look up. Used from the engine's event loop only.

    Args:
        send: sends a request; see `Transport.open`.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: collections.OrderedDict[tuple[str, ...], _Kept] = collections.OrderedDict()
        #: Who waits for the same answer; each lives as long as somebody does.
        self._turns: weakref.WeakValueDictionary[tuple[str, ...], asyncio.Lock] = weakref.WeakValueDictionary()

    async def claims(self, subject: Subject, *, thorough: bool, since: float = 0.0) -> tuple[Claim, ...]:
        """Digests that are published elsewhere than in the answer; those of the first place that has some.

        Takes at most `PATIENCE` seconds, and never raises but when it is cancelled.

        Args:
            subject: the file.
            thorough: ask for the usual checksum files too, however small the file, and for the rarer ones.
            since: what was read before this moment of `time.monotonic` is asked for again.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._claims(subject, thorough, since)
        except TimeoutError:
            return ()

    async def _claims(self, subject: Subject, thorough: bool, since: float) -> tuple[Claim, ...]:
        found = await self._of_s3(subject)
        if integrity.conclusive(found):
            return found
        for question in _questions(subject, thorough=thorough):
            if published := await self._answer(question, subject, since):
                return published
        return found

    # ── checksum files and catalogues ────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, question: Question, subject: Subject, since: float) -> tuple[Claim, ...]:
        # The caller's headers are for the origin that he named; where that redirects to, they do not go either.
        own = urls.origin(question.url) == urls.origin(subject.url)
        kept = await self._get(question.url, subject.headers if own else {}, since)
        if kept is None:
            return ()
        source = question.source if kept.final_url.startswith("https://") else DigestSource.SIDECAR_HTTP
        return tuple(Claim(digest, source, urls.redact(question.url)) for digest in question.read(kept.data))

    async def _get(self, url: str, fields: Mapping[str, str], since: float) -> _Kept | None:
        key = (url, *(f"{name}: {value}" for name, value in sorted(fields.items())))
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            kept = self._kept.get(key)
            if kept is None or kept.since < max(since, time.monotonic() - _FRESH):
                try:
                    kept = await self._fetch(url, fields)
                except (TransportFailure, HydraError):
                    return None
                if kept is not None:
                    self._keep(key, kept)
        if kept is None or not kept.data:
            return None
        return kept

    def _keep(self, key: tuple[str, ...], kept: _Kept) -> None:
        if len(kept.data) <= _LARGEST_KEPT:
            self._kept[key] = kept
            self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    async def _fetch(self, url: str, fields: Mapping[str, str]) -> _Kept | None:
        """The whole answer; empty if there is no such file, None if it may be there another time."""
        async with self._send(Route(url, fields), Ask()) as response:
            head, since = response.head, time.monotonic()
            if head.status in (403, 404, 410):
                return _Kept(b"", head.url, since)
            if head.status != 200 or headers.content_encoding(head) is not None:
                return None
            data, view = bytearray(), memoryview(bytearray(_BLOCK))
            while len(data) <= sidecars.MAX_BYTES and (count := await response.read_into(view)):
                data += view[:count]
        return _Kept(bytes(data) if len(data) <= sidecars.MAX_BYTES else b"", head.url, since)

    # ── S3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _of_s3(self, subject: Subject) -> tuple[Claim, ...]:
        """What S3 tells only when it is asked: checksums of the object, and the size of its parts.

        Not where the request is signed, since that is for one request and no other.
        """
        head = subject.head
        signed = urls.grants_access(subject.url) or any(_is_credential(name) for name in subject.headers)
        if head is None or head.redirects or not claims.is_s3(head) or signed:
            return ()
        known = await self._head(subject.url, head)
        told = claims.announced(head if known is None else known, bodiless=known is not None)
        parted = next((claim.digest for claim in told if claim.digest.parts), None)
        if parted is None or integrity.conclusive(told):
            return told
        query = "&" if urlsplit(subject.url).query else "?"
        part = await self._head(f"{subject.url}{query}partNumber=1", head)
        size = 0 if part is None else claims.part_size(part, parted, subject.size)
        return tuple(_sized(claim, parted.parts, size) for claim in told)

    async def _head(self, url: str, known: Head) -> Head | None:
        """The answer to HEAD, if it is of the version that is known."""
        try:
            async with self._send(Route(url, _CHECKSUM_MODE), Ask(), "HEAD") as response:
                head = response.head
        except (TransportFailure, HydraError):
            return None
        same = headers.same_version(headers.validator(known), headers.validator(head))
        return head if same and head.status in (200, 206) else None


def _questions(subject: Subject, *, thorough: bool) -> list[Question]:
    if subject.head is not None and headers.content_encoding(subject.head) is not None:
        return []  # what is published is the digest of the file, not of the coded body
    asked = [] if subject.head is None else list(publishers.in_the_answer(subject.head, subject.url, subject.name))
    asked += publishers.elsewhere(subject.url)
    if thorough or (subject.size or 0) >= publishers.WORTHWHILE:
        asked += publishers.usual(subject.url, rare=thorough)
    unique = {question.url: question for question in reversed(asked)}
    return [question for question in asked if unique[question.url] is question]


def _is_credential(name: str) -> bool:
    return name.lower() in ("authorization", "cookie") or name.lower().startswith("x-amz-")


def _sized(claim: Claim, parts: int, size: int) -> Claim:
    """The claim, with the size of the parts that it is of."""
    if claim.digest.parts != parts or not size:
        return claim
    return replace(claim, digest=replace(claim.digest, part_size=size))
