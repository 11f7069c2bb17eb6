"""evtool subscribe --share: several processes of one group take different events."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.program import Program, finish, wait_until
from tests.running import Running
from tests.topics import append, commits_file, committed, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Result

GROUP = ["subscribe", "t", "-g", "g", "--from=earliest", "--share"]


def together(evtool: Program, count: int, *options: str) -> list[Result]:
    """Let so many processes share the group until all is done."""
    started = [evtool.start(*GROUP, "--drain", *options) for _ in range(count)]
    return [finish(one) for one in started]


def rows(path: Path) -> list[tuple[str, int]]:
    return [(key, int(offset)) for key, offset in (line.split() for line in path.read_text().splitlines())]


def test_each_event_is_handled_by_one_of_them(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 99))
    out = tmp_path / "out"
    script = f'echo "$PPID $EVTOOL_OFFSET" >>{out}; sleep 0.01'
    for result in together(evtool, 3, "--", "sh", "-c", script):
        assert (result.code, result.err) == (0, "")
    assert sorted(offset for _, offset in rows(out)) == list(range(100))
    assert len({process for process, _ in rows(out)}) == 3
    assert committed(evtool) == 100


def test_the_order_of_a_key_holds_across_processes(evtool: Program, tmp_path: Path) -> None:
    lines = "".join(f'{{"k":"{number % 7}"}}\n' for number in range(140))
    assert evtool("append", "t", "--key-from=.k", input=lines).code == 0
    out = tmp_path / "out"
    script = f'echo "b$EVTOOL_KEY $EVTOOL_OFFSET" >>{out}; sleep 0.01; echo "e$EVTOOL_KEY $EVTOOL_OFFSET" >>{out}'
    assert [one.code for one in together(evtool, 3, "--jobs=2", "--", "sh", "-c", script)] == [0, 0, 0]
    for key in range(7):
        mine = [(what[0], offset) for what, offset in rows(out) if what[1:] == str(key)]
        assert mine == [(what, offset) for offset in range(key, 140, 7) for what in "be"], key


def test_what_a_killed_one_had_is_taken_over_when_its_lease_has_expired(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 19))
    out = tmp_path / "out"
    block = f'echo "x $EVTOOL_OFFSET" >>{out}; exec sleep 100'
    with Running(evtool, *GROUP, "--lease=1s", "--", "sh", "-c", block) as first:
        wait_until(out.exists)
        first.end(signal.SIGKILL)
    held = [offset for _, offset in rows(out)]
    (result,) = together(evtool, 1, "--lease=1s", "--", "sh", "-c", f'echo "y $EVTOOL_OFFSET" >>{out}')
    assert (result.code, result.err) == (0, "")
    assert sorted(offset for who, offset in rows(out) if who == "y") == list(range(20))
    assert len(held) == 1
    assert committed(evtool) == 20


def test_one_that_stalls_and_wakes_up_is_refused_and_says_so(evtool: Program, tmp_path: Path) -> None:
    """Its lease has expired, another has handled its event: what it says of it does not count."""
    append(evtool, "t", "0")
    go, out = tmp_path / "go", tmp_path / "out"
    wait = f'echo "x 0" >>{out}; until test -e {go}; do sleep 0.01; done'
    with Running(evtool, *GROUP, "--lease=1s", "--", "sh", "-c", wait) as stalled:
        wait_until(out.exists)
        stalled.process.send_signal(signal.SIGSTOP)
        (result,) = together(evtool, 1, "--lease=1s", "--", "sh", "-c", f'echo "y 0" >>{out}')
        assert result.code == 0
        go.touch()
        stalled.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "evtool: t: " in stalled.err, "the refusal")
        assert "expired" in stalled.err
        append(evtool, "t", "1")
        wait_until(lambda: committed(evtool) == 2, "it to go on with what comes")
        assert stalled.end(signal.SIGTERM).code == -signal.SIGTERM
    assert rows(out) == [("x", 0), ("y", 0), ("x", 0)]


def test_a_lease_is_renewed_as_long_as_a_handler_takes(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    out = tmp_path / "out"
    script = f'echo "x $EVTOOL_OFFSET" >>{out}; sleep 2.5'
    results = together(evtool, 2, "--lease=1s", "--", "sh", "-c", script)
    assert [(one.code, one.err) for one in results] == [(0, ""), (0, "")]
    assert rows(out) == [("x", 0)]


def test_one_that_is_told_to_stop_gives_back_what_it_has_not_begun(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 9))
    out = tmp_path / "out"
    with Running(evtool, *GROUP, "--lease=1h", "--", "sh", "-c", f'echo "x $EVTOOL_OFFSET" >>{out}; sleep 0.5') as one:
        wait_until(out.exists)
        assert one.end(signal.SIGTERM).code == -signal.SIGTERM
    (result,) = together(evtool, 1, "--", "sh", "-c", f'echo "y $EVTOOL_OFFSET" >>{out}')
    assert result.code == 0
    assert sorted(offset for _, offset in rows(out)) == list(range(10))


def test_sharing_and_consuming_alone_exclude_each_other(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, *GROUP, "--", "true") as sharing:
        wait_until(lambda: committed(evtool) == 1)
        with Running(evtool, "subscribe", "t", "-g", "g") as alone:
            alone.await_err("evtool: t: another process consumes for group g; standing by\n")
            assert sharing.end(signal.SIGTERM).code == -signal.SIGTERM
            append(evtool, "t", "1")
            wait_until(lambda: committed(evtool) == 2)
            alone.end(signal.SIGTERM)


def test_groups_shows_what_each_is_doing(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0", "1")
    go = tmp_path / "go"
    script = f"until test -e {go}; do sleep 0.01; done"
    with Running(evtool, *GROUP, "--", "sh", "-c", script) as one:
        wait_until(lambda: "in flight" in str(evtool("groups", "--json").events), "it to say what it does")
        (row,) = evtool("groups", "--json").events
        (member,) = row["members"]
        assert (member["pid"], member["mode"], row["active"]) == (one.process.pid, "shared", True)
        assert "1 in flight" in member["doing"]
        go.touch()
        wait_until(lambda: committed(evtool) == 2)
        one.end(signal.SIGTERM)
    assert evtool("groups", "--json").events[0]["members"] == []


def test_the_commit_log_stays_small(evtool: Program) -> None:
    evtool("append", "t", input="".join(f"{number}\n" for number in range(3000)))
    code = "import sys\nfor one in sys.stdin: print(one[10:one.index(',')], flush=True)"
    for result in together(evtool, 2, "--worker", "--", "python3", "-c", code):
        assert result.code == 0
    assert committed(evtool) == 3000
    assert commits_file(evtool).stat().st_size < 200_000
