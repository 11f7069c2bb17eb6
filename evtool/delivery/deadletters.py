"""Dead letters: events that could not be handled, set aside in a topic of their own with the story of each.

The data of one is

    {"event":{…},"topic":"orders","group":"billing","attempts":6,"exit":1,"signal":null,"stderr":"…","handler":"./bill.sh",
     "first":"2026-11-23T22:25:32.123456Z","last":"2026-11-23T22:26:01.000000Z"}

with the stored event just as it was, the end of what the handler said last, and when the first and the last attempt
failed. Key and type are those of the event.
"""

from __future__ import annotations

import time

from evtool.log import line, names, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.task import Outcome, Task
    from evtool.stores.protocol import Store, Writer

_KEPT_ATTRIBUTES = ("key", "type")


class DeadLetters:
    """Sets events aside for a group, or for nobody. handler: what tried to handle them."""

    def __init__(self, store: Store, group: str | None, handler: str) -> None:
        self._store = store
        self._group = group
        self._handler = handler
        self._logs: dict[str, Writer] = {}

    def set_aside(self, task: Task, outcome: Outcome) -> None:
        """Store the event with its story; durable on return. Raises StorageError."""
        topic = names.dead_name(task.topic)
        log = self._logs.get(topic)
        if log is None:
            log = self._logs[topic] = self._store.ensure_topic(topic).writer()
        attributes = line.attributes(task.text)
        kept = {name: attributes[name] for name in _KEPT_ATTRIBUTES if name in attributes}
        log.append([payload.encode_attributes(kept) + line.DATA + self._story(task, outcome)])
        log.sync()

    def _story(self, task: Task, outcome: Outcome) -> bytes:
        import orjson

        now = time.time()
        story = {
            "topic": task.topic,
            "group": self._group,
            "attempts": task.attempts,
            "exit": outcome.exit,
            "signal": outcome.signal,
            "stderr": (outcome.stderr.decode("utf-8", "replace") or outcome.why),
            "handler": self._handler,
            "first": _stamp(task.first or now),
            "last": _stamp(now),
        }
        return b'{"event":' + line.without_topic(task.text)[:-1] + b"," + orjson.dumps(story)[1:]


def _stamp(seconds: float) -> str:
    return line.stamp(round(seconds * 1_000_000) * 1000).decode()
