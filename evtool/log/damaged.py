"""Where bytes go that are taken out of a log: nothing is ever thrown away that somebody might still want to look at."""

from __future__ import annotations

import os
import time

from evtool.log import files, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory
    from evtool.log.segment import Segment

DIRECTORY_NAME = "damaged"
_BLOCK = 1 << 20


def put_aside(topic: Directory, segment: Segment, start: int, end: int) -> str:
    """Copy the bytes of a segment from `start` to `end` to a file of their own, durably; return its path.

    It is called ``SEGMENT@START.NANOSECONDS``. Raises StorageError.
    """
    directory = topic.subdirectory(DIRECTORY_NAME, create=True)
    name = f"{names.segment_name(segment.first)}@{start}.{time.time_ns()}"
    fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for at in range(start, end, _BLOCK):
            files.write_all(fd, os.pread(segment.fd, min(_BLOCK, end - at), at))
        os.fsync(fd)
    except OSError as error:
        directory.fail(name, error)
    finally:
        os.close(fd)
    directory.sync()
    topic.sync()
    return f"{directory.path}/{name}"
