"""`hydraflow doctor`: what hydraflow finds on this machine, and what of it will make trouble."""

from __future__ import annotations

import difflib
import importlib.metadata
import locale
import os
import platform
import shutil
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from hydraflow import __version__
from hydraflow.cli.output import print_json, print_line
from hydraflow.cli.texts import CONTEXT, PATH, Command
from hydraflow.errors import HydraError

__all__ = ["command"]

_OK, _NOTE, _BAD = "ok", "note", "bad"
_SIGNS = {_OK: "  ", _NOTE: "? ", _BAD: "! "}
_GB = 1_000_000_000
#: Descriptors that many files over many connections take, and some to spare.
_DESCRIPTORS = 512

_EXAMPLES = """
hydraflow doctor
hydraflow doctor -o /scratch/me
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is what to do about it, where it is not as it should be."""

    name: str
    value: str
    verdict: str = _OK
    advice: str = ""


@click.command("hydraflow doctor", cls=Command, examples=_EXAMPLES, context_settings=CONTEXT)
@click.option("-o", "--output", type=PATH, metavar="DIR", help="The directory that files would go to.")
@click.option("--json", "json", is_flag=True, help="One JSON line for each.")
@click.pass_context
def command(context: click.Context, /, output: Path | None, json: bool) -> None:
    """Look at versions, the loop, certificates, proxies, the disk and limits; nothing is asked of the network.

    A line that begins with ! will make trouble, one with ? is worth knowing.  The report has no passwords in it: put it
    into a question or a bug report.  Exit codes: 0 nothing is wrong, 2 something is.
    """
    found = list(_examine(output))
    for each in found:
        if json:
            print_json({"name": each.name, "value": each.value, "verdict": each.verdict, "advice": each.advice})
        else:
            advice = f"  ({each.advice})" if each.advice else ""
            print_line(f"{_SIGNS[each.verdict]}{each.name:<14} {each.value}{advice}")
    context.exit(2 if any(each.verdict == _BAD for each in found) else 0)


def _examine(output: Path | None) -> Iterator[Finding]:
    yield Finding("hydraflow", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("Python", f"{platform.python_version()} ({sys.executable}), {ssl.OPENSSL_VERSION}")
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}, {_cores()} cores")
    yield from _packages()
    settings: list[Finding] = list(_settings())
    yield from settings
    yield from _certificates()
    yield from _proxies()
    yield _netrc()
    yield from _disk(output)
    yield _descriptors()
    yield _locale()
    yield Finding("terminal", _terminal())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _packages() -> Iterator[Finding]:
    needed = ("httpx", "httpcore", "h11", "h2", "awscrt", "click", "rich", "pydantic-settings")
    yield Finding("packages", ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in needed))
    extras = ("isal", "prefect", "snakemake")
    yield Finding("extras", ", ".join(f"{name} {_version(name) or 'not installed'}" for name in extras))
    uvloop = _version("uvloop")
    if uvloop:
        yield Finding("loop", f"uvloop {uvloop}")
    else:
        yield Finding("loop", "asyncio's own", _NOTE, "pip install uvloop: it costs less CPU")


def _settings() -> Iterator[Finding]:
    from hydraflow.settings import Settings, load

    try:
        settings = load()
    except HydraError as error:
        yield Finding("settings", str(error), _BAD, error.hint)
        return
    default = Settings()
    changed = [name for name in default.__dataclass_fields__ if getattr(settings, name) != getattr(default, name)]
    told = ", ".join(f"{name} = {getattr(settings, name)}" for name in changed)
    yield Finding("settings", told or "all as they are by default")
    known = {f"HYDRAFLOW_{name.upper()}" for name in (*default.__dataclass_fields__, "env_file")}
    for variable in sorted(name for name in os.environ if name.startswith("HYDRAFLOW_") and name not in known):
        close = difflib.get_close_matches(variable, known, 1)
        yield Finding(
            "variable", f"{variable} is not known", _NOTE, f"perhaps {close[0]} is meant" if close else "unset it"
        )
    for name in ("ca_file", "client_cert"):
        path: Path | None = getattr(settings, name)
        if path is not None and not os.access(path, os.R_OK):
            yield Finding(name, f"{path} cannot be read", _BAD, f"correct HYDRAFLOW_{name.upper()}")


def _certificates() -> Iterator[Finding]:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        if path and not os.access(path, os.R_OK):
            yield Finding("certificates", f"{name}={path} cannot be read", _BAD, "correct or unset it")
            return
    try:
        import httpx

        count = len(httpx.create_ssl_context().get_ca_certs())
    except (OSError, ssl.SSLError) as error:
        yield Finding("certificates", str(error), _BAD, "https will fail")
        return
    source = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or f"certifi {_version('certifi')}"
    yield Finding(
        "certificates", f"{count:,} authorit{'y' if count == 1 else 'ies'} from {source}", _OK if count else _NOTE
    )


def _proxies() -> Iterator[Finding]:
    import urllib.request

    from hydraflow.core.urls import redact

    found = {name: value for name, value in urllib.request.getproxies().items() if name != "no"}
    shown = ", ".join(f"{name} by {redact(value)}" for name, value in sorted(found.items()))
    advice = "bytes go through httpx then, at more CPU" if found else ""
    yield Finding("proxies", shown or "none", _NOTE if found else _OK, advice)


def _netrc() -> Finding:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if not path.exists():
        return Finding("netrc", "none")
    if path.stat().st_mode & 0o077:
        return Finding("netrc", f"{path} can be read by others", _NOTE, f"chmod 600 {path}")
    return Finding("netrc", str(path))


def _disk(output: Path | None) -> Iterator[Finding]:
    from hydraflow.settings import Settings

    wanted = output or Path(os.environ.get("HYDRAFLOW_OUTPUT") or Settings().output)
    there = next((each for each in (wanted, *wanted.absolute().parents) if os.path.exists(each)), Path("/"))  # noqa: PTH110 - Path's raises
    if not os.access(there, os.W_OK):
        yield Finding("output", f"{wanted}: {there} cannot be written to", _BAD, "choose another --output")
        return
    try:
        sync = _sync(there)
    except OSError as error:
        yield Finding("output", f"{wanted}: cannot write to {there}: {error.strerror}", _BAD, "choose another --output")
        return
    free = shutil.disk_usage(there).free
    verdict = _OK if free > _GB else _NOTE
    yield Finding("output", f"{wanted}: {free / _GB:,.1f} GB free, {_kind(there)}", verdict)
    yield sync


def _kind(path: Path) -> str:
    """The file system's kind, where the system tells."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "file system unknown"
    mounts = [(line.split()[4], line.partition(" - ")[2].split()[0]) for line in lines]
    place = path.resolve()
    return max((each for each in mounts if place.is_relative_to(each[0])), key=lambda each: len(each[0]))[1]


def _sync(directory: Path) -> Finding:
    import tempfile
    import time

    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(1 << 16))
        file.flush()
        begun = time.perf_counter()
        os.fsync(file.fileno())
        took = time.perf_counter() - begun
    slow = took > 0.25
    advice = "checkpoints are slow here: raise HYDRAFLOW_SYNC_INTERVAL" if slow else ""
    return Finding("sync", f"{took * 1000:.1f} ms", _NOTE if slow else _OK, advice)


def _descriptors() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS
    advice = f"ulimit -n {_DESCRIPTORS}" if few else ""
    return Finding("open files", f"{soft} of at most {hard}", _NOTE if few else _OK, advice)


def _locale() -> Finding:
    encoding = sys.getfilesystemencoding()
    advice = "" if "utf" in encoding else "names beyond ASCII are refused: set LC_ALL=C.UTF-8"
    return Finding(
        "locale", f"{locale.setlocale(locale.LC_CTYPE)}, names in {encoding}", _NOTE if advice else _OK, advice
    )


def _terminal() -> str:
    term, size = os.environ.get("TERM", ""), shutil.get_terminal_size()
    known: list[tuple[str, Callable[[], bool]]] = [("stdout", sys.stdout.isatty), ("stderr", sys.stderr.isatty)]
    ways = ", ".join(f"{name} {'is a terminal' if check() else 'is not'}" for name, check in known)
    colour = ", NO_COLOR is set" if os.environ.get("NO_COLOR") else ""
    return f"TERM={term}, {size.columns} columns; {ways}{colour}"
