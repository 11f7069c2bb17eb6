"""Row 11, hostile files: a log in which anything may stand makes no command crash, hang or end in a way of its own."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import evtool
from tests.faults.alone import alone
from tests.faults.forked import Forked
from tests.faults.history import Violation
from tests.faults.hostile_lines import Lines
from tests.program import Program
from tests.topics import small_segments

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_ROUNDS = 40
_SECONDS = 20  # after which a command hangs
CRASHED = ("Traceback", "a defect of evtool")  # what a command says that has met with something unforeseen
_DOCUMENTED = {0, 1, 2, 3, 4, 65, 74, 75, 78, 124}
COMMANDS = (
    ("tail", "t"), ("replay", "t"), ("replay", "t", "--from", "@1700000000", "--data"), ("tail", "t", "-n", "1000"),
    ("subscribe", "t", "--group", "g", "--drain"), ("subscribe", "t", "--group", "new", "--from", "-5", "--drain"),
    ("subscribe", "t", "--group", "g", "--drain", "--share"), ("replay", "t", "--key", "k", "--where", ".a == 1"),
    ("topics",), ("topics", "--json"), ("groups",), ("groups", "--json"), ("seek", "t", "--group", "g", "--to", "-1"),
    ("verify",), ("verify", "--json"), ("doctor",), ("state", "t"), ("diff", "t", "earliest", "latest"),
    ("trim", "t", "--before", "latest", "--yes"), ("compact", "t", "--yes"), ("set", "t", "max-age=1d"),
    ("append", "t", "1"), ("append", "t", "--atomic", "2", "3"), ("repair", "t", "--dry-run"), ("repair", "t", "--yes"),
    ("append", "t", "4"), ("append", "t", "--id", "x", "5"), ("verify",),
)  # fmt: skip


def work(directory: Path, random: random.Random) -> Counter[str]:
    """Spoil the files of a topic again and again, and run all commands on each."""
    return alone(spoil, directory, random, _ROUNDS)


def spoil(directory: Path, random: random.Random, rounds: int) -> Counter[str]:
    """Spoil the files so many times, each time a fresh topic."""
    whole = Program(directory / "whole")
    make(whole)
    _import_all()
    os.environ["EVTOOL_HOME"] = str(directory / "home")
    for _ in range(rounds):
        shutil.rmtree(directory / "home", ignore_errors=True)
        shutil.copytree(whole.home, directory / "home")
        _spoil_some(directory / "home", random)
        for command in COMMANDS:
            run(command)
    return Counter({"cases": rounds * len(COMMANDS), "files spoilt": rounds})


def _import_all() -> None:
    """Import evtool here, so that not each command has to."""
    for module in pkgutil.walk_packages(evtool.__path__, "evtool."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def make(program: Program) -> None:
    """A topic with segments, seals, settings and a group."""
    small_segments(program, "t", 2000)
    for part in range(4):
        lines = "".join(f'{{"k":"{number % 3}","a":{number},"part":{part}}}\n' for number in range(20))
        assert program("append", "t", "--key-from", ".k", input=lines).code == 0
    consumed = program("subscribe", "t", "--group", "g", "--from", "earliest", "--count", "30")
    assert consumed.code == 0, consumed


def run(command: tuple[str, ...]) -> None:
    """Run a command in a process forked from this one. Raises Violation if it ends as no command may."""
    output = os.memfd_create("output")
    process = Forked(lambda _: _be(command, output))
    code = process.wait()
    process.close()
    said = os.pread(output, 1 << 20, 0).decode("utf-8", "replace")
    os.close(output)
    if code not in _DOCUMENTED or any(one in said for one in CRASHED):
        raise Violation(f"evtool {' '.join(command)} ended with {code}: {said[-3000:]}")


def _be(command: tuple[str, ...], output: int) -> NoReturn:
    """Be evtool."""
    signal.alarm(_SECONDS)
    for fd, other in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(other, fd)
    sys.argv = ["evtool", *command]
    from evtool.__main__ import main

    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        os.write(output, traceback.format_exc().encode())
        code = 1
    os._exit(code)


def _spoil_some(home: Path, random: random.Random) -> None:
    """Spoil one or two files; mostly segments, as they are the most."""
    paths = [path for path in (home / "topics/t").rglob("*") if path.is_file()]
    for path in random.choices(paths, k=random.choice((1, 1, 2))):
        if path.exists():
            mode = path.stat().st_mode
            path.chmod(0o600)
            random.choice(_WAYS)(path, random)
            if path.exists() and random.random() < 0.8:
                path.chmod(mode)


def _at(text: bytes, random: random.Random) -> int:
    return random.randrange(len(text) + 1)


def _cut(path: Path, random: random.Random) -> None:
    text = path.read_bytes()
    path.write_bytes(text[: _at(text, random)])


def _put_in(path: Path, random: random.Random) -> None:
    """Nulls, other bytes, or lines that no log has."""
    text = path.read_bytes()
    at = random.choice((_at(text, random), len(text), 0, text.rfind(b"\n", 0, _at(text, random)) + 1))
    lines = Lines(random, b"\n", 5000, 0.7).take(3)
    new = random.choice((bytes(random.randrange(1, 9000)), random.randbytes(300), b"\n".join(lines) + b"\n", b"\n"))
    path.write_bytes(text[:at] + new + text[random.choice((at, at + len(new))) :])


def _flip(path: Path, random: random.Random) -> None:
    text = bytearray(path.read_bytes() or b"\0")
    for _ in range(random.choice((1, 1, 8, 100))):
        text[random.randrange(len(text))] ^= 1 << random.randrange(8)
    path.write_bytes(text)


def _replace(path: Path, random: random.Random) -> None:
    path.write_bytes(random.choice((b"", random.randbytes(5000), b"\n" * 100, b'{"offset":' * 500, bytes(100_000))))


def _shuffle(path: Path, random: random.Random) -> None:
    lines = path.read_bytes().split(b"\n")
    random.shuffle(lines)
    path.write_bytes(b"\n".join(lines))


def _repeat(path: Path, random: random.Random) -> None:
    text = path.read_bytes()
    path.write_bytes(text + text[_at(text, random) :])


def _number(path: Path, random: random.Random) -> None:
    """Another number where there is one."""
    text = path.read_bytes()
    digits = [at for at, byte in enumerate(text) if 0x30 <= byte <= 0x39]
    if digits:
        at = random.choice(digits)
        new = random.choice((b"9" * 30, b"0", b"-1", b"", b"1e9", b"99999999999999999999"))
        path.write_bytes(text[:at] + new + text[at + 1 :])


def _remove(path: Path, random: random.Random) -> None:
    path.unlink()


def _copy(path: Path, random: random.Random) -> None:
    """The same under another name, such as a segment twice."""
    name = random.choice((f"{random.randrange(200):020d}.jsonl", f"{'9' * 20}.jsonl", "x", f"{path.name}.new"))
    if name != path.name:
        shutil.copyfile(path, path.with_name(name))


_WAYS: tuple[Callable[[Path, random.Random], None], ...] = (
    _cut, _cut, _put_in, _put_in, _put_in, _flip, _flip, _replace, _shuffle, _repeat, _number, _number, _remove, _copy,
)  # fmt: skip
