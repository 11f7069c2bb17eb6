"""The connection to a cluster: nats-py's loop in a thread of its own, behind a face that waits.

What is said here in the main thread works in any thread but the loop's own.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
from concurrent.futures import CancelledError, Future

import orjson
from nats import errors

from evtool.errors import BusyError, ConfigurationError, EvtoolError, StorageError
from evtool.stores.nats import client as clients

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any, TypeVar

    from nats.aio.msg import Msg

    from evtool.stores.nats.address import Address
    from evtool.stores.nats.client import Client

    T = TypeVar("T")

_NOT_ENABLED = (10039, 10076)
NO_LEADER = frozenset((10004, 10007, 10008, 10009))  # yet: it will pass
_FIRST_TRY, _LONGEST_TRY = 1.0, 2.0  # seconds that an answer of JetStream may take before we ask again
_TELL_SECONDS = 5.0  # without a connection, until somebody who waits for ever is told
_SECONDS_WITHOUT_JETSTREAM = 0.5  # nobody answers for so long: it is not that a leader is missing
_INBOX = "_INBOX."
_CLOSE_SECONDS = 2.0
_HURRY_SECONDS = 1.5  # for an answer, once we were told to stop
_LOOK_SECONDS = 0.25  # between two looks whether we are in a hurry
_MOST_REFUSALS = 2  # in a row, when we connect again: one may be a server that does not know its users yet


class Signal:
    """Tells one thread that there is news. `fd` can be read while there is."""

    __slots__ = ("_far_end", "_is_set", "fd")

    def __init__(self) -> None:
        self._is_set = False
        if hasattr(os, "eventfd"):
            self.fd = self._far_end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._far_end = os.pipe()
            os.set_blocking(self.fd, False)

    def set(self) -> None:
        """Say that there is news, from any thread, after the news is where it can be found."""
        if not self._is_set:
            self._is_set = True
            os.write(self._far_end, _ONE)

    def take(self) -> bool:
        """Whether there was news; look for it only after this."""
        was_set = self._is_set
        try:  # even if it is not set: whoever sets it in this moment may have written only now
            os.read(self.fd, 8)
            was_set = True
        except BlockingIOError:
            pass
        self._is_set = False  # only now: what is set before is seen by whoever looks after us
        return was_set

    def __del__(self) -> None:
        for fd in {self.fd, self._far_end}:
            os.close(fd)


_ONE = (1).to_bytes(8, "little")  # what an eventfd counts up by, in a pipe eight bytes


class ApiError(StorageError):
    """JetStream's own answer that something is wrong. number: its err_code; code: its kind, as in HTTP."""

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        self.number = int(error.get("err_code", 0))
        self.code = int(error.get("code", 0))
        self.description = str(error.get("description", "no reason given"))
        super().__init__(what, self.description)


class Unanswered(BusyError):
    """There was no answer in time, or the connection was lost before there was one. Nobody knows what was done."""


class NoResponders(BusyError):
    """Nobody listens on that subject: there is no such stream, or no leader for it now. Nothing was done."""


class Connection:
    """A connection to the cluster at `address`, made anew by itself whenever it breaks.

    notify: called, in the loop's thread, with what somebody should know who waits for ever.
    patience: for how many seconds an answer is waited for if nobody says how long.
    signal: set when it broke or is there again, and by whoever has news for the store's main thread.
    client: nats-py's, for use in the loop's thread only.

    Raises UnreachableError if no server answers within 2 s, ConfigurationError if one refuses us.
    """

    def __init__(self, address: Address, notify: Callable[[str], None] | None = None) -> None:
        self.address = address
        self.patience = 30.0
        self.signal = Signal()
        self.is_hurried = False
        self._notify = notify
        self._told: asyncio.TimerHandle | None = None
        self.client: Client = None  # type: ignore[assignment]  # until we are connected, before anybody can ask
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._on_defect)
        self._failure: Exception | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._pending: dict[str, tuple[str, asyncio.Future[Msg]]] = {}  # by the end of the inbox: subject and answer
        self._count = 0
        self._lost: list[Callable[[], None]] = []
        self._closing: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self._refusals = 0
        self._process = os.getpid()
        self._prefix = f"$JS.{address.domain}.API." if address.domain else "$JS.API."
        self._thread = threading.Thread(target=self._serve, name="evtool-nats", daemon=True)
        self._thread.start()
        try:
            self.run(self._connect())
        except BaseException:
            self._stop()
            raise
        info = self.client.info
        self.max_payload: int = self.client.max_payload
        self.is_clustered = bool(info.get("cluster"))
        self.server_name = str(info.get("server_name", ""))

    # in the main thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wait, and give back what it returns, or raise what it raises."""
        future = self.start(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise Unanswered(self.address.shown, "the connection was closed") from None
        except BaseException:
            future.cancel()
            raise

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine in the loop, and go on; whoever does that waits for it later."""
        self._check_open(coroutine)
        return asyncio.run_coroutine_threadsafe(self._guarded(coroutine), self.loop)

    def begin(self, coroutine: Coroutine[Any, Any, object]) -> Future[None]:
        """Begin one that nobody waits for. That there is no answer ends it alone, any other error ends all."""
        self._check_open(coroutine)
        return asyncio.run_coroutine_threadsafe(self._unwaited(coroutine), self.loop)

    def call(
        self, verb: str, body: Mapping[str, Any] | None = None, *, patience: float | None = None
    ) -> dict[str, Any]:
        """The same as `api`, waited for."""
        return self.run(self.api(verb, body, patience=patience))

    def hurry(self) -> None:
        """Let nobody wait for long any more for a server that does not answer. May be said by a signal's handler."""
        self.is_hurried = True
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.call_later, _HURRY_SECONDS, self._cut_short)

    def close(self) -> None:
        """Send what is still to be sent, within a short time, and end the connection."""
        if self.loop.is_closed() or os.getpid() != self._process:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), self.loop).result(2 * _CLOSE_SECONDS)
        except Exception:  # noqa: S110 - we go, whatever the server makes of it
            pass
        finally:
            self._stop()

    # in the loop's thread

    async def request(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, *, timeout: float = 5.0
    ) -> Msg:
        """Ask once; if we are cut off, as soon as we are connected again.

        Raises Unanswered after so many seconds, NoResponders, ConfigurationError if we may not ask that.
        """
        timeout = min(timeout, _HURRY_SECONDS) if self.is_hurried else timeout
        deadline = self.loop.time() + timeout
        await self.connected(timeout)
        self._count += 1
        token = str(self._count)
        future: asyncio.Future[Msg] = self.loop.create_future()
        self._pending[token] = subject, future
        try:
            await self.client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
            async with asyncio.timeout_at(deadline):
                answer = await future
        except TimeoutError:
            raise self._unanswered(timeout) from None
        finally:
            del self._pending[token]
        if not answer.data and answer.headers and answer.headers.get("Status") == "503":
            raise NoResponders(self.address.shown, f"nobody answers on {subject}")
        return answer

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, patience: float | None = None
    ) -> dict[str, Any]:
        """JetStream's answer to `verb`, such as STREAM.INFO.name. Asks again until `patience` seconds are over.

        Without a number these are those of the connection.

        Raises ApiError, Unanswered, NoResponders, ConfigurationError.
        """
        subject, payload = self.subject_of_api(verb), orjson.dumps(body) if body else b""
        start = self.loop.time()
        seconds_in_all = self.patience if patience is None else patience
        deadline = start + seconds_in_all
        seconds, wait = _FIRST_TRY, 0.05
        while True:
            left = deadline - self.loop.time()
            try:
                answer = await self.request(subject, payload, timeout=max(0.05, min(seconds, left)))
                return self._result(verb, answer)
            except (ApiError, NoResponders, Unanswered) as error:
                self._check_will_pass(error, self.loop.time() - start)
                if self.is_hurried or self.loop.time() + wait >= deadline:
                    raise self._given_up(error, seconds_in_all) from None
            await asyncio.sleep(wait)
            seconds, wait = min(2 * seconds, _LONGEST_TRY), min(2 * wait, 0.5)

    def subject_of_api(self, verb: str) -> str:
        """The subject on which JetStream takes `verb`."""
        return self._prefix + verb

    async def connected(self, timeout: float | None = None) -> None:
        """Return as soon as there is a connection. Raises Unanswered after so many seconds, or our patience."""
        timeout = self.patience if timeout is None else timeout
        deadline = self.loop.time() + timeout
        while not self._up.is_set():
            left = deadline - self.loop.time()
            if left <= 0 or self.is_hurried:
                raise self._unanswered(timeout)
            try:
                async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                    await self._up.wait()
            except TimeoutError:
                pass

    def watch_lost(self, call: Callable[[], None]) -> None:
        """Call this in the loop's thread after each reconnect: what was sent and received before may be lost."""
        self._lost.append(call)

    def unwatch_lost(self, call: Callable[[], None]) -> None:
        """Do not call it any more."""
        if call in self._lost:
            self._lost.remove(call)

    def watch_close(self, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run this in the loop when the connection is closed in good order, while it can still be used."""
        self._closing.append(call)

    def unwatch_close(self, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do not run it."""
        if call in self._closing:
            self._closing.remove(call)

    async def _connect(self) -> None:
        self._up = asyncio.Event()
        self.client = await clients.connect(self.address, self)
        self._inbox = self.client.new_inbox()
        await self.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        self._up.set()

    def _check_open(self, coroutine: Coroutine[Any, Any, object]) -> None:
        if os.getpid() != self._process or self.loop.is_closed():
            coroutine.close()
            raise Unanswered(self.address.shown, "the connection was closed")

    async def _unwaited(self, coroutine: Coroutine[Any, Any, object]) -> None:
        try:
            await self._guarded(coroutine)
        except (BusyError, OSError, TimeoutError):
            pass
        except Exception as error:
            self._fail(error)

    async def _guarded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one that ends with our failure, and raises none of nats-py's errors."""
        task = asyncio.current_task()
        assert task is not None
        if self._failure is not None:
            coroutine.close()
            raise self._failure.with_traceback(None)
        self._running.add(task)
        try:
            return await coroutine
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure.with_traceback(None) from None
            raise
        except (errors.Error, ConnectionError) as error:
            raise Unanswered(self.address.shown, str(error).removeprefix("nats: ")) from error
        finally:
            self._running.discard(task)

    def _cut_short(self) -> None:
        for _, future in self._pending.values():
            if not future.done():
                future.set_exception(Unanswered(self.address.shown, "no answer"))

    def _result(self, verb: str, answer: Msg) -> dict[str, Any]:
        result: dict[str, Any] = orjson.loads(answer.data)
        if error := result.get("error"):
            raise ApiError(verb, error)
        return result

    def _check_will_pass(self, error: EvtoolError, seconds: float) -> None:
        """Raise it, or what it means, if asking again would not help."""
        if isinstance(error, ApiError):
            if error.number in _NOT_ENABLED:
                raise ConfigurationError(self.address.shown, error.description) from None
            if error.number not in NO_LEADER:
                raise error
        elif isinstance(error, NoResponders) and seconds > _SECONDS_WITHOUT_JETSTREAM and not self._may_have_jetstream:
            raise ConfigurationError(self.address.shown, "JetStream is not enabled on the server") from None

    @property
    def _may_have_jetstream(self) -> bool:
        return bool(self.address.domain or self.client.info.get("jetstream"))

    def _given_up(self, error: EvtoolError, seconds: float) -> EvtoolError:
        """What is raised when we ask no more: an answer that there is no leader is none."""
        if isinstance(error, ApiError):
            return Unanswered(self.address.shown, error.description)
        return self._unanswered(seconds) if isinstance(error, Unanswered) else error

    def _unanswered(self, seconds: float) -> Unanswered:
        why = "no answer" if self._up.is_set() else "not connected to any server"
        return Unanswered(self.address.shown, f"{why} for {seconds:.3g} s" if seconds < math.inf else why)

    async def _on_answer(self, message: Msg) -> None:
        waiting = self._pending.get(message.subject.rpartition(".")[2])
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(message)

    async def on_down(self) -> None:
        """The connection is lost: there will be no answer to what was asked."""
        self._up.clear()
        if self._notify is not None and self._told is None:
            self._told = self.loop.call_later(_TELL_SECONDS, self._tell)
        for _, future in self._pending.values():
            if not future.done():
                future.set_exception(
                    Unanswered(self.address.shown, "the connection was lost before there was an answer")
                )
        self.signal.set()

    async def on_up(self) -> None:
        """It is there again."""
        self._refusals = 0
        self.client.options["reconnect_time_wait"] = clients.SHORTEST_WAIT
        self._up.set()
        if self._told is not None:
            self._told.cancel()
            if self._told.when() <= self.loop.time():
                self._say("the server answers again")
            self._told = None
        for call in list(self._lost):
            call()
        self.signal.set()

    async def on_error(self, error: Exception) -> None:
        """Hear what nats-py has to say, which is also what a callback of ours has raised."""
        text = str(error)
        if "permissions violation" in text:
            self._on_denied(text)
        elif clients.is_refusal(error):
            self._refusals += 1
            if self._refusals >= _MOST_REFUSALS:
                self._fail(clients.refusal(self.address, text))
        elif not isinstance(error, (errors.Error, OSError, TimeoutError, BusyError)):
            self._fail(error)
        if not self._up.is_set():
            wait = self.client.options["reconnect_time_wait"]
            self.client.options["reconnect_time_wait"] = min(1.5 * wait, clients.LONGEST_WAIT)

    def _tell(self) -> None:
        self._say("no server answers; trying again")

    def _say(self, what: str) -> None:
        if self._notify is not None and self.patience == math.inf:
            self._notify(f"{self.address.shown}: {what}")

    def _on_denied(self, text: str) -> None:
        """Let those who asked know; if nobody did, what we do all the time is denied, and all else is in vain."""
        subject = text.partition('"')[2].partition('"')[0]
        doing = "subscribe to" if " for subscription " in text else "publish to"
        asked = [(said, future) for said, future in self._pending.values() if said.lower() == subject]
        shown = asked[0][0] if asked else subject
        hint = "the server's operator grants that"
        if shown.startswith(_INBOX.lower()):  # nats-py has lowered it
            shown = _INBOX + shown.removeprefix(_INBOX.lower())
            hint = "answers come there: inbox=PREFIX in the address or the settings file says another beginning"
            if doing == "publish to":
                hint = "somebody asks there who consumes: allow_responses, in the server's configuration, permits it"
        who = f"user {self.address.user}" if self.address.user else "with these credentials one"
        error = ConfigurationError(
            self.address.shown,
            f"permission denied: {who} may not {doing} {shown}",
            hint=hint,
        )
        for _, future in asked:
            if not future.done():
                future.set_exception(error)
        if not asked:
            self._fail(error)

    def _on_defect(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, (errors.Error, OSError, TimeoutError, EvtoolError)):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End everything that runs with this error, and all that comes."""
        if self._failure is None:
            self._failure = error
            for task in self._running:
                task.cancel()
            self.signal.set()

    async def _leave(self) -> None:
        async with asyncio.timeout(_CLOSE_SECONDS):
            if self.client.is_connected:
                await asyncio.gather(*(call() for call in self._closing), return_exceptions=True)
                await self.client.flush()
            await self.client.close()

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        """Leave nothing running, and nothing open."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSE_SECONDS / 2)
        if self.client is not None:
            self.client.drop()
        for _ in range(3):  # until what was dropped is closed, in TLS one below the other
            await asyncio.sleep(0)

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_SECONDS)
