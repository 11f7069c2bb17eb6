"""Row 2: sixteen producers, each killed somewhere on its way and replaced by another one, which heals what it left."""

from __future__ import annotations

import heapq
import signal
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from evtool.log.topic import TopicLog
from evtool.log.verify import verify
from tests.faults import senders
from tests.faults.alone import alone
from tests.faults.forked import Producing
from tests.faults.history import Violation
from tests.topics import open_directory

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.senders import Sender

_PRODUCERS = 16
_LONGEST_LIFE = 0.020  # seconds
_LARGE = 40  # every so manieth event is large enough for its write to be torn
_PAUSE = 0.002  # seconds
_DOOMED = 0.05  # of them die amid a large write, if they come to one: to hit one by chance takes long
_KILLS = 1000  # of producers of one topic


def work(directory: Path, random: random.Random) -> Counter[str]:
    """Kill a thousand."""
    return alone(kill, directory, random, _KILLS)


def kill(directory: Path, random: random.Random, kills: int) -> Counter[str]:
    """Kill so many producers of a topic, let one more append, and check what there is."""
    topic = directory / "t"
    open_directory(topic)
    (topic / "topic.json").write_text(f'{{"segment-bytes":{random.choice((2_000_000, 16_000_000, 64_000_000))}}}')
    told = _kill(topic, random, kills)
    last = Producing(lambda: _log(topic), len(told), random, large=_LARGE, most=1, limit=1)
    if last.wait():
        raise Violation(f"the next producer could not go on: {last.last_words}")
    told.append(last.sender())
    log = senders.read(topic, _LARGE)
    log.check_senders(told)
    if problems := verify(open_directory(topic)).problems:
        raise Violation(f"verify finds something: {problems[0][1].what}")
    torn = len(list(topic.glob("damaged/*")))
    return Counter({"kills": kills, "torn tails": torn, "events": log.following})


def _kill(topic: Path, random: random.Random, kills: int) -> list[Sender]:
    """Let producers come and go until so many were killed; return what each was told."""
    told: list[Sender] = []
    alive: list[tuple[float, int, Producing]] = []
    dying: deque[Producing] = deque()
    for by in range(kills):
        if len(alive) == _PRODUCERS:
            dying.append(_kill_next(alive))
        if len(dying) > _PRODUCERS // 4:  # to wait for each would take longer than to kill it
            told.append(_bury(dying.popleft()))
        doomed = random.random() < _DOOMED
        one = Producing(lambda: _log(topic), by, random, large=_LARGE, most=10, pause=_PAUSE, doomed=doomed)
        heapq.heappush(alive, (time.monotonic() + random.uniform(0, _LONGEST_LIFE), by, one))
    while alive:
        dying.append(_kill_next(alive))
    return told + [_bury(one) for one in dying]


def _kill_next(alive: list[tuple[float, int, Producing]]) -> Producing:
    """Kill the one whose moment comes first."""
    moment, _, one = heapq.heappop(alive)
    time.sleep(max(0, moment - time.monotonic()))
    one.signal(signal.SIGKILL)
    return one


def _bury(one: Producing) -> Sender:
    """Wait for the end of one that was killed; return what it was told."""
    code = one.wait()
    if code not in (-signal.SIGKILL, -signal.SIGALRM):
        raise Violation(f"a producer ended with {code}: {one.last_words}")
    told = one.sender()
    one.close()
    return told


def _log(topic: Path) -> TopicLog:
    return TopicLog(open_directory(topic), "t")
