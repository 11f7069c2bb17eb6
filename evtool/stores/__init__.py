"""Where topics are kept. `open_store` picks the kind of store; all above it only knows that store's methods."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.stores.file import FileStore


def default_location() -> str:
    """Where the topics are if nobody says: $EVTOOL_HOME, else $XDG_DATA_HOME/evtool, else ~/.local/share/evtool."""
    environ = os.environ
    if home := environ.get("EVTOOL_HOME"):
        return home
    return os.path.join(environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "evtool")


def open_store(
    location: str,
    *,
    create: bool = False,
    allow_network: bool = False,
    notify: Callable[[str], None] | None = None,
) -> FileStore:
    """Open the store at `location`: a directory, which is made if it is missing and `create` says so.

    notify: called with a sentence about what was found and mended on the way.

    Raises ConfigurationError if the directory is not safe to use, NotFoundError if it is missing.
    """
    from evtool.stores.file import FileStore

    return FileStore(location, create=create, allow_network=allow_network, notify=notify)
