"""Check sequencing reads: fetch the FASTQ files of a manifest, verified, and count their reads and bases.

    python workflows/reads.py samples.tsv --dest data
    python workflows/reads.py samples.tsv --stream          # nothing on disk
    python workflows/reads.py samples.tsv --runner dask     # in two processes; also: ray

The manifest has a line for each file, `URL MD5`; or it is a table with columns `url` and `md5`; or the file report that
the European Nucleotide Archive gives for a study.  Whatever ends this flow, run it again: it goes on from there.
"""

import argparse
import subprocess
from typing import Any

from prefect import flow, task

from hydraflow.prefect import FetchedFile, hydra_fetch, hydra_pipe, read_manifest

# Four lines are a read, of which the second has its bases.
COUNT = "gzip -dc | awk 'NR % 4 == 2 {reads++; bases += length} END {print reads + 0, bases + 0}'"


@task
def count(file: FetchedFile) -> str:
    """Count with the tools of the shell; nothing is unpacked to disk, or held in memory."""
    with file.path.open("rb") as reads:
        done = subprocess.run(["bash", "-o", "pipefail", "-c", COUNT], stdin=reads, check=True, capture_output=True)
    return done.stdout.decode()


@flow
def keep(manifest: str, dest: str) -> dict[str, str]:
    """Fetch all files to `dest`, and count each as soon as it is there."""
    urls = read_manifest(manifest)
    files = hydra_fetch.map(urls, f"{dest}/")
    counts = count.map(files)
    return {file.path.name: counted for file, counted in zip(files.result(), counts.result(), strict=True)}


@flow
def stream(manifest: str) -> dict[str, str]:
    """Count while the files come.  `awk` prints at the end of its input, which it sees only if that was right."""
    urls = read_manifest(manifest)
    names = [url.partition("#")[0].rpartition("/")[2] for url in urls]
    return {name: piped.stdout for name, piped in zip(names, hydra_pipe.map(urls, COUNT).result(), strict=True)}


def runner(name: str) -> Any:
    """Where the tasks run: in threads of this process, or in several processes or machines."""
    if name == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        return DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 8, "dashboard_address": None})
    if name == "ray":
        from prefect_ray.task_runners import RayTaskRunner

        return RayTaskRunner(init_kwargs={"num_cpus": 2})
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=32)


def main() -> None:
    """Read the command line, and print a line for each file."""
    parser = argparse.ArgumentParser(description="Fetch FASTQ files, verified, and count their reads and bases.")
    parser.add_argument("manifest", help="a file: URL and MD5 in each line, or a table")
    parser.add_argument("--dest", default="data", metavar="DIR", help="directory for the files (default: data)")
    parser.add_argument("--stream", action="store_true", help="write nothing to disk")
    parser.add_argument("--runner", choices=("threads", "dask", "ray"), default="threads", help="where tasks run")
    options = parser.parse_args()
    chosen = runner(options.runner)
    if options.stream:
        counts = stream.with_options(task_runner=chosen)(options.manifest)
    else:
        counts = keep.with_options(task_runner=chosen)(options.manifest, options.dest)
    for name, counted in counts.items():
        reads, bases = counted.split()
        print(f"{name}: {int(reads):,} reads, {int(bases):,} bases")


if __name__ == "__main__":
    main()
