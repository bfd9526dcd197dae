"""Run one client, alone or with a reader behind it, and say what all of it took.

    python -I -S measure.py '{"client": [...], "reader": null, "output": null, "log": "...", "timeout": 300}'

A process of its own, and a small one, because Linux counts the memory of whoever starts a program as that program's
peak: the harness itself would be the floor of every figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

# Python ignores these; a client is to find them as a shell would leave them.
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ)


def measure(
    client: list[str], reader: list[str] | None, output: str | None, log: str, timeout: float
) -> dict[str, Any]:
    """Run it to its end.

    Args:
        client: the program by its path, and its arguments.
        reader: what reads the client's standard output; None if it does not stream.
        output: file that the reader's standard output goes to; None for /dev/null.
        log: file for all other output.
        timeout: seconds until all of it is killed.

    Returns:
        Seconds `wall`, `user` and `system` and the bytes `peak` of the largest process: of both programs and of all
        their children that they waited for.  `codes`: their exit codes, the client's last.
    """
    group: list[int] = []
    late: list[int] = []

    def expire(*_: object) -> None:
        late.append(1)
        os.killpg(group[0], signal.SIGKILL)

    signal.signal(signal.SIGALRM, expire)
    start = time.monotonic()
    try:
        _start(group, client, reader, output or os.devnull, log)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        ends = [os.wait4(-group[0], 0) for _ in group]
        wall = time.monotonic() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        if group:
            with contextlib.suppress(ProcessLookupError):  # whatever a program started and left
                os.killpg(group[0], signal.SIGKILL)
    codes = {pid: os.waitstatus_to_exitcode(status) for pid, status, _ in ends}
    usages = [usage for _, _, usage in ends]
    return {
        "wall": wall,
        "user": sum(usage.ru_utime for usage in usages),
        "system": sum(usage.ru_stime for usage in usages),
        "peak": max(usage.ru_maxrss for usage in usages) * 1024,
        "codes": [codes[pid] for pid in group],
        "timed_out": bool(late),
    }


def _start(group: list[int], client: list[str], reader: list[str] | None, output: str, log: str) -> None:
    """Start both in one process group, which the first of them leads."""
    if reader is None:
        group.append(_spawn(client, 0, (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND, 0), log))
        return
    tail, head = os.pipe()
    target = (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    group.append(_spawn(reader, 0, target, log, (os.POSIX_SPAWN_DUP2, tail, 0)))
    os.close(tail)
    group.append(_spawn(client, group[0], (os.POSIX_SPAWN_DUP2, head, 1), log))
    os.close(head)


def _spawn(command: list[str], group: int, output: tuple[Any, ...], log: str, *more: tuple[Any, ...]) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_APPEND, 0),
        output,
        *more,
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=group, setsigdef=_DEFAULT)


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
