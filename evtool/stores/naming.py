"""Finding topics by what people call them: globs, several at once, names that are nearly right."""

from __future__ import annotations

from evtool.errors import NotFoundError
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from evtool.stores.protocol import Store


def matching(store: Store, pattern: str) -> list[str]:
    """The topics that match a glob, sorted; of dead letters only if it ends in ``.dead``."""
    from fnmatch import fnmatchcase

    names.check_pattern(pattern)
    wants_dead = pattern.endswith(names.DEAD_SUFFIX)  # else whoever consumes them would feed itself
    return [
        name
        for name in store.topics()
        if fnmatchcase(name, pattern) and (wants_dead or not name.endswith(names.DEAD_SUFFIX))
    ]


def named(store: Store, patterns: Iterable[str]) -> list[str]:
    """The topics there are of those that are named, by themselves or by a glob; each once."""
    there: dict[str, None] = {}
    for pattern in patterns:
        if names.is_pattern(pattern):
            there.update(dict.fromkeys(matching(store, pattern)))
        elif store.has(pattern):
            there[pattern] = None
    return list(there)


def chosen(store: Store, patterns: Iterable[str]) -> list[str]:
    """The topics that the patterns name, or all if there are none, sorted. Raises NotFoundError for a missing one."""
    patterns = list(patterns)
    if not patterns:
        return store.topics()
    there = named(store, patterns)
    for pattern in patterns:
        if not names.is_pattern(pattern) and pattern not in there:
            raise missing(store, pattern)
    return sorted(there)


def missing(store: Store, topic: str) -> NotFoundError:
    """The error that says that there is no such topic."""
    return NotFoundError(topic, "no such topic", hint=nearest(topic, store.topics()))


def nearest(name: str, known: list[str]) -> str | None:
    """A hint with the name that the user may have meant."""
    from difflib import get_close_matches

    if close := get_close_matches(name, known, n=1, cutoff=0.5):
        return f"did you mean {close[0]}?"
    return None
