"""Means of fault: a disk in memory, and every state in which a power cut may leave it, as in ALICE (OSDI 2014).

What was synced stays, and nothing else is certain:

- A write that was not synced may be there, missing, or there in part: only its beginning; NUL bytes in place of its end
  or of its beginning, if the file grew by it. One of a file's writes may be there without those before it.
- Of what was done to the names in a directory, the last things may be missing, in each directory by itself: a file
  may be there without the name of another that was made earlier elsewhere, and without the bytes in it. A sync of a
  file does not make its name durable. Only a name that is moved to another directory is never in neither.
- A mode is durable with the next fsync of its file; fdatasync does nothing for it.

This is weaker than any file system of today, of which each forbids some of these states.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.faults.crash_trace import APPEND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from random import Random

    from tests.faults.crash_trace import Operation

_BLOCK = 4096
_FEW = 4  # so many writes are there or not in all combinations, beyond that in random ones
_MOST_FORMS = 250  # of one file; beyond that they are chosen at random


class File:
    """A file as it may be found: bytes and mode. `notes`: what a checker wants to remember of it.

    There is one object for each content and mode, so that nothing has to be looked at twice.
    """

    __slots__ = ("data", "mode", "notes")

    def __init__(self, data: bytes, mode: int) -> None:
        self.data = data
        self.mode = mode
        self.notes: dict[str, Any] = {}


class State(NamedTuple):
    """What may be found after a power cut: the files and the directories, by their paths."""

    files: dict[str, File]
    directories: list[str]


class Inode:
    """A file, wherever its name is: what of it is durable, and what was done to it since, in order."""

    def __init__(self, data: bytes = b"", mode: int = 0o600) -> None:
        self.live = self.durable = data
        self.modes = [mode]  # the durable one and those since
        self.pending: list[tuple[int, bytes | None]] = []  # a position and what is written there; or None: a size
        self.is_mode_last = False
        self.forms: dict[bool, list[File]] = {}  # remembered until the next operation

    def change(self, at: int, data: bytes | None) -> bool:
        """Write or truncate; say whether that was a change."""
        at = len(self.live) if at == APPEND else at
        after = _after(self.live, at, data)
        if after == self.live:
            return False
        self.live = after
        self.pending.append((at, data))
        self.is_mode_last = False
        return True

    def change_mode(self, mode: int) -> None:
        """Give it another mode."""
        self.modes.append(mode)
        self.is_mode_last = True

    def sync(self, *, only_data: bool) -> None:
        """Let the bytes be durable, and the mode too if not only the data are asked for."""
        self.durable = self.live
        self.pending.clear()
        self.forms = {}
        if not only_data:
            del self.modes[:-1]


class Folder:
    """A directory: the names in it that are durable, and what was done to them since, in order.

    Each thing done is a list of names with what they stand for from then on; None is nothing. The second part of one
    that spans two directories cannot be there without the first: `needs` is the other directory and how far it must be.
    """

    def __init__(self) -> None:
        self.durable: dict[str, Inode | Folder] = {}
        self.live: dict[str, Inode | Folder] = {}
        self.pending: list[dict[str, Inode | Folder | None]] = []
        self.needs: dict[int, tuple[Folder, dict[str, Inode | Folder | None]]] = {}

    def change(self, names: dict[str, Inode | Folder | None]) -> None:
        """Let these names stand for something else."""
        self.pending.append(names)
        _put(self.live, names)

    def sync(self) -> None:
        """Let all be durable."""
        self.durable = dict(self.live)
        self.pending.clear()
        self.needs.clear()

    def after(self, count: int) -> dict[str, Inode | Folder]:
        """The names as they are if of what is not durable the first so many things are there."""
        names = dict(self.durable)
        for one in self.pending[:count]:
            _put(names, one)
        return names

    def allows(self, counts: dict[Folder, int]) -> bool:
        """Whether so much of each directory may be there."""
        for number, (other, first) in self.needs.items():
            if counts.get(self, 0) > number and first in other.pending[counts.get(other, 0) :]:
                return False
        return True


class Disk:
    """A directory and all below it, which `apply` changes as the program did."""

    def __init__(self, directory: Path | None = None) -> None:
        """As a directory is now, all of it durable."""
        self.root = Folder()
        self._interned: dict[tuple[bytes, int], File] = {}
        self._last: Inode | Folder | None = None
        for path in sorted(directory.rglob("*")) if directory else []:
            above, name = self._place(str(path.relative_to(directory or path)))
            made = Folder() if path.is_dir() else Inode(path.read_bytes(), path.stat().st_mode & 0o777)
            above.live[name] = above.durable[name] = made

    def copy(self) -> Disk:
        """The same once more; nothing was done to it yet."""
        return copy.deepcopy(self)

    def apply(self, operation: Operation) -> bool:
        """Do it; return whether there are new states now: those in which it, or a part of it, is there."""
        self._last = self._do(operation)
        if isinstance(self._last, Inode):
            self._last.forms = {}
        return self._last is not None

    def _do(self, operation: Operation) -> Inode | Folder | None:
        kind, path, at, data, _ = operation
        if kind in ("told", "done"):
            return None
        if kind in ("sync", "datasync", "write", "truncate", "chmod"):
            return self._do_to_content(kind, self.find(path), at, data)
        above, name = self._place(path)
        if kind == "create":
            if name in above.live:
                return None
            above.change({name: Inode(mode=at)})
        elif kind == "mkdir":
            above.change({name: Folder()})
        elif kind == "unlink":
            above.change({name: None})
        else:
            return self._rename(operation, above, name)
        return above

    def _do_to_content(self, kind: str, node: Inode | Folder, at: int, data: bytes) -> Inode | Folder | None:
        if isinstance(node, Folder):
            node.sync()
            return None
        if kind.endswith("sync"):
            node.sync(only_data=kind == "datasync")
            return None
        if kind == "chmod":
            node.change_mode(at)
            return node
        return node if node.change(at, data if kind == "write" else None) else None

    def _rename(self, operation: Operation, above: Folder, name: str) -> Folder:
        other, new = self._place(operation.other)
        node = above.live[name]
        gone: dict[str, Inode | Folder | None] = {name: None} if operation.kind == "rename" else {}
        if other is above:
            above.change({**gone, new: node})
            return above
        there: dict[str, Inode | Folder | None] = {new: node}
        other.change(there)
        above.needs[len(above.pending)] = (other, there)
        above.change(gone)
        return other

    def find(self, path: str) -> Inode | Folder:
        """What stands at a path now."""
        if not path:
            return self.root
        above, name = self._place(path)
        return above.live[name]

    def _place(self, path: str) -> tuple[Folder, str]:
        *parents, name = path.split("/")
        folder = self.root
        for parent in parents:
            below = folder.live[parent]
            assert isinstance(below, Folder)
            folder = below
        return folder, name

    def live(self) -> State:
        """What a program sees now."""
        everything = {folder: len(folder.pending) for folder in _folders(self.root)}
        found, directories = _walk(self.root, everything)
        return State({path: self._file(one.live, one.modes[-1]) for path, one in found.items()}, directories)

    def states(self, random: Random, limit: int, *, all_of_them: bool) -> Iterator[State]:
        """The states that a power cut may leave now; about `limit` at most, which then are chosen at random.

        all_of_them: also those in which nothing of the last operation is there, which were possible before it.
        """
        must = None if all_of_them else self._last
        worlds = [(*self._world(inodes, random, must), directories) for inodes, directories in self._names(must)]
        sizes = [math.prod(map(len, forms)) for _, forms, _ in worlds]
        share = max(1, limit // max(1, len(worlds)))
        for (paths, forms, directories), size in zip(worlds, sizes, strict=True):
            for chosen in _choices(forms, size, share, random):
                yield State(dict(zip(paths, chosen, strict=True)), directories)

    def _world(
        self, inodes: dict[str, Inode], random: Random, must: Inode | Folder | None
    ) -> tuple[list[str], list[list[File]]]:
        return list(inodes), [self._forms(inode, random, must is inode) for inode in inodes.values()]

    def _names(self, must: Inode | Folder | None) -> Iterator[tuple[dict[str, Inode], list[str]]]:
        """What may stand under which name, each such world once."""
        folders = [folder for folder in _folders(self.root) if folder.pending]
        ranges = [range(len(one.pending) if one is must else 0, len(one.pending) + 1) for one in folders]
        for numbers in itertools.product(*ranges):
            counts = dict(zip(folders, numbers, strict=True))
            if not all(folder.allows(counts) for folder in folders):
                continue
            reached: set[Folder] = set()
            inodes, directories = _walk(self.root, counts, reached)
            if any(count and folder not in reached for folder, count in counts.items()):
                continue  # the same as with nothing done there
            if not isinstance(must, Inode) or must in inodes.values():
                yield inodes, directories

    def _forms(self, inode: Inode, random: Random, must: bool) -> list[File]:
        if must not in inode.forms:
            must_mode = must and inode.is_mode_last
            contents = list(_contents(inode.durable, inode.pending, random, must and not must_mode))
            if len(contents) > _MOST_FORMS:
                contents = random.sample(contents, _MOST_FORMS)
            modes = inode.modes[-1:] if must_mode else list(dict.fromkeys(inode.modes))
            inode.forms[must] = [self._file(data, mode) for data in contents for mode in modes]
        return inode.forms[must]

    def _file(self, data: bytes, mode: int) -> File:
        file = self._interned.get((data, mode))
        if file is None:
            file = self._interned[data, mode] = File(data, mode)
        return file


def _put(names: dict[str, Inode | Folder], changes: dict[str, Inode | Folder | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _folders(folder: Folder) -> Iterator[Folder]:
    """A directory and all those below it that there are or may be."""
    yield folder
    below = dict.fromkeys(folder.durable.values())
    below |= dict.fromkeys(node for names in folder.pending for node in names.values() if node is not None)
    for node in below:
        if isinstance(node, Folder):
            yield from _folders(node)


def _walk(
    root: Folder, counts: dict[Folder, int], reached: set[Folder] | None = None
) -> tuple[dict[str, Inode], list[str]]:
    """The files by their paths, and the paths of the directories, if so much of each directory is there."""
    inodes: dict[str, Inode] = {}
    directories = []
    rest: list[tuple[str, Folder]] = [("", root)]
    while rest:
        prefix, folder = rest.pop()
        if reached is not None:
            reached.add(folder)
        for name, node in folder.after(counts.get(folder, 0)).items():
            if isinstance(node, Folder):
                directories.append(prefix + name)
                rest.append((f"{prefix}{name}/", node))
            else:
                inodes[prefix + name] = node
    return inodes, directories


def _choices(forms: list[list[File]], size: int, share: int, random: Random) -> Iterator[Sequence[File]]:
    """One form for each file, in all combinations, or in so many of them."""
    if size <= share:
        yield from itertools.product(*forms)
        return
    for number in {random.randrange(size) for _ in range(share)}:
        chosen = []
        rest = number
        for files in forms:
            rest, place = divmod(rest, len(files))
            chosen.append(files[place])
        yield chosen


def _after(data: bytes, at: int, written: bytes | None) -> bytes:
    """A file's bytes after one operation."""
    if written is None:
        return data[:at] if at <= len(data) else data.ljust(at, b"\0")
    return data[:at].ljust(at, b"\0") + written + data[at + len(written) :]


def _contents(durable: bytes, pending: list[tuple[int, bytes | None]], random: Random, must: bool) -> dict[bytes, None]:
    """What a file may hold. `must`: the last operation is there, if only in part."""
    found: dict[bytes, None] = {}
    for subset in _subsets(len(pending), random, must):
        there = [pending[number] for number in subset]
        found[_all_after(durable, there)] = None
        for number, (at, data) in enumerate(there):
            size = len(_all_after(durable, there[:number]))
            for torn in _torn(at, data, size, random, everywhere=len(pending) == 1) if data else ():
                found[_all_after(durable, [*there[:number], *torn, *there[number + 1 :]])] = None
    return found


def _all_after(data: bytes, operations: Sequence[tuple[int, bytes | None]]) -> bytes:
    for at, written in operations:
        data = _after(data, at, written)
    return data


def _subsets(count: int, random: Random, must: bool) -> Iterator[tuple[int, ...]]:
    """The numbers of those operations that are there, in all combinations if they are few."""
    if count == 0:
        yield ()
        return
    choices = range(count - 1 if must else count)
    end = (count - 1,) if must else ()
    if len(choices) <= _FEW:
        for size in range(len(choices) + 1):
            for subset in itertools.combinations(choices, size):
                yield subset + end
        return
    for number in range(len(choices) + 1):
        yield (*choices[:number], *end)
        yield (*sorted(random.sample(choices, number)), *end)


def _torn(
    at: int, data: bytes, size: int, random: Random, *, everywhere: bool
) -> Iterator[list[tuple[int, bytes | None]]]:
    """What may be left of a write to a file that had so many bytes: torn at every byte, or at some of them."""
    length = len(data)
    newline = data.find(b"\n") + 1
    block = -at % _BLOCK
    cuts = {1, length // 2, length - 1, newline - 1, newline, block, block + _BLOCK}
    cuts.update(range(length) if everywhere and length <= _BLOCK else random.choices(range(length), k=3))
    for cut in sorted(cut for cut in cuts if 0 < cut < length):
        yield [(at, data[:cut])]
        if at >= size:
            yield [(at, data[:cut] + bytes(length - cut))]
            if (at + cut) % 2 == 0:  # no block of a disk begins at an odd byte
                yield [(at, bytes(cut) + data[cut:])]
    if at >= size:
        yield [(at, bytes(length))]
