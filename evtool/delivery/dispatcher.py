"""Dispatching: many events at a time to whoever handles them, in order by key, tried again when that fails.

An event is taken from a supply and given to a runner, which says how the attempt came out. Events with the same key
stand in a *lane*, of which only the first is given out, unless it goes to the same run as the next. What cannot be
handled at all is set aside. The supply is told what is done with for good.
"""

from __future__ import annotations

import heapq
import time
from collections import deque

from evtool.delivery.task import FAILED, NEVER, OK
from evtool.errors import TimedOutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from evtool.delivery.loop import Loop
    from evtool.delivery.retries import Retries
    from evtool.delivery.stop import Stop
    from evtool.delivery.task import Outcome, Task

    class Supply(Protocol):
        """Where events come from, and who is told when they are done with."""

        tick_seconds: float  # how often it wants to be told that time goes by
        ticks_when_idle: bool  # also when it has given out nothing that is not done

        @property
        def is_finished(self) -> bool:
            """Whether nothing can come any more."""

        @property
        def is_drained(self) -> bool:
            """Whether all that there is was taken and, as far as others have it, is done."""

        def take(self, limit: int) -> list[Task] | None:
            """The next events, at most so many, maybe none of the next; None if there is nothing more now."""

        def listen(self, loop: Loop, call: Callable[[], None]) -> None:
            """Call once when there may be more."""

        def done(self, tasks: list[Task]) -> None:
            """These are done with for good."""

        def tick(self, doing: str) -> None:
            """Time has gone by; this is what goes on."""

        def flush(self) -> None:
            """Commit what is done."""

        def close(self) -> None:
            """Make it durable: nothing more is taken."""

    class Runner(Protocol):
        """What handles events."""

        batch: int  # how many events one run takes; of these any may have the same key

        def room(self) -> int:
            """How many more events it takes now; for a batch more than none means a whole one."""

        def start(self, tasks: list[Task]) -> None:
            """Begin to handle these."""

        def finish(self) -> bool:
            """End, as nothing more comes; say whether that is done."""

    Settle = Callable[[list[Task], Outcome], None]
    SetAside = Callable[[Task, Outcome], None]
    Tell = Callable[[Task, Outcome, float | None], None]

WINDOW = 4096  # events that are held in memory at most, waiting ones included
_WINDOW_BYTES = 16 << 20


class Lane:
    """Events with one key, in order: those that wait, and how many are being handled."""

    __slots__ = ("busy", "key", "waiting")

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self.busy = 0
        self.waiting: deque[Task] = deque()


class Ready:
    """What may be handled now, the earliest first: what has just come, and what has come back."""

    def __init__(self) -> None:
        self._new: deque[Lane | Task] = deque()
        self._back: list[tuple[int, Lane | Task]] = []

    def __len__(self) -> int:
        return len(self._new) + len(self._back)

    def append(self, item: Lane | Task) -> None:
        """Add one that was taken after all others."""
        self._new.append(item)

    def put_back(self, number: int, item: Lane | Task) -> None:
        """Add one with this number, from before."""
        heapq.heappush(self._back, (number, item))

    def first(self) -> Lane | Task:
        """The earliest."""
        return self._back[0][1] if self._is_back_first() else self._new[0]

    def pop(self) -> None:
        """Take the earliest away."""
        if self._is_back_first():
            heapq.heappop(self._back)
        else:
            self._new.popleft()

    def _is_back_first(self) -> bool:
        if not self._back or not self._new:
            return bool(self._back)
        item = self._new[0]
        number = item.waiting[0].number if isinstance(item, Lane) else item.number
        return self._back[0][0] < number


class Dispatcher:
    """Brings a supply's events to a runner.

    set_aside: what is done with an event that is given up. tell: called when an attempt failed, with the seconds until
        the next one or None if there is none.
    drain: end when there is nothing more now. count: take so many events and end.
    linger: seconds to wait for a batch to become full. timeout: seconds without an event, then TimedOutError.
    """

    def __init__(
        self,
        loop: Loop,
        supply: Supply,
        retries: Retries,
        stop: Stop,
        *,
        set_aside: SetAside,
        tell: Tell,
        drain: bool = False,
        count: int | None = None,
        linger: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        self.set_aside_count = 0
        self._loop = loop
        self._supply = supply
        self._retries = retries
        self._stop = stop
        self._set_aside = set_aside
        self._tell = tell
        self._drain = drain
        self._left = count
        self._linger = linger
        self._timeout = timeout
        self._lanes: dict[bytes, Lane] = {}
        self._ready = Ready()
        self._number = 0
        self._held = 0  # events taken and not done with
        self._held_bytes = 0
        self._in_flight = 0
        self._company: int | None = None  # how many may be in flight at most, as long as a suspect is among them
        self._delayed = 0
        self._done: list[Task] = []
        self._ticks = False  # there will be a tick
        self._was_idle = False  # at the last one
        self._is_ending = False
        self._is_dry = False  # there was nothing more when we looked
        self._lingers_since: float | None = None
        self._last_event = time.monotonic()

    def run(self, runner: Runner) -> None:
        """Go on until the end, as it was set. Raises Stopped when told to stop, after all that is begun has ended."""
        self._loop.watch(self._stop.fd, lambda: self._loop.forget(self._stop.fd))
        self._keep_ticking()
        if self._timeout is not None:
            self._loop.after(self._timeout, self._check_idle)
        try:
            while not self._is_over():
                self._fill()
                self._start(runner)
                self._flush()
                self._loop.turn(wait=not self._is_over())
                self._flush()
        finally:
            self._is_ending = True
            while not runner.finish():
                self._loop.turn()
            self._flush()
            self._supply.close()
            self._loop.forget(self._stop.fd)
        self._stop.check()

    def settle(self, tasks: list[Task], outcome: Outcome) -> None:
        """An attempt to handle these came out so: a runner says it for each event that it was given."""
        self._land(tasks)
        if outcome.kind == OK:
            self._finish(tasks)
        elif len(tasks) > 1:
            self._part(tasks, len(tasks) // 2)
        else:
            self._fail(tasks[0], outcome)

    def settle_each(self, handled: list[Task]) -> None:
        """These are handled, each by itself."""
        self._land(handled)
        self._finish(handled)

    def put_back(self, tasks: list[Task], company: int) -> None:
        """These were given to a run that failed for one of them, nobody knows which: try them with less company."""
        self._land(tasks)
        self._part(tasks, company)

    def _land(self, tasks: list[Task]) -> None:
        """These are not in flight any more."""
        self._in_flight -= len(tasks)
        if not self._in_flight:
            self._company = None

    # From the supply

    def _fill(self) -> None:
        while not self._is_dry and self._may_take():
            room = WINDOW - self._held
            tasks = self._supply.take(room if self._left is None else min(room, self._left))
            if tasks is None:
                self._is_dry = True
                if not (self._drain and self._supply.is_drained):
                    self._supply.listen(self._loop, self._wake)
                return
            if self._left is not None:
                self._left -= len(tasks)
            self._held += len(tasks)
            self._keep_ticking()
            for task in tasks:
                self._held_bytes += len(task.text)
                self._enter(task)

    def _may_take(self) -> bool:
        return (
            self._left != 0
            and not self._stop.is_set
            and self._held < WINDOW
            and self._held_bytes < _WINDOW_BYTES
            and not self._supply.is_finished
        )

    def _wake(self) -> None:
        """There may be more. In a drain the end is known only after another look."""
        self._is_dry = False

    def _enter(self, task: Task) -> None:
        self._number = task.number = self._number + 1
        if task.key is None:
            self._ready.append(task)
            return
        lane = self._lanes.get(task.key)
        if lane is None:
            lane = self._lanes[task.key] = Lane(task.key)
            self._ready.append(lane)
        lane.waiting.append(task)

    # To the runner

    def _start(self, runner: Runner) -> None:
        while self._ready and not self._stop.is_set and (room := runner.room()) > 0:
            if runner.batch > 1:
                if not self._is_batch_due(runner.batch):
                    return
                tasks = self._gather(runner.batch)
            else:
                tasks = self._next_ones(room)
                if not tasks:
                    return
            self._in_flight += len(tasks)
            runner.start(tasks)

    def _next_ones(self, room: int) -> list[Task]:
        """The next events that may be handled, each by itself. One that is suspected to do harm comes alone."""
        tasks: list[Task] = []
        ready = self._ready
        while ready and len(tasks) < room:
            item = ready.first()
            task = item.waiting[0] if isinstance(item, Lane) else item
            if task.company is not None and (self._company is None or task.company < self._company):
                if self._in_flight or tasks:
                    break
                self._company = task.company
            if self._company is not None and self._in_flight + len(tasks) >= self._company:
                break
            ready.pop()
            if isinstance(item, Lane):
                item.waiting.popleft()
                item.busy += 1
            tasks.append(task)
        return tasks

    def _is_batch_due(self, size: int) -> bool:
        """Whether a batch is full, or has waited for that long enough."""
        if not self._linger or len(self._ready) >= size or self._held - self._delayed - self._in_flight >= size:
            return True
        if self._is_dry and ((self._drain and self._supply.is_drained) or self._left == 0):
            return True
        now = time.monotonic()
        if self._lingers_since is None:
            self._lingers_since = now
            self._loop.after(self._linger, _nothing)
        return now - self._lingers_since >= self._linger

    def _gather(self, size: int) -> list[Task]:
        """The events of one batch, in order; of one key there may be several."""
        self._lingers_since = None
        tasks: list[Task] = []
        while self._ready and len(tasks) < size:
            item = self._ready.first()
            first = item.waiting[0] if isinstance(item, Lane) else item
            if first.company is not None:
                if len(tasks) >= first.company:
                    break
                size = min(size, first.company)
            self._ready.pop()
            if not isinstance(item, Lane):
                tasks.append(item)
                continue
            while item.waiting and len(tasks) < size:
                tasks.append(item.waiting.popleft())
                item.busy += 1
        tasks.sort(key=_place)
        return tasks

    # What came of it

    def _finish(self, tasks: list[Task]) -> None:
        self._done += tasks
        for task in tasks:
            self._held_bytes -= len(task.text)
            if task.key is not None:
                self._advance(self._lanes[task.key])
        self._held -= len(tasks)
        self._last_event = time.monotonic()

    def _advance(self, lane: Lane) -> None:
        """One of the lane's events is done with: let the next one go, if none is being handled any more."""
        lane.busy -= 1
        if lane.busy:
            return
        if lane.waiting:
            self._ready.put_back(lane.waiting[0].number, lane)
        else:
            assert lane.key is not None
            del self._lanes[lane.key]

    def _part(self, tasks: list[Task], company: int) -> None:
        """Try these again in less company, until the one at fault is alone. Only then do its attempts count."""
        for task in tasks:
            task.company = max(1, company)
        self._return(tasks)

    def _return(self, tasks: list[Task]) -> None:
        """Let these be handled before all others, in their order."""
        for task in reversed(tasks):
            if task.key is None:
                self._ready.put_back(task.number, task)
                continue
            lane = self._lanes[task.key]
            lane.waiting.appendleft(task)
            lane.busy -= 1
            if not lane.busy:
                self._ready.put_back(task.number, lane)

    def _fail(self, task: Task, outcome: Outcome) -> None:
        if self._stop.is_set and outcome.kind != NEVER:  # whoever comes next tries it
            return
        task.delays += 1
        task.first = task.first or time.time()
        task.attempts += outcome.kind in (FAILED, NEVER)
        if outcome.kind == NEVER or (outcome.kind == FAILED and not self._retries.has_another(task)):
            self._set_aside(task, outcome)
            self.set_aside_count += 1
            self._tell(task, outcome, None)
            self._finish([task])
            return
        delay = self._retries.delay(task, outcome)
        self._tell(task, outcome, delay)
        self._delayed += 1
        self._loop.after(delay, lambda: self._try_again(task))

    def _try_again(self, task: Task) -> None:
        self._delayed -= 1
        self._return([task])

    # Time and commits

    def _flush(self) -> None:
        if self._done:
            done, self._done = self._done, []
            self._supply.done(done)
            self._supply.flush()

    def _keep_ticking(self) -> None:
        if not self._ticks:
            self._ticks = True
            self._loop.after(self._supply.tick_seconds, self._tick)

    def _tick(self) -> None:
        self._ticks = False
        if self._is_ending:
            return
        is_idle = not self._held
        self._supply.tick(self._doing())
        if not is_idle or not self._was_idle or self._supply.ticks_when_idle:  # whoever only waits costs nothing
            self._keep_ticking()
        self._was_idle = is_idle

    def _check_idle(self) -> None:
        assert self._timeout is not None
        left = self._last_event + self._timeout - time.monotonic()
        if not self._held and left <= 0:
            raise TimedOutError("timed out", f"no event came for {self._timeout:g} s")
        self._loop.after(left if left > 0 else self._timeout, self._check_idle)

    def _doing(self) -> str:
        """What goes on, for those who look."""
        if not self._held:
            return ""
        waiting = self._held - self._in_flight - self._delayed
        counts = ((self._in_flight, "in flight"), (self._delayed, "to be tried again"), (waiting, "waiting"))
        return " ".join(f"{count} {what};" for count, what in counts if count).rstrip(";")

    def _is_over(self) -> bool:
        if self._in_flight:
            return False
        if self._stop.is_set:
            return True
        if self._held:
            return False
        return self._left == 0 or self._supply.is_finished or (self._is_dry and self._drain and self._supply.is_drained)


def _place(task: Task) -> tuple[str, int]:
    return task.topic, task.offset


def _nothing() -> None:
    """A moment has come that somebody waits for by looking at the clock."""
