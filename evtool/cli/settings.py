"""Settings as people say and see them: ``max-age=7d``, ``max-bytes=1GiB``."""

from __future__ import annotations

from evtool.cli import view
from evtool.cli.view import Column
from evtool.errors import ConfigurationError, UsageError
from evtool.log import settings  # the words for units; which settings there are, the store knows
from evtool.stores.naming import nearest
from evtool.stores.where import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.stores.protocol import Settings

    Known = Mapping[str, tuple[str | tuple[str, ...], float | str | None]]

_SUFFIXES = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12}
_SUFFIXES |= {"tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_OF_NATS = ("replicas",)
_DURATION_HINT = "say for example 250ms, 90s, 5m, 1h30m, 2d, 4w"
_SHOWN = (
    ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
    ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000), ("", 1),
)  # fmt: skip


def parse(said: list[str], known: Known) -> dict[str, Any]:
    """The changes that NAME=VALUE say, None for a default. known: the store's settings. Raises UsageError."""
    changes: dict[str, Any] = {}
    for one in said:
        name, equals, text = one.partition("=")
        names = ", ".join(known)
        if not equals:
            raise UsageError(repr(one), "not a setting with a value", hint=f"say NAME=VALUE; settings are {names}")
        if name not in known:
            if name in settings.KNOWN or name in _OF_NATS:
                where = "of the file log" if name in settings.KNOWN else "on NATS"
                raise UsageError(repr(name), f"a setting of topics {where}", hint=f"settings here are {names}")
            hint = nearest(name, list(known)) or f"settings are {names}"
            raise UsageError(repr(name), "not a setting", hint=hint)
        changes[name] = _value(name, text.strip(), known[name][0]) if text.strip() else None
    return changes


def _value(name: str, text: str, unit: str | tuple[str, ...]) -> Any:
    if isinstance(unit, tuple):
        if text not in unit:
            raise UsageError(f"{name}={text}", f"is neither {unit[0]} nor {unit[1]}")
        return text
    value = _seconds(name, text) if unit == settings.SECONDS else _amount(name, text, unit)
    try:
        return settings.check_value(name, name, value, unit)
    except ConfigurationError as error:
        raise UsageError(f"{name}={text}", error.why.removeprefix(f"{name!r} is ")) from None


def _seconds(name: str, text: str) -> float:
    """A duration. A number alone is none: who means days must not get seconds, and lose events by it."""
    if _is_number(text):
        units = ", ".join(f"{text}{unit}" for unit in "smhd")
        raise UsageError(f"{name}={text}", "not a duration", hint=f"say the unit: {units}")
    try:
        return duration(text)
    except UsageError as error:
        raise UsageError(f"{name}={text}", error.why, hint=_DURATION_HINT) from None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit() and text.isascii()


def _amount(name: str, text: str, unit: str) -> float:
    """A number, with one of the suffixes for bytes if it is of bytes."""
    digits = text[: len(text) - len(text.lstrip("0123456789."))]
    suffix = text[len(digits) :].strip().lower()
    is_known = suffix in _SUFFIXES if unit == settings.BYTES else not suffix
    if not _is_number(digits) or not is_known or len(digits) > 18:
        say = "say for example 500k, 64MiB, 10GB" if unit == settings.BYTES else "say a number"
        raise UsageError(f"{name}={text}", "not an amount", hint=say)
    return float(digits) * _SUFFIXES[suffix] if suffix or "." in digits else int(digits)


def write(args: Args, chosen: Settings, known: Known) -> None:
    """Write all settings, a row each, or as one JSON object."""
    values = chosen.values()
    if args.json:
        import orjson

        view.write(orjson.dumps({"topic": args.topic, **values}) + b"\n")
        return
    view.write_rows(
        args, _COLUMNS, [{"name": name, "value": _shown(value, known[name][0])} for name, value in values.items()]
    )


def _shown(value: Any, unit: str | tuple[str, ...]) -> str | None:
    """A value in a form that `parse` reads again."""
    if value is None or isinstance(value, str):
        return value
    if unit == settings.SECONDS:
        for size, suffix in ((86400, "d"), (3600, "h"), (60, "m")):
            if value % size == 0:
                return f"{value / size:.0f}{suffix}"
        return f"{value:g}s"
    if unit == settings.BYTES:
        return min((f"{value // size}{suffix}" for suffix, size in _SHOWN if value % size == 0), key=len)
    return str(value)


_COLUMNS = (Column("name", "setting", number=False), Column("value", "value", number=False))
