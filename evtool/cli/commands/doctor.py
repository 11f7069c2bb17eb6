"""evtool doctor: what is wrong with the whole home, or soon will be, and the command that mends each of it."""

from __future__ import annotations

import os

from evtool.cli import border, home, installed, view
from evtool.cli.letters import letters
from evtool.cli.output import wants_color
from evtool.cli.view import Column
from evtool.errors import EvtoolError
from evtool.log import names
from evtool.stores import health
from evtool.stores.finding import ADVICE, PROBLEM, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtool.cli.argv import Args
    from evtool.stores.health import Report
    from evtool.stores.protocol import Store


def run(args: Args) -> int:
    """Write a row for each finding; return 1 if one of them is a problem."""
    try:
        report = health.look(home.files_location(args), allow_network=args.allow_nfs)
    except FileNotFoundError:
        report = health.Report()
    report.add(_dead_letters(args))
    report.add(installed.findings(os.environ))
    found = report.findings
    if not args.quiet and not (report.topics and found):
        home.note(_summary(report))
    if os.isatty(1) and not args.json:
        view.write(_for_people(found, wants_color(args)))
    else:
        view.write_rows(args, _COLUMNS, [_row(finding) for finding in found])
    return 1 if any(finding.severity == PROBLEM for finding in found) else 0


def _summary(report: Report) -> str:
    """That there is nothing to look at, or nothing wrong with it."""
    if not report.topics:
        return "there are no topics yet; `evtool append TOPIC` makes one"
    topics, groups = view.counted(report.topics, "topic"), view.counted(report.groups, "group")
    return f"looked at {topics} and {groups}: nothing is wrong"


def _dead_letters(args: Args) -> Iterator[Finding]:
    """Events that could not be handled and wait for somebody to look at them."""
    try:
        store = home.open_home(args)
        topics = store.topics()
    except EvtoolError:  # there is no home, or what is wrong with it was found
        return
    for topic in topics:
        try:
            waiting = _count_waiting(store, topic)
        except (EvtoolError, ValueError):  # damaged: found elsewhere, or by `evtool verify`
            continue
        if waiting:
            why = (
                f"{view.counted(waiting, 'event')} could not be handled and {'is' if waiting == 1 else 'are'} set aside"
            )
            yield Finding(ADVICE, topic, why, f"evtool dead {topic}")


def _count_waiting(store: Store, topic: str) -> int:
    """The dead letters of a topic that were not sent through again."""
    dead = topic + names.DEAD_SUFFIX
    if not (names.is_name(dead) and store.has(dead)):
        return 0
    return sum(not letter.is_redriven for letter in letters(store, topic))


def _for_people(found: list[Finding], color: bool) -> bytes:
    """Two lines a finding. A table would break the commands, which are to be pasted, into pieces."""
    shown = []
    for finding in found:
        severity = f"{finding.severity:8}"
        if color:
            severity = f"{_RED if finding.severity == PROBLEM else _YELLOW}{severity}{_PLAIN}"
        shown.append(f"{severity} {border.printable(f'{finding.what}: {finding.why}')}\n")
        shown.append(f"{'':8} {border.printable(finding.mend)}\n")
    return "".join(shown).encode("utf-8", "surrogateescape")


def _row(finding: Finding) -> dict[str, str]:
    return {"severity": finding.severity, "what": finding.what, "why": finding.why, "mend": finding.mend}


_RED, _YELLOW, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[0m"
_COLUMNS = tuple(Column(name, name, number=False) for name in ("severity", "what", "why", "mend"))
