"""Row 8: sixteen producers, eight readers, kills, stops, rolls and trims, all at once and checked as a history.

What is going to be trimmed is copied first, so that in the end all events ever stored are looked at.
"""

from __future__ import annotations

import binascii
import random as chance
import shutil
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from evtool.log import retention
from evtool.log.reader import Reader
from evtool.log.topic import TopicLog
from tests.faults import senders
from tests.faults.alone import alone
from tests.faults.forked import Forked, Producing
from tests.faults.history import Violation
from tests.faults.senders import View
from tests.topics import open_directory

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.forked import Report
    from tests.faults.senders import Sender

_PRODUCERS, _READERS = 16, 8
_LARGE = 2000
_EVENTS = 30_000  # of each producer
_MISSED = -1


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One bustle."""
    return alone(bustle, directory, random, _EVENTS)


def bustle(directory: Path, random: random.Random, events: int) -> Counter[str]:
    """Let it be, with so many events of each producer, and check what everybody was told and saw."""
    topic = directory / "t"
    open_directory(topic)
    (topic / "topic.json").write_text(f'{{"segment-bytes":{random.choice((400_000, 3_000_000))}}}')
    scene = Scene(topic, directory / "trimmed", random, events)
    scene.play()
    scene.finish()
    log = scene.whole_log()
    log.check_senders(scene.told)
    seen = sum(log.check_views(views) for views in scene.views)
    trimmed = len(list(scene.copies.glob("*.jsonl")))
    return scene.counts + Counter({"events": log.following, "events seen": seen, "segments trimmed": trimmed})


class Scene:
    """A topic, and all who are at work in it. copies: where segments are kept that were trimmed."""

    def __init__(self, topic: Path, copies: Path, random: random.Random, events: int) -> None:
        self.copies = copies
        self.told: list[Sender] = []
        self.views: list[Iterator[View]] = []
        self.counts: Counter[str] = Counter()
        copies.mkdir()
        self._topic = topic
        self._end = copies.with_name("end")  # when it is there, a reader that is at the end of the log ends as well
        self._random = random
        self._left = events * _PRODUCERS
        self._count = 0
        self._producers = [self._producer() for _ in range(_PRODUCERS)]
        self._readers = [self._reader(0) for _ in range(_READERS)]

    def play(self) -> None:
        """Kill, stop and trim until all events are stored; some producers come and go all the time."""
        while self._producers:
            time.sleep(self._random.expovariate(300))
            self._random.choice((self._kill, self._stop, self._stop, self._trim, self._replace_reader))()
            for one in [one for one in self._producers if one.has_ended()]:
                self._bury(one)
                if self._left > 0:
                    self._producers.append(self._producer())

    def finish(self) -> None:
        """Let one more append, and the readers come to the end."""
        last = Producing(self._log, self._count, self._random, large=_LARGE, most=1, limit=1)
        if last.wait():
            raise Violation(f"the next producer could not go on: {last.last_words}")
        self.told.append(last.sender())
        self._end.touch()
        for reader in self._readers:
            self._end_reader(reader, 0)

    def whole_log(self) -> senders.Log:
        """All that was ever stored."""
        log = senders.Log(_LARGE)
        copied = sorted(self.copies.glob("*.jsonl"))
        there = sorted(self._topic.glob("*.jsonl"))
        for path in [*(one for one in copied if one.name < there[0].name), *there]:
            log.take_in(path)
        return log

    def _log(self) -> TopicLog:
        return TopicLog(open_directory(self._topic), "t")

    def _producer(self) -> Producing:
        limit = min(self._left, self._random.randint(1000, 40_000))
        self._left -= limit
        self._count += 1
        most = self._random.choice((1, 20, 300))
        return Producing(self._log, self._count - 1, self._random, large=_LARGE, most=most, limit=limit)

    def _bury(self, one: Producing) -> None:
        if one.wait() not in (0, -signal.SIGKILL):
            raise Violation(f"a producer failed: {one.last_words}")
        self._producers.remove(one)
        self.told.append(one.sender())
        self._left += one.limit - sum(told.events for told in self.told[-1].told)
        one.close()

    def _kill(self) -> None:
        self._random.choice(self._producers).signal(signal.SIGKILL)
        self.counts["kills"] += 1

    def _stop(self) -> None:
        """Stop a producer or a reader for a moment, wherever it is, and be it with the lock."""
        one = self._random.choice([*self._producers, *self._readers])
        one.signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0, 0.01))
        one.signal(signal.SIGCONT)
        self.counts["stops"] += 1

    def _trim(self) -> None:
        """Copy some of the segments that nobody writes to any more, and let them go."""
        names = sorted(path.name for path in self._topic.glob("*.jsonl"))
        keep = self._random.randint(1, 10)
        for name in names[:-keep]:
            shutil.copyfile(self._topic / name, self.copies / name)
        if names[:-keep]:
            retention.trim(open_directory(self._topic), int(names[-keep][:20]))
            self.counts["trims"] += 1

    def _reader(self, offset: int) -> Forked:
        return Forked(lambda report: _follow(self._topic, offset, self._end, report))

    def _replace_reader(self) -> None:
        """Kill a reader; another one begins where it was, or anywhere before."""
        one = self._readers.pop(self._random.randrange(_READERS))
        one.signal(signal.SIGKILL)
        following = self._end_reader(one, -signal.SIGKILL)
        self._readers.append(self._reader(self._random.choice((following, self._random.randint(0, following)))))
        self.counts["readers killed"] += 1

    def _end_reader(self, one: Forked, expected: int) -> int:
        """Wait for its end; return the offset to which it came."""
        if one.wait() != expected:
            raise Violation(f"a reader ended with {one.wait()}: {one.last_words}")
        views = [View(*numbers) for numbers in one.reports()]
        one.close()
        self.views.append(iter(views))
        return views[-1].following if views else 0


def _follow(topic: Path, offset: int, end: Path, report: Report) -> None:
    """Read from an offset on, and report each block that came."""
    reader = Reader(open_directory(topic), offset, lambda first, last: report(first, last + 1, _MISSED))
    while True:
        is_last = end.exists()
        block = reader.read(chance.choice((1, 4096, 1 << 16)))
        if block:
            first = int(block[10 : block.index(b",")])
            report(first, reader.next_offset, len(block), binascii.crc32(block))
        elif is_last:
            return
        else:
            time.sleep(0.001)
