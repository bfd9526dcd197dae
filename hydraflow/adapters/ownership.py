"""Who works on a destination: one process at a time, on whatever file system, and until it ends, however it ends.

The file `lock` in the state directory names its owner::

    {"token": random, "host": name, "kernel": boot and process namespace, "pid": 4711, "start": ticks, "url": hash}

It is made with `O_EXCL`: of all who try, one succeeds, also where flock(2) is missing or lies (on Lustre and old NFS
everybody may get the lock).  The owner touches it every `BEAT` seconds, looks whether it is still its own before every
step that others could see, and removes it at the end.  One that was left behind is moved aside by whoever comes next::

    its process was on this machine, and has ended    at once
    any other, flock held                             never: where flock says "held", it tells the truth
    other machine, container or boot, flock free      after `SILENCE` seconds without a touch that somebody watched,
                                                      or at once if the last touch is ten times as long ago

Moving aside is a rename, which one process gets done.  An owner that was only thought dead (its machine slept) sees
before its next write that it is one no longer; what it may still do in between harms nobody, see `store`.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydraflow.adapters.files import NOFOLLOW

__all__ = ["BEAT", "SILENCE", "Owner", "Ownership", "evict", "look"]

#: Seconds between two touches of the record.
BEAT = 5.0
#: Seconds without a touch, watched by somebody, after which an owner elsewhere counts as dead.
SILENCE = 60.0
#: Seconds after a touch in which an owner need not look whether it is one still.
_LEASE = 20.0
#: Seconds in which a record that is made gets its content.
_TORN = 5.0
#: Bytes that are read of a record.
_MOST = 4096
_LOCK, _ASIDE = "lock", "stale-"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps

#: Tokens of this process's own records: with another one, its process number is a remnant.
_ours: set[str] = set()


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody else who works on the destination.

    Attributes:
        record: the content of the lock file.
        touched: its modification time, in nanoseconds.
        certain: it is alive; otherwise that is only likely, since it is elsewhere and has touched its record lately.
    """

    record: bytes
    touched: int
    certain: bool

    def wants(self, url: str) -> bool:
        """It fetches this URL too, as far as can be told."""
        fields = _parse(self.record)
        return fields is None or fields["url"] == _hash(url)

    def __str__(self) -> str:
        fields = _parse(self.record)
        if fields is None:
            return "another process"
        # Whoever may write to the directory may have written it: it goes to a terminal.
        host = "".join(char if char.isprintable() else "_" for char in fields["host"][:64])
        return f"another process ({fields['pid']} on {host})"


class Ownership:
    """One caller's claim to a state directory. Its methods raise `OSError`.

    Args:
        url: canonical; others see only its hash.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._token = ""
        self._record = b""
        self._directory = self._fd = -1
        self._sure_until = 0.0
        self._turn = threading.Lock()  # the heart beats in a thread of its own

    def acquire(self, directory: int) -> Owner | None:
        """Become the owner of the directory with this descriptor; otherwise tell who is.

        Raises:
            FileNotFoundError: the directory was removed.
        """
        while not self._create(directory):
            owner, record = look(directory)
            if owner is not None:
                return owner
            if record is not None:
                evict(directory, record)
        return None

    def _create(self, directory: int) -> bool:
        try:
            fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600, dir_fd=directory)
        except FileExistsError:
            return False
        token = secrets.token_hex(8)
        _ours.add(token)  # before others can read it
        try:
            # First the lock, then the record: who reads it can rely on the lock, if there are locks here.
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._record = _encode(token, self._url)
            os.write(fd, self._record)
        except BaseException:
            _ours.discard(token)
            with suppress(OSError):
                os.unlink(_LOCK, dir_fd=directory)
            os.close(fd)
            raise
        self._token, self._directory, self._fd = token, directory, fd
        self._sure_until = _now() + _LEASE
        return True

    def holds(self) -> bool:
        """It is still ours; costs nothing in the first seconds after a touch."""
        return self._fd >= 0 and (_now() < self._sure_until or self.beat())

    def confirm(self) -> bool:
        """It is still ours: looked up on the disk."""
        if self._fd < 0 or _content(self._directory, _LOCK) != self._record:
            self._sure_until = 0.0
            return False
        return True

    def beat(self) -> bool:
        """Show that we are alive, and look whether it is still ours."""
        with self._turn:
            if self._fd < 0:
                return False
            begun = _now()
            try:
                os.utime(self._fd)
                until = begun + _LEASE
            except OSError:
                until = 0.0  # nobody has seen it: look again each time
            if held := self.confirm():
                self._sure_until = until
            return held

    def release(self) -> None:
        """Give it up. Nothing happens if it is not ours."""
        try:
            if self.holds():
                os.unlink(_LOCK, dir_fd=self._directory)
        finally:
            self.forget()

    def forget(self) -> None:
        """Close what is open. The record stays if it is there, and speaks of nobody."""
        with self._turn:
            fd, self._fd, self._directory = self._fd, -1, -1
            _ours.discard(self._token)
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)


def look(directory: int) -> tuple[Owner | None, bytes | None]:
    """Who owns a state directory, if somebody is alive; and the record, if there is one.

    Raises:
        OSError: it cannot be told.
    """
    fd = _open(directory, _LOCK)
    if fd < 0:
        return None, None
    try:
        record, touched = os.read(fd, _MOST), os.fstat(fd).st_mtime_ns
        alive, certain = _judge(record, abs(time.time() - touched / 1e9), fd)
    finally:
        os.close(fd)
    return Owner(record, touched, certain) if alive else None, record


def _judge(record: bytes, age: float, fd: int) -> tuple[bool, bool]:
    """Whether the owner is alive, and whether that is certain."""
    fields = _parse(record)
    if fields is not None and fields["kernel"] == _kernel():
        return (_running(fields),) * 2
    if fields is None and age < _TORN:
        return True, False
    held = _is_held(fd)
    return held or (fields is not None and age < 10 * SILENCE), held


def evict(directory: int, record: bytes) -> None:
    """Move the record of somebody who is dead aside, unless it is another one by now."""
    if _content(directory, _LOCK) != record:
        return  # somebody else was faster
    aside = _ASIDE + secrets.token_hex(4)
    try:
        os.rename(_LOCK, aside, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        return
    if _content(directory, aside) != record:
        # Faster still: this is a living one's. Should that not work, its owner will notice, and wait.
        with suppress(OSError):
            os.link(aside, _LOCK, src_dir_fd=directory, dst_dir_fd=directory)
    os.unlink(aside, dir_fd=directory)


def _open(directory: int, name: str) -> int:
    """Open a record, anew each time, since NFS answers from its cache otherwise; -1 if there is none."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return -1


def _content(directory: int, name: str) -> bytes | None:
    fd = _open(directory, name)
    if fd < 0:
        return None
    try:
        return os.read(fd, _MOST)
    finally:
        os.close(fd)


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who ask do not see each other
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here
    return False


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _encode(token: str, url: str) -> bytes:
    return json.dumps({"token": token, **_process(os.getpid()), "url": _hash(url)}).encode()


@functools.lru_cache(1)
def _process(pid: int) -> dict[str, Any]:
    """What tells this process from all others."""
    return {"host": os.uname().nodename, "kernel": _kernel(), "pid": pid, "start": _start(pid)}


def _parse(record: bytes) -> dict[str, Any] | None:
    """The fields of a record; None if it is torn, or none of ours."""
    try:
        fields = json.loads(record)
        texts = all(type(fields[name]) is str for name in ("token", "host", "kernel", "start", "url"))
        return fields if texts and type(fields["pid"]) is int and 0 < fields["pid"] < 1 << 31 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _now() -> float:
    return time.clock_gettime(_CLOCK)


@functools.cache
def _kernel() -> str:
    """What processes must share to know each other by number: one boot of one machine, one process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.uname().nodename


def _running(fields: dict[str, Any]) -> bool:
    """The process that wrote a record on this machine has not ended."""
    pid = fields["pid"]
    if pid == os.getpid():
        return fields["token"] in _ours
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    start = _start(pid)
    return start == fields["start"] or not start or not fields["start"]


def _start(pid: int) -> str:
    """When a process began, in ticks since the boot: numbers are used again, pairs of both are not."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "ended" if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        return ""
