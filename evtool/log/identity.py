"""Which log this is, whatever its directory is called and wherever it is moved: ``web1:5f2a90c1``, in a file beside it.

The host is the one on which it was first asked for, the rest is chance. It goes with the topic, so that no other one
of the same name is ever taken for it.
"""

from __future__ import annotations

import os

from evtool.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory

FILE_NAME = "origin"
_ID_DIGITS = 8
_LONGEST_HOST = 64
_LARGEST_FILE = 128
_HEX = "0123456789abcdef"


def load(directory: Directory) -> str | None:
    """HOST:ID of the topic in this directory; None if nobody has asked yet. Raises ConfigurationError."""
    try:
        fd = directory.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, _LARGEST_FILE).decode("ascii", "replace").rstrip("\n")
    finally:
        os.close(fd)
    if not is_identity(text):
        raise ConfigurationError(f"{directory.path}/{FILE_NAME}", "does not say which log this is: HOST:8 digits")
    return text


def make(directory: Directory) -> str:
    """Give the topic in this directory an identity, durably, unless it has one. Its lock must be held."""
    found = load(directory)
    if found is not None:
        return found
    made = f"{host_part(os.uname().nodename)}:{os.urandom(_ID_DIGITS // 2).hex()}"
    directory.write_anew(FILE_NAME, made.encode() + b"\n")
    return made


def host_part(host: str) -> str:
    """The name of a host as it stands in an identity: letters, digits, dots and dashes."""
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "-" for one in host[:_LONGEST_HOST])
    return kept or "-"


def is_identity(text: str) -> bool:
    """Whether this may be HOST:ID."""
    host, _, digits = text.partition(":")
    return bool(host) and host == host_part(host) and len(digits) == _ID_DIGITS and not digits.strip(_HEX)
