"""Which store is meant, if not simply a directory: from what was said, the environment and the settings file.

Of several that say where the topics are the first one counts: --store, EVTOOL_STORE, EVTOOL_HOME, the settings file. Of
several that say who we are: --creds, the URL, EVTOOL_CREDS, the settings file; that file's word counts only for the
cluster that it names itself, or for any if it names none.
"""

from __future__ import annotations

import os
import stat

from evtool.errors import ConfigurationError, UsageError
from evtool.stores import NATS, default_location, settings_file
from evtool.stores.nats import FILES, SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from evtool.stores.nats.store import NatsStore

_FILE = "file:"


def find(store: str | None, creds: str | None, what: str) -> tuple[str, Mapping[str, str]]:
    """The location of the store that is meant, and the settings of its address; see `evtool.stores.find`."""
    environ = os.environ
    said = environ.get("EVTOOL_STORE") if store is None else store
    home = environ.get("EVTOOL_HOME")
    if said or store is not None:
        location = check_location("EVTOOL_STORE" if store is None else what, said or "")
    elif home:
        location = home
    else:
        location = read_settings(settings_file()).get("store") or default_location()
    if not location.startswith(NATS):
        if creds is not None:
            raise UsageError("--creds", f"is for a NATS server, and the store is the directory {location}")
        return location, {}
    return _with_credentials(location, creds)


def check_location(what: str, location: str) -> str:
    """The location, a directory without `file:`. Raises UsageError for what is none."""
    if location.startswith(NATS):
        from evtool.stores.nats import address

        address.parse(location, {}, check=False)
        return location
    path = location.removeprefix(_FILE) if location.startswith(_FILE) else location
    if path is not location and path.startswith("//"):
        path = path[2:]
        if not path.startswith("/"):
            raise UsageError(
                what, f"{location!r} names another machine", hint=f"file:///{path} is a directory of this one"
            )
    if path is location:
        _check_meant(what, path)
    scheme, found, _ = path.partition("://")
    if found and scheme.isalnum():
        raise UsageError(what, f"no such kind of store: {scheme}://", hint="known are nats://, tls:// and directories")
    if not path:
        raise UsageError(what, "is empty", hint="say a directory, or nats://HOST")
    return path


def _check_meant(what: str, path: str) -> None:
    """Refuse what is no directory and may be meant as an address: its events would be stored where nobody looks."""
    if not path or "/" in path.removeprefix("nats:/").removeprefix("tls:/") or os.path.isdir(path):
        return
    _, colon, port = path.rpartition(":")
    if path.startswith(("nats:", "tls:")) or (colon and port.isdigit()):
        raise UsageError(what, f"{path!r} is neither a directory nor an address", hint="say nats://HOST:PORT")
    hint = f"say ./{path} to make it, or nats://{path} for a server"
    raise UsageError(what, f"no such directory: {path}", hint=hint)


def open_cluster(
    location: str, settings: Mapping[str, str], notify: Callable[[str], None] | None, patience: float
) -> NatsStore:
    """The store in the cluster at this URL. Raises ConfigurationError if there is no client for it."""
    from evtool.stores.nats import address

    where = address.parse(location, settings)
    try:
        from evtool.stores.nats.store import NatsStore
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "nats":
            raise
        hint = "pip install 'evtool[nats]'"
        raise ConfigurationError(where.shown, "the client for NATS, nats-py, is not installed", hint=hint) from None
    return NatsStore(where, notify=notify, patience=patience)


def read_settings(file: str) -> dict[str, str]:
    """What the settings file says; nothing if it is missing and nobody asked for it.

    Raises ConfigurationError if it cannot be read, says what we do not know, or shows a secret to others.
    """
    if not os.path.exists(file):
        if os.environ.get("EVTOOL_CONFIG"):
            raise ConfigurationError(file, "no such file", hint="EVTOOL_CONFIG names it")
        return {}
    try:
        with open(file, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read()
    except OSError as error:
        raise ConfigurationError(file, (error.strerror or str(error)).lower()) from None
    settings = {name: _value(file, name, value) for name, value in _table(file, content).items()}
    _check_mode(file, mode, settings)
    return settings


def _with_credentials(location: str, creds: str | None) -> tuple[str, Mapping[str, str]]:
    """A cluster's URL, and who we are for it, as far as that does not stand in the URL."""
    from evtool.stores.nats import address

    settings = read_settings(settings_file())
    named = settings.pop("store", None)
    if named is not None and not (named.startswith(NATS) and address.have_common_server(named, location)):
        settings = {}
    elif named is not None and named != location:
        settings = address.layered(settings, {})
    if environment := os.environ.get("EVTOOL_CREDS"):
        settings = address.layered(settings, {"creds": environment})
    if creds is not None:
        location, settings = address.without_credentials(location), address.layered(settings, {"creds": creds})
    return location, settings


def _table(file: str, content: bytes) -> dict[str, Any]:
    import tomllib

    try:
        table = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(file, f"no TOML: {error}") from None
    known = ("store", *SETTINGS)
    for name in table:
        if name not in known:
            raise ConfigurationError(file, f"unknown key {name!r}; known are {', '.join(known)}")
    return table


def _value(file: str, name: str, value: Any) -> str:
    """A value as text; paths that are relative are so to the directory of the settings file."""
    if name == "replicas" and type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(file, f"{name} is {'empty' if value == '' else 'no text'}")
    text = check_location(f"{file}: store", value) if name == "store" else value
    if name in FILES or (name == "store" and not text.startswith(NATS)):
        return os.path.join(os.path.dirname(os.path.abspath(file)), os.path.expanduser(text))
    return text


def _check_mode(file: str, mode: int, settings: Mapping[str, str]) -> None:
    """Refuse a file that shows a secret to others, or that others may change. A pipe has no mode to speak of."""
    if not stat.S_ISREG(mode):
        return
    store = settings.get("store", "")
    has_secret = "password" in settings or "token" in settings or (store.startswith(NATS) and "@" in store)
    if mode & 0o022 or (has_secret and mode & 0o077):
        why = "others may change it" if mode & 0o022 else "others may read it, and it holds a secret"
        raise ConfigurationError(file, f"{why} (mode {stat.S_IMODE(mode):04o})", hint=f"chmod 600 {file}")
