"""Posting events to a web server: 2xx says that they are handled."""

from __future__ import annotations

import os
from collections import deque

from evtool.delivery.retries import jitter
from evtool.delivery.task import FAILED, HANDLED, LATER, NEVER, Outcome
from evtool.errors import ConfigurationError
from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.delivery.dispatcher import Settle
    from evtool.delivery.loop import Loop
    from evtool.delivery.rule import Rule
    from evtool.delivery.task import Task

DEFAULT_TIMEOUT = 30.0
_CONNECT_SECONDS = 10.0
_LATER = frozenset((408, 423, 425, 429, 502, 503, 504))  # the server's state and not the event is at fault
_NEVER = frozenset((400, 406, 409, 411, 413, 414, 415, 422))  # the event is, and always will be
_SHOWN = 2048
_LONGEST_PEACE = 3600.0  # seconds, whatever the server asks for


class HttpRunner:
    """Posts events, or batches of them, so many at a time as the rule's jobs say, each in a thread.

    A server that cannot be reached, or that says that it cannot take anything now, is asked again and costs no attempt.
    """

    def __init__(self, loop: Loop, settle: Settle, rule: Rule) -> None:
        """Raises ConfigurationError if the library for it is not installed."""
        try:
            import urllib3
        except ImportError:
            raise ConfigurationError(
                rule.name, "needs the library urllib3", hint="pip install 'evtool[http]'"
            ) from None
        from concurrent.futures import ThreadPoolExecutor

        self.batch = rule.handling.batch
        self._loop = loop
        self._settle = settle
        self._rule = rule
        self._jobs = rule.handling.jobs
        self._running = 0
        self._rests = 0  # times of peace that have not come to their end
        self._refusals = 0  # one after the other
        self._library = urllib3
        seconds = rule.handling.timeout or DEFAULT_TIMEOUT
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds)
        self._pool = urllib3.PoolManager(maxsize=self._jobs, retries=False, timeout=timeout)
        self._threads = ThreadPoolExecutor(self._jobs, thread_name_prefix="http")
        self._ended: deque[tuple[list[Task], Outcome]] = deque()
        self._near, self._far = os.pipe()
        os.set_blocking(self._near, False)
        loop.watch(self._near, self._collect)

    def room(self) -> int:
        """How many more requests there may be now; none as long as the server is left in peace."""
        return 0 if self._rests else self._jobs - self._running

    def start(self, tasks: list[Task]) -> None:
        """Post these, each by itself unless they are a batch."""
        for some in [tasks] if self.batch > 1 else [[task] for task in tasks]:
            self._running += 1
            self._threads.submit(self._post, some)

    def finish(self) -> bool:
        """Whether no request is under way; then nothing is left behind."""
        if self._running:
            return False
        if self._near >= 0:
            self._threads.shutdown()
            self._pool.clear()
            self._loop.forget(self._near)
            os.close(self._near)
            os.close(self._far)
            self._near = self._far = -1
        return True

    def _collect(self) -> None:
        os.read(self._near, 4096)
        while self._ended:
            tasks, outcome = self._ended.popleft()
            self._running -= 1
            if outcome.kind != LATER:
                self._refusals = 0
                self._settle(tasks, outcome)
                continue
            outcome.delay = self._peace(outcome)
            self._settle(tasks, outcome)  # it is to be the first when the time of peace is over
            self._rests += 1
            self._loop.after(outcome.delay, self._come_back)

    def _peace(self, outcome: Outcome) -> float:
        """Seconds in which nothing is posted, as the server cannot take anything now: longer each time."""
        self._refusals += 1
        if outcome.delay is not None:
            return outcome.delay
        retries = self._rule.handling.retries
        return jitter(min(retries.longest, retries.shortest * 2.0 ** min(self._refusals - 1, 60)))

    def _come_back(self) -> None:
        self._rests -= 1

    # In a thread

    def _post(self, tasks: list[Task]) -> None:
        try:
            outcome = self._request(tasks)
        except Exception as error:  # a thread has no border above it
            outcome = Outcome(FAILED, f"{type(error).__name__}: {error}")
        self._ended.append((tasks, outcome))
        os.write(self._far, b".")

    def _request(self, tasks: list[Task]) -> Outcome:
        body, content_type = _body(self._rule, tasks, is_batch=self.batch > 1)
        headers = {
            "Content-Type": content_type,
            "User-Agent": "evtool",
            "Idempotency-Key": idempotency_key(tasks),
            **self._rule.headers,
        }
        errors = self._library.exceptions
        try:
            response = self._pool.request("POST", self._rule.address.text, body=body, headers=headers, redirect=False)
        except errors.ReadTimeoutError:  # it may have taken it
            return Outcome(FAILED, "no answer came in time")
        except errors.LocationValueError as error:
            return Outcome(NEVER, f"not a place to post to: {error}")
        except errors.HTTPError as error:
            return Outcome(LATER, f"cannot be reached: {_reason(error)}")
        if 200 <= response.status < 300:
            return HANDLED
        return _refused(response, self._delay(response))

    def _delay(self, response: Any) -> float | None:
        """The seconds to wait that the answer asks for, if it does."""
        said = response.headers.get("Retry-After")
        if said is None:
            return None
        try:
            return min(float(self._library.Retry().parse_retry_after(said)), _LONGEST_PEACE)
        except self._library.exceptions.HTTPError:
            return None


def _refused(response: Any, delay: float | None) -> Outcome:
    status = response.status
    kind = LATER if status in _LATER else NEVER if status in _NEVER else FAILED
    said = response.data[:_SHOWN]
    return Outcome(kind, f"answered {status} {response.reason or ''}".rstrip(), stderr=said, delay=delay)


def _reason(error: Exception) -> str:
    """The last of what a library says about one error that came of another."""
    return str(error).rpartition("object at 0x")[2].partition(": ")[2] or str(error)


def idempotency_key(tasks: list[Task]) -> str:
    """What is the same whenever the same events are posted, and never for others."""
    first, last = tasks[0], tasks[-1]
    key = f"{first.topic}:{first.offset}"
    return key if first is last else f"{key}-{last.offset}"


def _body(rule: Rule, tasks: list[Task], *, is_batch: bool) -> tuple[bytes, str]:
    """What to post, and its type."""
    from evtool.delivery.rule import CLOUDEVENTS

    if rule.content == CLOUDEVENTS:
        from evtool.delivery.cloudevents import render

        # what keeps CloudEvents of several topics apart is their source
        events = [render(line.with_topic(task.text, task.topic.encode())) for task in tasks]
        kind = "application/cloudevents"
    else:
        events = [task.text[:-1] for task in tasks]
        kind = "application"
    if is_batch:
        batch = "-batch" if rule.content == CLOUDEVENTS else ""
        return b"[" + b",".join(events) + b"]", f"{kind}{batch}+json" if batch else f"{kind}/json"
    return events[0], f"{kind}+json" if rule.content == CLOUDEVENTS else f"{kind}/json"
