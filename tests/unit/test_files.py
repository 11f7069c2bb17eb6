"""evtool.log.files: a home that is not safe is refused, no link is followed, and every error names its path."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from evtool.errors import ConfigurationError, StorageError
from evtool.log import files
from evtool.log.files import Directory, open_home

MOUNT = b"29 1 %d:%d / /mnt rw shared:1 - %b source rw\n"


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    return open_home(str(tmp_path / "a" / "b"), create=True)


def test_a_home_is_made_for_its_owner_alone_with_all_above_it(place: Directory) -> None:
    for path in (place.path, str(Path(place.path).parent)):
        assert os.stat(path).st_mode & 0o7777 == 0o700


def test_a_missing_home_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_home(str(tmp_path / "none"), create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o777, 0o1777])
def test_a_home_that_others_may_write_to_is_refused(place: Directory, mode: int) -> None:
    os.chmod(place.path, mode)
    with pytest.raises(ConfigurationError, match="others may write to it"):
        open_home(place.path, create=True)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o711])
def test_a_home_that_others_may_only_read_is_fine(place: Directory, mode: int) -> None:
    os.chmod(place.path, mode)
    assert open_home(place.path, create=True).path == place.path


def test_another_users_home_is_refused(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigurationError, match=f"belongs to user {os.getuid()}, not to you"):
        open_home(place.path, create=False)


def test_a_file_in_the_place_of_the_home_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("file", "file/home"):
        with pytest.raises(StorageError, match="Not a directory|File exists"):
            open_home(str(tmp_path / path), create=True)


@pytest.mark.parametrize("kind", sorted(files._NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_is_refused_unless_allowed(
    place: Directory, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "major", lambda device: 0)
    mount = MOUNT % (0, os.minor(os.stat(place.path).st_dev), kind)
    monkeypatch.setattr(files, "_mounts", lambda: iter([MOUNT % (8, 99, b"ext4"), mount]))
    with pytest.raises(ConfigurationError, match=f"is on a network file system .{kind.decode()}."):
        open_home(place.path, create=False)
    assert open_home(place.path, create=False, allow_network=True)


def test_other_file_systems_without_a_device_are_fine(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "major", lambda device: 0)
    for mounts in ([MOUNT % (0, os.minor(os.stat(place.path).st_dev), b"tmpfs")], []):
        monkeypatch.setattr(files, "_mounts", lambda mounts=mounts: iter(mounts))
        assert open_home(place.path, create=False)


def test_the_mounts_are_those_of_the_system_if_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/self/mountinfo").exists():
        assert any(b" - " in mount for mount in files._mounts())

    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(files, "open", missing, raising=False)
    assert list(files._mounts()) == []


def test_no_link_is_followed(place: Directory, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "secret", f"{place.path}/file")
    os.symlink(tmp_path / "elsewhere", f"{place.path}/directory")
    with pytest.raises(StorageError, match=r"/file: is a symbolic link"):
        place.open("file", os.O_RDONLY)
    for create in (False, True):
        with pytest.raises(StorageError, match=r"/directory: is a symbolic link"):
            place.subdirectory("directory", create=create)


def test_control_the_flag_is_what_keeps_links_from_being_followed(
    place: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s")
    os.symlink(tmp_path / "secret", f"{place.path}/file")
    monkeypatch.setattr(files, "_BASE_FLAGS", os.O_CLOEXEC)
    fd = place.open("file", os.O_RDONLY)
    assert os.read(fd, 1) == b"s"
    os.close(fd)


def test_every_error_names_its_path(place: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(f"{place.path}/file", "w"):
        pass
    with pytest.raises(StorageError, match=r"/file: Not a directory"):
        place.subdirectory("file", create=True)
    with pytest.raises(StorageError, match=r"/no/where: No such file"):
        place.subdirectory("no/where", create=True)
    with pytest.raises(StorageError, match=r"/new: No such file"):
        place.rename("old", "new")
    with pytest.raises(FileNotFoundError):
        place.open("none", os.O_RDONLY)
    broken = Directory(place.path, os.open(f"{place.path}/file", os.O_RDONLY))
    for look in (broken.names, broken.subdirectories):
        with pytest.raises(StorageError, match=f"^{place.path}: Not a directory$"):
            look()
    monkeypatch.setattr(os, "fsync", _fail)
    with pytest.raises(StorageError, match=f"^{place.path}: Input/output error"):
        place.sync()


@pytest.mark.parametrize("kind", ["fifo", "directory"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(place: Directory, kind: str, flags: int) -> None:
    path = f"{place.path}/other"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(StorageError, match=f"^{path}: (is not a regular file|Is a directory)$"):
        place.open("other", flags)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_its_directories_are_listed_and_links_with_them(place: Directory, tmp_path: Path) -> None:
    """A link is listed so that opening it says what it is, and is not passed over in silence."""
    for name in ("a", "b"):
        place.subdirectory(name, create=True)
    os.symlink(tmp_path, f"{place.path}/link")
    with open(f"{place.path}/file", "w"):
        pass
    assert sorted(place.subdirectories()) == ["a", "b", "link"]
    assert sorted(place.names()) == ["a", "b", "file", "link"]


def test_a_descriptor_is_closed_with_its_directory_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory: Any = Directory(str(tmp_path), os.open(tmp_path, os.O_RDONLY))
    closed: list[int] = []
    fd, close = directory.fd, os.close
    monkeypatch.setattr("os.close", closed.append)
    directory.__del__()
    directory.__del__()
    del directory
    assert closed == [fd]
    close(fd)


def test_a_directory_knows_that_it_was_removed_or_moved_away(place: Directory) -> None:
    for change in (os.rmdir, lambda path: os.rename(path, path + ".away")):
        inner = place.subdirectory("inner", create=True)
        assert not inner.is_gone()
        change(inner.path)
        assert inner.is_gone()
    inner = place.subdirectory("inner", create=True)
    os.rename(inner.path, inner.path + ".other")
    os.mkdir(inner.path)
    assert inner.is_gone()


def test_its_parents_are_those_it_was_opened_through(place: Directory) -> None:
    inner = place.subdirectory("x", create=True).subdirectory("y", create=True)
    assert [one.path for one in inner.parents()] == [f"{place.path}/x", place.path]


def test_a_parent_that_may_not_be_read_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    files.sync_name(str(tmp_path / "x"))


def test_writing_goes_on_after_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: pwrite(fd, data[:3], position))
    files.write_all(fd, b"hello, world")
    files.write_all_at(fd, b"HELLO", 7)
    assert os.pread(fd, 99, 0) == b"hello, HELLO"
    os.close(fd)


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (10_000, 20_000, None),
        (1000, 20_000, 5000 + files._FILES_BESIDE),
        (1000, 2000, 2000),
        (1000, resource.RLIM_INFINITY, 5000 + files._FILES_BESIDE),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
        (5000 + files._FILES_BESIDE, 20_000, None),
        (4999 + files._FILES_BESIDE, 20_000, 5000 + files._FILES_BESIDE),
    ],
)
def test_more_files_may_be_open_as_far_as_the_system_lets_us(
    soft: int, hard: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append((what, limits)))
    files.allow_open(5000)
    assert asked == ([] if expected is None else [(resource.RLIMIT_NOFILE, (expected, hard))])


def test_a_stream_that_does_not_block_is_waited_for() -> None:
    near, far = os.pipe()
    os.set_blocking(far, False)
    while True:
        try:
            os.write(far, b"x" * 4096)
        except BlockingIOError:
            break
    reader = os.fork()
    if reader == 0:
        os.read(near, 1 << 20)
        os._exit(0)
    assert files.write_some(far, b"y") == 1
    os.waitpid(reader, 0)
    os.close(near)
    os.close(far)


def test_data_are_synced_where_there_is_no_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    asked = []
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, what: asked.append((fd, what)))
    files.sync_data(7)
    assert asked == [(7, 51)]


def test_what_cannot_be_looked_at_is_no_link(place: Directory) -> None:
    assert not files.is_link(place.fd, "none")


def _fail(*_: object) -> None:
    raise OSError(5, "Input/output error")
