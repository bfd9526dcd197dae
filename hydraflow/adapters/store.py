"""A destination on disk: ownership, part file, journal, atomic commit.

For `/d/x.bam` the state lies in `/d/.x.bam.hydra/` (mode 0700)::

    lock           held by flock(2) while a process works on the destination
    journal        what is durable, see core/journal.py
    part-1f2e3d4c  the bytes; its name stands in the journal

The order of a checkpoint is: sync the part, append to the journal, sync the journal.  So the journal never claims
a byte that a power cut could take away.  The order of a commit is: sync the part, give it the final name, sync the
directory, drop the state.  What fsync(2) cannot promise (a drive that lies about its cache) nobody can promise here.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

from hydraflow.core import journal
from hydraflow.core.journal import Identity
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DestinationBusyError, DestinationExistsError, DiskFullError, StorageError
from hydraflow.models import Claim, Validator

__all__ = ["Store", "timestamp"]

_LOCK, _JOURNAL, _PART = "lock", "journal", "part-"
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC


class Store:
    """One destination. Every method may raise `StorageError`; all but `write` may block for long.

    Args:
        path: the final name.
        url: canonical URL, without credentials; state of another URL is not taken over.
        overwrite: an existing regular file may be replaced at the commit.
    """

    def __init__(self, path: Path, url: str, *, overwrite: bool = False) -> None:
        self.path = path
        self.state = path.parent / f".{path.name}.hydra"
        self._url = url
        self._overwrite = overwrite
        self._dir = self._lock = self._part = self._journal = -1
        self._part_name = ""
        self._recorded = RangeSet()
        self._owned = self._cleared = self._anchored = False
        self._broken: StorageError | None = None

    # ── ownership ────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self) -> None:
        """Make the state directory and become its owner.

        Raises:
            DestinationBusyError: another process is its owner.
        """
        with _wrap(f"cannot prepare {self.state}"):
            _make_directories(self.path.parent)
            while not self._try_claim():
                self._close("_lock", "_dir")

    def _try_claim(self) -> bool:
        """Take the lock; False if its owner has just removed it, which makes ours worthless."""
        with contextlib.suppress(FileExistsError):
            self.state.mkdir(mode=0o700)
        try:
            self._dir = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
            if os.fstat(self._dir).st_uid != os.geteuid():
                hint = "Remove it, or choose another --output."
                raise StorageError(f"{self.state} belongs to another user", hint=hint)
            self._lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | _NOFOLLOW, 0o600, dir_fd=self._dir)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removes the state does so while holding its lock: a lock file that is still there is *the* lock.
            named = os.stat(self.state / _LOCK, follow_symlinks=False)
        except BlockingIOError:
            raise DestinationBusyError(f"another process is writing {self.path}") from None
        except FileNotFoundError:
            return False
        self._owned = os.path.samestat(named, os.fstat(self._lock))
        return self._owned

    # ── what an earlier run left ─────────────────────────────────────────────────────────────────────────────────────

    def replay(self) -> tuple[Identity | None, RangeSet]:
        """Read the journal; state that is torn, foreign or of another URL counts as none."""
        with _wrap(f"cannot read the checkpoint in {self.state}"):
            self._journal = self._open_regular(_JOURNAL)
            if self._journal < 0:
                return None, RangeSet()
            with os.fdopen(self._journal, "rb", closefd=False) as file:
                found = journal.replay(file.read())
            identity = found.identity
            # A part without one durable byte is of no use, and a new one gets a journal that is true of it.
            useful = identity is not None and identity.url == self._url and bool(found.durable)
            if identity is None or not useful or not self._adopt(identity, found.durable):
                self._close("_journal")
                return None, RangeSet()
            os.ftruncate(self._journal, found.valid_length)
            os.lseek(self._journal, 0, os.SEEK_END)
            self._recorded = found.durable.copy()
            return identity, found.durable

    def _open_regular(self, name: str) -> int:
        """Open a file of the state directory; -1 if there is none, or something that is not ours."""
        try:
            # Non-blocking, because a named pipe may lie there.
            fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | _NOFOLLOW, dir_fd=self._dir)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR):
                return -1
            raise
        ours = False
        try:
            facts = os.fstat(fd)
            ours = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
        finally:
            if not ours:
                os.close(fd)
        return fd if ours else -1

    def _adopt(self, identity: Identity, durable: RangeSet) -> bool:
        """Open the part that the journal speaks of, if it can hold what is claimed."""
        fd = self._open_regular(identity.part) if identity.part.startswith(_PART) else -1
        if fd < 0:
            return False
        self._part, self._part_name = fd, identity.part
        self._anchored = True
        if os.fstat(fd).st_size < max((piece.stop for piece in durable), default=0):
            self._close("_part")
            return False
        return True

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def claimed(self) -> bool:
        """The state directory is open, and must be closed."""
        return self._dir >= 0

    @property
    def resumable(self) -> bool:
        """There is something on disk that a later run can go on from."""
        return self._journal >= 0 and bool(self._recorded)

    def prepare(self, size: int | None, validator: Validator, claims: tuple[Claim, ...]) -> None:
        """Make a new part file, and a journal for it if the size is known; a part taken over stays.

        Raises:
            DiskFullError: there is not enough space for `size` bytes.
        """
        with _wrap(f"cannot write to {self.state}"):
            if self._part < 0:
                self._create(size, validator, claims)
            if size is not None:
                self._check_space(size)

    def _create(self, size: int | None, validator: Validator, claims: tuple[Claim, ...]) -> None:
        self.reset()  # leftovers that could not be adopted
        self._part_name = f"{_PART}{secrets.token_hex(4)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
        self._part = os.open(self._part_name, flags, 0o666, dir_fd=self._dir)
        if size is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | _NOFOLLOW
            self._journal = os.open(_JOURNAL, flags, 0o600, dir_fd=self._dir)
            identity = Identity(url=self._url, size=size, validator=validator, claims=claims, part=self._part_name)
            _write_all(self._journal, journal.encode_header() + journal.encode_resource(identity))

    def _check_space(self, size: int) -> None:
        space = os.fstatvfs(self._part)
        free = space.f_bavail * space.f_frsize + os.fstat(self._part).st_blocks * 512
        if size > free:
            raise DiskFullError(f"not enough space for {self.path}: {size:,} bytes needed, {free:,} free")

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at their place in the part file."""
        try:
            while data:
                written = os.pwrite(self._part, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise StorageError.wrap(error, f"cannot write {self.path}") from error

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read bytes of the part file back, for the digest."""
        return os.preadv(self._part, [view], offset)

    def sync(self, received: RangeSet) -> None:
        """Make a checkpoint of what has been written."""
        if self._journal < 0:
            return
        self._check()
        new = received.minus(self._recorded)
        if not new:
            return
        try:
            with _wrap(f"cannot make a checkpoint in {self.state}"):
                os.fdatasync(self._part)
                self._anchor()
                _write_all(self._journal, journal.encode_durable(new))
                os.fdatasync(self._journal)
        except StorageError as error:
            self._broken = error
            raise
        self._recorded = received.copy()

    def _check(self) -> None:
        """After a failed sync the next one may succeed though bytes are lost: nothing is claimed any more."""
        if self._broken is not None:
            raise self._broken

    def _anchor(self) -> None:
        """Before the first checkpoint: make the names durable under which its bytes will be looked for."""
        if not self._anchored:
            os.fsync(self._dir)
            _sync_directory(self.path.parent)
            self._anchored = True

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, size: int, last_modified: str | None) -> None:
        """Give the part its final name. Afterwards the state is gone.

        Raises:
            DestinationExistsError: something has appeared at the final name in the meantime.
        """
        self._check()
        with _wrap(f"cannot finish {self.path}"):
            os.ftruncate(self._part, size)
            moment = timestamp(last_modified)
            if moment is not None:
                with contextlib.suppress(OSError):  # not every file system can do it, and the bytes are right
                    os.utime(self._part, (moment, moment))
            os.fsync(self._part)
            self._publish()
            _sync_directory(self.path.parent)
        self._remove_state()

    def _publish(self) -> None:
        if self._overwrite and not self.path.is_dir():
            os.rename(self._part_name, self.path, src_dir_fd=self._dir)
            return
        try:
            # Unlike rename(2), link(2) never replaces what is there. The old name goes with the state, once the new one
            # is durable: a power cut must not find neither.
            os.link(self._part_name, self.path, src_dir_fd=self._dir, follow_symlinks=False)
        except FileExistsError:
            raise DestinationExistsError(f"{self.path} exists already") from None
        except OSError:
            # No hard links here: the check and the rename are two steps.
            if os.path.lexists(self.path):
                raise DestinationExistsError(f"{self.path} exists already") from None
            os.rename(self._part_name, self.path, src_dir_fd=self._dir)

    def reset(self) -> None:
        """Throw away every byte, and go on owning the destination."""
        with _wrap(f"cannot clear {self.state}"):
            self._close("_part", "_journal")
            self._recorded = RangeSet()
            self._clear()
            self._cleared, self._anchored = True, False

    def _clear(self) -> None:
        for name in os.listdir(self._dir):
            if name == _JOURNAL or name.startswith(_PART):
                os.unlink(name, dir_fd=self._dir)

    def discard(self) -> None:
        """Remove the state: nothing of it is worth keeping."""
        if self._owned:
            self.reset()
            self._remove_state()

    def sweep(self) -> None:
        """Remove state that holds no bytes but those at the final name: what a kill in the midst of a commit leaves."""
        try:
            final = self.path.stat().st_ino
            if all(part.lstat().st_ino == final for part in self.state.glob(f"{_PART}*")) and self.state.is_dir():
                self.claim()
                self.discard()
        except OSError:
            return  # somebody works on it, or there is nothing
        finally:
            self.close()

    def close(self) -> None:
        """Give up ownership. State without a checkpoint is removed; the rest waits for a later run."""
        # What was there before and has not been looked at yet, or is of another URL, may be worth much.
        if self._owned and not self.resumable and (self._cleared or not os.path.lexists(self.state / _JOURNAL)):
            with contextlib.suppress(StorageError):
                self.discard()
        if self._owned:
            with contextlib.suppress(OSError):
                # Closing would not do: a child of a fork shares the lock.
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        elif self._dir >= 0:
            with contextlib.suppress(OSError):
                self.state.rmdir()  # empty: it was made in vain
        self._release()

    def _remove_state(self) -> None:
        """The lock goes last but one, and while it is held: see `_try_claim`."""
        # Closed first: NFS keeps what is removed while it is open, and the directory with it.
        self._close("_part", "_journal")
        with contextlib.suppress(OSError):
            self._clear()
            os.unlink(_LOCK, dir_fd=self._dir)
            self._close("_lock")
            self.state.rmdir()
        self._release()

    def _release(self) -> None:
        self._close("_part", "_journal", "_lock", "_dir")
        self._owned = False

    def _close(self, *names: str) -> None:
        for name in names:
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                with contextlib.suppress(OSError):  # it is closed all the same, and what matters was synced
                    os.close(fd)


class _wrap:  # noqa: N801 - reads as a statement
    """`OSError` becomes `StorageError`."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError.wrap(error, self._doing) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_directories(path: Path) -> None:
    """`mkdir -p`; what is made is durable, or a file in it would not be."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in made:
        _sync_directory(each.parent)


def _sync_directory(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # one may write into it and not read it: nothing can be promised
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can do it
            raise
    finally:
        os.close(fd)


def timestamp(last_modified: str | None) -> float | None:
    """Unix time of an HTTP date, None where there is none."""
    if last_modified is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(last_modified).timestamp()
    except (ValueError, OverflowError):
        return None
