"""Giving events out for somebody else to commit: each line says for which group and for which member of it."""

from __future__ import annotations

from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.consumer import Deliver, Handled
    from evtool.delivery.feed import Feed
    from evtool.delivery.membership import Membership


class Manual:
    """Marks the lines of a feed with topic, group and member before they go on."""

    def __init__(self, membership: Membership, deliver: Deliver, feed: Feed) -> None:
        self._membership = membership
        self._deliver = deliver
        self._feed = feed

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Deliver the lines, marked. What is handled of them nobody here knows."""
        marked = []
        for text in lines.split(b"\n")[:-1]:
            whole = text + b"\n"
            topic = self._feed.sources[0].topic if self._feed.is_single else line.topic_of(whole)
            group = self._membership.groups[topic]
            marked.append(line.with_group(line.without_topic(whole), topic, group.name, group.member))
        self._deliver(b"".join(marked), handled)

    def end(self) -> None:
        """All that was read has been given out, and nothing more comes."""
        for topic, offset in self._feed.positions().items():
            group = self._membership.groups[topic]
            group.say(given=str(offset))
            group.sync()
