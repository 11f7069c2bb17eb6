"""From what the environment and the arguments say to an open store."""

from __future__ import annotations

from evtool.cli import border
from evtool.stores import default_location, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.file import FileStore


def open_home(args: Args, *, create: bool = False) -> FileStore:
    """The store that a command works on."""
    notify = None if args.__dict__.get("quiet") else note
    return open_store(default_location(), create=create, allow_network=args.allow_nfs, notify=notify)


def note(sentence: str) -> None:
    """Say something on standard error that is no error."""
    border.say(f"evtool: {sentence}\n")
