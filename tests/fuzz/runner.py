"""One target for a while, in a process of its own."""

from __future__ import annotations

import time
import traceback

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.targets import TARGETS

__all__ = ["fuzz"]

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
        except Exception:  # noqa: BLE001 - that is what is looked for
            return f"{name}: FOUND after {count + ran:,} examples\n{traceback.format_exc()}"
        count += ran
    return f"{name}: {count:,} examples in {time.monotonic() - begun:.0f} s, nothing found"
