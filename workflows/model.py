"""Fetch a model in safetensors files, verified, and load it.

    python workflows/model.py https://huggingface.co/ORG/MODEL/resolve/main/model.safetensors --dest models/MODEL

Several URLs may be given, for a model in parts.  A hub publishes the digest of each file, and it is looked up; or write
`#sha256=HEX` behind the URL.  A private model needs a token, kept in a block: `HydraProfile(token=…).save("hub")`, and
then `--profile hub`.  Files that are there already are checked, and not fetched again.
"""

import argparse

import numpy as np
from prefect import flow, task
from safetensors import safe_open

from hydraflow.prefect import FetchedFile, hydra_fetch_many


# What is loaded stays in the process: a result of Prefect's would be a copy of the model on disk.
@task(persist_result=False)
def load(file: FetchedFile) -> dict[str, np.ndarray]:
    """The tensors of one file."""
    # safetensors holds data only, so even a wrong file could run no code; a verified one is what its author made.
    with safe_open(file, framework="numpy") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 - it is no dict


@flow
def model(urls: list[str], dest: str, profile: str | None = None) -> dict[str, np.ndarray]:
    """Fetch all parts as one task with one progress bar, and load them."""
    files = hydra_fetch_many(urls, dest, profile=profile)
    tensors: dict[str, np.ndarray] = {}
    for part in load.map(files).result():
        tensors |= part
    for file in files:
        print(f"{file.path}: {file.size:,} bytes, {file.proof}")
    return tensors


def main() -> None:
    """Read the command line, and say what was loaded."""
    parser = argparse.ArgumentParser(description="Fetch a model in safetensors files, verified, and load it.")
    parser.add_argument("urls", nargs="+", metavar="URL", help="of the .safetensors files")
    parser.add_argument("--dest", default="models", metavar="DIR", help="directory for the files (default: models)")
    parser.add_argument("--profile", metavar="NAME", help="a saved HydraProfile, for private models")
    options = parser.parse_args()
    tensors = model(options.urls, options.dest, options.profile)
    print(f"tensors: {len(tensors)}, parameters: {sum(tensor.size for tensor in tensors.values()):,}")


if __name__ == "__main__":
    main()
