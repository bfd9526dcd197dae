"""A mirror that is brought up to date every night: see prefect.yaml beside this file.

What has not changed is not fetched again; what has changed replaces the old file only once it is whole and verified, so
that whoever reads the mirror never meets half a file.
"""

from pathlib import Path

from prefect import flow, task

from hydraflow.errors import DestinationExistsError
from hydraflow.prefect import FetchedFile, hydra_fetch, read_manifest, worth_another_try


@task(
    retries=5,
    retry_delay_seconds=60,
    retry_condition_fn=worth_another_try,
    timeout_seconds=6 * 3600,
)
def refresh(url: str, directory: str) -> FetchedFile:
    """The file as it is now at `url`."""
    # `.fn` is the transfer without a task run of its own: this task is the one that shows.
    try:
        return hydra_fetch.fn(url, f"{directory}/")
    except DestinationExistsError:  # what is there is not what the server has now
        return hydra_fetch.fn(url, f"{directory}/", overwrite=True)


@flow(log_prints=True)
def mirror(manifest: str, directory: str) -> int:
    """Bring all files of the manifest up to date; gives the number of those that were fetched."""
    files = refresh.map(read_manifest(Path(manifest)), directory).result()
    fetched = [file for file in files if file.bytes_from_network]
    print(f"{len(fetched)} of {len(files)} files are new, {sum(file.size for file in files):,} bytes in all")
    return len(fetched)
