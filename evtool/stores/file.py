"""The file store: a home directory of topics. See `evtool.log` for what is in a topic."""

from __future__ import annotations

import time

from evtool.errors import ConditionError, NotFoundError, StorageError
from evtool.log import files, names
from evtool.stores.topic import FileTopic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from evtool.log.files import Directory
    from evtool.log.settings import Settings
    from evtool.stores.protocol import Capabilities
    from evtool.stores.watch import FileWatch

TOPICS_NAME = "topics"


class FileStore:
    """Topics in a directory; see `evtool.stores.protocol.Store`."""

    def __init__(
        self,
        path: str,
        *,
        create: bool = False,
        allow_network: bool = False,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._notify = notify
        try:
            home = files.open_home(path, create=create, allow_network=allow_network)
            self._topics = _open_topics(home, create)
        except FileNotFoundError:
            raise NotFoundError(
                path, "nothing there yet", hint="the first `evtool append` makes it; or set EVTOOL_HOME"
            ) from None

    def persist(self) -> None:
        """Nothing here is away for a while."""

    def hurry(self) -> None:
        """Nothing here takes long."""

    def close(self) -> None:
        """Nothing is held open that would not close itself."""

    @property
    def capabilities(self) -> Capabilities:
        from evtool.log.settings import KNOWN
        from evtool.stores.protocol import Capabilities

        return Capabilities(
            "file",
            has_gapless_offsets=True,
            atomic_limit=None,
            dedupe=float(KNOWN["dedupe"][1] or 0),
            is_synced=True,
            stamped_by="producer",
            keeps_keys_apart=True,
            is_local=True,
            longest_stall=0.0,
        )

    @property
    def known_settings(self) -> Mapping[str, tuple[str | tuple[str, ...], float | str | None]]:
        from evtool.log.settings import KNOWN

        return KNOWN

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(name for name in self._topics.subdirectories() if names.is_name(name))

    def has(self, topic: str) -> bool:
        """Whether the topic exists."""
        names.check_name("topic", topic)
        try:
            self._topics.subdirectory(topic)
        except FileNotFoundError:
            return False
        return True

    def topic(self, topic: str) -> FileTopic:
        """A topic that exists. Raises NotFoundError, with the nearest name that does."""
        names.check_name("topic", topic)
        try:
            return FileTopic(self._topics.subdirectory(topic), topic, self._notify)
        except FileNotFoundError:
            from evtool.stores import naming

            raise naming.missing(self, topic) from None

    def ensure_topic(self, topic: str) -> FileTopic:
        """A topic, which is made if it is missing."""
        names.check_name("topic", topic)
        return FileTopic(self._topics.subdirectory(topic, create=True), topic, self._notify)

    def create(self, topic: str, chosen: Mapping[str, Any]) -> Settings:
        """Make a topic with these settings, or none at all. Raises ConditionError if it is there already."""
        from evtool.log import settings

        if self.has(topic):
            raise _there_already(topic)
        hidden = f".{topic}.{time.time_ns()}.new"
        directory = self._topics.subdirectory(hidden, create=True)
        try:
            settings.save(directory, chosen)
            if "max-age" in chosen:
                from evtool.log import clock

                clock.begin(directory)
            self._topics.rename(hidden, topic)
        except BaseException as error:
            self._sweep(hidden)
            if isinstance(error, StorageError) and self.has(topic):  # somebody else made it meanwhile
                raise _there_already(topic) from error
            raise
        self.topic(topic).writer().next_offset()
        return settings.Settings(chosen)

    def _sweep(self, hidden: str) -> None:
        from shutil import rmtree

        rmtree(f"{self._topics.path}/{hidden}", ignore_errors=True)

    def remove_topic(self, topic: str) -> None:
        """Remove a topic with all that is in it, once nobody appends. Raises NotFoundError if there is none."""
        from shutil import rmtree

        writer = self.topic(topic).writer()
        writer.lock()
        gone = f".{topic}.{time.time_ns()}.removed"
        self._topics.rename(topic, gone)
        self._topics.sync()
        rmtree(f"{self._topics.path}/{gone}")
        for name in self._topics.subdirectories():  # what one that was killed has left
            if name.startswith(".") and name.endswith(".removed"):
                self._sweep(name)

    def watch(self, topics: Iterable[str], wake: int | None = None, *, new_topics: bool = False) -> FileWatch:  # noqa: ARG002
        """What waits for appends to these topics, and for topics that are made or removed."""
        from evtool.stores.watch import FileWatch

        return FileWatch(lambda topic: self._topics.subdirectory(topic).path, self._topics.path, topics, wake)


def _there_already(topic: str) -> ConditionError:
    return ConditionError(topic, "the topic is there already", hint=f"see evtool set {topic}")


def _open_topics(home: Directory, create: bool) -> Directory:
    try:
        return home.subdirectory(TOPICS_NAME)
    except FileNotFoundError:
        if not create:
            raise
    files.sync_name(home.path)  # whoever made the home may have died before its name was durable
    return home.subdirectory(TOPICS_NAME, create=True)
