"""Settings of the storage provider: `--storage-hydra-*` options, or arguments of `storage.hydra(...)`."""

# No `from __future__ import annotations`: Snakemake reads the types of the fields at run time.

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase  # type: ignore[import-untyped]

__all__ = ["ON_ERROR", "Header", "StorageProviderSettings", "check", "headers", "size"]

#: What a retrieval that failed brings down with it.
ON_ERROR = ("job", "abort")
#: Snakemake puts these arguments of `storage.hydra(...)` beside the settings.
_SNAKEMAKE_OWN = {"keep_local", "retrieve"}

_VARIABLE = "SNAKEMAKE_STORAGE_HYDRA_"
_BY_VARIABLE = ("threads", "state_dir", "lock", "on_error", "prefetch")
_HEADER = re.compile(
    r"(?:(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?)=)?"
    r"(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*(?P<value>.*)"
)
_SWITCHES = {
    "": False, "0": False, "false": False, "no": False, "off": False, "1": True, "true": True, "yes": True, "on": True
}  # fmt: skip
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtT]?)(i?)[bB]?")


@dataclass
class StorageProviderSettings(StorageProviderSettingsBase):  # type: ignore[misc]  # the interface package is not typed
    """What can be set; what is left None follows the `HYDRAFLOW_*` variables."""

    threads: int | None = field(
        default=None,
        metadata={
            "help": "Most connections, and most files retrieved at a time, for one server. "
            "Default: HYDRAFLOW_THREADS, or 16, and 32 for many small files.",
            "type": int,
            "metavar": "N",
        },
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "Token sent as 'Authorization: Bearer TOKEN' to the server of each URL that this provider is "
            "asked for, and never on to where that server redirects. For servers that must not see each other's "
            "tokens, use one tag for each.",
            "type": str,
            "env_var": True,
            "metavar": "TOKEN",
        },
    )
    headers: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "Headers to send, one per line: 'Name: value' to the server of every URL, 'HOST=Name: value' to "
            "that host only (HOST:PORT if the URL has a port). Never sent on to where a server redirects.",
            "type": str,
            "env_var": True,
            "metavar": "LINES",
        },
    )
    state_dir: str | None = field(
        default=None,
        metadata={
            "help": "Directory of unfinished retrievals, which later runs go on from, and of all files that were "
            "retrieved: they stay there for other runs and other jobs, on whatever node, and each is fetched once. "
            "Default: .hydra in the local storage prefix, where nothing stays that is finished.",
            "type": str,
            "metavar": "DIR",
        },
    )
    lock: str | None = field(
        default=None,
        metadata={
            "help": "Data lock (made by 'hydraflow lock'): each URL must be the file that was locked, by its size and "
            "digest, and one that the lock does not have is an error.",
            "type": str,
            "metavar": "FILE",
        },
    )
    on_error: str | None = field(
        default=None,
        metadata={
            "help": "What a retrieval that failed ends: 'job', only the jobs that need the file (so that retries and "
            "--keep-going work; the default), or 'abort', the whole workflow.",
            "type": str,
            "metavar": "|".join(ON_ERROR),
        },
    )
    prefetch: str | None = field(
        default=None,
        metadata={
            "help": "Fetch inputs of jobs that are ready while others run, at most so many bytes ahead (e.g. 20GB). "
            "Default: each when its job is about to start.",
            "type": str,
            "metavar": "SIZE",
        },
    )
    offline: bool = field(
        default=False,
        metadata={
            "help": "Ask no server: take files from the state directory, and from the local storage prefix, where "
            "earlier runs have left them; others count as an error. A declared digest is checked again.",
        },
    )

    def __post_init__(self) -> None:
        # Snakemake reads variables too, but what it knows of them does not reach the jobs of every cluster (Slurm's);
        # what stands in the settings does, by the command line.  That is not for secrets.
        for name in _BY_VARIABLE:
            value = os.environ.get(_VARIABLE + name.upper())
            if getattr(self, name) is None and value:
                setattr(self, name, int(value) if name == "threads" and value.isdecimal() else value)
        # Where Snakemake was started, and not where it is told to work, nor where its jobs do.
        self.lock = str(Path(self.lock).expanduser().absolute()) if self.lock else None
        self.on_error = self.on_error or ON_ERROR[0]
        variable = f"{_VARIABLE}OFFLINE"
        self.offline = _switched("offline", self.offline) or _switched(variable, os.environ.get(variable, ""))


def _switched(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _SWITCHES:
        raise WorkflowError(f"{name} is one of {', '.join(filter(None, _SWITCHES))}, not {text!r}")
    return _SWITCHES[text]


@dataclass(frozen=True)
class Header:
    """A header, and the host (with its port, if it has one) that it is for; None for all."""

    host: str | None
    name: str
    value: str = field(repr=False)


def headers(text: str) -> tuple[Header, ...]:
    """The headers of the setting.

    Raises:
        WorkflowError: a line is none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [_HEADER.fullmatch(line) for line in lines]
    for number, match in enumerate(found, 1):
        if match is None:
            # Not shown: it may be a secret.
            raise WorkflowError(
                f"headers of the hydra storage provider: line {number} is not 'Name: value' or 'HOST=Name: value'"
            )
    return tuple(
        Header(match["host"] and match["host"].lower(), match["name"], match["value"]) for match in found if match
    )


def size(text: str) -> int:
    """Bytes of a setting such as `20GB`.

    Raises:
        WorkflowError: it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise WorkflowError(f"prefetch of the hydra storage provider is a size such as 20GB, not {text!r}")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def check(settings: StorageProviderSettings) -> None:
    """Refuse what nobody would notice later.

    Raises:
        WorkflowError: a name is unknown, or a value is not of its kind.
    """
    known = {setting.name for setting in fields(settings)}
    # Snakemake takes any keyword of `storage.hydra(...)`, of the first call only, and keeps it without a word.
    if unknown := sorted(vars(settings).keys() - known - _SNAKEMAKE_OWN):
        raise WorkflowError(
            f"unknown setting of the hydra storage provider: {', '.join(unknown)} (known: {', '.join(sorted(known))}). "
            "What is true of one file stands behind its URL: storage.hydra(URL + '#sha256=HEX')"
        )
    if settings.on_error not in ON_ERROR:
        raise WorkflowError(
            f"on_error of the hydra storage provider is {' or '.join(ON_ERROR)}, not {settings.on_error!r}"
        )
    for name, least in (("threads", 1), ("max_requests_per_second", 1e-9)):
        value = getattr(settings, name, None)
        if value is not None and not (isinstance(value, int | float) and value >= least):
            raise WorkflowError(f"{name} of the hydra storage provider is a number above 0, not {value!r}")
    _check_texts(settings)
    headers(settings.headers or "")
    size(settings.prefetch or "0")
    try:
        Path(settings.state_dir or "").expanduser()
    except RuntimeError as error:
        raise WorkflowError(f"state_dir of the hydra storage provider: {error}") from error


def _check_texts(settings: StorageProviderSettings) -> None:
    for name in ("headers", "prefetch", "state_dir"):
        value = getattr(settings, name)
        if not isinstance(value, str | None):
            raise WorkflowError(f"{name} of the hydra storage provider is a text, not a {type(value).__name__}")
    for name in _BY_VARIABLE:
        value = getattr(settings, name)
        if isinstance(value, str) and "::" in value:
            variable = _VARIABLE + name.upper()
            raise WorkflowError(
                f"{variable} holds for all tags: give {value!r} by --storage-hydra-{name.replace('_', '-')}"
            )
