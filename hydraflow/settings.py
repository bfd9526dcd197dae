"""Settings: environment, file and arguments, read once into one frozen object.

Precedence: arguments, then `HYDRAFLOW_*` variables, then a `.env` file named by `HYDRAFLOW_ENV_FILE`, then the defaults
below.  `docs/configuration.md` and `hydraflow --help` are made from this class, and a test keeps them true.

What people write in words (`10m`, `64MB`) is understood by `environment`, with pydantic-settings; that takes as long to
import as all the rest of hydraflow, and is left alone where nobody has written anything.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, TypeVar

from hydraflow.errors import ConfigurationError

__all__ = ["Settings", "load"]

MB = 1_000_000
_PREFIX = "HYDRAFLOW_"
_HINT = "See docs/configuration.md."
T = TypeVar("T")


def _setting(
    default: T,
    meaning: str,
    *,
    unit: str = "",
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    choices: tuple[str, ...] = (),
) -> T:
    bounds = {"unit": unit, "least": least, "above": above, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata={"meaning": meaning, **bounds})


_WIDTH, _MANY = 16, 128


def _seconds(default: float, meaning: str) -> float:
    return _setting(default, meaning, unit="seconds", above=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in seconds.

    Raises:
        ConfigurationError: a value is not of its kind, or out of bounds.
    """

    threads: int | None = _setting(
        None,
        "Most connections used at a time, for one origin; "
        "default: 16, and 32 for files so small that most of the time goes into waiting for answers.",
        least=1,
        most=_MANY,
    )
    aggressive: bool = _setting(
        default=False,
        meaning="Use up to 128 connections, or as many as threads says, as long as more of them pay: "
        "for long lossy paths.",
    )
    output: Path = _setting(Path("download"), "Directory that files are written to.")
    buffer: int | None = _setting(
        None, "Memory for a stream's reorder window; default: threads × 5 MB.", unit="bytes", least=MB
    )
    limit_rate: int | None = _setting(
        None, "Most bytes per second that all transfers receive together.", unit="bytes per second", least=1000
    )
    request_rate: float | None = _setting(
        None,
        "Most requests per second that transfers send to one server; default: as many as it bears.",
        unit="requests per second",
        above=0,
    )
    connect_timeout: float = _seconds(10.0, "Longest wait for a connection, TLS included.")
    read_timeout: float = _seconds(30.0, "Longest silence on a connection before it is given up.")
    first_wait: float = _seconds(
        10.0,
        "How long to go on trying while the server has never answered, in this run or one before; at most max_wait.",
    )
    max_wait: float = _setting(
        900.0,
        "How long to go on trying without a new byte; 0 gives up at the first failure.",
        unit="seconds",
        least=0,
    )
    retry_delay: float = _seconds(0.5, "First pause after a failure; doubles, with full jitter.")
    retry_delay_max: float = _seconds(
        15.0, "Longest pause between two tries; four times that if the server is overloaded."
    )
    verify: str = _setting(
        "auto",
        "auto: by the best digest that can be found; require: fail where there is none; none: only by one of your own.",
        choices=("auto", "require", "none"),
    )
    sync_bytes: int = _setting(64 << 20, "A checkpoint is made at least every so many bytes.", unit="bytes", least=MB)
    sync_interval: float = _seconds(0.5, "A checkpoint is made at least every so many seconds.")
    busy_timeout: float | None = _setting(
        None,
        "Longest wait for another process that fetches the same file; default: while that is alive.",
        unit="seconds",
        least=0,
    )
    open_timeout: float = _seconds(60.0, "Longest wait for a reader to open a named pipe.")
    ca_file: Path | None = _setting(
        None, "Certificates (PEM) to trust besides the usual ones, e.g. an institute's own authority."
    )
    client_cert: Path | None = _setting(
        None, "Certificate (PEM, the key in the same file) to show to servers that ask for one."
    )
    insecure_redirects: bool = _setting(
        default=False,
        meaning="Follow redirects from https to http, where what comes can be read and changed on its way.",
    )
    http2: bool = _setting(
        default=False, meaning="Offer HTTP/2; it is slower than HTTP/1.1, with large files and with many small ones."
    )
    user_agent: str = _setting("", "User-Agent header; default: hydraflow/VERSION.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @property
    def ceiling(self) -> int:
        """Most connections to one origin."""
        return _MANY if self.aggressive and self.threads is None else self.width

    @property
    def crowd(self) -> int:
        """The same while requests are short."""
        return self.ceiling if self.aggressive or self.threads is not None else 2 * self.width

    @property
    def width(self) -> int:
        """Connections that a stream's window is divided among."""
        return self.threads if self.threads is not None else _WIDTH

    @property
    def window(self) -> int:
        """Bytes of the reorder window."""
        return self.buffer if self.buffer is not None else self.width * 5 * MB


#: By annotation: the types that a value may have. An int does for a float; a bool is no number.
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "Path": (Path,),
    "Path | None": (Path, type(None)),
    "bool": (bool,),
    "str": (str,),
}


def _is_plain(field: dataclasses.Field[Any], value: object) -> bool:
    """The value is of the field's type as it is; nothing has to be understood."""
    types = _TYPES[str(field.type)]
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    if not _is_plain(field, value):
        raise ConfigurationError(f"{field.name}: must be {field.type}, not {value!r}", hint=_HINT)
    if field.metadata["choices"] and value not in field.metadata["choices"]:
        choices = ", ".join(field.metadata["choices"])
        raise ConfigurationError(f"{field.name}: must be one of {choices}, not {value!r}", hint=_HINT)
    if isinstance(value, (int, float)):
        least, above, most = (field.metadata[each] for each in ("least", "above", "most"))
        wrong = (
            f"at least {least:,}" if value < least
            else f"more than {above:,}" if value <= above
            else f"at most {most:,}" if value > most
            else "a number" if not math.isfinite(value)
            else ""
        )  # fmt: skip
        if wrong:
            raise ConfigurationError(f"{field.name}: must be {wrong}, not {value!r}", hint=_HINT)


def load(**arguments: Any) -> Settings:
    """Read the settings once; arguments that are None count as not given.

    Raises:
        ConfigurationError: a value is not of its kind, or a name is unknown.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    known = {field.name: field for field in dataclasses.fields(Settings)}
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigurationError(f"there is no setting {unknown[0]!r}", hint=_HINT)
    plain = all(_is_plain(known[name], value) for name, value in given.items())
    if plain and not any(name.upper().startswith(_PREFIX) for name in os.environ):
        return Settings(**given)
    from hydraflow import environment

    return environment.read(Settings, _PREFIX, given)
