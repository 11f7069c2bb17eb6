"""A disk with nothing free: a trim makes room, so does a roll of a topic with limits; what needs room fails well."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

import evtool as api
from tests.faults import full_disk, history
from tests.faults.full_disk import SmallDisk
from tests.faults.history import Violation
from tests.faults.kill_at_call import on
from tests.faults.without import Without
from tests.program import Program, Result
from tests.topics import small_segments, write_commit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

pytestmark = full_disk.needed

SEGMENT = 12_000  # bytes, three pages of a tmpfs
COUNT = 60  # events, ten to a segment
AFTER = '{"by":"after"}'
TORN = b'{"offset":60,"ti'


class Topic(NamedTuple):
    """A topic on a disk with nothing free, and the lines that were in it then."""

    evtool: Program
    disk: SmallDisk
    lines: list[bytes]

    def check(self, result: Result, code: int) -> None:
        """A command ended like this, and without falling over."""
        if result.code != code or "Traceback" in result.err or (code and not result.err.startswith("evtool: ")):
            raise Violation(f"with nothing free it ended with {result}")

    def check_left(self, first: int, *more: str) -> None:
        """All lines from this offset on are there, and these events, and all is in order."""
        log = self.evtool.log("t")
        if not log.startswith(b"".join(self.lines[first:])) or log.count(b"\n") != len(self.lines) - first + len(more):
            raise Violation(f"what is left is not what was there from offset {first} on: {log[:200]!r}")
        healthy = Program(self.evtool.home)
        if (verified := healthy("verify", "t")).code != 0:
            raise Violation(f"verify finds something: {verified}")

    def make_room(self) -> None:
        """Let there be space again."""
        self.disk.filler.unlink(missing_ok=True)

    def check_goes_on(self) -> None:
        """Once there is space, all goes on."""
        self.make_room()
        self.check(Program(self.evtool.home)("append", "t", AFTER), 0)


def fill(evtool: Program, disk: SmallDisk, *, torn: bool = False) -> Topic:
    """Make a topic of several segments on a small disk, and fill it up to the last byte."""
    small = on(evtool, disk.path / "home")
    small_segments(Program(small.home), "t", SEGMENT)
    topic = api.open(small.home).topic("t")
    for number in range(COUNT):
        topic.append({"n": number, "text": "x" * 1000}, key=f"k{number % 5}")
    write_commit(Program(small.home), 20)
    lines = [one.line for one in history.read(small.topic("t"))]
    if torn:
        with small.segments("t")[-1].open("ab") as segment:
            segment.write(TORN)
    disk.fill(0)
    assert shutil.disk_usage(disk.path).free == 0
    assert len(small.segments("t")) > 5
    return Topic(small, disk, lines)


def _first_left(topic: Topic) -> int:
    return int(topic.evtool.segments("t")[0].name[:20])


def check_trim(topic: Topic) -> None:
    """What lies before an offset can be removed, the group that loses events being named."""
    result = topic.evtool("trim", "t", "--before", "45", "--yes")
    topic.check(result, 0)
    first = _first_left(topic)
    if not 30 < first <= 45:
        raise Violation(f"trimmed up to {first}")
    assert "group g lost" in result.err
    topic.check_left(first)
    assert shutil.disk_usage(topic.disk.path).free >= 3 * SEGMENT
    topic.check(topic.evtool("append", "t", AFTER), 0)


def check_trim_by_limits(topic: Topic) -> None:
    """So can what a topic's own limits do not allow, though the note of what the clocks say cannot be written."""
    path = topic.evtool.topic("t") / "topic.json"
    path.write_text('{"max-events":25,"max-age":86400.0}')  # in the space that it has
    topic.check(topic.evtool("trim", "t"), 0)
    first = _first_left(topic)
    assert 20 < first <= 35
    topic.check_left(first)


def check_roll(topic: Topic) -> None:
    """An append for which a new segment must be begun finds the room that the limits of the topic make."""
    (topic.evtool.topic("t") / "topic.json").write_text(f'{{"segment-bytes":{SEGMENT},"max-events":25}}')
    event = f'"{"y" * 4000}"'
    told = []
    while len(topic.evtool.segments("t")) > 4:
        result = topic.evtool("append", "t", event)
        topic.check(result, 0)
        told.append(event)
        assert len(told) < 10, "nothing was rolled"
    topic.check_left(_first_left(topic), *told)


def check_set(topic: Topic) -> None:
    """Settings that cannot be written are those from before, and all goes on with them."""
    before = Program(topic.evtool.home)("set", "t", "--json")
    result = topic.evtool("set", "t", "max-bytes=1MiB")
    topic.check(result, 74)
    assert "No space left on device" in result.err
    after = Program(topic.evtool.home)("set", "t", "--json")
    if after.out != before.out:
        raise Violation(f"the settings were {before}, and are {after}")
    topic.check_left(0)
    topic.check_goes_on()
    topic.check(Program(topic.evtool.home)("set", "t", "max-bytes=1MiB"), 0)


def check_repair(topic: Topic) -> None:
    """A torn line that cannot be kept is not cut; with room, it is."""
    log = topic.evtool.log("t")
    topic.check(topic.evtool("repair", "t", "--yes"), 74)
    if topic.evtool.log("t") != log:
        raise Violation("it was cut without being kept")
    topic.make_room()
    topic.check(topic.evtool("repair", "t", "--yes"), 0)
    if not any(TORN in path.read_bytes() for path in (topic.evtool.topic("t") / "damaged").glob("*")):
        raise Violation("the torn bytes are gone")
    topic.check_left(0)
    topic.check_goes_on()


def check_compact(topic: Topic) -> None:
    """A compaction that finds no room for what stays leaves all as it was, or what it has done is right."""
    evtool = Program(topic.evtool.home)
    state = evtool("state", "t")
    assert state.code == 0
    result = topic.evtool("compact", "t", "--yes")
    topic.check(result, 74 if result.code else 0)
    if (now := evtool("state", "t")).out != state.out:
        raise Violation(f"the state is another: {now}")
    assert evtool("verify", "t").code == 0
    topic.make_room()
    topic.check(evtool("compact", "t", "--yes"), 0)
    if (now := evtool("state", "t")).out != state.out:
        raise Violation(f"the state is another: {now}")
    topic.check_goes_on()


CHECKS: dict[str, Callable[[Topic], None]] = {
    "trim": check_trim,
    "trim by limits": check_trim_by_limits,
    "roll": check_roll,
    "set": check_set,
    "repair": check_repair,
    "compact": check_compact,
}


def check(evtool: Program, name: str) -> None:
    """One of the checks, on a disk of its own."""
    with SmallDisk(evtool.home, 256) as disk:
        CHECKS[name](fill(evtool, disk, torn=name == "repair"))


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: the checks, again and again."""
    names = random.choices(list(CHECKS), k=5 * len(CHECKS))
    for number, name in enumerate(names):
        check(Program(directory / f"disk{number}"), name)
    return Counter(names)


@pytest.mark.parametrize("name", CHECKS)
def test_with_nothing_free_a_log_can_still_be_cared_for(evtool: Program, name: str) -> None:
    check(evtool, name)


@pytest.mark.parametrize(
    ("name", "protection", "what"),
    [
        ("trim", "place", "with nothing free it ended with"),
        ("roll", "place", "with nothing free it ended with"),
        ("set", "failing", "with nothing free it ended with"),
        ("repair", "keeping", "the torn bytes are gone"),
    ],
)
def test_control_what_needs_room_shows(evtool: Program, name: str, protection: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        check(Without(evtool.home, protection), name)
