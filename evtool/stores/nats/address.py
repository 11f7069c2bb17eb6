"""The address of a NATS cluster: where its servers are, and as whom we come.

    nats://[user:password@|token@]host[:4222],host…[?creds=FILE&nkey=FILE&ca=FILE&cert=FILE&key=FILE
                                                     &domain=NAME&replicas=N&inbox=PREFIX]

`tls://` is the same with TLS, and never without it; so is an address with ca or cert.
"""

from __future__ import annotations

import os
import stat
from urllib.parse import unquote, urlsplit

from evtool.errors import ConfigurationError, UsageError
from evtool.stores.nats import FILES, PARAMETERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_WAYS = (("user", "password"), ("token",), ("creds",), ("nkey",))  # to say who we are: one of them
_MOST_REPLICAS = 5  # JetStream's own limit
_PORT = 4222


class Address:
    """Where a cluster is. `servers` and `shown` hold no secrets; what is not given is None."""

    __slots__ = (
        "creds",
        "domain",
        "inbox",
        "nkey",
        "password",
        "replicas",
        "servers",
        "shown",
        "tls_ca",
        "tls_cert",
        "tls_key",
        "token",
        "user",
        "wants_tls",
    )

    def __init__(self, servers: list[str], settings: Mapping[str, str]) -> None:
        self.servers = servers
        self.shown = ",".join([servers[0], *(server.partition("://")[2] for server in servers[1:])])
        self.user = settings.get("user")
        self.password = settings.get("password")
        self.token = settings.get("token")
        files = {name: os.path.expanduser(settings[name]) if name in settings else None for name in FILES}
        self.creds, self.nkey = files["creds"], files["nkey"]
        self.tls_ca, self.tls_cert, self.tls_key = files["ca"], files["cert"], files["key"]
        self.domain = _token("domain", settings.get("domain"))
        self.inbox = _token("inbox", settings.get("inbox"), more=".")
        self.replicas = _replicas(settings.get("replicas"))
        self.wants_tls = servers[0].startswith("tls:") or self.tls_ca is not None or self.tls_cert is not None

    @property
    def has_credentials(self) -> bool:
        """Whether we say who we are."""
        return any(one is not None for one in (self.user, self.token, self.creds, self.nkey, self.tls_cert))

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def parse(url: str, settings: Mapping[str, str], *, check: bool = True) -> Address:
    """The address that a URL and some settings give; what the URL says counts more.

    check: whether the files are looked at.

    Raises UsageError for a URL that is none, ConfigurationError for what it refers to.
    """
    servers = servers_of(url)
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.fragment:
        hint = "an address is nats://HOST[:PORT],HOST...[?NAME=VALUE&...]"
        raise UsageError(shown_url(url), "names a path", hint=hint)
    said = _credentials(parts.netloc.rpartition("@")[0]) | _parameters(shown_url(url), parts.query)
    merged = layered(settings, said)
    address = Address(servers, merged)
    _check_ways(address, merged)
    if check:
        _check_files(address)
    return address


def layered(below: Mapping[str, str], above: Mapping[str, str]) -> dict[str, str]:
    """All settings of both, those above before those below. If those above say who we are, those below do not."""
    ways = {name for way in _WAYS for name in way}
    is_said = not ways.isdisjoint(above)
    return {name: value for name, value in below.items() if not (is_said and name in ways)} | dict(above)


def servers_of(url: str) -> list[str]:
    """The servers that a URL names, each as SCHEME://HOST:PORT. Raises UsageError."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return [f"{parts.scheme}://{_host(shown_url(url), host)}" for host in hosts.split(",")]


def have_common_server(url: str, other: str) -> bool:
    """Whether both are addresses of one cluster, as far as that can be seen."""
    return not {one.partition("://")[2] for one in servers_of(url)}.isdisjoint(
        one.partition("://")[2] for one in servers_of(other)
    )


def without_credentials(url: str) -> str:
    """The same without what says who we are."""
    parts = urlsplit(url)
    kept = [one for one in parts.query.split("&") if one.partition("=")[0] not in ("creds", "nkey")]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="&".join(kept)).geturl()


def shown_url(url: str) -> str:
    """The URL as it may be shown to anybody."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"


def _host(url: str, text: str) -> str:
    """HOST:PORT of one server."""
    try:
        parts = urlsplit(f"//{text}")
        port = _PORT if parts.port is None else parts.port
    except ValueError:
        raise UsageError(url, f"{text!r} is no HOST:PORT") from None
    if not parts.hostname or port == 0 or any(one.isspace() or one in "/\\\"'" for one in text):
        raise UsageError(url, f"{text!r} is no HOST:PORT" if text else "names no host")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{name}:{port}"


def _credentials(who: str) -> dict[str, str]:
    if not who:
        return {}
    name, colon, password = who.partition(":")
    return {"user": unquote(name), "password": unquote(password)} if colon else {"token": unquote(name)}


def _parameters(url: str, query: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in PARAMETERS:
            raise UsageError(url, f"{name!r} is no parameter of an address; known are {', '.join(PARAMETERS)}")
        if not value:
            raise UsageError(url, f"the parameter {name} is empty")
        said[name] = unquote(value)
    return said


def _replicas(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_REPLICAS):
        raise ConfigurationError("replicas", f"{text!r} is no number from 1 to {_MOST_REPLICAS}")
    return int(text)


def _token(name: str, text: str | None, more: str = "") -> str | None:
    """A word that may be part of a subject. Raises ConfigurationError."""
    if text is not None and not all(one.isalnum() or one in "-_" + more for one in text):
        raise ConfigurationError(name, f"{text!r} cannot be part of a subject")
    return text


def _check_ways(address: Address, settings: Mapping[str, str]) -> None:
    """Raise ConfigurationError if it is not clear who we are."""
    said = [way[0] for way in _WAYS if any(name in settings for name in way)]
    if len(said) > 1:
        raise ConfigurationError(address.shown, f"there may be one of {' and '.join(said)}, to say who we are")
    if (address.user is None) != (address.password is None):
        raise ConfigurationError(address.shown, "a user without a password, or the other way round")
    if (address.tls_key is None) != (address.tls_cert is None):
        raise ConfigurationError(address.shown, "cert and key go together: there is only one of them")


def _check_files(address: Address) -> None:
    for file in filter(None, (address.creds, address.nkey, address.tls_key)):
        _check_secret(file)
    for file in filter(None, (address.tls_ca, address.tls_cert)):
        _check_readable(file)


def _check_secret(file: str) -> None:
    """Raise ConfigurationError if a file cannot be read, or if others than its owner can."""
    mode = _check_readable(file)
    if stat.S_ISREG(mode) and mode & 0o077:
        why = f"others may read it (mode {stat.S_IMODE(mode):04o}), and it holds a secret"
        raise ConfigurationError(file, why, hint=f"chmod 600 {file}")


def _check_readable(file: str) -> int:
    """The mode of a file that can be read. Raises ConfigurationError."""
    try:
        mode = os.stat(file).st_mode
        if stat.S_ISREG(mode):
            os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
    except (OSError, ValueError) as error:
        raise ConfigurationError(file, (getattr(error, "strerror", None) or str(error)).lower()) from None
    if stat.S_ISDIR(mode):
        raise ConfigurationError(file, "is a directory")
    return mode
