"""evtool __complete: what a shell may put where the cursor is. Answers in silence whatever happens."""

from __future__ import annotations

from evtool.cli import view
from evtool.errors import EvtoolError
from evtool.stores import default_location, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.file import FileStore

_SINKS = ("topic:", "file:", "exec:")
_AGES = ("10m", "1h", "1d")


def run(args: Args) -> int:
    """Write the words of a kind (topics, groups, where, sinks, settings) that begin with what was typed, one a line.

    If topics are among the words that stand before, groups are those of these topics.
    """
    try:
        words = _words(args.kind, open_store(default_location(), allow_network=True), args.said)
    except EvtoolError:
        words = []
    view.write("".join(f"{word}\n" for word in words if word.startswith(args.word)).encode())
    return 0


def _words(kind: str, store: FileStore, said: list[str]) -> list[str]:
    topics = store.topics()
    if kind == "topics":
        return topics
    if kind == "sinks":
        return [*_SINKS, *(f"topic:{topic}" for topic in topics)]
    if kind == "settings":
        return _settings()
    named = [topic for topic in topics if topic in said] or topics
    groups = sorted({group for topic in named for group in store.groups(topic)})
    if kind == "groups":
        return groups
    if kind == "where":
        from evtool.stores.where import WORDS

        return [*WORDS, *_AGES, *(f"group:{group}" for group in groups)]
    return []


def _settings() -> list[str]:
    """NAME= of each setting; where its value is one of some words, with each of them."""
    from evtool.log.settings import KNOWN

    return [
        f"{name}={value}" for name, (unit, _) in KNOWN.items() for value in (unit if isinstance(unit, tuple) else ("",))
    ]
