"""A disk that loses what was not synced: it records what a `Store` does, and rebuilds what a power cut would leave.

After a cut a file holds what was last synced, and of each later write nothing, a part or all; a directory has the
entries last synced, and of each later change none or all.  Syncing a file does not sync the name that it has.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydraflow.adapters import files, ownership, store

__all__ = ["MODULES", "Recorder", "rebuild"]

#: Everything through which a store speaks to the disk.
MODULES = (store, ownership, files)


@dataclass(eq=False)
class Node:
    """A file, whatever its names are."""


@dataclass(frozen=True)
class Entry:
    """A change of a directory; `node` None is a removal, a `Path` a directory. `source` has lost its name by it."""

    directory: Path
    name: str
    node: Node | Path | None
    source: tuple[Path, str] | None = None


@dataclass(frozen=True)
class Write:
    node: Node
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    node: Node
    size: int


@dataclass(frozen=True)
class Sync:
    what: Node | Path


Operation = Entry | Write | Truncate | Sync


class Recorder:
    """Stands in for the module `os`: does everything, and writes it down in `log`."""

    def __init__(self) -> None:
        self.log: list[Operation] = []
        self._open: dict[int, Node | Path] = {}
        self._names: dict[Path, Node] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def load(self, directory: Path) -> None:
        """Begin a new log: what is there is on the platters."""
        self.log, self._names = [], {}
        inodes: dict[int, Node] = {}
        for path in sorted(directory.rglob("*")):
            if path.is_dir():
                self.log += [Entry(path.parent, path.name, path), Sync(path.parent)]
                continue
            node = self._names[path] = inodes.setdefault(path.stat().st_ino, Node())
            self.log += [Entry(path.parent, path.name, node), Write(node, 0, path.read_bytes()), Sync(node)]
            self.log.append(Sync(path.parent))

    def _at(self, path: Any, dir_fd: int | None) -> Path:
        base = self._open.get(dir_fd, Path()) if dir_fd is not None else Path()
        assert isinstance(base, Path)
        return base / os.fspath(path)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = self._at(path, dir_fd)
        there = os.path.lexists(where)
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_DIRECTORY:
            self._open[fd] = where
            return fd
        if not there:
            self._names[where] = Node()
            self.log.append(Entry(where.parent, where.name, self._names[where]))
        self._open[fd] = self._names.setdefault(where, Node())
        if there and flags & os.O_TRUNC:
            self.log.append(Truncate(self._names[where], 0))
        return fd

    def _node(self, fd: int) -> Node:
        node = self._open[fd]
        assert isinstance(node, Node)
        return node

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        self.log.append(Write(self._node(fd), offset, bytes(data)))
        return os.pwrite(fd, data, offset)

    def write(self, fd: int, data: Any) -> int:
        self.log.append(Write(self._node(fd), os.lseek(fd, 0, os.SEEK_CUR), bytes(data)))
        return os.write(fd, data)

    def ftruncate(self, fd: int, size: int) -> None:
        self.log.append(Truncate(self._node(fd), size))
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        self.log.append(Sync(self._open[fd]))

    fdatasync = fsync

    def link(self, source: Any, target: Any, *, src_dir_fd: int, **options: Any) -> None:
        os.link(source, target, src_dir_fd=src_dir_fd, **options)
        node = self._names[Path(target)] = self._names[self._at(source, src_dir_fd)]
        self.log.append(Entry(Path(target).parent, Path(target).name, node))

    def rename(self, source: Any, target: Any, *, src_dir_fd: int, dst_dir_fd: int | None = None) -> None:
        os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        was, now = self._at(source, src_dir_fd), self._at(target, dst_dir_fd)
        node = self._names[now] = self._names.pop(was)
        self.log.append(Entry(now.parent, now.name, node, source=(was.parent, was.name)))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)
        where = self._at(path, dir_fd)
        self._names.pop(where, None)
        self.log.append(Entry(where.parent, where.name, None))

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        _mkdir(path, mode)
        where = Path(path)
        self.log.append(Entry(where.parent, where.name, where))

    def rmdir(self, path: Any) -> None:
        _rmdir(path)
        where = Path(path)
        self.log.append(Entry(where.parent, where.name, None))


_LONG_AGO = 1_700_000_000  # a reboot takes longer than a process needs to write who it is
_mkdir, _rmdir = os.mkdir, os.rmdir  # those of the system: pathlib's calls are led to the recorder


@dataclass
class _Disk:
    """What is on the platters, and what is still on the way to them."""

    files: dict[Node, bytearray] = field(default_factory=dict)
    entries: dict[Path, dict[str, Node | Path]] = field(default_factory=dict)
    pending: list[Operation] = field(default_factory=list)

    def take(self, operation: Operation) -> None:
        if not isinstance(operation, Sync):
            self.pending.append(operation)
            return
        mine = [each for each in self.pending if _concerns(each, operation.what)]
        self.pending = [each for each in self.pending if not _concerns(each, operation.what)]
        for each in mine:
            self.apply(each)

    def apply(self, operation: Operation, *, length: int | None = None, keep_source: bool = False) -> None:
        if isinstance(operation, Write):
            content, end = self.files.setdefault(operation.node, bytearray()), operation.offset
            content.extend(bytes(max(0, end - len(content))))
            data = operation.data[:length]
            content[end : end + len(data)] = data
        elif isinstance(operation, Truncate):
            content = self.files.setdefault(operation.node, bytearray())
            del content[operation.size :]
            content.extend(bytes(operation.size - len(content)))
        elif isinstance(operation, Entry):
            self._enter(operation, keep_source=keep_source)

    def _enter(self, entry: Entry, *, keep_source: bool) -> None:
        names = self.entries.setdefault(entry.directory, {})
        if entry.node is None:
            names.pop(entry.name, None)
        else:
            names[entry.name] = entry.node
        if entry.source is not None and not keep_source:
            directory, name = entry.source
            self.entries.get(directory, {}).pop(name, None)


def _concerns(operation: Operation, what: Node | Path) -> bool:
    if isinstance(operation, Entry):
        return operation.directory == what
    assert not isinstance(operation, Sync)
    return operation.node is what


def rebuild(log: list[Operation], source: Path, target: Path, rng: random.Random) -> None:
    """Write to `target` what a power cut after `log` leaves of what was made below `source`."""
    disk = _Disk()
    for operation in log:
        disk.take(operation)
    for operation in disk.pending:
        if rng.random() < 0.5:
            torn = isinstance(operation, Write) and rng.random() < 0.3
            length = rng.randrange(len(operation.data) + 1) if torn and isinstance(operation, Write) else None
            disk.apply(operation, length=length, keep_source=rng.random() < 0.5)
    _write(disk, source, target, {})


def _write(disk: _Disk, source: Path, target: Path, made: dict[Node, Path]) -> None:
    _mkdir(target)
    for name, node in disk.entries.get(source, {}).items():
        if isinstance(node, Path):
            _write(disk, node, target / name, made)
        elif node in made:
            os.link(made[node], target / name)
        else:
            (target / name).write_bytes(disk.files.get(node, b""))
            os.utime(target / name, (_LONG_AGO, _LONG_AGO))
            made[node] = target / name
