"""Means of fault: names that want to get out of the home, and links, pipes and directories where files should be.

`Yard` is a home with all around it that must stay as it is; `lines` are the command lines, of every command there is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import evtool as api
from evtool.cli._table import COMMANDS
from tests.faults.history import Violation
from tests.program import Program, Result
from tests.topics import small_segments, write_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DOCUMENTED = {0, 1, 2, 3, 4, 65, 74, 75, 78, 124}
PATIENCE = 20.0  # seconds after which a command hangs
_FLAGS = ("--yes", "--drain", "--all")
_OPTIONS = {"--group": "g", "--to": "earliest", "--before": "4", "--timeout": "100ms", "--count": "3", "--id": "x"}
_OTHER = {
    ("fanout", "--to"): "topic:sink",
    ("rm", "--group"): None,  # or only the group is removed
    ("tail", "--timeout"): None,
    ("replay", "--timeout"): None,
}
_VALUES = {"events": "1", "values": "max-age=7d", "before": "earliest", "after": "latest", "kind": "topics"}
_VALUES |= {"source": "store", "destination": "../home/mirrored"}
_NAMED = ("--group", "--name", "--to", "--from", "--until", "--before", "--at")  # which may have a name in them

_OLD, _LAST, _NEW = f"{2:020d}.jsonl", f"{6:020d}.jsonl", f"{8:020d}.jsonl"
PLACES = (
    "topics", "topics/t", f"topics/t/{0:020d}.jsonl", f"topics/t/{_OLD}", f"topics/t/{_LAST}", f"topics/t/{_NEW}",
    f"topics/t/{_NEW}.new", f"topics/t/{_OLD}.new", f"topics/t/{_OLD}.compacted", "topics/t/lock", "topics/t/clock",
    "topics/t/topic.json", "topics/t/topic.json.new", "topics/t/SHA256SUMS", "topics/t/seal.lock",
    "topics/t/compact.lock", "topics/t/consumers", "topics/t/consumers/g.jsonl", "topics/t/consumers/g.jsonl.new",
    "topics/t/consumers/g.lock", "topics/t/consumers/g.turn", "topics/t/damaged", "topics/t/ids",
    f"topics/t/ids/{6:020d}", "topics/t.dead", "topics/t.dead/lock", "topics/.t.removed", "topics/sink",
)  # fmt: skip


class Line(NamedTuple):
    """A command line that is to be tried. what: what is hostile about it."""

    what: str
    arguments: list[str | bytes]


class Yard:
    """A directory with a home in it, and around it what must stay as it is: files, and a directory like a topic."""

    def __init__(self, place: Path, program: Callable[[Path], Program] = Program) -> None:
        self.place = place
        self.evtool = program(place / "home")
        self.outside = place / "outside"
        for path in (self.outside, self.outside / "t", self.outside / "user", place / "work"):
            path.mkdir(parents=True)
        for name in ("precious", "t/lock", "t/topic.json", f"t/{0:020d}.jsonl", "user/.profile"):
            (self.outside / name).write_bytes(b'{"offset":0,"time":"2026-11-24T00:00:00.000000Z","data":1}\n')
        self.fill()
        self._before = self.snapshot()

    def fill(self) -> None:
        """Make a topic anew, with all that there can be: segments, seals, a group, ids, a torn line, dead letters."""
        healthy = Program(self.evtool.home)
        shutil.rmtree(healthy.home, ignore_errors=True)
        small_segments(healthy, "t", 200)
        home = api.open(healthy.home)
        for number in range(0, 8, 2):
            home.topic("t").append_many([number, number + 1], key="k")
        home.topic("t").append(8, id="y")
        home.topic("t.dead").append({"topic": "t"})
        write_commit(healthy, 2)
        with healthy.segments("t")[-1].open("ab") as segment:
            segment.write(b'{"offset":9,"ti')

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """All that is outside the home: names, kinds, sizes, times and contents."""
        found: dict[str, tuple[object, ...]] = {}
        for path in self.place.rglob("*"):
            if not path.is_relative_to(self.evtool.home):
                status = path.lstat()
                text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, text)
        return found

    def run(self, line: Line) -> Result:
        """Try a command line; check that it ends, and how, and that nothing was touched outside the home."""
        environment = {"HOME": str(self.outside / "user"), "PYTHONPATH": os.getcwd()}
        process = self.evtool.start(*line.arguments, cwd=self.place / "work", env=environment)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Violation(f"{line}: it hangs") from None
        result = Result(process.returncode, out, err)
        if result.code not in DOCUMENTED or "Traceback" in result.err or "defect" in result.err:
            raise Violation(f"{line}: it ended with {result}")
        if now := self.changes():
            raise Violation(f"{line}: touched {now}: {result}")
        return result

    def changes(self) -> list[str]:
        """The paths outside the home that are not as they were."""
        now = self.snapshot()
        return sorted(path for path in now.keys() | self._before.keys() if now.get(path) != self._before.get(path))


def lines(name: str | bytes) -> Iterator[Line]:
    """All command lines with this name in each of the places where a name can stand."""
    for command in COMMANDS:
        for parameter, arguments in _variants(command, name):
            yield Line(f"{command} {parameter}", arguments)


def plain(command: str) -> Line:
    """The command line with which a command does something to the topic t and its group g."""
    return Line(
        command, [*_start(command), *_end(command), *(_value(one) for one, *_ in COMMANDS[command]["arguments"])]
    )


def _variants(command: str, name: str | bytes) -> Iterator[tuple[str, list[str | bytes]]]:
    parameters = [parameter for parameter, *_ in COMMANDS[command]["arguments"]]
    for parameter in parameters:
        if parameter in ("topic", "topics", "word"):
            given = (name if one == parameter else _value(one) for one in parameters)
            yield parameter, [*_start(command), *_end(command), *given]
    for option in _NAMED:
        if option in COMMANDS[command]["options"]:
            before = "" if option in ("--group", "--name") else "topic:" if (command, option) in _OTHER else "group:"
            yield (
                option,
                [*_start(command, option), option, _joined(before, name), *_end(command), *map(_value, parameters)],
            )


def _start(command: str, but: str = "") -> list[str | bytes]:
    """The command and the options that it needs, but for one that comes otherwise."""
    options = COMMANDS[command]["options"]
    given: list[str | bytes] = [command, *(flag for flag in _FLAGS if flag in options)]
    for option, usual in _OPTIONS.items():
        value = _OTHER.get((command, option), usual)
        if option in options and option != but and value is not None:
            given += [option, value]
    return given


def _end(command: str) -> list[str]:
    """What ends the options; where a command to be run comes behind `--`, nothing does."""
    return [] if COMMANDS[command]["runs_handler"] else ["--"]


def _value(parameter: str) -> str:
    return _VALUES.get(parameter, "t")


def _joined(before: str, name: str | bytes) -> str | bytes:
    return before + name if isinstance(name, str) else before.encode() + name


def names(outside: Path) -> list[str | bytes]:
    """Two hundred names and more that are none, or that are those of files that evtool has."""
    paths = [str(outside), f"{outside}/precious", f"{outside}/t", "../../outside/t", "../../../outside/precious"]
    dots = [
        ".",
        "..",
        "...",
        "..t",
        "t..",
        "t..u",
        ".t",
        "t/..",
        "t/.",
        "./t",
        "../t",
        "t/../t",
        "..\\t",
        "../",
        "/..",
        "t/",
    ]
    odd = [
        "",
        " ",
        " t",
        "t ",
        "t t",
        "\t",
        "t\n",
        "\nt",
        "t\nu",
        "t\r",
        "\x01",
        "\x1b[31mt",
        "\x7f",
        "t\u0085",
        "t\u2028",
    ]
    alike = [
        "\u0442",
        "\uff54",
        "\uff0e\uff0e",
        "\u2024\u2024/t",
        "\u2025",
        "..\u2215t",
        "..\uff0ft",
        "t\u0307",
        "\u00df",
    ]
    alike += [
        "T",
        "\u212a",
        "\u017f",
        "\ufb01",
        "\u202et",
        "t\u200b",
        "\ufefft",
        "\u0661",
        "\u00b2",
        "\u2460",
        "\u0967",
    ]
    long = ["t" * 65, "t" * 255, "t" * 256, "t" * 4096, "t" * 100_000, "../" * 30 + "etc/passwd", "t/" * 2000, "." * 64]
    dashes = ["-", "--", "-t", "-rf", "--yes", "--help", "--group", "-1", "_t", "t" + "-" * 64]
    globs = ["*", "?", "[t]", "[!u]", "**", "*/*", "../*", "/*", "{t,u}", "t*/../*", "[", "[]", "[!", "*" * 64, "[.]*"]
    shell = [
        "~",
        "~root",
        "$HOME",
        "$(id)",
        "`id`",
        "t;id",
        "t|id",
        "t&",
        "t>u",
        "t<u",
        "'t'",
        '"t"',
        "t#",
        "!t",
        "%2e%2e",
    ]
    schemes = [
        "file:///etc/passwd",
        "topic:t",
        "exec:id",
        "group:g",
        "http://localhost/",
        "@1",
        "C:\\t",
        "\\\\t\\u",
        "con:",
    ]
    files = [
        "lock",
        "topic.json",
        "clock",
        "consumers",
        "damaged",
        "ids",
        "topics",
        f"{0:020d}.jsonl",
        "g.jsonl",
        "t.dead.dead",
    ]
    files += [
        ".t.removed",
        "SHA256SUMS",
        "t/lock",
        "t/topic.json",
        "t/consumers",
        "t/consumers/g",
        f"t/{0:020d}.jsonl",
        "g.lock",
    ]
    raw = [b"\xff", b"t\xff", b"..\xff", b"\xc0\xaf", b"\xc0\xae\xc0\xae/t", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
    mixed = [
        f"{one}{two}"
        for one in ("../", "/", "t/../../", "./", "~/", ".")
        for two in ("t", "lock", "etc", "t.dead", "*")
    ]
    more = [
        f"{one}/{two}"
        for one in ("topics", "home", "consumers", "damaged", "..", "/proc/self")
        for two in ("t", "..", "fd/1", "*", "t.dead", "")
    ]
    found = [*paths, *dots, *odd, *alike, *long, *dashes, *globs, *shell, *schemes, *files, *raw, *mixed, *more]
    found += [f"t{one}" for one in ",;=+@^(){}:<>"]
    return list(dict.fromkeys(found))
