"""A log under everything that can befall it, step by step in any order, against a dictionary of what is stored."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from evtool.errors import EvtoolError, PartialAppendError
from evtool.log import damaged, line, names, topic
from evtool.log.reader import Reader
from evtool.log.topic import TopicLog
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable

values = st.one_of(st.integers(0, 9), st.text(max_size=12), st.sampled_from(["x" * 150, "x" * 5000]))
batches = st.lists(values, min_size=1, max_size=4)
writers = st.sampled_from(["one", "other"])
long_enough = settings(
    deadline=None, max_examples=60, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)


class Clock:
    """Stands for the module `time`, and goes where it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000_000

    def time_ns(self) -> int:
        self.now += 1000
        return self.now


class Machine(RuleBasedStateMachine):
    """`stored` is what must be in the log: offset to data. `lost` are bytes of torn lines, which must be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        (self.path / "topic.json").write_text('{"segment-bytes":400}')
        self.clock = topic.time = Clock()  # type: ignore[assignment]
        self.logs: dict[str, TopicLog] = {}
        self.stored: dict[int, Any] = {}
        self.next = 0
        self.is_torn = False
        self.cut: set[int] = set()  # where appends ended short, without a crc; the next one in the segment covers them
        self.lost: list[bytes] = []
        self.seen: dict[int, Any] = {}
        self.missed: set[int] = set()
        self.reader = self.new_reader()

    def teardown(self) -> None:
        import time

        topic.time = time
        shutil.rmtree(self.path)

    def new_reader(self, offset: int = 0) -> Reader:
        def miss(first: int, last: int) -> None:
            self.missed.update(range(first, last + 1))

        return Reader(open_directory(self.path), offset, miss)

    def log(self, writer: str) -> TopicLog:
        if writer not in self.logs:
            self.logs[writer] = TopicLog(open_directory(self.path), "t")
        return self.logs[writer]

    def segments(self) -> list[Path]:
        return sorted(self.path.glob("*.jsonl"))

    def acknowledged(self, offsets: Any, batch: list[Any]) -> None:
        assert list(offsets) == list(range(self.next, self.next + len(batch)))
        self.stored.update(zip(offsets, batch, strict=True))
        self.next += len(batch)
        self.is_torn = False

    @rule(writer=writers, batch=batches)
    def append(self, writer: str, batch: list[Any]) -> None:
        self.acknowledged(self.log(writer).append(encoded(batch), line.DATA), batch)

    @rule(writer=writers, batch=batches)
    def append_whole(self, writer: str, batch: list[Any]) -> None:
        self.acknowledged(self.log(writer).append_whole([encoded(batch)], line.DATA), batch)

    @rule(writer=writers, batch=batches, part=st.floats(0, 0.99))
    def fill_the_disk(self, writer: str, batch: list[Any], part: float) -> None:
        """The disk takes a part of a write and then nothing: what fits whole is stored, and said to be."""
        real = os.write

        def small(fd: int, data: bytes) -> int:
            os.write = full
            return real(fd, data[: int(len(data) * part)])

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        log = self.log(writer)
        log.next_offset()  # heals
        self.is_torn = False
        os.write = small
        try:
            log.append(encoded(batch), line.DATA)
        except PartialAppendError as error:
            assert (error.total, error.first, error.last) == (len(batch), self.next, self.next + error.stored - 1)
            if error.stored:
                self.acknowledged(range(error.first, error.last + 1), batch[: error.stored])
            self.cut.add(error.last)
        finally:
            os.write = real

    @rule(writer=writers)
    def sync(self, writer: str) -> None:
        self.log(writer).sync()

    @rule(writer=writers)
    def open_anew(self, writer: str) -> None:
        self.logs.pop(writer, None)

    @rule(nanoseconds=st.sampled_from([-(10**12), -1, 10**9, 10**15]))
    def set_the_clock(self, nanoseconds: int) -> None:
        self.clock.now += nanoseconds

    @precondition(lambda self: self.segments() and not self.is_torn and is_open(self.segments()[-1]))
    @rule(part=st.floats(0.01, 0.99))
    def kill_a_producer_in_its_write(self, part: float) -> None:
        whole = line.render(self.next, line.stamp(self.clock.time_ns()), line.DATA, [b'"' + b"y" * 50 + b'"'], 0)
        torn = whole[: max(1, int(len(whole) * part))]
        with self.segments()[-1].open("ab") as file:
            file.write(torn)
        self.is_torn = True
        self.lost.append(torn)

    @precondition(lambda self: self.segments() and not self.is_torn and self.segments()[-1].stat().st_size)
    @rule(created=st.booleans())
    def kill_a_producer_in_its_roll(self, created: bool) -> None:
        self.segments()[-1].chmod(0o444)
        if created:
            (self.path / names.segment_name(self.next)).touch(0o600)

    @rule()
    def kill_a_producer_in_append_whole(self) -> None:
        (self.path / (names.segment_name(self.next) + ".new")).write_bytes(b'{"offset":')

    @precondition(lambda self: len(self.segments()) > 1)
    @rule()
    def trim(self) -> None:
        oldest, following = self.segments()[:2]
        oldest.unlink()
        first = int(following.name[:20])
        self.stored = {offset: data for offset, data in self.stored.items() if offset >= first}

    @rule(limit=st.sampled_from([1, 100, 1 << 16]))
    def read_on(self, limit: int) -> None:
        block = self.reader.read(limit)
        assert block or self.reader.next_offset == self.next
        self.seen.update(parsed(block))

    @rule(offset=st.integers(0, 40))
    def begin_elsewhere(self, offset: int) -> None:
        self.reader = self.new_reader(min(offset, self.next))
        self.seen, self.missed = {}, set(range(self.reader.next_offset))

    @invariant()
    def what_was_read_is_all_that_there_was(self) -> None:
        """In order and once, but for what was trimmed before it was read, which was told."""
        assert list(self.seen) == sorted(self.seen)
        assert set(self.seen) | self.missed == set(range(self.reader.next_offset)) or not self.seen
        for offset, data in self.seen.items():
            assert self.stored.get(offset, data) == data

    @invariant()
    def the_files_hold_what_is_stored(self) -> None:
        found, times, carry = {}, [b""], 0
        for segment in self.segments():
            carry = 0
            for text in segment.read_bytes().splitlines(keepends=True):
                if not text.endswith(b"\n"):
                    assert self.is_torn
                    assert segment == self.segments()[-1]
                    continue
                found.update(parsed(text))
                times.append(line.time_of(text))
                carry = crc32(line.without_crc(text) if line.crc_of(text) else text, carry)
                if (told := line.crc_of(text)) is not None:
                    assert told == b"%08x" % carry
                    carry = 0
            assert carry == 0 or max(found) in self.cut  # the last line of each append has one
        assert found == self.stored
        assert times == sorted(times)

    @invariant()
    def what_was_torn_is_kept(self) -> None:
        kept = [path.read_bytes() for path in (self.path / "damaged").glob("*")]
        assert sorted(kept) == sorted(self.lost[:-1] if self.is_torn else self.lost)


def encoded(batch: list[Any]) -> list[bytes]:
    return [json.dumps(one).encode() for one in batch]


def parsed(block: bytes) -> dict[int, Any]:
    events = [json.loads(one) for one in block.splitlines()]
    return {event["offset"]: event["data"] for event in events}


def is_open(path: Path) -> bool:
    return bool(os.stat(path).st_mode & 0o200)


def test_a_log_is_a_dictionary_whatever_happens() -> None:
    run_state_machine_as_test(Machine, settings=long_enough)


def ignore(*_: Any, **__: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "protection", "instead"),
    [
        (TopicLog, "_heal", lambda *_: None),
        (damaged, "put_aside", lambda *_: "nowhere"),
        (topic, "max", lambda _, now: now),  # times from the clock as it is
    ],
    ids=["healing", "keeping", "steady-clock"],
)
def test_control_without_a_protection_it_is_not(
    owner: Any, protection: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, protection, instead, raising=False)
    patient = settings(
        long_enough,
        max_examples=1000,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        derandomize=False,
        database=None,
    )
    with pytest.raises((AssertionError, ValueError, EvtoolError)):
        run_state_machine_as_test(Machine, settings=patient)
