"""Transfers that are kept to a data lock: the locked bytes, or an error with what was and what is."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow

from hydraflow import locking
from hydraflow.core import locks
from hydraflow.core.manifests import Entry
from hydraflow.errors import ConfigurationError, ResourceChangedError, StorageError
from hydraflow.models import Outcome
from hydraflow.prefect import FetchedFile, hydra_fetch, hydra_fetch_many, hydra_pipe, hydra_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

pytestmark = pytest.mark.usefixtures("prefect_server")

OLD, LONGER, OTHER = b"hydra" * 30_000, b"hydra" * 30_001, b"other" * 30_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def locked(path: Path, *urls: str) -> Path:
    """What `hydraflow lock` writes."""
    made = locking.make([Entry(url, f"run/{Path(url).name}") for url in urls])
    path.write_bytes(locks.encode(each.locked for each in made if each.locked is not None))
    return path


@pytest.fixture
def url(origin: Origin) -> str:
    return origin.add("/x.bin", OLD)


@pytest.fixture
def lock(origin: Origin, url: str, tmp_path: Path) -> Path:
    path = locked(tmp_path / "data.lock", url)
    origin.ledger.clear()
    return path


# ── every way to call ────────────────────────────────────────────────────────────────────────────────────────────────

fetch = hydra_fetch.with_options(retry_delay_seconds=0)
fetch_many = hydra_fetch_many.with_options(retry_delay_seconds=0)
pipe = hydra_pipe.with_options(retry_delay_seconds=0)


def direct(url: str, place: Path, lock: Path) -> None:
    flow(lambda: fetch(url, place, lock=lock))()


def submitted(url: str, place: Path, lock: Path) -> None:
    flow(lambda: fetch.submit(url, place, lock=lock).result())()


def mapped(url: str, place: Path, lock: Path) -> None:
    flow(lambda: fetch.map([url], place, lock=lock).result())()


def awaited(url: str, place: Path, lock: Path) -> None:
    async def run() -> FetchedFile:
        return await fetch(url, place, lock=lock)

    asyncio.run(run())


def many(url: str, place: Path, lock: Path) -> None:
    flow(lambda: fetch_many.submit([url], place.parent, lock=lock).result())()


def many_awaited(url: str, place: Path, lock: Path) -> None:
    async def run() -> list[FetchedFile]:
        return await fetch_many([url], place.parent, lock=lock)

    asyncio.run(run())


def many_of_a_manifest(url: str, place: Path, lock: Path) -> None:
    manifest = lock.with_name("manifest.csv")
    manifest.write_text(f"url,name\n{url},x.bin\n")
    fetch_many(manifest, place.parent, lock=lock)


def piped(url: str, place: Path, lock: Path) -> None:
    pipe(url, f"cat > {place}.part && mv {place}.part {place}", lock=lock)


def piped_awaited(url: str, place: Path, lock: Path) -> None:
    async def run() -> Any:
        return await pipe(url, f"cat > {place}.part && mv {place}.part {place}", lock=lock)

    asyncio.run(run())


def streamed(url: str, place: Path, lock: Path) -> None:
    with hydra_stream(url, lock=lock) as stream:
        place.write_bytes(b"".join(stream))


def streamed_as_a_file(url: str, place: Path, lock: Path) -> None:
    with hydra_stream(url, lock=lock) as stream, stream.open() as file:
        place.write_bytes(file.read())


def streamed_into_a_pipe(url: str, place: Path, lock: Path) -> None:
    with hydra_stream(url, lock=lock) as stream:
        data = Path(os.fspath(stream)).read_bytes()
    place.write_bytes(data)


def streamed_awaited(url: str, place: Path, lock: Path) -> None:
    async def run() -> bytes:
        async with hydra_stream(url, lock=lock) as stream:
            return b"".join([chunk async for chunk in stream])

    place.write_bytes(asyncio.run(run()))


WAYS: Sequence[Callable[[str, Path, Path], None]] = [
    direct,
    submitted,
    mapped,
    awaited,
    many,
    many_awaited,
    many_of_a_manifest,
    piped,
    piped_awaited,
    streamed,
    streamed_as_a_file,
    streamed_into_a_pipe,
    streamed_awaited,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way(
    origin: Origin,
    url: str,
    lock: Path,
    tmp_path: Path,
    run_log: RunLog,
    way: Callable[[str, Path, Path], None],
) -> None:
    place = tmp_path / "there" / "x.bin"
    place.parent.mkdir()
    origin.add("/y.bin", OLD)
    with pytest.raises(ConfigurationError, match=r"/y\.bin is not in .*data\.lock"):
        way(f"{url.rpartition('/')[0]}/y.bin", place, lock)
    assert origin.ledger == []

    way(url, place, lock)
    [file] = [each for each in place.parent.rglob("*") if each.is_file()]
    assert file.read_bytes() == OLD
    file.unlink()

    origin.add("/x.bin", OTHER)
    origin.ledger.clear()
    with pytest.raises(ResourceChangedError, match=r"not the file that .*data\.lock has locked: sha256 was") as caught:
        way(url, place, lock)
    assert (caught.value.was, caught.value.now) == (f"sha256 {sha256(OLD)}", f"sha256 {sha256(OTHER)}")
    assert not any("Retry 1/3" in line for line in run_log.lines)
    assert origin.bytes_served() <= 1.1 * len(OTHER)
    assert [each for each in place.parent.rglob("*") if each.name == "x.bin"] == []


def test_another_size_is_refused_before_a_byte_of_it_is_kept(
    origin: Origin, url: str, lock: Path, tmp_path: Path
) -> None:
    origin.add("/x.bin", LONGER)
    with pytest.raises(ResourceChangedError) as caught:
        fetch(url, tmp_path / "x.bin", lock=lock)
    assert (caught.value.was, caught.value.now) == ("size 150,000 bytes", "size 150,005 bytes")
    assert not (tmp_path / "x.bin").exists()


def test_of_many_the_others_are_fetched_under_the_names_of_the_lock(
    origin: Origin, url: str, tmp_path: Path, run_log: RunLog
) -> None:
    other = origin.add("/y.bin", OTHER)
    lock = locked(tmp_path / "data.lock", url, other)
    origin.add("/x.bin", LONGER)
    with pytest.raises(ResourceChangedError) as caught:
        fetch_many(lock, tmp_path / "all", lock=lock)  # a lock lists files, too
    assert caught.value.was == "size 150,000 bytes"
    assert (tmp_path / "all" / "run" / "y.bin").read_bytes() == OTHER
    assert any("was 150,000 bytes, is 150,005 bytes" in line for line in run_log.lines)


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_follows_the_lock(origin: Origin, url: str, lock: Path, tmp_path: Path) -> None:
    names: list[str] = []
    noting = fetch.with_options(on_completion=[lambda task, run, state: names.append(state.name)])

    @flow
    def once(**more: Any) -> FetchedFile:
        return noting(url, tmp_path / "x.bin", lock=str(lock), **more)

    once()
    once()  # nobody gave a digest but the lock
    assert names == ["Completed", "Cached"]
    assert len(origin.ledger) == 1

    origin.add("/x.bin", OTHER)
    once()  # the locked bytes are there, whatever is upstream
    locked(lock, url)  # the new one is meant
    assert once(overwrite=True).path.read_bytes() == OTHER
    assert once(overwrite=True).digest == f"sha256:{sha256(OTHER)}"
    assert names == ["Completed", "Cached", "Cached", "Completed", "Cached"]


def test_what_is_there_already_is_looked_at(origin: Origin, url: str, lock: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(OLD)
    origin.add("/x.bin", OTHER)
    assert fetch(url, tmp_path / "x.bin", lock=lock).outcome is Outcome.ALREADY_PRESENT


# ── what cannot be meant ─────────────────────────────────────────────────────────────────────────────────────────────


def test_two_digests(origin: Origin, url: str, lock: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="two digests are given"):
        fetch(url, tmp_path / "x.bin", digest=f"sha256:{sha256(OTHER)}", lock=lock)
    with pytest.raises(ConfigurationError, match="two digests are given"):
        fetch(f"{url}#sha256={sha256(OTHER)}", tmp_path / "x.bin", lock=lock)
    assert origin.ledger == []


@pytest.mark.parametrize(
    ("text", "error"), [(None, StorageError), ("url,md5\n", ConfigurationError)], ids=["none", "no lock"]
)
def test_no_lock(origin: Origin, url: str, tmp_path: Path, text: str | None, error: type[Exception]) -> None:
    if text is not None:
        (tmp_path / "data.lock").write_text(text)
    for way in (direct, many, streamed):
        with pytest.raises(error, match=r"data\.lock"):
            way(url, tmp_path / "x.bin", tmp_path / "data.lock")
    assert origin.ledger == []
