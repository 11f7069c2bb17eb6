"""Every error that evtool raises on purpose, and the exit code that each ends a command with.

    EvtoolError                   1   failed
    ├── UsageError                2   the command line, or an argument of the API, makes no sense
    ├── NotFoundError             3   no such topic or group
    ├── ConditionError            4   a condition that the caller set did not hold
    ├── DataError                65   an event that cannot be stored
    │   └── CorruptionError      65   a stored line, or a group's commits, that cannot be right
    ├── StorageError             74   the operating system refused: input, output, space
    │   ├── PartialAppendError   74   only the first events of a batch are stored
    │   └── SyncError            74   a sync failed: nobody knows what is on disk
    ├── BusyError                75   somebody else holds the lock, or does not answer: try again
    │   ├── UnreachableError     75   no server answers
    │   └── UnknownOutcomeError  75   nobody knows whether some events are stored
    ├── ConfigurationError       78   a home or a setting that evtool refuses to work with
    └── TimedOutError           124   what was waited for did not come

They are printed in one place, `evtool.cli.border`, as ``evtool: what: why`` and, where one helps, ``hint: …``.
"""

from __future__ import annotations


def repair_hint(topic: str) -> str:
    """What helps against damage in a topic."""
    return f"evtool repair {topic} --dry-run says what can be done"


class EvtoolError(Exception):
    """Base of them all: `what` is the thing concerned, `why` says what is wrong with it, `hint` what to do."""

    exit_code = 1

    def __init__(self, what: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
        self.hint = hint


class UsageError(EvtoolError):
    """The command line, or an argument of the API, makes no sense."""

    exit_code = 2


class NotFoundError(EvtoolError):
    """There is no such topic or group."""

    exit_code = 3


class ConditionError(EvtoolError):
    """A condition that the caller set, such as an expected offset, did not hold; nothing was changed."""

    exit_code = 4


class DataError(EvtoolError):
    """An event that cannot be stored. `line` is its number in the input, from 1, where it came from a stream."""

    exit_code = 65

    def __init__(self, what: str, why: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(what, why, hint=hint)
        self.line = line


class CorruptionError(DataError):
    """A complete line of a file of ours that cannot be right. `file` is its path, `position` the byte it starts at."""

    def __init__(self, file: str, position: int, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"{file}: byte {position}", why, hint=hint)
        self.file = file
        self.position = position


class StorageError(EvtoolError):
    """The operating system refused a read, a write, or the space for it. `file` is the path concerned."""

    exit_code = 74

    def __init__(self, file: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(file, why, hint=hint)
        self.file = file


class PartialAppendError(StorageError):
    """Events of which only the first `stored` of `total` are in the log, from offset `first` to offset `last`.

    `reason` is what the system said.
    """

    def __init__(self, topic: str, reason: str, *, stored: int, total: int, first: int, last: int) -> None:
        range_text = f", offsets {first} to {last}" if stored else ""
        super().__init__(topic, f"stored {stored} of {total} events{range_text}: {reason}")
        self.reason = reason
        self.stored = stored
        self.total = total
        self.first = first
        self.last = last


class SyncError(StorageError):
    """A sync failed, so what was written since the last good one may or may not be on disk.

    The segment is marked (mode 0400) and takes no more events until `evtool repair` has copied it to a new file:
    Linux answers a second sync of the same file with success although the data are gone.
    """


class BusyError(EvtoolError):
    """Somebody else holds the lock. `pid` is that process, where the system tells."""

    exit_code = 75

    def __init__(self, what: str, why: str, *, pid: int | None = None, hint: str | None = None) -> None:
        super().__init__(what, why, hint=hint)
        self.pid = pid


class UnreachableError(BusyError):
    """No server answers at the address that was given. Nothing was sent."""


class UnknownOutcomeError(BusyError):
    """Events of which the first `stored` of `total` are in the log, and of the next `unknown` nobody knows that.

    first, last: the offsets of those that are stored. reason: what kept the answer from coming.
    """

    def __init__(
        self, topic: str, reason: str, *, stored: int, unknown: int, total: int, first: int, last: int
    ) -> None:
        range_text = f", offsets {first} to {last}" if stored else ""
        super().__init__(
            topic,
            f"stored {stored} of {total} events{range_text}; of {unknown} more it is unknown: {reason}",
            hint="whoever sends them again may store them twice, unless each has an --id",
        )
        self.reason = reason
        self.stored = stored
        self.unknown = unknown
        self.total = total
        self.first = first
        self.last = last


class ConfigurationError(EvtoolError):
    """A home directory or a setting that evtool refuses to work with."""

    exit_code = 78


class TimedOutError(EvtoolError):
    """What was waited for did not come in time."""

    exit_code = 124
