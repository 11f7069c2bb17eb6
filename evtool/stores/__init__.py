"""Where topics are kept. `open_store` picks the kind of store; all above it only knows that store's methods."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evtool.stores.protocol import Store

NATS = ("nats://", "tls://")  # how the location of a cluster begins


def default_location() -> str:
    """The directory of topics if nobody says: $EVTOOL_HOME, else $XDG_DATA_HOME/evtool, else ~/.local/share/evtool."""
    environ = os.environ
    if home := environ.get("EVTOOL_HOME"):
        return home
    return os.path.join(environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "evtool")


def find(store: str | None = None, creds: str | None = None, *, what: str = "--store") -> tuple[str, Mapping[str, str]]:
    """The location of the store that is meant, and what else is known of it, for `open_store`.

    store: what was said; else $EVTOOL_STORE counts, else $EVTOOL_HOME, else the settings file, else `default_location`.
    creds: a credentials file, for a cluster. what: as what the store was said, for errors.

    Raises ConfigurationError if the settings file is not right, UsageError for what is no location.
    """
    if store is None and creds is None and not os.environ.get("EVTOOL_STORE"):
        environ = os.environ
        if environ.get("EVTOOL_HOME") or not (environ.get("EVTOOL_CONFIG") or os.path.exists(settings_file())):
            return default_location(), {}
    from evtool.stores import access

    return access.find(store, creds, what)


def settings_file() -> str:
    """The path of the settings file: $EVTOOL_CONFIG, else evtool/evtool.toml in $XDG_CONFIG_HOME or ~/.config."""
    environ = os.environ
    if file := environ.get("EVTOOL_CONFIG"):
        return file
    return os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "evtool", "evtool.toml")


def open_store(
    location: str,
    *,
    create: bool = False,
    allow_network: bool = False,
    notify: Callable[[str], None] | None = None,
    settings: Mapping[str, str] | None = None,
    patience: float = 0.0,
) -> Store:
    """Open the store at `location`, which is that of a cluster, or a directory.

    create: make the directory if it is missing.
    notify: called with a sentence about what was found and mended on the way.
    settings: more of a cluster's address, as from `find`. patience: seconds for which to try to connect to it.

    Raises ConfigurationError if the directory is not safe to use, or what the address refers to; NotFoundError if the
    directory is missing. A cluster is not connected to before it is asked for something.
    """
    if location.startswith(NATS):
        from evtool.stores import access

        return access.open_cluster(location, settings or {}, notify, patience)
    from evtool.stores.file import FileStore

    return FileStore(location, create=create, allow_network=allow_network, notify=notify)


def settings_at(location: str) -> Mapping[str, tuple[str | tuple[str, ...], float | str | None]]:
    """The settings that topics of a store at this location have: see `Store.known_settings`. Nothing is opened."""
    if location.startswith(NATS):
        from evtool.stores.nats.settings import KNOWN as OF_NATS

        return OF_NATS
    from evtool.log.settings import KNOWN

    return KNOWN


def shown(location: str) -> str:
    """A location as it may be shown, written alike however it was said. Raises UsageError for what is no address."""
    if location.startswith(NATS):
        from evtool.stores.nats.address import parse

        return parse(location, {}, check=False).shown
    return os.path.realpath(location)
