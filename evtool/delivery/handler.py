"""Handlers: a command that is run for each event, and by its exit says whether the event was handled."""

from __future__ import annotations

import os
import select
import signal

from evtool.delivery.stop import Stop, Stopped
from evtool.errors import EvtoolError, UsageError
from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.consumer import Handled

_ATTRIBUTES = ("key", "type", "id")
_SYNC_SECONDS = 1.0


class Handler:
    """Runs a command once per event: the stored line on its standard input, what is known of the event in EVTOOL_*
    variables, and nothing of the event in its arguments.

    topic: of lines that do not say it themselves. name: what to call the command when it fails.
    """

    def __init__(self, command: list[str], topic: str, stop: Stop | None = None, name: str | None = None) -> None:
        from shutil import which

        if not command:
            raise UsageError("subscribe", "there is no command after --")
        program = which(command[0])
        if program is None:
            raise UsageError(command[0], "command not found, or not executable")
        self._program = program
        self._command = command
        self._name = name or command[0]
        self._topic = topic
        self._stop = stop
        self._environment = dict(os.environ, EVTOOL_ATTEMPT="1")

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Run the command for each of these lines. Raises EvtoolError for the first that it fails for."""
        for text in lines.split(b"\n")[:-1]:
            if self._stop is not None:
                self._stop.check()
            whole = text + b"\n"
            status = self._run(whole, handled)
            if status != 0:
                if self._stop is not None and self._stop.is_set:
                    raise Stopped
                raise EvtoolError(
                    f"{line.attributes(text).get('topic', self._topic)}: offset {line.offset_of(text)}",
                    f"{self._name} {describe(status)}; the event is not acknowledged",
                )
            handled(whole)
        handled(None)

    def _run(self, text: bytes, handled: Handled) -> int:
        """Run the command for one line; return its exit code, or minus the signal that killed it.

        As long as it runs, `handled` is called now and then with no lines, so that earlier commits become durable.
        """
        fd = _as_file(text)
        try:
            pid = os.posix_spawn(
                self._program,
                self._command,
                self._environment | self._variables(text),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, 0)],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            raise EvtoolError(self._command[0], error.strerror or str(error)) from error
        finally:
            os.close(fd)
        while not _has_ended(pid, _SYNC_SECONDS):
            handled(b"")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _variables(self, text: bytes) -> dict[str, str]:
        known = {
            "EVTOOL_TOPIC": self._topic,
            "EVTOOL_OFFSET": str(line.offset_of(text)),
            "EVTOOL_TIME": line.time_of(text).decode(),
        }
        head = line.attributes(text)
        for name in _ATTRIBUTES:
            known[f"EVTOOL_{name.upper()}"] = head.get(name, "").replace("\0", "")
        if "topic" in head:
            known["EVTOOL_TOPIC"] = head["topic"]
        return known


def _has_ended(pid: int, seconds: float) -> bool:
    """Wait for the end of a child at most so many seconds, where the system can; say whether to wait no more."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return True
    try:
        ended = select.poll()
        ended.register(fd, select.POLLIN)
        return bool(ended.poll(seconds * 1000))
    finally:
        os.close(fd)


def _as_file(text: bytes) -> int:
    """An open file with this content, which unlike a pipe takes any amount and cannot block or break."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("event", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.write(fd, text)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
