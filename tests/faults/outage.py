"""Row 4: power cuts, one after the other on one file system, while producers append, a group commits and old events go.

What was acknowledged is read before the cut: a sync that is under way during it proves nothing.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from evtool.log import bounds, retention
from evtool.log.verify import verify
from evtool.stores import open_store
from tests.faults import power_cut, senders
from tests.faults.alone import alone
from tests.faults.forked import Forked, Producing
from tests.faults.history import Violation
from tests.faults.keyed import KeyedScene
from tests.faults.power_cut import DROP_ALL, FLUSH_JOURNAL, Disk
from tests.program import wait_until
from tests.topics import open_directory

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from evtool.log.topic import TopicLog
    from tests.faults.forked import Report
    from tests.faults.senders import Sender

KINDS = ("ext4", "xfs")
_CUTS = 60  # of one file system
_CUTS_OF_A_TOPIC = 4
_LARGE = 200
_PAUSE = 0.0005  # seconds
_WHOLE = 0.02  # of the batches are stored as a whole
_GROUP = "g"


def ext4(directory: Path, random: random.Random) -> Counter[str]:
    """Cut the power of an ext4 file system."""
    return _work(directory, random, "ext4")


def xfs(directory: Path, random: random.Random) -> Counter[str]:
    """Cut the power of an XFS file system."""
    return _work(directory, random, "xfs")


def _work(directory: Path, random: random.Random, kind: str) -> Counter[str]:
    if why := power_cut.why_not(kind):
        pytest.skip(why)
    return alone(cut, directory, random, KINDS.index(kind), _CUTS)


def cut(directory: Path, random: random.Random, kind: int, cuts: int) -> Counter[str]:
    """Make a file system of a kind, cut its power so many times, and check after each."""
    counts: Counter[str] = Counter()
    with Disk(directory, KINDS[kind]) as disk:
        for number in range(0, cuts, _CUTS_OF_A_TOPIC):
            scene = random.choice(_SCENES)(disk.path / "home", f"t{number}", random)
            for _ in range(min(_CUTS_OF_A_TOPIC, cuts - number)):
                play(scene, disk, random)
                counts += scene.check()
                counts += Counter({"cuts": 1, f"on {KINDS[kind]}": 1})
            shutil.rmtree(scene.topic)
    return counts


def play(scene: Scene | KeyedScene, disk: Disk, random: random.Random) -> None:
    """Let all do their work, and cut the power of it."""
    at_work = scene.begin()
    try:
        wait_until(lambda: scene.is_under_way() or any(one.has_ended() for one in at_work))
        time.sleep(random.uniform(0, 0.03))
        if ended := [one for one in at_work if one.has_ended()]:
            raise Violation(f"one has ended before the cut: {ended[0].last_words}")
        scene.learn()
        disk.cut(random.choice((DROP_ALL, FLUSH_JOURNAL)))
    finally:
        for one in at_work:
            one.signal(signal.SIGKILL)
        for one in at_work:
            one.wait()
    scene.learn_intentions()
    for one in at_work:
        one.close()
    disk.come_back()


class Scene:
    """A topic on a disk, who is at work in it, and what they know of it.

    Whoever opens a file on the disk is a process that ends before the disk is unmounted.
    """

    def __init__(self, home: Path, name: str, random: random.Random) -> None:
        self.topic = home / "topics" / name
        self._home = home
        self._name = name
        self._random = random
        self._segment_bytes = random.choice((5_000, 60_000, 1_000_000))
        self._is_trimmed = random.random() < 0.3
        self._told: list[Sender] = []
        self._count = 0  # of producers
        self._committed = self._trimmed = -1  # the highest offsets of which that was said

    def begin(self) -> list[Forked]:
        """Let all begin."""
        self._producers = [self._producer() for _ in range(self._random.randint(1, 4))]
        self._consumer, self._trimmer = Forked(self._consume), Forked(self._trim)
        return [*self._producers, self._consumer, self._trimmer]

    def is_under_way(self) -> bool:
        """Whether each producer has been acknowledged something."""
        return all(one.has_reported() for one in self._producers)

    def learn(self) -> None:
        """Take in what is promised so far."""
        self._told += [one.sender() for one in self._producers]
        self._committed = max((one[0] for one in self._consumer.reports()), default=self._committed)

    def learn_intentions(self) -> None:
        """Take in what somebody may have begun to do until the end."""
        self._trimmed = max((one[0] for one in self._trimmer.reports()), default=self._trimmed)

    def check(self) -> Counter[str]:
        """Check what is there after a cut, for which one more event is appended; count what was acknowledged."""
        last = self._producer(limit=1)
        if last.wait():
            raise Violation(f"the log cannot go on: {last.last_words}")
        self._told.append(last.sender())
        last.close()
        log = senders.read(self.topic, _LARGE)
        log.check_senders(self._told)
        if log.first > max(self._trimmed, 0):
            raise Violation(f"the log begins with {log.first}, and only what is before {self._trimmed} was to go")
        self._check_committed(log.following - 1)
        if problems := verify(open_directory(self.topic)).problems:
            raise Violation(f"verify finds something: {problems[0][1].what}")
        return Counter(events=sum(one.events for sender in self._told for one in sender.told))

    def _check_committed(self, end: int) -> None:
        path = self.topic / "consumers" / f"{_GROUP}.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        committed = json.loads(lines[-1])["committed"] if lines else -1
        if committed < self._committed:
            raise Violation(f"lost: the commit of {self._committed}, it is {committed}")
        if committed > end:
            raise Violation(f"committed {committed}, but only {end} are on disk")

    def _producer(self, limit: int = 1 << 62) -> Producing:
        self._count += 1
        return Producing(
            self._log, self._count, self._random, large=_LARGE, most=20, limit=limit, pause=_PAUSE, whole=_WHOLE
        )

    def _log(self) -> TopicLog:
        store = open_store(str(self._home), create=True)
        if not store.has(self._name):
            store.ensure_topic(self._name).writer()
            store.topic(self._name).set({"segment-bytes": self._segment_bytes})
        return store.ensure_topic(self._name).writer()

    def _consume(self, report: Report) -> None:
        """Handle one event after the other, which is to do nothing, and report what is committed for good."""
        store = open_store(str(self._home), create=True)
        wait_until(lambda: store.has(self._name))
        group = store.topic(self._name).group(_GROUP)
        assert group.try_acquire()
        reader = store.topic(self._name).reader(group.committed or 0)
        while True:
            for _ in range(self._random.randrange(20)):
                if reader.read(1000):
                    group.commit(reader.next_offset)
            group.sync()
            if group.committed is not None:
                report(group.committed)

    def _trim(self, report: Report) -> None:
        """Remove old events now and then; report first before which."""
        wait_until(lambda: self.topic.exists())
        while True:
            time.sleep(self._random.expovariate(200) if self._is_trimmed else 60)
            topic = open_directory(self.topic)
            first, end = bounds.first_offset(topic), bounds.next_offset(topic)
            before = self._random.randint(first, end)
            report(before)
            retention.trim(topic, before)


_SCENES = (Scene, Scene, KeyedScene)
