"""The rules of a fan-out, from the command line or from a TOML file.

topic = "orders"

[[sink]]
to = "https://example.org/hook"
name = "hook"
where = 'data.amount > 100'
batch = 50
headers = {Authorization = "Bearer ${TOKEN}"}

[[sink]]
to = "file:/var/log/orders-{date}.jsonl"
from = "earliest"
"""

from __future__ import annotations

import os
import string

from evtool.delivery.handling import Handling
from evtool.delivery.retries import Retries, parse_backoff
from evtool.delivery.rule import CLOUDEVENTS, JSON, Address, Rule
from evtool.delivery.selection import Selection
from evtool.errors import ConfigurationError, EvtoolError, StorageError, UsageError
from evtool.log import files, names
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args

_FILTERS = ("key", "type", "where", "jq")
_HANDLING: dict[str, Any] = {
    "retries": 5,
    "backoff": "1s..1m",
    "jobs": 1,
    "batch": 1,
    "linger": None,
    "timeout-each": None,
}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "to": str,
    "name": str,
    "from": str,
    "content": str,
    "headers": dict,
    **dict.fromkeys(_FILTERS, str),
    "retries": int,
    "backoff": str,
    "jobs": int,
    "batch": int,
    "linger": str,
    "timeout-each": str,
}
_MOST = {"jobs": 1000, "batch": 4096}
_RUNS = ("exec", "worker", "http", "https")


def from_arguments(args: Args) -> list[Rule]:
    """The rules that the options say, one for each --to; all have the same filters and the same way of handling."""
    sinks = list(dict.fromkeys(args.to))
    if args.name is not None and len(sinks) != 1:
        raise UsageError(
            "--name", "names one sink, and there are several", hint="give each its name in a --config file"
        )
    shared = {
        name: getattr(args, name.replace("-", "_")) for name in (*_FILTERS, *_HANDLING, "name", "from_", "content")
    }
    shared["from"] = shared.pop("from_")
    rules = []
    for sink in sinks:
        left_out = () if sink.partition(":")[0] in _RUNS else _HANDLING  # of several sinks some may have no use for it
        rules.append(make_rule({"to": sink} | {n: v for n, v in shared.items() if n not in left_out}, args.topic))
    _check_apart(rules)
    return rules


def from_file(path: str, topic: str | None) -> tuple[str, list[Rule]]:
    """The topic and the rules that a file says. topic: what the command line says, if it says one.

    Raises ConfigurationError, which names the file and the sink.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            said = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(path, f"not TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(path, "not TOML: it is not UTF-8") from None
    except OSError as error:
        raise StorageError(path, files.reason(error)) from error
    if unknown := said.keys() - {"topic", "sink"}:
        raise ConfigurationError(path, f"{sorted(unknown)[0]!r} is unknown", hint="it has `topic` and [[sink]] tables")
    chosen = topic or said.get("topic")
    if not isinstance(chosen, str):
        raise ConfigurationError(path, "says no topic", hint='write topic = "NAME", or name it on the command line')
    tables = said.get("sink")
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError(path, "has no [[sink]]")
    names.check_name("topic", chosen)
    rules = [_table_rule(path, number, table, chosen) for number, table in enumerate(tables, 1)]
    try:
        _check_apart(rules)
    except UsageError as error:
        raise ConfigurationError(f"{path}: {error.what}", error.why, hint=error.hint) from None
    return chosen, rules


def _table_rule(path: str, number: int, table: Any, topic: str) -> Rule:
    what = f"{path}: sink {number}"
    if not isinstance(table, dict):
        raise ConfigurationError(what, "is not a table", hint="begin each with [[sink]]")
    for name, value in table.items():
        if name not in _KINDS:
            raise ConfigurationError(what, f"{name!r} is unknown", hint=f"a sink has {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise ConfigurationError(what, f"{name} is not {_words(_KINDS[name])}")
    if "to" not in table:
        raise ConfigurationError(what, "does not say where to: `to` is missing")
    try:
        return make_rule(table, topic)
    except EvtoolError as error:
        raise ConfigurationError(what, f"{error.what}: {error.why}", hint=error.hint) from None


def make_rule(said: dict[str, Any], topic: str) -> Rule:
    """The rule that these values say; those left out are the usual ones. Raises UsageError."""
    address = Address(said["to"], topic)
    handling = {name: said.get(name, default) for name, default in _HANDLING.items()}
    content = said.get("content", JSON)
    if content not in (JSON, CLOUDEVENTS):
        raise UsageError("content", f"is {JSON} or {CLOUDEVENTS}")
    if address.kind not in _RUNS:
        for name, default in _HANDLING.items():
            if handling[name] != default:
                raise UsageError(address.text, f"a {address.kind} has no use for {name}")
    headers = {name: _expand(str(value)) for name, value in said.get("headers", {}).items()}
    return Rule(
        address,
        Selection(*(said.get(name) for name in _FILTERS)),
        _handling(handling, address.kind),
        where.parse(said.get("from") or "latest"),
        group=said.get("name"),
        content=content,
        headers=headers,
        said={**said, "headers": headers},
    )


def _handling(said: dict[str, Any], kind: str) -> Handling:
    for name, most in _MOST.items():
        if not 1 <= said[name] <= most:
            raise UsageError(name, f"is a number from 1 to {most}")
    if said["retries"] < 0:
        raise UsageError("retries", f"{said['retries']} is below 0")
    if kind == "worker" and said["batch"] > 1:
        raise UsageError("worker", "gets events one by one: leave batch away")
    if said["linger"] is not None and said["batch"] == 1:
        raise UsageError("linger", "needs a batch")
    return Handling(
        Retries(said["retries"], *parse_backoff(said["backoff"])),
        is_worker=kind == "worker",
        jobs=said["jobs"],
        batch=said["batch"],
        linger=0.0 if said["linger"] is None else where.duration(said["linger"]),
        timeout=None if said["timeout-each"] is None else where.duration(said["timeout-each"]),
    )


def _expand(text: str) -> str:
    """The text with ${NAME} replaced from the environment, so that no secret need stand in a file."""
    try:
        return string.Template(text).substitute(os.environ)
    except (KeyError, ValueError) as error:
        raise UsageError("headers", f"{text!r} wants {error}, which the environment has not") from None


def _check_apart(rules: list[Rule]) -> None:
    """Raise UsageError if two sinks would remember in the same place where they are."""
    seen: dict[str, str] = {}
    for rule in rules:
        if rule.group in seen:
            raise UsageError(
                rule.name, f"is there twice, as group {rule.group}", hint="give each sink a name of its own"
            )
        seen[rule.group] = rule.name


def _words(kind: Any) -> str:
    return {str: "a string", int: "a whole number", dict: "a table"}[kind]
