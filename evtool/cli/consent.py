"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import os
import sys

from evtool.cli import border
from evtool.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def is_given(args: Args, question: str) -> bool:
    """Whether the user wants it: --yes, or the answer to the question. Raises UsageError if nobody can be asked."""
    if args.yes:
        return True
    if not (os.isatty(0) and os.isatty(2)):
        raise UsageError(args.command, "there is no terminal to ask on", hint="say --yes, or --dry-run to see first")
    border.say(f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
