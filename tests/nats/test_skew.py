"""Hosts whose clocks differ, by an hour: whoever appends, consumes or looks, what counts is the server's time.

libfaketime gives a process another clock. It cannot do so with servers, which ask the system themselves: that clocks of
servers differ is not tried here.
"""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import clock
from tests.nats.program import NatsProgram
from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nats.server import Server

HOUR = 3600
pytestmark = clock.needed


class Skewed(NatsProgram):
    """The program on a host whose clock is wrong. by: seconds, or a file that says them as `+3600s` and may change."""

    def __init__(self, home: Path, url: str, by: int | Path) -> None:
        super().__init__(home, url)
        self._by = by

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        """The environment of a run."""
        if isinstance(self._by, int):
            fake = clock.faked(FAKETIME=f"{self._by:+}s")
        else:
            fake = clock.faked(FAKETIME_TIMESTAMP_FILE=str(self._by), FAKETIME_NO_CACHE="1")
        fake["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
        return {**super().environment({}), **fake, **options.pop("env", {})}


@pytest.fixture
def at(server: Server, home: Path) -> Callable[[int | Path], Skewed]:
    """The program with a clock that is so many seconds ahead."""
    return lambda by: Skewed(home, server.url, by)


def test_control_the_clock_is_another_one(at: Callable[[int], Skewed]) -> None:
    """That of the system alone: what measures how long something takes is the same for all."""
    code = "import time; print(time.time(), time.monotonic())"
    for by in (-HOUR, HOUR):
        run = subprocess.run([sys.executable, "-c", code], env=at(by).environment({}), capture_output=True, check=True)
        shown, monotonic = map(float, run.stdout.split())
        assert shown - time.time() == pytest.approx(by, abs=60)
        assert monotonic == pytest.approx(time.monotonic(), abs=60)


def test_time_and_order_are_the_server_s(at: Callable[[int], Skewed]) -> None:
    """Whoever appends, events are in the order in which they were stored, at the server's time, and ids hold."""
    began = time.time()
    for number, by in enumerate([HOUR, -HOUR, 0]):
        assert at(by)("append", "t", str(number)).code == 0
        assert at(by)("append", "t", '"once"', "--id=x").code == 0
    for by in (-HOUR, HOUR):
        result = at(by)("replay", "t")
        assert [event["data"] for event in result.events] == [0, "once", 1, 2]
        times = [_seconds(event["time"]) for event in result.events]
        assert times == sorted(times)
        assert began - 1 < times[0] <= times[-1] < time.time() + 1
        assert at(by)("verify", "t").code == 0


def test_nothing_is_younger_than_nothing(at: Callable[[int], Skewed]) -> None:
    """Ages and lags are never below 0, and all that lists goes on."""
    assert at(0)("append", "t", "1", "2").code == 0
    assert at(HOUR)("subscribe", "t", "-g", "g", "--from=earliest", "--count=1").code == 0
    for by in (-HOUR, HOUR):
        (topic,) = at(by)("topics", "--json").events
        assert topic["age_seconds"] == pytest.approx(max(0, by), abs=60)
        (group,) = at(by)("groups", "--json").events
        assert group["lag"] == 1
        assert group["lag_seconds"] == pytest.approx(max(0, by), abs=60)
        catch_up = group["catch_up_seconds"]
        assert catch_up is None or catch_up >= 0


def test_positions_are_moments_of_the_server(at: Callable[[int], Skewed]) -> None:
    """A moment that is said in full is the same everywhere; `10m` is ten minutes ago by the clock of who says it."""
    assert at(HOUR)("append", "t", "1").code == 0
    moment = at(0)("replay", "t").events[0]["time"]
    assert at(-HOUR)("append", "t", "2").code == 0
    for by in (-HOUR, HOUR):
        assert at(by)("replay", "t", f"--from={moment}", "--data").lines == ["1", "2"]
        assert at(by)("replay", "t", f"--until={moment}", "--data").lines == []
        lines = at(by)("replay", "t", "--from=10m", "--data").lines
        assert lines == ([] if by > 0 else ["1", "2"])


def test_those_who_share_a_group_may_have_any_time(at: Callable[[int], Skewed]) -> None:
    """No lease ends too early, and none is taken for dead: each event is handled once, and all are."""
    assert at(0)("append", "t", input="".join(f"{number}\n" for number in range(60))).code == 0
    command = ["subscribe", "t", "-g", "g", "--from=earliest", "--share", "--lease=2s", "--jobs=2", "--"]
    handler = ["sh", "-c", "sleep 0.05; cut -d , -f 1"]
    members = [Running(at(by), *command, *handler) for by in (-HOUR, 0, HOUR)]
    with members[0], members[1], members[2]:
        wait_until(lambda: _lag(at(0)) == 0, "all to be handled")
        given = "".join(one.end(signal.SIGTERM).out for one in members)
    assert sorted(int(text.rpartition(":")[2]) for text in given.splitlines()) == [*range(60)]


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_who_stands_by_does_not_take_over_from_the_living(at: Callable[[int], Skewed], by: int) -> None:
    """Nor does it miss that the other one ends: whoever answers lives, whatever the clocks say."""
    assert at(0)("append", "t", "0").code == 0
    command = ["subscribe", "t", "-g", "g", "--from=earliest", "--data"]
    with Running(at(by), *command) as first:
        first.await_out("0\n")
        with Running(at(-by), *command) as second:
            wait_until(lambda: "standing by" in second.err, "the second to stand by")
            for number in (1, 2, 3):
                assert at(0)("append", "t", str(number)).code == 0
            first.await_out("0\n1\n2\n3\n")
            assert second.out == ""
            assert first.end(signal.SIGTERM).code == -signal.SIGTERM
            assert at(0)("append", "t", "4").code == 0
            second.await_out("4\n")


def test_a_clock_that_is_set_while_all_run(at: Callable[[int | Path], Skewed], tmp_path: Path) -> None:
    """Back and ahead by hours: who follows and who handles goes on, retries come when they are due, none too late."""
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    evtool = at(clock)
    assert evtool("append", "t", "0").code == 0
    tried = tmp_path / "tried"
    command = ["subscribe", "t", "-g", "g", "--from=earliest", "--retries=5", "--backoff=1s", "-q", "--"]
    handler = f"cat >>{tried}; test $EVTOOL_ATTEMPT -gt 2 && echo $EVTOOL_OFFSET"
    with (
        Running(evtool, "tail", "-f", "t", "--data") as tail,
        Running(evtool, *command, "sh", "-c", handler) as group,
    ):
        wait_until(lambda: tail.out == "0\n" and _lines(tried) >= 2, "the first to be tried")
        clock.write_text("-7200s\n")
        wait_until(lambda: group.out == "0\n", "the retry")
        assert at(0)("append", "t", "1").code == 0
        wait_until(lambda: tail.out == "0\n1\n" and _lines(tried) >= 5, "the second to be tried")
        clock.write_text("+7200s\n")
        wait_until(lambda: group.out == "0\n1\n", "the retry")
        assert at(0)("append", "t", "2").code == 0
        wait_until(lambda: group.out == "0\n1\n2\n", "the last one")
        tail.await_out("0\n1\n2\n")
        assert (group.end(signal.SIGTERM).code, tail.end(signal.SIGTERM).code) == (-signal.SIGTERM, -signal.SIGTERM)
    assert _lag(at(0)) == 0


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def _lag(evtool: NatsProgram) -> int | None:
    rows = evtool("groups", "t", "--json").events
    return rows[0]["lag"] if rows else None


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()
