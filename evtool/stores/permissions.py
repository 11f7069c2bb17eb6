"""Who may read and write the files of a home: its owner, and nobody else.

Directories are 0700 and files 0600, or 0444 for a segment that is written no more: inside a directory that others may
not enter, that keeps its owner from writing to it and lets nobody read it. Only looked at; nothing is opened.
"""

from __future__ import annotations

import os
import shlex
import stat

from evtool.log import damaged, files, names
from evtool.stores.finding import ADVICE, PROBLEM, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OTHERS, _OTHERS_WRITE, _OWNER = 0o077, 0o022, 0o700


def findings(home: str, topics: str) -> Iterator[Finding]:
    """What is wrong with the permissions of a home and all that is in it. topics: the directory of the topics in it."""
    status = os.stat(home)  # the home itself may be a link
    yield from _of_directory(home, status)
    if not _is_mine(status):
        return
    try:
        yield from _within(topics, os.lstat(topics), names.is_name)
    except (FileNotFoundError, PermissionError):  # nothing there yet, or the home may not be entered
        pass


def _within(path: str, status: os.stat_result, is_ours: Callable[[str], bool] = lambda _: True) -> Iterator[Finding]:
    """The same for a directory and all in it, but only those directories in it whose name pleases `is_ours`."""
    yield from _of_directory(path, status)
    if not stat.S_ISDIR(status.st_mode) or not _is_mine(status):
        return
    wrong: dict[tuple[str, str, int], list[str]] = {}
    for name, one in _entries(path):
        inner = f"{path}/{name}"
        if stat.S_ISDIR(one.st_mode):
            if is_ours(name):
                yield from _within(inner, one)
        elif not stat.S_ISREG(one.st_mode) or not _is_mine(one):
            yield from _strange(inner, one)
        else:
            mode = stat.S_IMODE(one.st_mode)
            wanted = _wanted(path, name, mode)
            if trouble := _trouble(mode, wanted):
                wrong.setdefault((*trouble, wanted), []).append(inner)
    for (severity, why, wanted), paths in wrong.items():
        yield _chmod(severity, why, wanted, path, paths)


def _is_mine(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid()


def _entries(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The names in a directory, sorted, and what they are. One that may not be read has been complained of."""
    try:
        for name in sorted(os.listdir(path)):
            try:
                yield name, os.lstat(f"{path}/{name}")
            except FileNotFoundError:  # removed in this moment
                continue
    except (FileNotFoundError, PermissionError):
        return


def _of_directory(path: str, status: os.stat_result) -> Iterator[Finding]:
    if not stat.S_ISDIR(status.st_mode) or not _is_mine(status):
        yield from _strange(path, status)
    elif trouble := _trouble(stat.S_IMODE(status.st_mode), files.DIRECTORY_MODE):
        yield _chmod(*trouble, files.DIRECTORY_MODE, path, [path])


def _strange(path: str, status: os.stat_result) -> Iterator[Finding]:
    """What is wrong with a thing that should be a file or directory of ours."""
    quoted = shlex.quote(path)
    if stat.S_ISLNK(status.st_mode):
        target = os.path.realpath(path)
        mend = f"rm {quoted}" + (f" && mv {shlex.quote(target)} {quoted}" if os.path.exists(target) else "")
        yield Finding(PROBLEM, path, "is a symbolic link, which evtool does not follow", mend)
    elif not _is_mine(status):
        mend = f"sudo chown -R {os.geteuid()} {quoted}"
        yield Finding(PROBLEM, path, f"belongs to user {status.st_uid}, not to you", mend)
    else:
        yield Finding(PROBLEM, path, "is not a file of evtool's, nor a directory", f"rm {quoted}")


def _wanted(directory: str, name: str, mode: int) -> int:
    """The mode that a file should have."""
    is_segment = names.parse_segment(name) is not None or os.path.basename(directory) == damaged.DIRECTORY_NAME
    if not is_segment or mode & files.WRITABLE:
        return files.FILE_MODE
    return files.UNSYNCED_MODE if mode == files.UNSYNCED_MODE else files.SEALED_MODE


def _trouble(mode: int, wanted: int) -> tuple[str, str] | None:
    """What is wrong with a mode, and how bad that is."""
    too_much = mode & _OTHERS & ~wanted
    if wanted & _OWNER & ~mode:
        return PROBLEM, "you may not read and write it yourself"
    if too_much & _OTHERS_WRITE:
        return PROBLEM, "others may write to it"
    return (ADVICE, "others may read it") if too_much else None


def _chmod(severity: str, why: str, mode: int, directory: str, paths: list[str]) -> Finding:
    what = paths[0] if len(paths) == 1 else directory
    if len(paths) > 1:
        why = f"{len(paths)} files in it: {why.replace(' it', ' them')}"
    return Finding(severity, what, why, f"chmod {mode:o} {shlex.join(paths)}")
