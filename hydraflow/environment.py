"""Settings in words: what people write into options, `HYDRAFLOW_*` variables and files."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_type_hints

from pydantic import BeforeValidator, ByteSize, ValidationError, create_model
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hydraflow.errors import ConfigurationError

__all__ = ["read", "seconds"]

_HINT = "See docs/configuration.md."
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_SIZE = re.compile(r"-?[\d.]+\s*[A-Za-z]*")


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Dataclass)


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


def seconds(text: str) -> float:
    """A time as people write it, `90`, `10m` or `7d`, in seconds.

    Raises:
        ValueError: it is none.
    """
    return float(_seconds(text))


def _size(value: Any) -> Any:
    """Nothing may stand behind the unit; pydantic would overlook it."""
    if isinstance(value, str) and not _SIZE.fullmatch(value.strip()):
        raise PydanticCustomError("size", "Input should be a size, such as 5000000, 64MB or 32MiB")
    return value


def _rate(value: Any) -> Any:
    """`2MB/s` is as good as `2MB`."""
    return _size(value.strip().removesuffix("/s") if isinstance(value, str) else value)


_BY_UNIT = {
    "seconds": Annotated[float, BeforeValidator(_seconds)],
    "bytes": Annotated[ByteSize, BeforeValidator(_size)],
    "bytes per second": Annotated[ByteSize, BeforeValidator(_rate)],
}


def _check_file(path: str, prefix: str, known: set[str]) -> None:
    """Nothing in it may go unnoticed; what is not ours in it is nobody's business here, its values least of all."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{prefix}ENV_FILE: cannot read {path}: {reason}") from None
    for number, line in enumerate(lines, 1):
        words = line.strip().removeprefix("export ")
        name, equals, _ = words.partition("=")
        name = name.strip().upper()
        if not words or words.startswith("#") or not (name.startswith(prefix) or not equals):
            continue
        if not equals:
            raise ConfigurationError(f"{path}: line {number} is not NAME=value")
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"Perhaps {close[0]} is meant." if close else _HINT
            raise ConfigurationError(f"{path}: line {number}: there is no setting {name}", hint=hint)


def read(settings: type[T], prefix: str, given: dict[str, Any]) -> T:
    """Settings from arguments, from variables that begin with `prefix`, and from the file that one of them names.

    Args:
        settings: a dataclass; the metadata `unit` of a field may be `seconds` or `bytes`.
        prefix: in capitals; PREFIXENV_FILE names a file of `NAME=value` lines.
        given: arguments, which go before all.

    Raises:
        ConfigurationError: a value is not of its kind, or out of bounds.
    """
    hints = get_type_hints(settings)
    fields = dataclasses.fields(settings)
    types: dict[str, Any] = {field.name: _BY_UNIT.get(field.metadata["unit"], hints[field.name]) for field in fields}

    file = os.environ.get(f"{prefix}ENV_FILE") or None
    if file is not None:
        _check_file(file, prefix, {f"{prefix}{name}".upper() for name in types})

    class Words(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=prefix, env_file=file, env_file_encoding="utf-8", extra="ignore")

    definitions: dict[str, Any] = {name: (kind | None, None) for name, kind in types.items()}
    # What nobody has written is left to the dataclass: None stands for it, and is not asked for by name.
    model = create_model("Settings", __base__=Words, **definitions)
    try:
        words = model(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigurationError(
            f"{_named(name, given, prefix)}: {first['msg']}, not {first.get('input')!r}",
            hint=_HINT,
        ) from None
    values = {name: getattr(words, name) for name in words.model_fields_set}
    try:
        return settings(
            **{name: int(value) if isinstance(value, ByteSize) else value for name, value in values.items()}
        )
    except ConfigurationError as error:
        name, _, rest = str(error).partition(":")
        raise ConfigurationError(f"{_named(name, given, prefix)}:{rest}", hint=error.hint) from None


def _named(name: str, given: dict[str, Any], prefix: str) -> str:
    """As its author knows it: an argument, or a variable."""
    return name if name in given else f"{prefix}{name.upper().removeprefix(prefix)}"
