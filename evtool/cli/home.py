"""From what the environment and the arguments say to an open store."""

from __future__ import annotations

from evtool.cli import border
from evtool.errors import UsageError
from evtool.stores import NATS, find, open_store, settings_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from evtool.cli.argv import Args
    from evtool.stores.file import FileStore
    from evtool.stores.protocol import Store


def open_home(args: Args, *, create: bool = False, patience: float = 0.0) -> Store:
    """The store that a command works on. patience: seconds for which to try to connect, if it is in a cluster."""
    said = args.__dict__
    return open_location(args, said.get("store"), said.get("creds"), create=create, patience=patience)


def open_location(
    args: Args,
    location: str | None,
    creds: str | None = None,
    *,
    what: str = "--store",
    create: bool = False,
    patience: float = 0.0,
) -> Store:
    """The store at a location that was said on the command line, under the name `what`; if it is None, the usual one.

    creds: a credentials file, if the store is in a cluster.

    Raises UsageError if there is a password in the location, where others could see it.
    """
    if location is not None:
        _check_said(what, location)
    location, settings = find(location, creds, what=what)
    notify = None if args.__dict__.get("quiet") else note
    store = open_store(
        location, create=create, allow_network=args.allow_nfs, notify=notify, settings=settings, patience=patience
    )
    if location.startswith(NATS):
        border.at_end(store.close)
    return store


def open_files(args: Args, *, create: bool = False) -> FileStore:
    """The store of a command that works on files. Raises UsageError if it is in a cluster."""
    from evtool.stores.file import FileStore

    notify = None if args.__dict__.get("quiet") else note
    return FileStore(files_location(args), create=create, allow_network=args.allow_nfs, notify=notify)


def files_location(args: Args) -> str:
    """The directory that such a command works on. Raises UsageError if the store is in a cluster."""
    location, _ = find(args.__dict__.get("store"), args.__dict__.get("creds"))
    if location.startswith(NATS):
        from evtool.stores.nats.address import shown_url

        hint = "--store DIRECTORY names a file log"
        raise UsageError(args.command, f"works on the file log only: the store is {shown_url(location)}", hint=hint)
    return location


def known_settings(args: Args) -> Mapping[str, tuple[str | tuple[str, ...], float | str | None]]:
    """The settings that topics have where a command works. Nothing is opened."""
    return settings_at(find(args.__dict__.get("store"), args.__dict__.get("creds"))[0])


def note(sentence: str) -> None:
    """Say something on standard error that is no error."""
    border.say(f"evtool: {sentence}\n")


def _check_said(what: str, location: str) -> None:
    """Refuse a password or a token on the command line, which `ps` shows to everybody."""
    if location.startswith(NATS) and "@" in location:
        hint = "say it in EVTOOL_STORE or the settings file, or give a file with --creds"
        raise UsageError(what, "a password or a token has no place on the command line, where others see it", hint=hint)
