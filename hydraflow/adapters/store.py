"""A destination on disk: part file, journal, atomic commit.

For `/d/x.bam` the state lies in `/d/.x.bam.hydra/` (mode 0700)::

    lock           whose it is, see ownership.py
    journal        what is durable, see core/journal.py
    part-1f2e3d4c  the bytes; its name stands in the journal

The order of a checkpoint is: sync the part, append to the journal, sync the journal.  So the journal never claims
a byte that a power cut could take away.  The order of a commit is: sync the part, give it the final name, sync the
directory, drop the state.  What fsync(2) cannot promise (a drive that lies about its cache) nobody can promise here.

Should two processes take themselves for the owner (no lock is perfect where hosts share a file system and one of them
sleeps), no bytes mix all the same.  A journal is written only by the process that made it, and replaces the one before
in one step; a part file only by the process that made it, and by one that goes on with the same version of the same
resource; and what gets the final name was verified byte by byte by the process that gives it.  A file that is small
needs no journal: that is made once there is something to go on from.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import secrets
import time
from pathlib import Path

from hydraflow.adapters.files import NOFOLLOW, make_directories, open_regular, reserve, sync_directory, wrap, write_all
from hydraflow.adapters.ownership import Owner, Ownership, evict, look
from hydraflow.core import journal
from hydraflow.core.journal import Identity
from hydraflow.core.ranges import RangeSet
from hydraflow.errors import DestinationBusyError, DestinationExistsError, DiskFullError, StorageError
from hydraflow.models import Claim, Validator

__all__ = ["Store", "timestamp"]

_JOURNAL, _PART = "journal", "part-"
#: What may lie in a state directory and is ours; `lock` apart.
_STATE = (_JOURNAL, _PART, "stale-")
#: Bytes from which on a journal is made before the first byte comes: on a disk that is full it could not be made later.
_LARGE = 1 << 20
_LONGEST_JOURNAL = 256 << 20
#: Bytes set aside ahead of what has come: at least, and at most.
_AHEAD, _MOST_AHEAD = 64 << 20, 256 << 20


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
        self.url = url
        self.overwrite = overwrite
        self._dir = self._part = self._journal = -1
        self.writing = 0.0
        self._part_name = ""
        self._identity: Identity | None = None
        self._recorded = RangeSet()
        self._reserved = 0
        self._ownership = Ownership(url)
        self._new = self._cleared = self._anchored = False
        self._broken: StorageError | None = None

    # ── ownership ────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self) -> None:
        """Make the state directory and become its owner.

        Raises:
            DestinationBusyError: another process is its owner.
            DestinationExistsError: there is a file, and `overwrite` was not asked for.
        """
        try:
            self._own()
            if not self.overwrite and os.path.lexists(self.path):
                raise DestinationExistsError(f"{self.path} exists already")
        except BaseException:
            self.close()
            raise

    def _own(self) -> None:
        with wrap(f"cannot prepare {self.state}"):
            while not self._try_own():
                self._close("_dir")

    def _try_own(self) -> bool:
        """Make and open the state directory; False if it must be tried again."""
        self._new = self._make_state()
        try:
            self._dir = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW)
            if not self._new and os.fstat(self._dir).st_uid != os.geteuid():
                hint = "Remove it, or choose another --output."
                raise StorageError(f"{self.state} belongs to another user", hint=hint)
            owner = self._ownership.acquire(self._dir)
        except FileNotFoundError:
            return False  # its owner has just removed it
        if owner is not None:
            raise DestinationBusyError(f"{owner} is writing {self.path}")
        return True

    def _make_state(self) -> bool:
        """Whether it is new."""
        for made_parents in (False, True):
            try:
                os.mkdir(self.state, 0o700)
            except FileExistsError:
                return False
            except FileNotFoundError:
                if made_parents:
                    raise  # nothing can be made here: /proc, say
                make_directories(self.path.parent)
            else:
                break
        return True

    def owner(self) -> Owner | None:
        """Who works on the destination now, as far as this can be told without claiming it."""
        directory = -1
        try:
            directory = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW)
            return look(directory)[0]
        except OSError:
            return None  # whatever it is, `claim` will tell
        finally:
            if directory >= 0:
                os.close(directory)

    def evict(self, owner: Owner) -> None:
        """Take the destination away from an owner that has shown no sign of life; somebody may claim it then."""
        with wrap(f"cannot take {self.path} over"):
            directory = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW)
            try:
                evict(directory, owner.record)
            finally:
                os.close(directory)

    def beat(self) -> None:
        """Show others that its owner is alive, and see whether it is still the owner."""
        with contextlib.suppress(OSError):  # the next step that matters will meet it too
            self._ownership.beat()

    def _confirm(self) -> None:
        """Before every step that others could see.

        Raises:
            DestinationBusyError: another process is the owner by now.
        """
        if not self._ownership.confirm():
            raise self._lost()

    def _lost(self) -> DestinationBusyError:
        return DestinationBusyError(f"another process has taken over {self.path}")

    # ── what an earlier run left ─────────────────────────────────────────────────────────────────────────────────────

    def replay(self) -> tuple[Identity | None, RangeSet]:
        """Read the journal; state that is torn, foreign or of another URL counts as none."""
        with wrap(f"cannot read the checkpoint in {self.state}"):
            found = journal.replay(self._read_journal())
            identity = found.identity
            # A part without one durable byte is of no use, and a new one gets a journal that is true of it.
            useful = identity is not None and identity.url == self.url and bool(found.durable)
            if identity is None or not useful or not self._adopt(identity, found.durable):
                return None, RangeSet()
            self._identity, self._recorded = identity, found.durable.copy()
            return identity, found.durable

    def _read_journal(self) -> bytes:
        fd = -1 if self._new else open_regular(_JOURNAL, self._dir, os.O_RDONLY)
        if fd < 0:
            return b""
        with os.fdopen(fd, "rb") as file:
            return file.read(_LONGEST_JOURNAL)

    def _adopt(self, identity: Identity, durable: RangeSet) -> bool:
        """Open the part that the journal speaks of, if it can hold what is claimed."""
        fd = open_regular(identity.part, self._dir, os.O_RDWR) if identity.part.startswith(_PART) else -1
        if fd < 0:
            return False
        self._part, self._part_name = fd, identity.part
        facts = os.fstat(fd)
        # With a second name it is the file of a commit that was cut short, or somebody's whom it was linked to.
        if facts.st_nlink != 1 or facts.st_size < max((piece.stop for piece in durable), default=0):
            self._close("_part")
            return False
        return True

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def claimed(self) -> bool:
        """The state directory is open, and must be closed."""
        return self._dir >= 0

    @property
    def empty(self) -> bool:
        """Nothing was in the state directory when it was claimed, and no part has been made in it yet."""
        return self._new and self._part < 0

    @property
    def resumable(self) -> bool:
        """There is something on disk that a later run can go on from."""
        return self._part >= 0 and bool(self._recorded)

    def prepare(self, size: int | None, validator: Validator, claims: tuple[Claim, ...]) -> None:
        """Make a new part file, and a journal for it if it is large; a part taken over stays.

        Raises:
            DiskFullError: there is not enough space for `size` bytes.
            DestinationBusyError: another process has taken over.
        """
        with wrap(f"cannot write to {self.state}"):
            if self._part < 0:
                self._create(size, validator, claims)
            if size is not None:
                self._check_space(size)
            if size is not None and size >= _LARGE and self._journal < 0:
                self._begin_journal()

    def _create(self, size: int | None, validator: Validator, claims: tuple[Claim, ...]) -> None:
        if not self._new:
            self.reset()  # leftovers that could not be adopted
        self._part_name = f"{_PART}{secrets.token_hex(4)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | NOFOLLOW
        self._part = os.open(self._part_name, flags, 0o666, dir_fd=self._dir)
        if size is not None:
            self._identity = Identity(self.url, size, validator, claims, self._part_name)

    def _check_space(self, size: int) -> None:
        space = os.fstatvfs(self._part)
        free = space.f_bavail * space.f_frsize + os.fstat(self._part).st_blocks * 512
        if size > free:
            raise DiskFullError(f"not enough space for {self.path}: {size:,} bytes needed, {free:,} free")

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at their place in the part file.

        Raises:
            DestinationBusyError: another process has taken over.
        """
        begun = time.perf_counter()
        with wrap(f"cannot write {self.path}"):
            if not self._ownership.holds():
                raise self._lost()
            while data:
                written = os.pwrite(self._part, data, offset)
                data, offset = data[written:], offset + written
        self.writing += time.perf_counter() - begun

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read bytes of the part file back, for the digest."""
        return os.preadv(self._part, [view], offset)

    def share(self) -> int:
        """A descriptor more of the part file, for a reader; it stays that file's when it gets its final name."""
        with wrap(f"cannot read {self.path}"):
            return os.dup(self._part)

    def sync(self, received: RangeSet) -> None:
        """Make a checkpoint of what has been written.

        Raises:
            DestinationBusyError: another process has taken over.
        """
        if self._identity is None or self._part < 0:
            return
        self._check()
        new = received.minus(self._recorded)
        if not new:
            return
        try:
            with wrap(f"cannot make a checkpoint in {self.state}"):
                os.fdatasync(self._part)
                self._confirm()
                if self._journal < 0:
                    self._begin_journal()
                write_all(self._journal, journal.encode_durable(new))
                os.fdatasync(self._journal)
                self._anchor()
        except StorageError as error:
            self._broken = error
            raise
        self._recorded = received.copy()
        self._reserve(self._identity.size)

    def _reserve(self, size: int) -> None:
        """Set blocks aside, as many again as have come within bounds: a size that is a lie costs little.

        It saves CPU, and the disk cannot fill up before they are used (docs/adr/0007-reserved-blocks.md).
        """
        top = max(piece.stop for piece in self._recorded)
        if size < 2 * _AHEAD or self._reserved >= min(size, top + _AHEAD):
            return
        start, stop = max(top, self._reserved), min(size, top + min(max(top, _AHEAD), _MOST_AHEAD))
        # Where it cannot be done it is not tried again.
        self._reserved = stop if start == stop or reserve(self._part, start, stop) else size

    def _begin_journal(self) -> None:
        """A journal of our own, which says what the one before said, takes its place."""
        assert self._identity is not None
        name = f"{_JOURNAL}-{secrets.token_hex(4)}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600, dir_fd=self._dir)
        try:
            identity, durable = journal.encode_resource(self._identity), journal.encode_durable(self._recorded)
            write_all(fd, journal.encode_header() + identity + durable)
            if durable:
                os.fdatasync(fd)
            self._confirm()
            os.rename(name, _JOURNAL, src_dir_fd=self._dir, dst_dir_fd=self._dir)
        except BaseException:
            os.close(fd)
            raise
        self._journal, self._anchored = fd, False

    def _check(self) -> None:
        """After a failed sync the next one may succeed though bytes are lost: nothing is claimed any more."""
        if self._broken is not None:
            raise self._broken

    def _anchor(self) -> None:
        """Before the first checkpoint counts: make the names durable under which it will be looked for."""
        if not self._anchored:
            os.fsync(self._dir)
            sync_directory(self.path.parent)
            self._anchored = True

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, size: int, last_modified: str | None) -> None:
        """Give the part its final name. Afterwards the state is gone.

        Raises:
            DestinationExistsError: something has appeared at the final name in the meantime.
            DestinationBusyError: another process has taken over.
        """
        self._check()
        with wrap(f"cannot finish {self.path}"):
            os.ftruncate(self._part, size)
            moment = timestamp(last_modified)
            if moment is not None:
                with contextlib.suppress(OSError):  # not every file system can do it, and the bytes are right
                    os.utime(self._part, (moment, moment))
            os.fsync(self._part)
            self._confirm()
            self._publish()
            sync_directory(self.path.parent)
        self._remove_state()

    def _publish(self) -> None:
        if self.overwrite and not self.path.is_dir():
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
        """Throw away every byte, and go on owning the destination.

        Raises:
            DestinationBusyError: another process has taken over.
        """
        with wrap(f"cannot clear {self.state}"):
            self._close("_part", "_journal")
            self._identity, self._recorded, self._reserved = None, RangeSet(), 0
            self._confirm()
            self._clear()
            self._cleared = True

    def _clear(self) -> None:
        for name in os.listdir(self._dir):
            if name.startswith(_STATE):
                os.unlink(name, dir_fd=self._dir)

    def discard(self) -> None:
        """Remove the state, if it is ours: nothing of it is worth keeping."""
        if self._dir >= 0 and self._ownership.holds():
            self.reset()
            self._remove_state()

    def sweep(self) -> None:
        """Remove state that holds no bytes but those at the final name: what a kill in the midst of a commit leaves."""
        try:
            final = self.path.stat().st_ino
            if all(part.lstat().st_ino == final for part in self.state.glob(f"{_PART}*")) and self.state.is_dir():
                self._own()
                self.discard()
        except OSError:
            return  # somebody works on it, or there is nothing
        finally:
            self.close()

    def close(self) -> None:
        """Give up ownership. State without a checkpoint is removed; the rest waits for a later run."""
        with contextlib.suppress(OSError):
            # What was there before and has not been looked at yet, or is of another URL, may be worth much.
            known = self._cleared or self._new
            if self.claimed and not self.resumable and (known or not os.path.lexists(self.state / _JOURNAL)):
                self.discard()
        with contextlib.suppress(OSError):
            if self.claimed:
                self._ownership.release()
                os.rmdir(self.state)  # if it is empty: it was made in vain
        self._release()

    def _remove_state(self) -> None:
        """The record of ownership goes last but one: who makes the next one finds the directory empty, or gone."""
        names = [self._part_name, *([_JOURNAL] if self._journal >= 0 else [])]
        # Closed first: NFS keeps what is removed while it is open, and the directory with it.
        self._close("_part", "_journal")
        with contextlib.suppress(OSError):
            if self._new:
                self._unlink(names)
            else:
                self._clear()
            self._ownership.release()
            os.rmdir(self.state)
        self._release()

    def _unlink(self, names: list[str]) -> None:
        """Remove what is there of these: a part that was renamed is not."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._dir)

    def _release(self) -> None:
        self._ownership.forget()
        self._close("_part", "_journal", "_dir")

    def _close(self, *names: str) -> None:
        for name in names:
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                with contextlib.suppress(OSError):  # it is closed all the same, and what matters was synced
                    os.close(fd)


def timestamp(last_modified: str | None) -> float | None:
    """Unix time of an HTTP date, None where there is none."""
    if last_modified is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(last_modified).timestamp()
    except (ValueError, OverflowError):
        return None
