"""EIO at every write, sync, rename, truncate and unlink, once and for good: it is said, and nothing is lost by it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults import strace
from tests.faults.care import CARES, Care
from tests.faults.failing_call import Failed, fail_everywhere
from tests.faults.history import Violation
from tests.faults.scale import scaled, seeded
from tests.faults.trial import Follower, Trial, remove
from tests.faults.without import Without
from tests.program import Program

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.strace import Call

pytestmark = strace.needed

NAMES = (
    "write", "pwrite64", "sendfile", "fsync", "fdatasync", "ftruncate", "fchmod", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat",
)  # fmt: skip
# What is not there, or not up to date, without anybody missing it: the next one makes up for it.
MAY_FAIL = ("/SHA256SUMS>", "/clock>", "/.t.removed")


def check_failures(
    evtool: Program, care: Care, choose: Callable[[list[Call]], list[Call]] = list, *, for_good: bool = False
) -> int:
    """Let those calls of a command fail that are chosen; return how many they were."""
    trial = Trial(evtool, care)
    followers: list[Follower] = []
    points = 0
    for failed in fail_everywhere(
        evtool,
        "EIO",
        NAMES,
        *care.arguments,
        for_good=for_good,
        choose=lambda calls: choose([one for one in calls if " = -1 " not in one.text]),
        before=lambda home: followers.append(Follower(home)),
    ):
        points += 1
        try:
            _check_answer(failed, care, is_speechless=for_good and failed.call.name == "write")
            trial.check_cut(failed.home, failed.result.out)
            _reopen(failed.home)
            trial.check_again(failed.home, failed.result.out, followers[-1])
        except AssertionError as error:
            raise Violation(f"{failed.call} failed: {error}") from error
    remove(evtool.home.with_name("failed"))
    return points


def _check_answer(failed: Failed, care: Care, *, is_speechless: bool) -> None:
    """It has failed, has said so in a sentence, has acknowledged nothing, and has not asked for a second sync."""
    call, result = failed.call, failed.result
    is_forgiven = any(one in call.subject for one in MAY_FAIL)
    if result.code != 74 and not (is_forgiven and result.code == 0):
        raise Violation(f"it ended with {result}")
    if result.code and not is_speechless and not result.err.startswith("evtool: "):
        raise Violation(f"it does not say why: {result}")
    if "Traceback" in result.err or "defect" in result.err:
        raise Violation(f"it fell over: {result}")
    if call.name in strace.SYNCS and not is_forgiven:
        if care.adds and result.code and result.out:
            raise Violation(f"it acknowledged what may not be on disk: {result}")
        if again := [one for one in failed.later if one.subject == call.subject]:
            raise Violation(f"synced again: {again}")


def _reopen(home: Path) -> None:
    """After a failed sync of a segment, the log is shut until it was repaired."""
    evtool = Program(home)
    if any(path.stat().st_mode & 0o777 == 0o400 for path in evtool.segments("t")):
        repaired = evtool("repair", "t", "--yes")
        if repaired.code != 0:
            raise Violation(f"it cannot be repaired: {repaired}")


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: let each call of one of the commands fail, once or for good."""
    name, for_good = random.choice(list(CARES)), random.random() < 0.5
    points = check_failures(Program(directory / "home"), CARES[name], for_good=for_good)
    return Counter({"for good" if for_good else "once": points})


@pytest.mark.parametrize("name", CARES)
def test_a_call_that_fails_is_said_and_nothing_is_lost(evtool: Program, name: str) -> None:
    random = seeded()
    for_good = random.random() < 0.5
    some = scaled(1)
    points = check_failures(
        evtool, CARES[name], lambda calls: random.sample(calls, min(len(calls), some)), for_good=for_good
    )
    assert points >= 1


@pytest.mark.parametrize(
    ("name", "protection", "at", "what"),
    [
        ("roll", "doubt", "fdatasync", "it ended with|synced again"),
        ("roll", "patience", "fdatasync", "acknowledged"),
        ("set", "failing", "write", "it ended with"),
        ("set", "renaming", "write", "come to its end"),
        ("repair torn", "failing", "fsync", "it ended with"),
        ("compact", "failing", "renameat", "it ended with"),
    ],
)
def test_control_a_failure_that_is_not_heeded_shows(
    evtool: Program, name: str, protection: str, at: str, what: str
) -> None:
    crippled = Without(evtool.home, protection)
    with pytest.raises(Violation, match=what):
        check_failures(crippled, CARES[name], lambda calls: [one for one in calls if one.name == at])
