"""Settings of the storage provider: `--storage-hydra-*` options, or arguments of `storage.hydra(...)`."""

# No `from __future__ import annotations`: Snakemake reads the types of the fields at run time.

from dataclasses import dataclass, field, fields

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase  # type: ignore[import-untyped]

__all__ = ["ON_ERROR", "StorageProviderSettings", "check"]

#: What a retrieval that failed brings down with it.
ON_ERROR = ("job", "abort")
#: Snakemake puts these arguments of `storage.hydra(...)` beside the settings.
_SNAKEMAKE_OWN = {"keep_local", "retrieve"}


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
    state_dir: str | None = field(
        default=None,
        metadata={
            "help": "Directory of unfinished retrievals, which later runs go on from; best on the file system of the "
            "local storage prefix. Default: .hydra in the local storage prefix.",
            "type": str,
            "metavar": "DIR",
        },
    )
    on_error: str = field(
        default="job",
        metadata={
            "help": "What a retrieval that failed ends: 'job', only the jobs that need the file (so that retries and "
            "--keep-going work), or 'abort', the whole workflow.",
            "type": str,
            "metavar": "|".join(ON_ERROR),
        },
    )


def check(settings: StorageProviderSettings) -> None:
    """Refuse what nobody would notice later.

    Raises:
        WorkflowError: a name is unknown, or `on_error` is none of `ON_ERROR`.
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
