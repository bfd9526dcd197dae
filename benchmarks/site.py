"""What the clients fetch from: nginx with and without TLS, a relay that delays, and files of random bytes in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import BenchmarkError, machine
from benchmarks.suites import MANY_FILES, MANY_SIZE, ROUND_TRIP, Far, Job, Mode, Suite
from lab import certificates
from lab.cable import Cable, CableError, FarNginx
from lab.data import random_file
from lab.latency import Latency
from lab.nginx import LogLine, Nginx

__all__ = ["Site", "serving"]

_MEMORY = Path("/dev/shm")
_SPARE = 512 << 20  # bytes beside the served file and its copy


@dataclass(slots=True)
class Site:
    """Servers that run, and the directory that holds everything: `www`, and room for what clients write.

    Attributes:
        directory: all of it.
        authority: PEM file that a client has to trust.
        size: bytes of the one large file.
    """

    directory: Path
    authority: Path
    size: int
    nginx: Nginx
    latency: Latency
    _sums: dict[Path, str] = field(default_factory=dict)
    #: Answers of the server behind a link so far.
    answers: Callable[[], list[LogLine]] = list

    @property
    def in_memory(self) -> bool:
        """No disk has a part in the figures."""
        return self.directory.is_relative_to(_MEMORY)

    @contextmanager
    def job(self, suite: Suite) -> Iterator[Job]:
        """The work of a suite; its files are made when they are first asked for.

        Raises:
            BenchmarkError: no link can be emulated here.
        """
        if suite.far is None:
            yield self._near(suite)
            return
        path = self._www / f"{suite.name}.bin"
        digest = self._file(path, suite.far.size, 0)
        with self._behind(suite.far) as (nginx, inside):
            url = f"{nginx.url}/{path.name}"
            self.answers = lambda: nginx.access_log
            yield Job((url,), (path,), (digest,), self._listing(suite, (url,)), self.authority, inside)
            self.answers = list

    @contextmanager
    def _behind(self, far: Far) -> Iterator[tuple[Nginx, tuple[str, ...]]]:
        try:
            with Cable(link=far.link) as cable, FarNginx(cable, self._www, **far.nginx) as nginx:
                yield nginx, tuple(cable.enter(cable.near))
        except CableError as error:
            raise BenchmarkError(str(error)) from error

    def _near(self, suite: Suite) -> Job:
        if suite.mode is Mode.MANY:
            base = self.latency.url
            paths = [self._www / f"f{number:03d}.bin" for number in range(MANY_FILES)]
            sizes = [MANY_SIZE] * MANY_FILES
        else:
            base = self.nginx.tls_url if suite.tls else self.nginx.url
            paths, sizes = [self._www / "large.bin"], [self.size]
        sums = [self._file(path, size, seed) for seed, (path, size) in enumerate(zip(paths, sizes, strict=True))]
        urls = tuple(f"{base}/{path.name}" for path in paths)
        return Job(urls, tuple(paths), tuple(sums), self._listing(suite, urls), self.authority)

    def _listing(self, suite: Suite, urls: Sequence[str]) -> Path:
        listing = self.directory / f"{suite.name}.txt"
        listing.write_text("".join(f"{url}\n" for url in urls))
        return listing

    @property
    def _www(self) -> Path:
        return self.directory / "www"

    def _file(self, path: Path, size: int, seed: int) -> str:
        if path not in self._sums:
            self._sums[path] = random_file(path, size, seed)
        return self._sums[path]


@contextmanager
def serving(size: int, data: Path | None = None) -> Iterator[Site]:
    """Servers for a file of `size` bytes, in the directory `data`, else in memory if there is room.

    Raises:
        BenchmarkError: there is no room.
    """
    place = _place(size, data)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hydraflow-bench-", dir=place)))
        (directory / "www").mkdir()
        tls = certificates.make(directory / "certificates")
        # Large buffers: what TLS costs the server must not hold up the client.
        nginx = stack.enter_context(
            Nginx(
                directory / "www",
                tls=tls,
                workers=os.cpu_count() or 1,
                server_directives="output_buffers 2 512k; access_log off;",
            )
        )
        latency = stack.enter_context(Latency(nginx.ports[0], round_trip=ROUND_TRIP))
        yield Site(directory, tls.authority, size, nginx, latency)


def _place(size: int, data: Path | None) -> Path:
    needed = 2 * size + _SPARE
    places: Sequence[Path] = [data] if data else [_MEMORY, Path(tempfile.gettempdir())]
    for place in places:
        if place.is_dir() and _room(place) >= needed:
            return place.resolve()
    raise BenchmarkError(
        f"no room for {needed:,} bytes in {' or '.join(map(str, places))}: choose --data or a smaller --size"
    )


def _room(place: Path) -> int:
    free = shutil.disk_usage(place).free
    return min(free, machine.memory_free()) if place.resolve().is_relative_to(_MEMORY) else free
