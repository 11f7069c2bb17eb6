"""Names: of topics and groups, and how they and segments map to file names. The only place that builds a file name."""

from __future__ import annotations

from evtool.errors import UsageError

_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
_REST = _FIRST + "._-"
MAX_LENGTH = 64
DEAD_SUFFIX = ".dead"
SEGMENT_SUFFIX = ".jsonl"
SEGMENT_DIGITS = 20
COMMITS_SUFFIX = ".jsonl"
LOCK_SUFFIX = ".lock"
TURN_SUFFIX = ".turn"


def is_name(text: str) -> bool:
    """Whether `text` may name a topic or a group: ``[a-z0-9][a-z0-9._-]{0,63}`` without ``..``."""
    return 0 < len(text) <= MAX_LENGTH and text[0] in _FIRST and not text.strip(_REST) and ".." not in text


def check_name(kind: str, text: str) -> str:
    """Give back `text` if it may name a `kind` ("topic" or "group"), else raise `UsageError`."""
    if is_name(text):
        return text
    raise UsageError(
        f"{text!r}" if text else "''",
        f"not a {kind} name",
        hint="a name is 1 to 64 of a-z 0-9 . _ - , starts with a letter or digit, and has no '..'",
    )


def is_pattern(text: str) -> bool:
    """Whether `text` is a glob over topics and not the name of one."""
    return any(character in text for character in "*?[")


def check_pattern(text: str) -> str:
    """Give back the glob `text` if topics could match it, else raise `UsageError`."""
    if 0 < len(text) <= MAX_LENGTH and not text.strip(_REST + "*?[]!"):
        return text
    raise UsageError(repr(text), "not a pattern of topic names", hint="use * ? [abc] and the letters of topic names")


def segment_name(first_offset: int) -> str:
    """The file name of the segment whose first event has this offset."""
    return f"{first_offset:0{SEGMENT_DIGITS}d}{SEGMENT_SUFFIX}"


def parse_segment(file_name: str) -> int | None:
    """The first offset of the segment with this file name, or None if no segment is called so."""
    digits = file_name[:SEGMENT_DIGITS]
    if file_name[SEGMENT_DIGITS:] == SEGMENT_SUFFIX and len(digits) == SEGMENT_DIGITS and digits.isdecimal():
        return int(digits) if digits.isascii() else None
    return None


def commits_name(group: str) -> str:
    """The file name of a group's commit log."""
    return group + COMMITS_SUFFIX


def parse_commits(file_name: str) -> str | None:
    """The group whose commit log has this file name, or None if it is not one."""
    group = file_name.removesuffix(COMMITS_SUFFIX)
    return group if group != file_name and is_name(group) else None


def group_lock_name(group: str) -> str:
    """The file name of the lock that the process consuming for a group holds."""
    return group + LOCK_SUFFIX


def group_turn_name(group: str) -> str:
    """The file name of the lock that is held, for a moment, by whoever writes to a group's commit log."""
    return group + TURN_SUFFIX


def dead_name(topic: str) -> str:
    """The topic to which events of `topic` go that nobody could handle. Raises UsageError if no topic can be it."""
    if len(topic) + len(DEAD_SUFFIX) > MAX_LENGTH:
        raise UsageError(topic, f"its name is too long for a topic of dead letters, {topic}{DEAD_SUFFIX}")
    return topic + DEAD_SUFFIX
