"""The two ways in: what the quick one recognises, Typer reads exactly alike; the rest it leaves to Typer."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.cli import app, argv, border
from evtool.cli._table import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = tuple[str, dict[str, Any], list[str] | None]
    Recogniser = Callable[[list[str]], tuple[str, dict[str, Any]] | None]

# One that each command normally gets, in the forms in which it may be said. All of these the quick way must take.
ORDINARY = [
    "append orders",
    "append orders -",
    "append orders '{\"amount\":9.5}' 1 null",
    "append orders -k u1 -t order.paid --source shop",
    "append orders --key=u1 --type=order.paid --source=shop --id=7",
    "append orders -ku1 -torder.paid '[]'",
    "append orders --text --offsets -v0q",
    "append --attr a=1 --attr=b=2 orders --attr c= -- -1 --text",
    "append orders --key-from .user.id --id-from .order.id --cloudevents",
    "append orders --sync never --expect-offset 17 --atomic --rejects bad.jsonl --timeout 5s --allow-nfs",
    "append orders --key= -k ''",
    "append orders --key -",
    "tail orders",
    "tail orders paid 'orders.*' -n 1",
    "tail -n5 orders -f",
    "tail -fn 5 orders --count 6",
    "tail -qfdn5 orders -oline",
    "tail orders --count=0 -o pretty --color never",
    "replay orders",
    "replay orders --from -10",
    "replay orders --from=-10 --until=latest -n -1",
    "replay orders --from '2h ago' --until '2026-11-23T22:25:32Z' --count 1",
    "replay orders --from @1700000000 --speed 10x --max-gap 1s -f --timeout=1m",
    "replay orders -k key -t type --null -0 --output text --color=always",
    "subscribe orders",
    "subscribe orders -g billing --drain -n1 -v",
    "subscribe orders --group billing --from group:other -- sh -c 'cat; exit 1' --",
    "subscribe orders -- -x --help",
    "fanout orders --to topic:copy",
    "fanout orders",
    "fanout --to topic:copy",
    "fanout --config rules.toml --check",
    "subscribe orders -g g --jobs 4 -j2 --batch 10 --linger 1s --retries 3 --backoff 1s..5s --share --lease=9s",
    "subscribe orders -w 'data.a > 1' --jq .data --manual --worker --timeout-each 5s",
    "seek orders -g g --to earliest --dry-run",
    "commit",
    "commit orders -g g",
    "redrive orders --all",
    "redrive orders --offset 5 --group g",
    "dead orders --json",
    "rm orders --group g --yes",
    "fanout orders --to=file:/tmp/x --to 'exec:cat -' --from earliest --drain -vq -k u1",
    "topics",
    "topics orders 'paid.*' --json --color=never --allow-nfs",
    "groups",
    "groups orders --json --color always",
    "__complete topics",
    "__complete where gr",
    "__complete groups '' orders users",
]

# What the quick way must not answer: help, errors, and what only Typer knows how to read or to explain.
LEFT_TO_TYPER = [
    "",
    "--help",
    "-h",
    "--version",
    "-V",
    "nosuch orders",
    "tial orders",
    "append",
    "append --help",
    "append orders -h",
    "append orders --nosuch",
    "append orders -x",
    "append orders --ke u1",
    "append orders --text=yes",
    "append orders --text=",
    "append orders --key",
    "append orders -k",
    "append orders --key --text",
    "append orders --sync often",
    "append orders --sync=",
    "append orders --expect-offset many",
    "append orders --expect-offset=",
    "append orders --expect-offset 1.0",
    "append orders --expect-offset +1",
    "append orders --expect-offset ' 1'",
    "append orders --expect-offset 1_000",
    "append orders --expect-offset \u0663",
    "append orders --expect-offset 0x10",
    "append orders --expect-offset 9999999999999999",
    "tail",
    "tail -n",
    "tail -n five orders",
    "tail orders -z",
    "tail orders -fz",
    "tail orders -nf",
    "tail orders -o wide",
    "tail orders --output LINE",
    "replay -f",
    "subscribe",
    "subscribe -- cat",
    "fanout orders paid --to topic:copy",
    "topics --nosuch",
    "__complete",
    "__complete topics --o",
]

NAMES = [*COMMANDS, "nosuch", ""]
FLAGS = sorted({flag for command in COMMANDS.values() for flag in command["options"]})
CHOICES = ["auto", "always", "never", "line", "data", "text", "pretty", "cloudevents"]
HUGE = "9" * 15
NUMBERS = [
    "0", "1", "-1", "+1", "007", "-0", "--1", "- 1", " 1", "1 ", "1\n", "1_0", "1e3", "1.0", "0x1", "\u0663",
    "\u00b2",
]  # fmt: skip
NUMBERS += [HUGE, "-" + HUGE, HUGE + "9", "9" * 30, "9" * 5000]
VALUES = [
    *NUMBERS, *CHOICES, "", "-", "--", "---", "-x", "-f", "-n", "-n5", "--key", "--key=a", "--nosuch", "a=b", "=",
    "=a",
]  # fmt: skip
VALUES += ["orders", "orders.*", "{}", "@1", "group:g", "2h ago", "\udcff", "\u2028", "AUTO", " line", "topic:copy"]
MISSPELT = [
    "--", "-", "---", "-h", "--help", "-V", "--version", "--nosuch", "--no-text", "--ke", "--KEY", "-K", "-\u0663",
    "--=x",
]  # fmt: skip

values = st.sampled_from(VALUES) | st.text(max_size=4)


def typer_reads(line: list[str]) -> Read | None:
    """What Typer makes of a command line: command, values and handler, or None if it would not run any command."""
    runs: list[Read] = []

    def record(args: argv.Args) -> int:
        values = dict(vars(args))
        runs.append((values.pop("command"), values, values.pop("handler")))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(border, "run", record)
        app.main(*argv.split_handler(line))
    assert len(runs) <= 1
    return runs[0] if runs else None


def quick_reads(line: list[str], recognise: Recogniser = argv.recognise) -> Read | None:
    """What the quick way makes of a command line, or None if it steps aside."""
    rest, handler = argv.split_handler(line)
    recognised = recognise(rest)
    return None if recognised is None else (*recognised, handler)


def check_that_both_read_alike(line: list[str], recognise: Recogniser = argv.recognise) -> bool:
    """Fail if the quick way reads a command line otherwise than Typer does; return whether it read it at all."""
    quick = quick_reads(line, recognise)
    if quick is None:
        return False
    slow = typer_reads(line)
    assert quick == slow
    assert types_of(quick) == types_of(slow)
    return True


def types_of(read: Any) -> Any:
    """The types of all values, since True equals 1."""
    if isinstance(read, tuple | list):
        return type(read), [types_of(one) for one in read]
    if isinstance(read, dict):
        return dict, {name: types_of(one) for name, one in read.items()}
    return type(read)


def options_of(name: str) -> st.SearchStrategy[list[str]]:
    """One option of a command, or of another one, or none at all, in any form, its value well or badly given."""
    own = COMMANDS[name]["options"] if name in COMMANDS else {}
    flags = st.sampled_from([*own, *own, *FLAGS] if own else FLAGS)
    return st.one_of(
        flags.flatmap(lambda flag: fitting(flag, own)),
        flags.flatmap(lambda flag: fitting(flag, own)),
        st.tuples(flags).map(list),
        st.tuples(flags, values).map(list),
        st.builds(lambda flag, value: [f"{flag}={value}"], flags, values),
        st.builds(lambda flag, value: [f"{flag}{value}"], flags, values),
        clusters([flag for flag in own if len(flag) == 2] or ["-f"]),
        st.sampled_from(MISSPELT).map(lambda word: [word]),
        st.builds(lambda flag, at: [flag[:at] + flag[at + 1 :]], flags, st.integers(1, 8)),
    )


def fitting(flag: str, own: dict[str, Any]) -> st.SearchStrategy[list[str]]:
    """An option with a value that it takes, joined to it or not."""
    kind = own[flag][1] if flag in own else argv.TEXT
    if kind == argv.FLAG:
        return st.just([flag])
    wanted = st.integers(-3, 10**14).map(str) if kind == argv.NUMBER else values
    wanted = st.sampled_from(kind) if isinstance(kind, tuple) else wanted
    joint = "=" if flag.startswith("--") else ""
    return wanted.flatmap(lambda value: st.sampled_from([[flag, value], [f"{flag}{joint}{value}"]]))


def clusters(short: list[str]) -> st.SearchStrategy[list[str]]:
    """Short options in one word, maybe with a value joined to the last or behind it."""
    letters = st.lists(st.sampled_from(short), min_size=1, max_size=4).map(
        lambda flags: "-" + "".join(f[1] for f in flags)
    )
    return (
        st.tuples(letters).map(list)
        | st.tuples(letters, values).map(list)
        | st.builds(lambda word, value: [word + value], letters, values)
    )


def lines_of(name: str) -> st.SearchStrategy[list[str]]:
    """Command lines of one command, more or less right."""
    topic = st.sampled_from(["orders", "paid", "g", "topics"]).map(lambda word: [word])
    part = topic | topic | options_of(name) | options_of(name) | options_of(name) | values.map(lambda word: [word])
    required = st.sampled_from([["orders"], ["orders"], ["orders", "--to", "topic:copy"], []])
    return st.builds(
        lambda first, parts: [name, *first, *(word for one in parts for word in one)],
        required,
        st.lists(part, max_size=5),
    )


command_lines = st.sampled_from(NAMES).flatmap(lines_of) | st.lists(
    values | st.sampled_from([*NAMES, *FLAGS]), max_size=6
)


@settings(max_examples=1500, deadline=None)
@given(command_lines)
def test_what_the_quick_way_recognises_typer_reads_alike(line: list[str]) -> None:
    check_that_both_read_alike(line)


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_command_line_is_recognised(line: str) -> None:
    """So the property above is not empty, and nobody pays for Typer who need not."""
    assert check_that_both_read_alike(shlex.split(line))


@pytest.mark.parametrize("line", LEFT_TO_TYPER)
def test_what_is_unusual_or_wrong_is_left_to_typer(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The quick way neither answers nor says anything."""
    assert argv.recognise(argv.split_handler(shlex.split(line))[0]) is None
    assert capfd.readouterr() == ("", "")


def without_the_last_of_a_list(line: list[str]) -> tuple[str, dict[str, Any]] | None:
    read = argv.recognise(line)
    return read and (read[0], {k: v[:-1] if isinstance(v, list) else v for k, v in read[1].items()})


def with_flags_as_numbers(line: list[str]) -> tuple[str, dict[str, Any]] | None:
    read = argv.recognise(line)
    return read and (read[0], {k: int(v) if v is True else v for k, v in read[1].items()})


@pytest.mark.parametrize("wrong", [without_the_last_of_a_list, with_flags_as_numbers])
def test_control_a_wrong_reading_is_noticed(wrong: Recogniser) -> None:
    @settings(max_examples=1500, deadline=None, database=None)
    @given(command_lines)
    def agree(line: list[str]) -> None:
        check_that_both_read_alike(line, wrong)

    with pytest.raises(AssertionError):
        agree()
