"""Waiting for changes in topics of the file store."""

from __future__ import annotations

from evtool.log.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class FileWatch:
    """Watches the directories of topics, and the one in which they all are.

    path_of: where a topic is.
    """

    def __init__(self, path_of: Callable[[str], str], home: str, topics: Iterable[str], wake: int | None) -> None:
        self._path_of = path_of
        self._watch = Watch([home, *map(path_of, topics)], wake)
        self.wait = self._watch.wait

    @property
    def fd(self) -> int | None:
        """A descriptor that can be read when there was a change; None where the system tells of none."""
        return self._watch.fd

    def add(self, topic: str) -> None:
        """Watch one more topic."""
        self._watch.add(self._path_of(topic))
