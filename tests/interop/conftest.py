"""Files that real servers serve, and the two ways of getting them, held against curl's."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import fetch, stream
from lab.caddy import Caddy
from lab.data import random_file
from lab.nginx import Nginx
from lab.process import MissingBinaryError
from lab.rclone import Rclone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hydraflow.models import FetchResult
    from lab.certificates import Certificates
    from lab.process import Server

MIB = 1 << 20
SIZES = {"large.bin": 9 * MIB + 5, "small.bin": 1000, "empty.bin": 0}


def _missing(reason: str) -> None:
    # In CI everything is there: a test that did not run would look like one that passed.
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def _serving(make: Callable[[], Server]) -> Iterator[Any]:
    try:
        server = make()
    except MissingBinaryError as error:
        _missing(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one sub-directory `files`, which over S3 is a bucket."""
    root = tmp_path_factory.mktemp("interop")
    (root / "files").mkdir()
    for name, size in SIZES.items():
        random_file(root / "files" / name, size, seed=size)
    random_file(root / "files" / "with space+ü&.bin", 3000, seed=3)
    return root


@pytest.fixture(scope="session")
def nginx(root: Path, certificates: Certificates) -> Iterator[Nginx]:
    yield from _serving(lambda: Nginx(root, tls=certificates))


@pytest.fixture(scope="session")
def nginx_http2(root: Path, certificates: Certificates) -> Iterator[Nginx]:
    yield from _serving(lambda: Nginx(root, tls=certificates, http2=True))


@pytest.fixture(scope="session")
def caddy(root: Path, certificates: Certificates) -> Iterator[Caddy]:
    yield from _serving(lambda: Caddy(root, tls=certificates))


@pytest.fixture(scope="session", params=["http", "webdav", "s3"])
def rclone(request: pytest.FixtureRequest, root: Path) -> Iterator[tuple[str, Rclone]]:
    for server in _serving(lambda: Rclone(root, request.param)):
        yield request.param, server


@dataclass(frozen=True)
class Got:
    file: FetchResult
    streamed: FetchResult


_turn = itertools.count()


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Got]:
    """Get a URL in both ways and with curl, and see that all have the same digest."""
    curl = shutil.which("curl")
    if curl is None:
        _missing("no curl")

    def compare(url: str, **options: Any) -> Got:
        # Settings of their own: no connection, and no trust in certificates, is left from another test.
        settings = hydraflow_settings.load(threads=4, user_agent=f"interop/{next(_turn)}", first_wait=2, **options)
        result = fetch(url, tmp_path / "file", settings=settings)
        hashed = hashlib.sha256()
        with stream(url, settings=settings) as opened:
            for chunk in opened:
                hashed.update(chunk)
        authority = os.environ.get("SSL_CERT_FILE")
        trust = ["--cacert", authority] if authority else []
        subprocess.run(
            [str(curl), "-sSf", "--noproxy", "*", *trust, "-o", tmp_path / "curl", url], check=True, timeout=20
        )
        expected = hashlib.sha256((tmp_path / "curl").read_bytes()).hexdigest()
        assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == expected
        assert hashed.hexdigest() == expected
        assert opened.result is not None
        return Got(result, opened.result)

    return compare
