"""Fetch a gzip-compressed FASTA file, and count its records: a first Prefect flow with hydraflow.

    python workflows/count_records.py 'https://example.org/genome.fa.gz#sha256=…' [--dest DIR]

Behind the `#` stands what the file must be; without it, the digest that the server announces is checked, if any.
Run it twice: the second time the file is there, is checked, and is not fetched again.  Interrupt it: the next run goes
on from where this one ended.
"""

import argparse
import subprocess

from prefect import flow, task

from hydraflow.prefect import FetchedFile, hydra_fetch

# pipefail: a broken gzip file is an error, and not a smaller number.
# grep ends with 1 if it found nothing: that is a count of 0, and no error.
COUNT = """set -o pipefail; gzip -dc -- "$1" | { grep -c '^>' || test $? = 1; }"""


# Tasks and flows are ordinary functions; Prefect logs each run, can retry it, and shows it in its UI.
@task
def count(file: FetchedFile) -> int:
    """Count the `>` lines with the tools of the shell: nothing is unpacked to disk, or held in memory."""
    # A fetched file is a path for everything that takes one.
    done = subprocess.run(["bash", "-c", COUNT, "count", file], check=True, stdout=subprocess.PIPE)
    return int(done.stdout)


@flow
def count_records(url: str, dest: str | None = None) -> int:
    """Fetch the file, count its records, and say what the count rests on."""
    # A task too: it resumes, retries what may pass, and returns only what is whole and verified.
    file = hydra_fetch(url, dest)
    records = count(file)
    print(f"path: {file.path}")
    print(f"size: {file.size:,} bytes, {file.outcome}")
    print(f"proof: {file.proof}")
    print(f"records: {records}")
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch a gzip-compressed FASTA file and count its records.")
    parser.add_argument("url", help="http or https, with #sha256=HEX behind it if you know it")
    parser.add_argument("--dest", metavar="DIR", help="directory for the file (default: download)")
    options = parser.parse_args()
    # The slash says that it is a directory, even if it is not there yet.
    count_records(options.url, options.dest and f"{options.dest}/")
