"""A process that is stopped while it holds a lock: nobody takes the lock from it, all go on when it does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults import history
from tests.faults.history import Producer, Violation
from tests.faults.stall import Stalling, is_stopped, waits_for_a_lock
from tests.faults.without import Without
from tests.program import finish, wait_until
from tests.running import Running, linux

if TYPE_CHECKING:
    import subprocess

    from tests.program import Program

pytestmark = linux

HELD = '{"by":"held"}'
EVENTS = [f'{{"by":"waiting","n":{number}}}' for number in range(4)]


def check_stall(evtool: Program) -> None:
    """Stop a producer that holds the lock, try to get past it, let it go on."""
    assert evtool("append", "t", '"before"').code == 0
    holder = Stalling(evtool.home).start("append", "t", "--offsets", HELD)
    waiting: list[subprocess.Popen[bytes]] = []
    try:
        wait_until(lambda: is_stopped(holder.pid))
        _check_time_out(evtool, holder.pid)
        waiting = [evtool.start("append", "t", "--offsets", event) for event in EVENTS]
        for one in waiting:
            wait_until(lambda one=one: waits_for_a_lock(one.pid) or one.poll() is not None)
            if one.poll() is not None:
                raise Violation("a lock was stolen")
        assert evtool("replay", "t", "--data").out == '"before"\n'  # who only reads needs no lock
        holder.send_signal(signal.SIGCONT)
        told = [Producer([HELD], finish(holder).out)]
        told += [Producer([event], finish(one).out) for event, one in zip(EVENTS, waiting, strict=True)]
    finally:
        for one in (holder, *waiting):
            one.kill()
            for stream in (one.stdin, one.stdout, one.stderr):
                assert stream is not None
                stream.close()
            one.wait()
    assert all(len(one.acknowledged) == 1 for one in told)
    history.check(evtool.topic("t"), [Producer(['"before"'], "0"), *told])


def _check_time_out(evtool: Program, pid: int) -> None:
    impatient = evtool("append", "t", "--timeout", "200ms", '"too late"')
    if impatient.code != 75 or impatient.out:
        raise Violation(f"a lock was stolen: {impatient}")
    assert f"process {pid} holds the lock" in impatient.err
    assert f"hint: see what it does: ps -fp {pid}" in impatient.err


def test_nobody_steals_the_lock_of_a_stopped_producer(evtool: Program) -> None:
    check_stall(evtool)


def test_control_a_stolen_lock_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="stolen"):
        check_stall(Without(evtool.home, "lock"))


def check_stopped_consumer(evtool: Program) -> None:
    """Stop the consumer of a group: another one stands by, and takes over only when the first has ended."""
    assert evtool("append", "t", *EVENTS).code == 0
    arguments = ["subscribe", "t", "--group", "g", "--from", "earliest"]
    with Running(evtool, *arguments) as first:
        first.await_waiting()
        first.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(first.process.pid))
        with Running(evtool, *arguments) as second:
            wait_until(lambda: second.err or second.is_waiting, "the second consumer to stand by")
            if "another process consumes for group g" not in second.err:
                raise Violation(f"two consume for a group: {second.err}")
            assert evtool("append", "t", HELD).code == 0
            first.process.send_signal(signal.SIGCONT)
            wait_until(lambda: HELD in first.out)
            first.end(signal.SIGTERM)
            assert evtool("append", "t", '"later"').code == 0
            wait_until(lambda: "later" in second.out)
            handled = [first.out.encode(), second.out.encode()]
    history.check_handled(history.read(evtool.topic("t")), handled, in_flight=0)


def test_nobody_takes_the_group_of_a_stopped_consumer(evtool: Program) -> None:
    check_stopped_consumer(evtool)


def test_control_two_consumers_of_a_group_show(evtool: Program) -> None:
    with pytest.raises(Violation, match="two consume"):
        check_stopped_consumer(Without(evtool.home, "group-lock"))
