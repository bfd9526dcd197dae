"""What the figures were taken on, and whether anybody else was at work there."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

__all__ = ["busy", "facts", "load", "memory_free"]

_STAT = Path("/proc/stat")


def facts() -> dict[str, str]:
    """The machine and the interpreter, for people."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages * page / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def load() -> float:
    """The load average of the last minute. It remembers our own last round."""
    return os.getloadavg()[0]


def busy(seconds: float = 1.0) -> float:
    """Share of all cores' time that is in use now, measured over so many seconds."""
    before = _ticks()
    time.sleep(seconds)
    idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    return max(0.0, 1 - idle / total) if total else 0.0


def memory_free() -> int:
    """Bytes that can be used without swapping."""
    available = _field(Path("/proc/meminfo"), "MemAvailable")
    return int(available.split()[0]) * 1024 if available else 0


def _ticks() -> tuple[int, int]:
    """Idle time, and all time, of all cores since the start (proc_stat(5))."""
    _, user, nice, system, idle, iowait, *interrupts = _STAT.read_text().splitlines()[0].split()[:9]
    spare = int(idle) + int(iowait)
    return spare, spare + sum(map(int, (user, nice, system, *interrupts)))


def _field(path: Path, name: str) -> str:
    """The first value of a `name : value` line."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
