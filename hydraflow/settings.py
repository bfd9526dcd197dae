"""Settings: environment, file and arguments, read once into one frozen object.

Precedence: arguments, then `HYDRAFLOW_*` variables, then a `.env` file named by `HYDRAFLOW_ENV_FILE`, then the defaults
below.  `docs/configuration.md` and `hydraflow --help` are made from this class, and a test keeps them true.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hydraflow.errors import ConfigurationError

__all__ = ["Settings", "load"]

MB = 1_000_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


def _seconds(value: Any) -> Any:
    """`90s`, `10m` and `1h30m` in seconds; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    text = "".join(value.lower().split())
    if _TIME.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
    try:
        return float(text)
    except ValueError:
        raise PydanticCustomError("time", "Input should be a time, such as 90, 10m or 2h") from None


_Time = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False)]
_Seconds = Annotated[_Time, Field(gt=0)]


class Settings(BaseSettings):
    """Everything that can be set.

    Sizes in bytes (`40MB` and `32MiB` are understood), times in seconds (`10m` and `1h30m` are understood).
    """

    model_config = SettingsConfigDict(env_prefix="HYDRAFLOW_", frozen=True, extra="forbid")

    threads: Annotated[int, Field(ge=1, le=128)] = Field(
        default=8, description="Most connections used at a time, for one origin."
    )
    output: Path = Field(default=Path("download"), description="Directory that files are written to.")
    buffer: ByteSize | None = Field(
        default=None, ge=MB, description="Memory for a stream's reorder window; default: threads × 5 MB."
    )
    connect_timeout: _Seconds = Field(default=10.0, description="Longest wait for a connection, TLS included.")
    read_timeout: _Seconds = Field(default=30.0, description="Longest silence on a connection before it is given up.")
    first_wait: _Seconds = Field(
        default=10.0, description="How long to go on trying while the server has never answered; at most max_wait."
    )
    max_wait: Annotated[_Time, Field(ge=0)] = Field(
        default=900.0, description="How long to go on trying without a new byte; 0 gives up at the first failure."
    )
    retry_delay: _Seconds = Field(default=0.5, description="First pause after a failure; doubles, with full jitter.")
    retry_delay_max: _Seconds = Field(
        default=15.0, description="Longest pause between two tries; four times that if the server is overloaded."
    )
    sync_bytes: ByteSize = Field(
        default=ByteSize(64 << 20), ge=MB, description="A checkpoint is made at least every so many bytes."
    )
    sync_interval: _Seconds = Field(default=0.5, description="A checkpoint is made at least every so many seconds.")
    open_timeout: _Seconds = Field(default=60.0, description="Longest wait for a reader to open a named pipe.")
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) to trust besides the usual ones, e.g. an institute's own authority.",
    )
    client_cert: Path | None = Field(
        default=None, description="Certificate (PEM, the key in the same file) to show to servers that ask for one."
    )
    http2: bool = Field(default=False, description="Offer HTTP/2: good for many small files, slow for large ones.")
    user_agent: str = Field(default="", description="User-Agent header; default: hydraflow/VERSION.")

    @property
    def window(self) -> int:
        """Bytes of the reorder window."""
        return int(self.buffer) if self.buffer is not None else self.threads * 5 * MB


def load(**arguments: Any) -> Settings:
    """Read the settings once; arguments that are None count as not given.

    Raises:
        ConfigurationError: a value is not of its kind, or a name is unknown.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return Settings(_env_file=os.environ.get("HYDRAFLOW_ENV_FILE"), **given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        origin = name if name in given else f"HYDRAFLOW_{name.upper()}"
        raise ConfigurationError(
            f"{origin}: {first['msg']}, not {first.get('input')!r}", hint="See docs/configuration.md."
        ) from None
