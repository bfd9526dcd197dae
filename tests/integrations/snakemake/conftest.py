"""A provider in this process, and workflows run by a real Snakemake in processes of its own."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hydraflow.core import locks
from hydraflow.models import Digest
from snakemake_storage_plugin_hydra import StorageProvider, StorageProviderSettings

ROOT = Path(__file__).resolve().parents[3]


def with_digest(url: str, data: bytes) -> str:
    return f"{url}#sha256={hashlib.sha256(data).hexdigest()}"


def write_lock(path, **files: bytes) -> str:
    """A lock at `path` of files, each by its URL."""
    known = [
        locks.Locked(f"{number}.bin", url, len(data), Digest("sha256", hashlib.sha256(data).hexdigest()))
        for number, (url, data) in enumerate(files.items())
    ]
    path.write_bytes(locks.encode(known))
    return str(path)


def until(condition, process) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def retrieve(*objects):
    async def work():
        await asyncio.gather(*(obj.managed_retrieve() for obj in objects))

    asyncio.run(work())


@pytest.fixture
def impatient(monkeypatch):
    """Failures of the network are final after a moment."""
    monkeypatch.setenv("HYDRAFLOW_FIRST_WAIT", "0.2")
    monkeypatch.setenv("HYDRAFLOW_MAX_WAIT", "0.2")
    monkeypatch.setenv("HYDRAFLOW_RETRY_DELAY", "0.02")


@pytest.fixture
def provide(tmp_path):
    """Makes providers as Snakemake does."""

    def make(prefix: str = "storage", **settings: object) -> StorageProvider:
        return StorageProvider(
            local_prefix=tmp_path / prefix,
            logger=logging.getLogger("tests.snakemake"),
            settings=StorageProviderSettings(**settings),
        )

    return make


@dataclass
class Workflow:
    directory: Path

    def write(self, text: str) -> None:
        (self.directory / "Snakefile").write_text(text)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A Snakemake in its own process group; everything that it says comes from its stdout."""
        extra = filter(None, [os.environ.get("PYTHONPATH")])
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "8", *arguments],
            cwd=self.directory,
            env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *extra]), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, seconds: float = 60, **environment: str) -> tuple[int, str]:
        """The exit code, and all that was said."""
        with self.start(*arguments, **environment) as process:
            try:
                said, _ = process.communicate(timeout=seconds)
            finally:
                process.kill()
        return process.returncode, said

    def path(self, name: str) -> Path:
        return self.directory / name

    def sockets(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_socket()]


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    directory = tmp_path / "workflow"
    directory.mkdir()
    return Workflow(directory)
