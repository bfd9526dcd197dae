"""The clients: how each is found, and how each is called.

Every one is called as its manual advises for the work, with certificates verified (but axel, which refuses a name
without a dot) and without its user's configuration.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from benchmarks import BenchmarkError
from benchmarks.suites import Job, Mode

__all__ = ["ROOT", "WORK", "Client", "all_clients", "hydraflow", "revision"]

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work"

_HTTPX = Path(__file__).with_name("clients") / "httpx_client.py"
_HYDRASTREAM = WORK / "venv-hydrastream"
_MANY = "16"  # connections for many small files, for everybody who is asked
_HTTP1 = ("-sS", "--fail", "--http1.1")

Commands = Mapping[Mode, Callable[[Job], Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Client:
    """A program under test.

    Attributes:
        name: in the results.
        commands: how it is called for each kind of work that it can do.
        version: as it tells itself.
        missing: why it cannot run here; empty if it can.
        environment: variables of its own.
    """

    name: str
    commands: Commands
    version: str = ""
    missing: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def all_clients(names: Iterable[str] = ()) -> list[Client]:
    """The clients of these names, in our order; all of them if none is named.

    Raises:
        BenchmarkError: there is no client of that name.
    """
    makers: dict[str, Callable[[], Client]] = {
        "curl": _curl,
        "aria2": _aria2,
        "axel": _axel,
        "httpx": _httpx,
        "hydrastream": _hydrastream,
        "hydraflow": hydraflow,
        "hydraflow-sha256": functools.partial(hydraflow, "hydraflow-sha256", verify=True),
        "hydraflow-t16": _hydraflow_t16,
        "hydraflow-aggressive": _hydraflow_aggressive,
    }
    chosen = list(names) or list(makers)
    if unknown := sorted(set(chosen) - makers.keys()):
        raise BenchmarkError(f"unknown client {', '.join(unknown)}: choose from {', '.join(makers)}")
    return [make() for name, make in makers.items() if name in chosen]


# ── hydraflow ────────────────────────────────────────────────────────────────────────────────────────────────────────


def hydraflow(name: str = "hydraflow", *, tree: Path = ROOT, verify: bool = False) -> Client:
    """The hydraflow of a source tree, with the libraries of this interpreter.

    Args:
        name: in the results.
        tree: directory that holds the package.
        verify: give it the SHA-256 of every file.
    """
    # -P: the tree's package and no other, whatever lies in the current directory.
    call = [sys.executable, "-P", "-m", "hydraflow", "-q"]

    def urls(job: Job) -> tuple[str, ...]:
        return job.urls_with_digest if verify else job.urls

    # Compiled beforehand: an installed package is, too.
    subprocess.run([sys.executable, "-m", "compileall", "-q", tree / "hydraflow"], check=True)
    return Client(
        name,
        {
            Mode.FILE: lambda job: [*call, "-o", ".", *urls(job)],
            Mode.STREAM: lambda job: [*call, "--stream", *urls(job)],
            Mode.MANY: lambda job: [*call, "-o", ".", *urls(job)],
            **({} if verify else {Mode.FAR: lambda job: [*call, "-o", ".", *urls(job)]}),
        },
        version=revision(tree),
        environment={"PYTHONPATH": str(tree)},
    )


def _hydraflow_t16() -> Client:
    """As many connections as the peers are told to use for many files."""
    return _with(hydraflow("hydraflow-t16"), Mode.MANY, "-t", _MANY)


def _hydraflow_aggressive() -> Client:
    return _with(hydraflow("hydraflow-aggressive"), Mode.FAR, "--aggressive")


def _with(client: Client, mode: Mode, *options: str) -> Client:
    """The same for one kind of work only, with more options."""
    call = client.commands[mode]
    return replace(client, commands={mode: lambda job: [*call(job), *options]})


def revision(tree: Path) -> str:
    """The version in the source, and the commit if the tree is a work tree of git."""
    source = (tree / "hydraflow" / "__init__.py").read_text()
    found = re.search(r"__version__ = \"(.+)\"", source)
    git = shutil.which("git") if (tree / ".git").exists() else None
    commit = git and _output(git, "-C", str(tree), "describe", "--always", "--dirty", "--exclude=*")
    return " ".join(filter(None, (found and found[1], commit)))


# ── the peers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _program(name: str, package: str, commands: Callable[[str], Commands]) -> Callable[[str], Client]:
    """A program of the system: looked up on PATH, asked for its version."""

    def make(client: str) -> Client:
        path = shutil.which(name)
        if path is None:
            return Client(client, commands(name), missing=f"no {name} on PATH (apt-get install {package})")
        found = re.search(r"\d+(\.\d+)+", _output(path, "--version"))
        return Client(client, commands(path), version=found[0] if found else "unknown")

    return make


def _curl() -> Client:
    def commands(curl: str) -> Commands:
        return {
            Mode.FILE: lambda job: [curl, *_HTTP1, "--remote-name", *job.urls],
            Mode.STREAM: lambda job: [curl, *_HTTP1, *job.urls],
            Mode.MANY: lambda job: [
                *(curl, *_HTTP1, "--parallel", "--parallel-max", _MANY, "--remote-name-all"),
                *job.urls,
            ],
        }

    return _program("curl", "curl", commands)("curl")


def _aria2() -> Client:
    def commands(aria2c: str) -> Commands:
        def call(job: Job, *more: str) -> list[str]:
            # Preallocation would write the file twice; without -k1M a small file would not be split.
            options = ("--no-conf", "--quiet", "--file-allocation=none", f"--ca-certificate={job.authority}")
            return [aria2c, *options, *more]

        def split(job: Job) -> list[str]:
            return call(job, "-x16", "-s16", "-k1M", *job.urls)

        return {
            Mode.FILE: split,
            Mode.FAR: split,
            Mode.MANY: lambda job: call(job, f"-j{_MANY}", "-i", str(job.listing)),
        }

    return _program("aria2c", "aria2", commands)("aria2")


def _axel() -> Client:
    def commands(axel: str) -> Commands:
        def call(job: Job) -> list[str]:
            return [axel, "--quiet", "--insecure", "--num-connections=16", *job.urls]

        return {Mode.FILE: call, Mode.FAR: call}

    return _program("axel", "axel", commands)("axel")


def _httpx() -> Client:
    call = [sys.executable, str(_HTTPX)]
    commands: Commands = {
        Mode.FILE: lambda job: [*call, "file", *job.urls],
        Mode.STREAM: lambda job: [*call, "stream", *job.urls],
        Mode.MANY: lambda job: [*call, "many", str(job.listing)],
    }
    return Client("httpx", commands, version=metadata.version("httpx"))


def _hydrastream() -> Client:
    """From the package index, in an environment of its own: its libraries are not ours."""
    call = [str(_HYDRASTREAM / "bin" / "hydrastream"), "--quiet"]
    commands: Commands = {
        Mode.FILE: lambda job: [*call, "--threads", "8", "--output", ".", *job.urls],
        Mode.STREAM: lambda job: [*call, "--threads", "8", "--stream", *job.urls],
        Mode.MANY: lambda job: [*call, "--threads", _MANY, "--output", ".", *job.urls],
        Mode.FAR: lambda job: [*call, "--threads", "16", "--output", ".", *job.urls],
    }
    python = str(_HYDRASTREAM / "bin" / "python")
    try:
        if not Path(call[0]).exists():
            print(f"Installing hydrastream into {_HYDRASTREAM.relative_to(ROOT)}", flush=True)
            _run(sys.executable, "-m", "venv", "--clear", str(_HYDRASTREAM))
            _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "hydrastream")
        version = _output(python, "-c", "from importlib import metadata as m; print(m.version('hydrastream'))")
    except (OSError, subprocess.CalledProcessError):
        return Client("hydrastream", commands, missing="pip could not install it")
    return Client("hydrastream", commands, version=version)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _output(*command: str) -> str:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout.strip()
