"""The quick way in: recognise a command line by the generated table, or step aside for Typer.

It never explains and never prints: what it does not understand completely is None, and Typer's answer stands.
"""

from __future__ import annotations

from evtool.cli._table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAG, TEXT, NUMBER, LIST = "flag", "text", "number", "list"  # kinds of option; a tuple is a choice of words
_MOST_DIGITS = 15


class Args:
    """What was said: the values of a command's parameters as attributes, and the handler behind `--`, if any."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, command: str, values: dict[str, Any], handler: list[str] | None = None) -> None:
        self.__dict__.update(values)
        self.command = command
        self.handler = handler


def split_handler(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Cut off what stands behind the first `--`, for the commands that run it."""
    if argv and argv[0] in COMMANDS and COMMANDS[argv[0]]["runs_handler"] and "--" in argv:
        at = argv.index("--")
        return argv[:at], argv[at + 1 :]
    return argv, None


def recognise(argv: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The command and the values of all its parameters, exactly as Typer would read them, or None."""
    command: dict[str, Any] | None = COMMANDS.get(argv[0]) if argv else None
    if command is None:
        return None
    values = dict(command["defaults"])
    words: list[str] = []
    rest = iter(argv[1:])
    for word in rest:
        if word == "--":
            words.extend(rest)
        elif not word.startswith("-") or word == "-":
            words.append(word)
        elif not _take_option(command["options"], word, rest, values):
            return None
    if not _take_words(command, words, values):
        return None
    return argv[0], values


def _take_option(options: dict[str, Any], word: str, rest: Any, values: dict[str, Any]) -> bool:
    """Put the option, or the short options, that `word` begins with into `values`; say whether that was understood."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name in options and _set(options[name], value if equals else None, rest, values)
    for at in range(1, len(word)):
        option = options.get("-" + word[at])
        if option is None:
            return False
        if option[1] != FLAG:
            return _set(option, word[at + 1 :] or None, rest, values)
        values[option[0]] = True
    return True


def _set(option: tuple[str, Any], value: str | None, rest: Any, values: dict[str, Any]) -> bool:
    name, kind = option
    if kind == FLAG:
        values[name] = True
        return value is None
    if value is None:
        value = next(rest, None)
        if value is None or value.startswith("--"):
            return False
    if kind == LIST:
        values[name] = [*values[name], value]
    elif kind == NUMBER:
        if not _is_number(value):
            return False
        values[name] = int(value)
    elif kind == TEXT or value in kind:
        values[name] = value
    else:
        return False
    return True


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS


def _take_words(command: dict[str, Any], words: list[str], values: dict[str, Any]) -> bool:
    """Put the words that are no options into `values`; say whether there are neither too few nor too many."""
    for name, required, many in command["arguments"]:
        if not words:
            if required:
                return False
        elif many:
            values[name], words = words, []
        else:
            values[name], words = words[0], words[1:]
    return not words and all(values[name] for name in command["required"])
