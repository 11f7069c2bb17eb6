"""One event on its way to a handler, and how an attempt to handle it came out."""

from __future__ import annotations

from evtool.log import line

OK = "ok"  # handled
FAILED = "failed"  # try again, a limited number of times
LATER = "later"  # try again, and do not count it
NEVER = "never"  # give up at once

EXIT_LATER, EXIT_NEVER = 75, 100


class Task:
    """An event to be handled.

    text: its line; of several topics, with the attribute `topic`.
    key: what keeps its order among others: the JSON of its key, with the topic's name before it; None for no order.
    attempts: how often handling it has failed so far. delays: how often it was put off, failures included.
    company: with how many others it may be given to one run or one worker at a time; None for any number.
    number: its place among all that were taken; the lowest goes first.
    first: when it failed for the first time, in seconds since the epoch, or 0.
    """

    __slots__ = ("attempts", "company", "delays", "first", "key", "number", "offset", "text", "topic")

    def __init__(self, topic: str, offset: int, text: bytes, key: bytes | None) -> None:
        self.topic = topic
        self.offset = offset
        self.text = text
        self.key = key
        self.number = 0
        self.attempts = 0
        self.delays = 0
        self.company: int | None = None
        self.first = 0.0


class Outcome:
    """How an attempt came out.

    kind: OK, FAILED, LATER or NEVER. why: in words, for whoever watches. exit, signal: of a command, if it was one.
    stderr: the end of what it said. delay: seconds to wait before the next attempt, if the other side asked for that.
    """

    __slots__ = ("delay", "exit", "kind", "signal", "stderr", "why")

    def __init__(
        self,
        kind: str,
        why: str = "",
        *,
        exit: int | None = None,
        signal: int | None = None,
        stderr: bytes = b"",
        delay: float | None = None,
    ) -> None:
        self.kind = kind
        self.why = why
        self.exit = exit
        self.signal = signal
        self.stderr = stderr
        self.delay = delay


HANDLED = Outcome(OK)


def task_of(topic: str, text: bytes) -> Task:
    """The task that a line of this topic is."""
    key = line.key_of(text)
    return Task(topic, line.offset_of(text), text, None if key is None else topic.encode() + key)


def describe(status: int) -> str:
    """An exit status, minus N for a signal N, in words."""
    import signal

    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def outcome_of(status: int, name: str, stderr: bytes = b"") -> Outcome:
    """The outcome that the exit status of a command means; see `describe`."""
    if status == 0:
        return HANDLED
    kind = {EXIT_LATER: LATER, EXIT_NEVER: NEVER}.get(status, FAILED)
    code, signal = (status, None) if status >= 0 else (None, -status)
    return Outcome(kind, f"{name} {describe(status)}", exit=code, signal=signal, stderr=stderr)
