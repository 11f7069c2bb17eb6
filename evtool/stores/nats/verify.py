"""Is a topic on NATS what it should be? Every message an event of ours, none missing, the replicas all current.

What the server stores it checks by sums of its own, so what we can look for is what those do not tell: messages that
are not there and of which the server does not say that they were removed, those that somebody else has published, and
replicas that are away or behind. It all is as of the end of the topic when we began.
"""

from __future__ import annotations

import time

from evtool.log import line
from evtool.log.check import Problem
from evtool.stores.nats import names, stream
from evtool.stores.protocol import LAGGING
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.topic import NatsTopic

FOREIGN, LOST, FALLING, AHEAD = "foreign", "lost", "falling", "ahead"
_FOREIGN = b'","foreign":"nats","data":'  # what follows the time
_TIME_LENGTH = len(b',"time":"') + line.TIME_LENGTH
_MOST_FALL = 1.0  # seconds: so far the clocks of two servers may differ without anybody minding
_SILENT_NS = 3 * 10**9  # a replica says once a second that it is there
_PATIENCE = 5.0  # seconds in which a replica should become current


class Report:
    """What was found in a topic; see `evtool.stores.protocol.Report`. There are no segments and no seals.

    problems: each with the stream, or the replica, concerned.
    """

    __slots__ = ("confirmed", "events", "next", "problems", "seal", "sealed", "segments", "size", "trimmed")

    def __init__(self) -> None:
        self.problems: list[tuple[str, Problem]] = []
        self.events = self.size = self.next = self.confirmed = self.trimmed = 0
        self.segments: int | None = None
        self.sealed: int | None = None
        self.seal: str | None = None


def verify(connection: Connection, topic: NatsTopic, progress: Callable[[int], None] | None = None) -> Report:
    """Look at all of a topic. progress: called with the number of bytes that were looked at, again and again."""
    said = stream.info(connection, topic.name)
    report = Report()
    report.next = said["state"]["last_seq"]
    report.size = said["state"]["bytes"]
    first = said["state"]["first_seq"] - 1 if said["state"]["messages"] else report.next
    walk = _Walk(report, first, names.stream_of(topic.name), progress)
    for block in _blocks(topic, first, report.next):
        walk.look(block)
    walk.end()
    _look_for_lost(connection, topic.name, walk)
    _look_at_replicas(connection, topic.name, report)
    _look_at_groups(topic, report)
    return report


def _blocks(topic: NatsTopic, first: int, end: int) -> Iterator[bytes]:
    """Whole lines of all events from one offset to another."""
    reader = topic.reader(first)
    while reader.next_offset < end and (block := reader.read()):
        yield block


class _Walk:
    """The way through all events. gaps: runs of offsets without one, the first and the last of each."""

    def __init__(self, report: Report, first: int, where: str, progress: Callable[[int], None] | None) -> None:
        self._report = report
        self.where = where
        self._progress = progress
        self._next = first
        self._time = b""
        self._foreign: tuple[int, int] | None = None
        self.gaps: list[tuple[int, int]] = []

    def look(self, block: bytes) -> None:
        """Look at some whole lines."""
        for text in block.split(b"\n")[:-1]:
            offset = line.offset_of(text)
            if offset >= self._report.next:  # it came after we began
                break
            self._take(offset, text)
        if self._progress is not None:
            self._progress(len(block))

    def _take(self, offset: int, text: bytes) -> None:
        if offset > self._next:
            self.gaps.append((self._next, offset - 1))
        self._next = offset + 1
        self._report.events += 1
        moment = line.time_of(text)
        if moment < self._time:
            self._look_at_fall(offset, moment)
        self._time = moment
        if text.startswith(_FOREIGN, text.index(b",") + _TIME_LENGTH):
            self._take_foreign(offset)

    def _look_at_fall(self, offset: int, moment: bytes) -> None:
        fall = seconds_of(self._time) - seconds_of(moment)
        if fall > _MOST_FALL:
            what = f"its time is {fall:.1f} s earlier than that of the event before: the servers' clocks differ"
            self.say(FALLING, what, (offset, offset))

    def _take_foreign(self, offset: int) -> None:
        if self._foreign is not None and self._foreign[1] == offset - 1:
            self._foreign = self._foreign[0], offset
            return
        self._say_foreign()
        self._foreign = offset, offset

    def _say_foreign(self) -> None:
        if self._foreign is not None:
            first, last = self._foreign
            which = f"offset {first}" if first == last else f"offsets {first} to {last}"
            self.say(FOREIGN, f"{which}: no event of evtool's, somebody else has published it", self._foreign)

    def end(self) -> None:
        """Say what is still to be said."""
        self._say_foreign()
        if self._next < self._report.next:
            self.gaps.append((self._next, self._report.next - 1))

    def say(self, kind: str, what: str, offsets: tuple[int, int] | None = None) -> None:
        """Note something that is wrong."""
        self._report.problems.append((self.where, Problem(kind, what, 0, 0, 0, offsets)))


def _look_for_lost(connection: Connection, topic: str, walk: _Walk) -> None:
    """Say which events are not there, were not removed, and do not lie before the beginning."""
    if not walk.gaps:
        return
    state = stream.info(connection, topic, deleted_details=True)["state"]
    first = state["first_seq"] - 1
    removed = {sequence - 1 for sequence in state.get("deleted") or ()}
    for low, high in walk.gaps:
        lost = [offset for offset in range(max(low, first), high + 1) if offset not in removed]
        if lost:
            what = f"{len(lost)} events from offset {lost[0]} to {lost[-1]} are missing, and were not removed"
            walk.say(LOST, what, (lost[0], lost[-1]))


def _look_at_replicas(connection: Connection, topic: str, report: Report) -> None:
    """Say which replicas are away or behind, once they have had the time to follow."""
    deadline = time.monotonic() + _PATIENCE
    while found := list(_replica_problems(stream.info(connection, topic))):
        if time.monotonic() > deadline:
            report.problems += found
            return
        time.sleep(0.2)


def _replica_problems(said: dict[str, Any]) -> Iterator[tuple[str, Problem]]:
    cluster, wanted = said.get("cluster") or {}, said["config"].get("num_replicas") or 1
    where = said["config"]["name"]
    replicas = cluster.get("replicas") or []
    if len(replicas) + 1 < wanted:
        yield where, Problem(LAGGING, f"it has {len(replicas) + 1} replicas of {wanted}", 0, 0, 0)
    for one in replicas:
        if one.get("offline"):
            why = "is offline"
        elif not one.get("current") and one.get("lag"):
            why = f"is behind, by {one['lag']} operations"
        elif not one.get("current") or (one.get("active") or 0) > _SILENT_NS:  # the server itself takes 10 s to say so
            why = f"has not been heard of for {(one.get('active') or 0) / 1e9:.1f} s"
        else:
            continue
        yield where, Problem(LAGGING, f"the replica on {one.get('name', '?')} {why}", 0, 0, 0)


def _look_at_groups(topic: NatsTopic, report: Report) -> None:
    """Say which groups stand beyond the end: the stream was put back, or made anew, under them."""
    for group in topic.groups():
        end = topic.bounds().next  # before the group is asked: it cannot stand behind what comes later
        committed = topic.standing(group).committed
        if committed > max(end, topic.bounds().next):
            span = (end, committed - 1)
            what = f"group {group} stands at {committed}, and the end is {end}"
            report.problems.append((names.stream_of(topic.name), Problem(AHEAD, what, 0, 0, 0, span)))
