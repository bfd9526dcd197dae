"""Snakemake finds storage plugins by the names of their packages; this one's code is in `hydraflow.snakemake`."""

from hydraflow.snakemake.provider import StorageObject, StorageProvider, StorageProviderSettings

__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings"]
