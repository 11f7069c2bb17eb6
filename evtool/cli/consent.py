"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import os
import sys

from evtool.cli import border
from evtool.cli.border import Declined
from evtool.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def is_needed(args: Args) -> bool:
    """Whether the user has to be asked, which --yes says is not so. Raises UsageError if nobody can be."""
    if args.yes:
        return False
    if not (os.isatty(0) and os.isatty(2)):
        raise UsageError(args.command, "there is no terminal to ask on", hint="say --yes, or --dry-run to see first")
    return True


def ask(args: Args, question: str) -> None:
    """Ask, if the user has to be asked. Raises Declined if the answer is not yes, UsageError if nobody can be asked."""
    if not is_needed(args):
        return
    border.say(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined
