"""evtool __complete: what a shell may put where the cursor is. Answers in silence whatever happens."""

from __future__ import annotations

from evtool.cli import view
from evtool.errors import EvtoolError
from evtool.stores import find, open_store, settings_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.protocol import Store

_SINKS = ("topic:", "file:", "exec:", "nats://")
_AGES = ("10m", "1h", "1d")


def run(args: Args) -> int:
    """Write the words of a kind (topics, groups, where, sinks, settings) that begin with what was typed, one a line.

    If topics are among the words that stand before, groups are those of these topics.
    """
    try:
        location, settings = find()
        if args.kind == "settings":
            words = _settings(location)
        else:
            words = _words(args.kind, open_store(location, allow_network=True, settings=settings), args.said)
    except EvtoolError:
        words = []
    view.write("".join(f"{word}\n" for word in words if word.startswith(args.word)).encode())
    return 0


def _words(kind: str, store: Store, said: list[str]) -> list[str]:
    topics = store.topics()
    if kind == "topics":
        return topics
    if kind == "sinks":
        return [*_SINKS, *(f"topic:{topic}" for topic in topics)]
    named = [topic for topic in topics if topic in said] or topics
    groups = sorted({group for topic in named for group in store.topic(topic).groups()})
    if kind == "groups":
        return groups
    if kind == "where":
        from evtool.stores.where import WORDS

        return [*WORDS, *_AGES, *(f"group:{group}" for group in groups)]
    return []


def _settings(location: str) -> list[str]:
    """NAME= of each setting; where its value is one of some words, with each of them."""
    known = settings_at(location)
    return [
        f"{name}={value}" for name, (unit, _) in known.items() for value in (unit if isinstance(unit, tuple) else ("",))
    ]
