"""How far a topic's log is known to be on disk, and how to bring it there: what a group commits must not be taken back.

Else others would get the offsets of events that a power cut has taken, and the group would pass them over.
"""

from __future__ import annotations

import os

from evtool.errors import SyncError, repair_hint
from evtool.log import files, line
from evtool.log.bounds import Bounds
from evtool.log.segment import Segment
from evtool.log.topic import segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory


class Durable:
    """The events before some offset, which are on disk. time: of the last of them, 27 bytes; empty if there is none."""

    __slots__ = ("_directory", "_until", "time")

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._until = 0
        self.time = b""

    def reach(self, offset: int) -> None:
        """Make everything before `offset` durable, whoever appended it.

        Raises SyncError if that fails, or if a sync has failed before; then the log takes no more events.
        """
        while offset > self._until:
            try:
                self._sync_last()
                return
            except FileNotFoundError:  # trimmed in this moment
                if self._directory.is_gone():
                    raise

    def _sync_last(self) -> None:
        """Sync the last segment; those before it are on disk since they were finished."""
        firsts = segment_offsets(self._directory)
        if not firsts:
            return
        segment = Segment(self._directory, firsts[-1])
        if os.fstat(segment.fd).st_mode & 0o777 == files.UNSYNCED_MODE:
            topic = self._directory.path.rpartition("/")[2]
            raise SyncError(segment.path, "an earlier sync of this segment failed", hint=repair_hint(topic))
        end = segment.end_of_lines(segment.size())
        until, moment = segment.first, self.time
        if end:
            text = segment.last_line(end)[1]
            until, moment = line.offset_of(text) + 1, line.time_of(text)
        elif not moment:
            moment = Bounds(self._directory).last_time or b""
        segment.sync()
        self._until, self.time = until, max(moment, self.time)
