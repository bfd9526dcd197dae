"""What a server can do with a file, what of it could be verified, and what lies half-done on disk."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydraflow import runtime
from hydraflow.adapters.files import NOFOLLOW, open_regular
from hydraflow.adapters.ownership import look
from hydraflow.adapters.store import Store
from hydraflow.core import integrity, journal, names
from hydraflow.engine import Engine
from hydraflow.errors import DestinationBusyError, HydraError, StorageError
from hydraflow.models import Claim, Resource
from hydraflow.ordering import orders
from hydraflow.settings import Settings, load

__all__ = ["Findings", "Leftover", "inspect", "leftovers", "remove"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a fetch would meet.

    Attributes:
        name: what the file would be called.
        resource: what the server says.
        claims: every digest that somebody promises.
        chosen: the one that a fetch would verify; None if there is none.
        on_request: the one that it would verify with `--verify require`, where it would not look for one otherwise.
        conflict: why a fetch would take none, if two promise different ones.
        elapsed: seconds until everything was known.
    """

    name: str
    resource: Resource
    claims: tuple[Claim, ...]
    chosen: Claim | None
    conflict: HydraError | None
    elapsed: float
    on_request: Claim | None = None

    @property
    def resumable(self) -> bool:
        """A later run can go on from what an earlier one has."""
        whole = self.resource.size is not None and self.resource.ranges
        return whole and (self.resource.validator.strong or self.chosen is not None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values, named as those of `FetchResult`."""
        resource, chosen = self.resource, self.chosen
        return {
            "name": self.name,
            "url": resource.url,
            "final_url": resource.final_url,
            "size": resource.size,
            "media_type": resource.media_type,
            "ranges": resource.ranges,
            "resumable": self.resumable,
            "etag": resource.validator.etag,
            "last_modified": resource.validator.last_modified,
            "strong_validator": resource.validator.strong,
            "digest": None if chosen is None else str(chosen.digest),
            "digest_source": None if chosen is None else chosen.source,
            "digest_url": None if chosen is None else chosen.url,
            "claims": [{"digest": str(each.digest), "source": each.source, "url": each.url} for each in self.claims],
            "digest_on_request": None if self.on_request is None else str(self.on_request.digest),
            "conflict": None if self.conflict is None else str(self.conflict),
            "http_version": resource.http_version,
            "elapsed": self.elapsed,
        }


def inspect(url: str, *, headers: Mapping[str, str] | None = None, settings: Settings | None = None) -> Findings:
    """Ask what is at a URL and look for digests, first as a fetch does, then as thoroughly as can be; fetch nothing.

    Raises:
        HydraError: the server refuses or cannot be reached.
    """
    [order] = orders(url, headers=headers)

    async def work(engine: Engine) -> Findings:
        begun = time.monotonic()
        resource, known = await engine.learn(order)
        own = () if order.claim is None else (order.claim,)
        chosen, conflict, on_request = None, None, None
        try:
            chosen = integrity.choose(order.claim, known, resource.size, resource.url)
            if chosen is None:
                _, known = await engine.learn(order, thorough=True)
                on_request = integrity.choose(None, known, resource.size, resource.url)
        except HydraError as error:
            conflict = error
        name = await engine.name(order) if names.is_vague(order.name) else order.name
        elapsed = time.monotonic() - begun
        return Findings(name, resource, (*own, *known), chosen, conflict, elapsed, on_request)

    return runtime.start(settings or load(), work).wait()


# ── what lies half-done ──────────────────────────────────────────────────────────────────────────────────────────────

_LONGEST_JOURNAL = 256 << 20


@dataclass(frozen=True, slots=True)
class Leftover:
    """A transfer that has not come to its end.

    Attributes:
        path: what the file is to be called.
        url: canonical, without credentials; None if nothing says.
        done: bytes that a later run need not fetch again.
        size: bytes of the whole; None while it is not known.
        on_disk: bytes of disk space that it takes.
        age: seconds since it was last written to.
        owner: who works on it; None if nobody does.
        note: why it is of no use to a later run, or cannot be looked at; empty otherwise.
    """

    path: Path
    url: str | None
    done: int
    size: int | None
    on_disk: int
    age: float
    owner: str | None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "path": str(self.path), "url": self.url, "done": self.done, "size": self.size, "on_disk": self.on_disk,
            "age": round(self.age, 1), "owner": self.owner, "note": self.note,
        }  # fmt: skip


def leftovers(place: Path, passed_over: Callable[[StorageError], None] = lambda _: None) -> Iterator[Leftover]:
    """What lies half-done below a directory, or for one file; symbolic links are not followed.

    Args:
        place: the directory, or the file.
        passed_over: told of directories below it that cannot be read.

    Raises:
        StorageError: the directory cannot be read.
    """
    if not place.is_dir():
        state = _state_of(place)
        if state.is_dir():
            yield _look(state)
            return
        if not place.exists():
            raise StorageError(f"there is no such file or directory: {place}")
        return

    def fail(error: OSError) -> None:
        told = StorageError.wrap(error, f"cannot read {error.filename}")
        if error.filename == os.fspath(place):
            raise told from error
        passed_over(told)

    for directory, inner, _ in os.walk(place, onerror=fail):
        for name in sorted(inner):
            if _is_state(name):
                inner.remove(name)
                yield _look(Path(directory) / name)
        inner.sort()


def _state_of(path: Path) -> Path:
    return path if _is_state(path.name) else path.with_name(f".{path.name}.hydra")


def _is_state(name: str) -> bool:
    return name.startswith(".") and name.endswith(".hydra") and len(name) > len("..hydra")


def _destination(state: Path) -> Path:
    return state.with_name(state.name[1 : -len(".hydra")])


def _look(state: Path) -> Leftover:
    path = _destination(state)
    try:
        directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW)
    except OSError as error:
        return Leftover(path, None, 0, None, 0, 0.0, None, f"cannot be looked at: {error.strerror}")
    try:
        return _read(path, directory)
    except OSError as error:
        return Leftover(path, None, 0, None, 0, 0.0, None, f"cannot be looked at: {error.strerror}")
    finally:
        os.close(directory)


def _read(path: Path, directory: int) -> Leftover:
    owner, _ = look(directory)
    facts = [os.stat(name, dir_fd=directory, follow_symlinks=False) for name in os.listdir(directory)]
    newest = max((each.st_mtime for each in facts), default=os.fstat(directory).st_mtime)
    on_disk = sum(each.st_blocks * 512 for each in facts if stat.S_ISREG(each.st_mode))
    identity, done = None, 0
    fd = open_regular("journal", directory, os.O_RDONLY)
    if fd >= 0:
        with os.fdopen(fd, "rb") as file:
            found = journal.replay(file.read(_LONGEST_JOURNAL))
        identity, done = found.identity, found.durable.total
    note = "" if done or owner is not None else "nothing to go on from"
    return Leftover(
        path,
        None if identity is None else identity.url,
        done,
        None if identity is None else identity.size,
        on_disk,
        max(0.0, time.time() - newest),
        None if owner is None else str(owner),
        note,
    )


def remove(leftover: Leftover) -> None:
    """Remove what lies half-done; the file at the final name, if there is one, stays.

    Raises:
        DestinationBusyError: somebody works on it.
        StorageError: it cannot be removed.
    """
    if leftover.owner is not None:
        raise DestinationBusyError(f"{leftover.owner} is fetching {leftover.path}", hint="End it first.")
    store = Store(leftover.path, leftover.url or "", overwrite=True)
    store.claim()
    try:
        store.discard()
    finally:
        store.close()
