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
    """Write the words of a kind (topics, groups, where, sinks, settings) that begin with what was typed, one a line."""
    try:
        words = _words(args.kind, open_store(default_location(), allow_network=True))
    except EvtoolError:
        words = []
    view.write("".join(f"{word}\n" for word in words if word.startswith(args.word)).encode())
    return 0


def _words(kind: str, store: FileStore) -> list[str]:
    topics = store.topics()
    if kind == "topics":
        return topics
    if kind == "sinks":
        return [*_SINKS, *(f"topic:{topic}" for topic in topics)]
    if kind == "settings":
        from evtool.log.settings import KNOWN

        return [f"{name}=" for name in KNOWN]
    groups = sorted({group for topic in topics for group in store.groups(topic)})
    if kind == "groups":
        return groups
    if kind == "where":
        from evtool.stores.where import WORDS

        return [*WORDS, *_AGES, *(f"group:{group}" for group in groups)]
    return []
