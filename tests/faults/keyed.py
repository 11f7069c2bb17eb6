"""A topic whose events have keys and which is compacted all the time, and what its producers know of it.

A key must never fall back to what was before the newest event that was acknowledged for it, deleted or not.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from evtool.log.verify import verify
from evtool.stores import open_store
from tests.faults.forked import Forked
from tests.faults.history import Violation
from tests.program import wait_until
from tests.topics import open_directory

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.forked import Report

_KEYS = 15
_NULLS = 11  # every so manieth event deletes its key


class KeyedScene:
    """Producers and a compaction. Whoever opens a file of the topic for long is a process of its own."""

    def __init__(self, home: Path, name: str, random: random.Random) -> None:
        self.topic = home / "topics" / name
        self._home = home
        self._name = name
        self._random = random
        self._segment_bytes = random.choice((2_000, 20_000))
        self._sent: list[int] = []  # by producer, how many events it may have sent
        self._told: list[int] = []  # by producer, how many were acknowledged
        self._compactions = 0

    def begin(self) -> list[Forked]:
        """Let all begin."""
        first = len(self._sent)
        self._producers = [self._producer(first + number) for number in range(self._random.randint(1, 3))]
        self._compactor = Forked(self._compact)
        return [*self._producers, self._compactor]

    def is_under_way(self) -> bool:
        """Whether each producer has been acknowledged something."""
        return all(any(told for _, told, *_ in one.reports()) for one in self._producers)

    def learn(self) -> None:
        """Take in what is promised so far."""
        self._compactions += len(list(self._compactor.reports()))
        for one in self._producers:
            self._told.append(max(told for _, told, *_ in one.reports()))

    def learn_intentions(self) -> None:
        """Take in what somebody may have begun to do until the end."""
        for one in self._producers:
            self._sent.append(max(sent for sent, *_ in one.reports()))

    def check(self) -> Counter[str]:
        """Check what is there after a cut; count what was acknowledged."""
        newest = self._newest()
        for by, (sent, told) in enumerate(zip(self._sent, self._told, strict=True)):
            for key in range(_KEYS):
                self._check_key(by, key, [n for n in range(sent) if _key(n) == key], told, newest)
        self._check_state(newest)
        return Counter({"keyed events": sum(self._told), "compactions": self._compactions})

    def _check_key(self, by: int, key: int, sent: list[int], told: int, newest: dict[str, Any]) -> None:
        acknowledged = max((n for n in sent if n < told), default=-1)
        found = newest.get(f"{by}-{key}", {"n": -1})["n"]
        may_be_gone = any(_is_null(n) for n in sent if n >= acknowledged)
        if found < acknowledged and not (found == -1 and may_be_gone):
            raise Violation(f"lost: event {acknowledged} of {by} for key {key}; the newest is {found}")

    def _newest(self) -> dict[str, Any]:
        """Key by key the newest event there is, with its data and its number."""
        _append_last(self._home, self._name)
        if problems := verify(open_directory(self.topic)).problems:
            raise Violation(f"verify finds something: {problems[0][1].what}")
        newest: dict[str, Any] = {}
        following = 0
        for path in sorted(self.topic.glob("*.jsonl")):
            for text in path.read_bytes().split(b"\n")[:-1]:
                event = json.loads(text)
                if event["offset"] < following:
                    raise Violation(f"offset {event['offset']} stands behind {following - 1}")
                following = event["offset"] + 1
                if "key" in event:
                    newest[event["key"]] = event | {"n": int(event["n"])}
        return newest

    def _check_state(self, newest: dict[str, Any]) -> None:
        """Check that evtool sees the same state."""
        store = open_store(str(self._home))
        lines = b"".join(store.topic(self._name).newest_of_each(1 << 60)).split(b"\n")[:-1]
        seen = {event["key"]: int(event["n"]) for text in lines if "key" in (event := json.loads(text))}
        if seen != {key: event["n"] for key, event in newest.items() if event["data"] is not None}:
            raise Violation("evtool state says something else than the log")

    def _producer(self, by: int) -> Forked:
        batch = self._random.randint(1, 20)
        return Forked(lambda report: self._produce(by, batch, report))

    def _produce(self, by: int, batch: int, report: Report) -> None:
        store = open_store(str(self._home), create=True)
        log = store.ensure_topic(self._name).writer()
        store.topic(self._name).set({"segment-bytes": self._segment_bytes})
        for n in range(0, 1 << 40, batch):
            report(n + batch, n)
            log.append([_body(by, one) for one in range(n, n + batch)])
            log.sync()
            report(n + batch, n + batch)

    def _compact(self, report: Report) -> None:
        wait_until(lambda: list(self.topic.glob("*.jsonl")))
        store = open_store(str(self._home))
        while True:
            store.topic(self._name).compact(0, 1 << 60, dry_run=False)
            report(1)


def _append_last(home: Path, name: str) -> None:
    def append(_: Report) -> None:
        open_store(str(home)).ensure_topic(name).writer().append([b'"data":"after"'])

    last = Forked(append)
    if last.wait():
        raise Violation(f"the log cannot go on: {last.last_words}")
    last.close()


def _key(n: int) -> int:
    return n * 7919 % _KEYS


def _is_null(n: int) -> bool:
    return n % _NULLS == 0


def _body(by: int, n: int) -> bytes:
    data = b"null" if _is_null(n) else b'"%b"' % (b"x" * (n % 50))
    return b'"key":"%d-%d","n":"%d","data":%b' % (by, _key(n), n, data)
