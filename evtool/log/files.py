"""Directories and files, opened so that no link is followed, no descriptor leaks, and every error names a path."""

from __future__ import annotations

import errno
import os

from evtool.errors import ConfigurationError, StorageError

TYPE_CHECKING = False  # `typing` costs 8 ms; checkers know this name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
SEALED_MODE = 0o444
WRITABLE = 0o200  # the bit that the active segment has and a sealed one has not
_FILES_BESIDE = 100
UNSYNCED_MODE = 0o400  # a sync of this file has failed, see `SyncError`

_BASE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # to open a fifo is not to wait for anybody
_NETWORK_FILE_SYSTEMS = frozenset(
    (b"nfs", b"nfs4", b"cifs", b"smb3", b"smbfs", b"9p", b"afs", b"ceph", b"fuse.sshfs", b"fuse.glusterfs", b"lustre")
)


class Directory:
    """An open directory. Its files are opened by plain name relative to it, so nothing can be swapped in between.

    The descriptor is closed with the object.
    """

    __slots__ = ("fd", "parent", "path")

    def __init__(self, path: str, fd: int, parent: Directory | None = None) -> None:
        self.path = path
        self.fd = fd
        self.parent = parent

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def subdirectory(self, name: str, *, create: bool = False) -> Directory:
        """Open the directory `name` in here; make it first, mode 0700, if `create` says so.

        Raises FileNotFoundError if it is missing, StorageError for anything else (a link is one).
        """
        if create:
            try:
                os.mkdir(name, DIRECTORY_MODE, dir_fd=self.fd)
            except FileExistsError:
                pass
            except OSError as error:
                self.fail(name, error)
        return Directory(f"{self.path}/{name}", self.open(name, os.O_RDONLY | os.O_DIRECTORY), self)

    def open(self, name: str, flags: int, mode: int = FILE_MODE) -> int:
        """Open the file `name` in here and return its descriptor. Raises FileNotFoundError or StorageError."""
        try:
            fd = os.open(name, flags | _BASE_FLAGS, mode, dir_fd=self.fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            self.fail(name, error)
        if not flags & os.O_DIRECTORY and os.fstat(fd).st_mode & 0o170000 != 0o100000:
            os.close(fd)
            raise StorageError(f"{self.path}/{name}", "is not a regular file")
        return fd

    def names(self) -> list[str]:
        """The names of all that is in here, in no order."""
        try:
            return os.listdir(self.fd)
        except OSError as error:
            self.fail("", error)

    def subdirectories(self) -> list[str]:
        """The names of the directories in here, in no order; of links too, so that opening them says what they are."""
        try:
            with os.scandir(self.fd) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) or entry.is_symlink()]
        except OSError as error:
            self.fail("", error)

    def parents(self) -> Iterator[Directory]:
        """The directories through which this one was opened, nearest first."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent

    def sync(self) -> None:
        """Make the names in here durable."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            self.fail("", error)

    def rename(self, old: str, new: str) -> None:
        """Give a file of this directory another name in it, replacing what had that name."""
        try:
            os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            self.fail(new, error)

    def write_anew(self, name: str, data: bytes) -> None:
        """Let a file hold just this, at once and durably; who is killed leaves it as it was, and maybe NAME.new."""
        new = f"{name}.new"
        fd = self.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(fd, data)
            os.fsync(fd)
        except OSError as error:
            self.fail(new, error)
        finally:
            os.close(fd)
        self.rename(new, name)
        self.sync()

    def is_gone(self) -> bool:
        """Whether this directory was removed, or moved away, since it was opened."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except OSError:
            return True

    def fail(self, name: str, error: OSError) -> NoReturn:
        """Raise the StorageError that says what `error` did to the file `name` of this directory."""
        path = f"{self.path}/{name}" if name else self.path
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and is_link(self.fd, name)):
            raise StorageError(path, "is a symbolic link, which evtool does not follow") from error
        raise StorageError(path, reason(error)) from error


def is_link(directory_fd: int, name: str) -> bool:
    """Whether the entry `name` of an open directory is a symbolic link."""
    try:
        return os.lstat(name, dir_fd=directory_fd).st_mode & 0o170000 == 0o120000
    except OSError:
        return False


def reason(error: OSError) -> str:
    """What the system says, as it stands in an error message of ours."""
    return error.strerror or str(error)


def open_home(path: str, *, create: bool, allow_network: bool = False) -> Directory:
    """Open the directory that holds all topics; make it, mode 0700, if it is missing and `create` says so.

    Raises FileNotFoundError if it is missing and not to be made, and ConfigurationError if another user owns it,
    if others may write to it, or if it is on a network file system (where locks and syncs promise less) and
    `allow_network` is not set.
    """
    path = os.path.abspath(path)
    if create and not os.path.isdir(path):
        _make_path(path)
    try:
        home = Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(path, reason(error)) from error
    _refuse_foreign(home)
    if not allow_network:
        _refuse_network(home)
    return home


def _make_path(path: str) -> None:
    """Make a directory and those above it, 0700, each durable in its parent."""
    parent = os.path.dirname(path)
    try:
        if not os.path.isdir(parent):
            _make_path(parent)
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            return
        sync_name(path)
    except OSError as error:
        raise StorageError(path, reason(error)) from error


def sync_name(path: str) -> None:
    """Make the name of a file or directory durable in the directory above it."""
    parent = os.path.dirname(path)
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # who may pass through a directory but not read it cannot sync it either
        return
    Directory(parent, fd).sync()


def _refuse_foreign(home: Directory) -> None:
    status = os.fstat(home.fd)
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            home.path, f"belongs to user {status.st_uid}, not to you", hint="set EVTOOL_HOME to a directory of your own"
        )
    if status.st_mode & 0o022:
        raise ConfigurationError(home.path, "others may write to it", hint=f"chmod 700 {home.path}")


def _refuse_network(home: Directory) -> None:
    device = os.fstat(home.fd).st_dev
    if os.major(device):  # a block device: network file systems have anonymous ones
        return
    file_system = _file_system(device)
    if file_system in _NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            home.path,
            f"is on a network file system ({file_system.decode()})",
            hint="keep the home on a local disk, or say --allow-nfs if one machine alone uses it",
        )


def _file_system(device: int) -> bytes:
    """The type of the file system on `device` as Linux lists it, or b"" where it is not listed."""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    for line in _mounts():
        fields = line.split(b" ")
        if fields[2] == wanted:
            return fields[fields.index(b"-") + 1]
    return b""


def _mounts() -> Iterator[bytes]:
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            yield from mounts
    except FileNotFoundError:  # not Linux
        return


def allow_open(count: int) -> None:
    """See to it that so many more files may be open at once, if the system lets us."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however many calls that takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_some(fd: int, data: bytes | memoryview) -> int:
    """Write as much of `data` as a stream that others may have set not to block takes; wait until that is something."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            import select

            select.select([], [fd], [])


def write_all_at(fd: int, data: bytes, position: int) -> None:
    """Write all of `data` at this position of a file not opened for appending. Raises OSError."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, position)
        rest, position = rest[written:], position + written


def sync_data(fd: int) -> None:
    """Make what was written to a file durable. Raises OSError."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:  # macOS, where fsync() leaves data in the drive's cache
        import fcntl

        fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC"))  # noqa: B009  # unknown to Linux
