"""How old an event is by a clock that may have been set.

Somebody sets the clock ten years ahead, or it is 1970 until the network is there: by its time, everything is then too
old. So a topic that drops events by age notes what the clock said and what the machine's own clock said, which nobody
can set. Once the one has run ahead of the other, all that was there before counts as if it had come in at this moment,
and a new note is made: events may go later for it, but never too early.
"""

from __future__ import annotations

import os
import time

from evtool.errors import StorageError
from evtool.log import files, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory

FILE_NAME = "clock"
_TOLERANCE = 60.0  # seconds by which the two clocks may drift apart
_DRIFT = 0.001  # and for each second that passes, as where a job sets the clock right every night
_LARGEST_FILE = 256


def cutoff(topic: Directory, seconds: float, last_time: bytes | None = None) -> bytes | None:
    """The moment before which events are older than that; None if none may be said to be. Notes what the clocks say.

    last_time: of the newest event (27 bytes). While the clock reads earlier than that, nothing is old.
    """
    now = time.time()
    floor = _look(topic, now)
    moment = now - seconds
    if moment <= max(floor, 0.0) or (last_time is not None and line.stamp(int(now * 1e9)) < last_time):
        return None
    return line.stamp(int(moment * 1e9))


def begin(topic: Directory) -> None:
    """Note what the clocks say, for the first look at the age of events."""
    _look(topic, time.time())


def _look(topic: Directory, now: float) -> float:
    """Since when the clock is known to have run evenly, in seconds since the epoch; 0 if always."""
    boot, running = _boot_id(), _running()
    known = _read(topic)
    floor = 0.0
    if known is not None:
        known_boot, known_running, known_now, floor = known
        passed = running - known_running
        ahead = (now - known_now) - passed
        if known_boot == boot:
            if abs(ahead) <= _TOLERANCE + _DRIFT * passed:
                return floor
            floor = now if ahead > 0 else min(floor, now)
        floor = min(floor, now)
    _write(topic, f"{boot} {running:.3f} {now:.3f} {floor:.3f}\n".encode())
    return floor


def _read(topic: Directory) -> tuple[str, float, float, float] | None:
    try:
        fd = topic.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        boot, running, now, floor = os.read(fd, _LARGEST_FILE).decode("ascii", "replace").split()
        return boot, float(running), float(now), float(floor)
    except ValueError:  # torn
        return None
    finally:
        os.close(fd)


def _write(topic: Directory, text: bytes) -> None:
    """Keep what was seen. If there is no space for it, the next look compares with an older one."""
    try:
        fd = topic.open(FILE_NAME, os.O_WRONLY | os.O_CREAT)
        try:
            files.write_all_at(fd, text, 0)
            os.ftruncate(fd, len(text))
        finally:
            os.close(fd)
    except (OSError, StorageError):
        pass


def _running() -> float:
    """Seconds since the machine was started, those asleep included where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:  # not Linux
        return "boot"
