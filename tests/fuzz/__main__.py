"""`python -m tests.fuzz MINUTES [TARGET…]`: each target for so many minutes, two at a time; prints what it did."""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import DeadlineExceeded

from tests.fuzz.targets import TARGETS

_ROUND = 5_000  # examples, after which it begins anew with another seed


def fuzz(name: str, seconds: float) -> str:
    """One target until the time is over, or something is found."""
    strategy, check = TARGETS[name]
    begun, count = time.monotonic(), 0
    options = settings(
        max_examples=_ROUND,
        database=None,
        deadline=2_000,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    while time.monotonic() - begun < seconds:
        ran = 0

        @options
        @given(strategy)
        def run(value: object) -> None:
            nonlocal ran
            ran += 1
            check(value)

        try:
            run()
        except (Exception, DeadlineExceeded):  # noqa: BLE001 - that is what is looked for
            return f"{name}: FOUND after {count + ran:,} examples\n{traceback.format_exc()}"
        count += ran
    return f"{name}: {count:,} examples in {time.monotonic() - begun:.0f} s, nothing found"


def main(minutes: float, chosen: list[str]) -> int:
    """1 if anything was found."""
    wanted = chosen or list(TARGETS)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pending = [pool.apply_async(fuzz, (name, 60 * minutes)) for name in wanted]
        reports = []
        for each in pending:
            reports.append(each.get())
            print(reports[-1], flush=True)  # noqa: T201 - for people
    return int(any("FOUND" in report for report in reports))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
