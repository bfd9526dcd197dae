"""`python -m tests.fuzz MINUTES [TARGET…]`: each target for so many minutes, two at a time; prints what it did."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS


def main(minutes: float, chosen: list[str]) -> int:
    """1 if anything was found."""
    found = False
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for report in pool.map(fuzz, chosen or list(TARGETS), [60 * minutes] * len(chosen or TARGETS)):
            print(report, flush=True)  # noqa: T201 - for people
            found |= "FOUND" in report
    return int(found)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
