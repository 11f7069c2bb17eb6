"""nats-py's client, mended where a shell would suffer from it, and how a first connection is made.

What is mended: a server that refuses us later on ends nothing for good, the client tries again (its owner decides when
that is in vain); a broken connection is dropped at once, however much was still to be sent through it; what was not
sent is not sent later; where TLS is wanted no credentials go out without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl

from nats import errors
from nats.aio.client import Client as BaseClient

from evtool.errors import ConfigurationError, EvtoolError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from evtool.stores.nats.address import Address

    class Owner(Protocol):
        """Who is told, in the loop, what becomes of a connection once there is one."""

        async def on_error(self, error: Exception) -> None:
            """Something went wrong; a callback of ours may also have raised it."""

        async def on_down(self) -> None:
            """It is lost, and tried again."""

        async def on_up(self) -> None:
            """It is there again."""


logging.getLogger("nats").addHandler(logging.NullHandler())  # what goes wrong is told by our own errors
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in str(record.msg))  # of each end of TLS

SECONDS_TO_CONNECT = 1.7  # the program starts in what is left of 2 s
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 2.0  # seconds between two attempts to connect again
_HEAD_START = 0.3  # seconds after which a server that does not answer gets a rival
_PING_SECONDS, _PINGS = 3, 2  # a peer that is silent for 6 to 9 s is dead
_STATUS = b"NATS/1.0 "  # a header line that is more than the version: "NATS/1.0 503"
_MEANS_REFUSED = ("authorization violation", "authentication expired", "authentication revoked", "credentials")


class Client(BaseClient):
    """One connection, which is made again by itself when it breaks.

    address: where to, and as whom. owner: who is told of it; nobody as long as it is one attempt of several.
    """

    def __init__(self, address: Address) -> None:
        super().__init__()
        self.address = address
        self.owner: Owner | None = None
        self._is_attempt = True

    @property
    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        return self._server_info

    async def attempt(self, server: str, options: dict[str, Any]) -> None:
        """Connect to this server; raises what goes wrong first."""
        try:
            await self.connect(
                [server], error_cb=self._hear, disconnected_cb=self._go_down, reconnected_cb=self._come_up, **options
            )
            if not self.is_connected:
                raise ConnectionResetError("the server closed the connection")
        finally:
            self._is_attempt = False
        known = {f"{one.scheme}://{one.netloc}" for one in self.servers}
        self.set_server_pool([*dict.fromkeys([*self.address.servers, *sorted(known)])])

    async def discard(self) -> None:
        """Leave nothing of it behind, and tell nobody."""
        self.owner = None
        self.drop()
        try:
            await asyncio.wait_for(self.close(), 0.1)
        except (errors.Error, OSError, TimeoutError, AssertionError):
            pass

    async def _hear(self, error: Exception) -> None:
        if self._is_attempt:
            raise error  # which ends nats-py's own attempts
        if self.owner is not None:
            await self.owner.on_error(error)

    async def _go_down(self) -> None:
        if self.owner is not None:
            await self.owner.on_down()

    async def _come_up(self) -> None:
        if self.owner is not None:
            await self.owner.on_up()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
        else:
            await self._error_cb(errors.Error(f"nats: {err_msg}"))
            await self._process_op_err(errors.Error(f"nats: {err_msg}"))

    async def _process_op_err(self, e: Exception) -> None:
        if not (self.is_closed or self.is_reconnecting):
            self.drop()
        await super()._process_op_err(e)

    async def _connect_to_server(self, s: Any) -> None:
        self._abort()  # what is left of an attempt that failed
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection:
            self._check_encryption(info)
        await super()._process_info(info, initial_connection)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """Those of a status only: nobody looks at others, and they cost more than all else of a message."""
        if not headers or not headers.startswith(_STATUS):
            return None
        return await super()._process_headers(headers)

    def _check_encryption(self, info: dict[str, Any]) -> None:
        """Go on, with or without TLS, or raise ConfigurationError, before anything was said about who we are."""
        if self.address.wants_tls and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise ConfigurationError(self.address.shown, "the server has no TLS, which this address asks for")
            info["tls_required"] = True
        if info.get("tls_verify") and not self.address.tls_cert:
            hint = "cert=FILE and key=FILE, in the address or the settings file, are ours"
            raise ConfigurationError(self.address.shown, "the server wants a certificate of ours", hint=hint)

    def drop(self) -> None:
        """Forget the connection and all that was to be sent through it; a polite farewell could wait for ever."""
        self._pending.clear()
        self._pending_data_size = 0
        self._abort()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            try:
                writer.transport.abort()
            except AttributeError:  # it has been closed to the end, and has no loop any more
                pass


async def connect(address: Address, owner: Owner) -> Client:
    """Connect to one of the servers, whichever answers first, within `SECONDS_TO_CONNECT`.

    Raises UnreachableError, or ConfigurationError if a server refuses us.
    """
    now = asyncio.get_running_loop().time
    deadline = now() + SECONDS_TO_CONNECT
    servers, options = random.sample(address.servers, len(address.servers)), _options(address)
    racing: set[asyncio.Task[Client]] = set()
    error: BaseException = TimeoutError()
    try:
        while (servers or racing) and now() < deadline:
            if servers:
                racing.add(asyncio.ensure_future(_attempt(servers.pop(0), address, options)))
            wait = min(_HEAD_START, deadline - now()) if servers else deadline - now()
            done, racing = await asyncio.wait(racing, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failure = task.exception()
                if failure is None:
                    racing |= done - {task}  # those that were as quick, or have failed
                    task.result().owner = owner
                    return task.result()
                if is_refusal(failure):
                    raise refusal(address, str(failure))
                error = failure
    finally:
        for task in racing:
            task.add_done_callback(_discard)
            task.cancel()
    raise _complaint(address, error)


def _discard(task: asyncio.Task[Client]) -> None:
    if not task.cancelled() and task.exception() is None:
        asyncio.ensure_future(task.result().discard())  # noqa: RUF006 - the loop ends all that runs


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that the server does not want us, as whoever we say that we are."""
    text = str(error).lower()
    return isinstance(error, errors.Error) and any(word in text for word in _MEANS_REFUSED)


def refusal(address: Address, reason: str) -> ConfigurationError:
    """What is said when a server refuses us."""
    words = reason.removeprefix("nats: ").strip("'\" ").lower()
    if not address.has_credentials:
        hint = "give some with --creds FILE, in the settings file, or in EVTOOL_STORE"
        return ConfigurationError(address.shown, "the server wants credentials, and there are none", hint=hint)
    return ConfigurationError(address.shown, f"the server refused these credentials ({words})")


def _options(address: Address) -> dict[str, Any]:
    """What nats-py is told. Raises ConfigurationError."""
    options: dict[str, Any] = {
        "name": "evtool",
        "connect_timeout": 2,
        "reconnect_time_wait": SHORTEST_WAIT,
        "max_reconnect_attempts": -1,
        "ping_interval": _PING_SECONDS,
        "max_outstanding_pings": _PINGS,
        "user": address.user,
        "password": address.password,
        "token": address.token,
        "user_credentials": address.creds,
        "nkeys_seed": address.nkey,
    }
    if address.inbox:
        options["inbox_prefix"] = address.inbox
    if address.wants_tls:
        options["tls"] = _tls(address)
    return options


def _tls(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.tls_ca)
        if address.tls_cert:
            context.load_cert_chain(address.tls_cert, address.tls_key)
    except (OSError, ValueError) as error:
        names = ", ".join(name for name in (address.tls_ca, address.tls_cert, address.tls_key) if name)
        raise ConfigurationError(names, f"no usable certificate or key: {_words(error)}") from None
    return context


async def _attempt(server: str, address: Address, options: dict[str, Any]) -> Client:
    """One attempt at one server."""
    client = Client(address)
    try:
        await client.attempt(server, options)
    except BaseException as error:
        await client.discard()
        if isinstance(error, Exception):
            raise _meaning(client, error) from None
        raise
    return client


def _meaning(client: Client, error: Exception) -> Exception:
    """The error; if it comes from what we say of ourselves, and not from the server, one that says so."""
    address = client.address
    file = address.creds or address.nkey
    if isinstance(error, ModuleNotFoundError):
        hint = "pip install 'evtool[nats]'"
        return ConfigurationError(file or address.shown, f"needs the package {error.name}", hint=hint)
    is_ours = isinstance(error, (ConnectionError, ssl.SSLError)) and not isinstance(error, ssl.SSLCertVerificationError)
    if is_ours and client.info.get("tls_verify"):  # the server's own words get lost when it hangs up
        return ConfigurationError(address.shown, "the server does not accept our certificate")
    is_known = isinstance(error, (OSError, EvtoolError, errors.Error))
    if file and (not is_known or isinstance(error, errors.InvalidUserCredentialsError)):
        return ConfigurationError(file, "holds no usable credentials")
    return error


def _complaint(address: Address, error: BaseException) -> EvtoolError:
    """What is said when no server could be connected to, for the last reason."""
    if isinstance(error, EvtoolError):
        return error
    if isinstance(error, ssl.SSLError):
        is_unknown = isinstance(error, ssl.SSLCertVerificationError)
        hint = "ca=FILE, in the address or the settings file, names who signs certificates" if is_unknown else None
        return ConfigurationError(address.shown, f"TLS: {_words(error)}", hint=hint)
    hint = "is the address right, and does the server run?" if isinstance(error, OSError) else None
    return UnreachableError(address.shown, _words(error), hint=hint)


def _words(error: BaseException) -> str:
    """Why, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "no answer in 2 s"
    if isinstance(error, OSError):
        known = error.errno and not isinstance(error, socket.gaierror)  # asyncio's own words say less
        return (os.strerror(error.errno) if known and error.errno else error.strerror or str(error)).lower()
    if "INFO" in str(error):
        return "what answers is no NATS server, or one that is just starting or ending"
    return str(error).removeprefix("nats: ").strip("'")
