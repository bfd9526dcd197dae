"""How to reach a server, kept where everybody's flows find it: a block, and the settings that come from Prefect."""

from __future__ import annotations

import functools
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from prefect.blocks.core import Block
from prefect.settings import get_current_settings
from prefect.settings.base import PrefectBaseSettings, build_settings_config
from prefect.types import SecretDict
from pydantic import Field, HttpUrl, SecretStr, create_model

from hydraflow.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HydraProfile", "aloaded", "loaded", "reveal", "settle"]

_PAGE = "https://github.com/hydraflow-io/hydraflow/blob/main/docs/"
_PLACE = ("integrations", "hydraflow")


class HydraProfile(Block):
    """Credentials for a server, and ceilings for the transfers from it.

    Example:
        ```python
        from hydraflow.prefect import HydraProfile, hydra_fetch

        profile = HydraProfile.load("BLOCK_NAME")
        hydra_fetch("https://example.org/sample.bam", profile=profile)
        ```
    """

    _block_type_name: ClassVar[str] = "Hydra Profile"
    _block_type_slug: ClassVar[str] = "hydra-profile"
    _logo_url: ClassVar[HttpUrl] = HttpUrl(
        "https://raw.githubusercontent.com/hydraflow-io/hydraflow/main/docs/images/logo.png"
    )
    _documentation_url: ClassVar[HttpUrl] = HttpUrl(f"{_PAGE}prefect.md#profiles")
    _description: ClassVar[str] = "Credentials for a server, and ceilings for the transfers from it."

    token: SecretStr | None = Field(default=None, description="Sent as 'Authorization: Bearer TOKEN'.")
    headers: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        description="Added to every request to the URL's own origin, and never sent to another one.",
    )
    threads: int | None = Field(default=None, description="Most connections of a process to one origin.")
    limit_rate: int | str | None = Field(
        default=None, description="Most bytes per second that a process receives, as a number or as '5MB'."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Other settings by their names in docs/configuration.md."
    )

    def fields_to_send(self) -> dict[str, str]:
        """The header fields, secrets in clear."""
        bearer = {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}
        return {**bearer, **self.headers.get_secret_value()}

    def values(self) -> dict[str, Any]:
        """The settings that it has an opinion on."""
        own = {"threads": self.threads, "limit_rate": self.limit_rate}
        return {**self.settings, **{name: value for name, value in own.items() if value is not None}}


def loaded(profile: HydraProfile | str | None) -> HydraProfile | None:
    """The profile itself, which may be known by its name."""
    if not isinstance(profile, str):
        return profile
    load_now: Any = HydraProfile.load  # its type does not know that it can be asked not to await
    return cast("HydraProfile", load_now(profile, _sync=True))


async def aloaded(profile: HydraProfile | str | None) -> HydraProfile | None:
    """The same for async callers."""
    return await HydraProfile.aload(profile) if isinstance(profile, str) else profile


def settle(
    profile: HydraProfile | None, headers: Mapping[str, str] | None, given: Mapping[str, Any] | None
) -> tuple[dict[str, str], Settings]:
    """Header fields and settings that hold: arguments before the block, then Prefect's settings, then `HYDRAFLOW_*`.

    Raises:
        ConfigurationError: a setting is unknown or wrong.
    """
    block = {} if profile is None else profile.fields_to_send()
    values = {} if profile is None else profile.values()
    return _merged(block, headers or {}), load(**{**_of_prefect(), **values, **(given or {})})


def _merged(block: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Field names are the same in any case."""
    own = {name.lower() for name in given}
    return {**{name: value for name, value in block.items() if name.lower() not in own}, **given}


def _of_prefect() -> dict[str, Any]:
    """`PREFECT_INTEGRATIONS_HYDRAFLOW_*`, and `[integrations.hydraflow]` of `prefect.toml` and Prefect's profiles."""
    prefix = f"PREFECT_{'_'.join(_PLACE)}_".upper()
    here = tuple(sorted((name, value) for name, value in os.environ.items() if name.upper().startswith(prefix)))
    return _read(here, Path.cwd(), get_current_settings().profiles_path)


@functools.lru_cache(maxsize=8)
def _read(_variables: object, _directory: Path, _profiles: Path) -> dict[str, Any]:
    """Looking into all these files takes longer than a small fetch; nobody changes them under a running process."""
    names: dict[str, Any] = {field.name: (Any, None) for field in fields(Settings)}
    model = create_model("HydraflowSettings", __base__=_OfPrefect, **names)
    return {name: value for name, value in model().model_dump().items() if value is not None}


class _OfPrefect(PrefectBaseSettings):
    model_config = build_settings_config(_PLACE)


def reveal(url: str | SecretStr) -> str:
    """The URL itself."""
    return url.get_secret_value() if isinstance(url, SecretStr) else url
