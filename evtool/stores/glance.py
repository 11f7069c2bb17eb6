"""A topic at a glance: what its names, sizes and last line tell, for those who look for what is wrong with it."""

from __future__ import annotations

from evtool.log import names, offsets
from evtool.log.topic import LOCK_NAME, segment_offsets
from evtool.stores.stuck import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.bounds import Bounds
    from evtool.log.files import Directory
    from evtool.log.settings import Settings


class Topic:
    """A topic that is looked at. bounds, settings: None as long as they are not known, or if they cannot be told."""

    __slots__ = ("bounds", "consumers", "directory", "groups", "lock", "name", "settings")

    def __init__(self, directory: Directory, name: str) -> None:
        """Raises StorageError if it cannot be read."""
        self.directory = directory
        self.name = name
        self.bounds: Bounds | None = None
        self.settings: Settings | None = None
        self.groups: list[str] = []
        self.consumers: Directory | None = None
        last = names.segment_name(max(segment_offsets(directory), default=0))
        self.lock = Lock(directory, LOCK_NAME, name, f"{directory.path}/{last}")

    def find_groups(self) -> None:
        """Find out which groups there are. Raises StorageError."""
        try:
            self.consumers = self.directory.subdirectory(offsets.DIRECTORY_NAME)
        except FileNotFoundError:
            return
        self.groups = offsets.group_names(self.consumers)

    @property
    def repair(self) -> str:
        """The command that mends its files."""
        return f"evtool repair {self.name}"

    def turn(self, group: str) -> Lock:
        """The lock of whoever writes to the commit log of a group, which must be there."""
        assert self.consumers is not None
        written = f"{self.consumers.path}/{names.commits_name(group)}"
        return Lock(self.consumers, names.group_turn_name(group), f"{self.name}, group {group}", written)
