"""evtool subscribe … -- CMD: a command for each event, tried again, set aside, several at a time, or one that stays."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, numbered, succeed
from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]
DRAIN = [*GROUP, "--drain", "--retries=2", "--backoff=1ms..5ms"]
WORKER = """
import sys
for line in sys.stdin:
    offset, data = line[10:line.index(",")], line[line.index('"data":') + 7:-2]
    answer = {"3": " error no threes", "5": " never", "7": " later"}.get(data, "")
    if answer == " later" and open(sys.argv[1], "a").write("x") and len(open(sys.argv[1]).read()) > 1:
        answer = ""
    print(offset + answer, flush=True)
"""


def shell(script: str) -> list[str]:
    """A handler that is a shell script."""
    return ["--", "sh", "-c", script]


def rows(path: Path) -> list[list[str]]:
    """What a handler has noted, line by line; a line that is being written is left out."""
    return [line.split() for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_it_gets_the_line_and_variables_and_its_success_acknowledges(evtool: Subject) -> None:
    offsets = [*evtool.put("t", '{"a":1.0, "é":2}', "--key=k 1", "--type=a.b", "--id=i/1"), *evtool.put("t", "2")]
    lines = evtool("tail", "t").lines
    times = [json.loads(line)["time"] for line in lines]
    names = ("TOPIC", "OFFSET", "TIME", "KEY", "TYPE", "ID", "ATTEMPT")
    script = "cat; echo " + " ".join(f'"$EVTOOL_{name}"' for name in names)
    result = succeed(evtool(*DRAIN, *shell(script), env={"EVTOOL_KEY": "left over"}))
    assert result.lines == [
        lines[0], f"t {offsets[0]} {times[0]} k 1 a.b i/1 1",
        lines[1], f"t {offsets[1]} {times[1]}    1",
    ]  # fmt: skip
    assert (evtool.committed(), evtool.row()["lag"]) == (offsets[1] + 1, 0)


def test_a_failure_is_tried_again_and_then_set_aside_and_the_group_goes_on(evtool: Subject, tmp_path: Path) -> None:
    """75 is not counted, 100 is final; the letter has the event and its story; the exit status is 1."""
    offsets = evtool.put("t", *"0123", "--key=k", "--type=y")
    out = tmp_path / "out"
    script = f"""echo "$EVTOOL_OFFSET $EVTOOL_ATTEMPT" >>{out}
    case $(sed 's/.*"data"://') in
    "0}}") echo last words >&2; exit 7;;
    "1}}") exit 100;;
    "2}}") test $(grep -c "^$EVTOOL_OFFSET " {out}) -gt 4 || exit 75;;
    esac"""
    result = evtool(*DRAIN, *shell(script))
    assert result.code == 1
    assert f"evtool: t: offset {offsets[0]}: sh exited with 7 after 3 attempts; set aside in t.dead\n" in result.err
    tries = rows(out)
    assert [attempt for offset, attempt in tries if int(offset) == offsets[0]] == ["1", "2", "3"]
    assert [len([1 for offset, _ in tries if int(offset) == one]) for one in offsets] == [3, 1, 5, 1]
    letters = evtool("replay", "t.dead").events
    assert [letter["data"]["event"]["offset"] for letter in letters] == offsets[:2]
    story = letters[0]["data"]
    assert (letters[0]["key"], letters[0]["type"], story["group"]) == ("k", "y", "g")
    assert (story["attempts"], story["exit"], story["stderr"]) == (3, 7, "last words\n")
    assert story["event"] == evtool("tail", "t", "-n4").events[0]
    assert evtool.committed() == offsets[3] + 1


def test_while_an_event_waits_its_key_waits_and_others_go_on(evtool: Subject, tmp_path: Path) -> None:
    """The first one is "not now" until all of the other key are through."""
    evtool.put("t", "--key-from=.k", input="".join(f'{{"k":"{n % 2}","n":{n}}}\n' for n in range(6)))
    out = tmp_path / "out"
    script = f"""n=$(sed 's/.*"n":\\([0-9]*\\).*/\\1/'); echo $n >>{out}; test $n != 0 || grep -q 5 {out} || exit 75"""
    assert evtool(*DRAIN, "--backoff=5ms..20ms", *shell(script)).code == 0
    order = [int(n) for (n,) in rows(out)]
    assert order.count(0) > 1
    last = len(order) - 1 - order[::-1].index(0)
    assert [n for n in order[:last] if n] == [1, 3, 5]
    assert order[last:] == [0, 2, 4]


def test_several_run_at_a_time_with_those_of_a_key_in_order(evtool: Subject, tmp_path: Path) -> None:
    """The first four wait for each other, so they do run at the same time."""
    evtool.put("t", "--key-from=.k", input="".join(f'{{"k":"{n % 5}","n":{n}}}\n' for n in range(40)))
    out = tmp_path / "out"
    script = f"""echo "$EVTOOL_KEY $(sed 's/.*"n":\\([0-9]*\\).*/\\1/')" >>{out}
    until test $(wc -l <{out}) -ge 4; do sleep 0.01; done"""
    succeed(evtool(*DRAIN, "--jobs=4", *shell(script)))
    for key in range(5):
        assert [int(n) for k, n in rows(out) if int(k) == key] == list(range(key, 40, 5))
    assert evtool.row()["lag"] == 0


def test_what_was_handled_above_a_slow_event_does_not_come_again(evtool: Subject, tmp_path: Path) -> None:
    """The consumer is killed while the first event is at work: only that one comes again, whoever comes then."""
    offsets = evtool.put("t", input=numbered(10))
    script = f'test "$EVTOOL_OFFSET" = {offsets[0]} && exec sleep 60; exit 0'
    with Running(evtool, *GROUP, "--jobs=2", *shell(script)) as consumer:
        evtool.await_standing(lambda standing: standing.handled.count() == 9, "the others to be handled")
        assert (evtool.committed(), evtool.row()["lag"]) == (offsets[0], 1)
        consumer.end(signal.SIGKILL)
    again = succeed(evtool(*GROUP, "--drain", *shell('echo "$EVTOOL_OFFSET"')))
    assert again.out == f"{offsets[0]}\n"
    assert evtool.committed() == offsets[-1] + 1


def test_what_runs_may_finish_when_it_is_told_to_end(evtool: Subject, tmp_path: Path) -> None:
    """On SIGTERM the one that runs is acknowledged, and no other is begun."""
    offsets = evtool.put("t", *"012")
    out = tmp_path / "out"
    script = f"echo $EVTOOL_OFFSET >>{out}; sleep 0.4; echo done >>{out}"
    with Running(evtool, *GROUP, *shell(script)) as consumer:
        wait_until(lambda: rows(out), "the first to be begun")
        assert consumer.end(signal.SIGTERM).code == -signal.SIGTERM
    assert rows(out) == [[str(offsets[0])], ["done"]]
    assert evtool.committed() == offsets[1]


def test_a_run_that_takes_too_long_is_ended(evtool: Subject) -> None:
    (offset,) = evtool.put("t", "0")
    result = evtool(*DRAIN, "--retries=0", "--timeout-each=200ms", *shell("sleep 60"))
    assert result.code == 1
    (letter,) = evtool("dead", "t", "--json").events
    assert (letter["offset"], letter["attempts"]) == (offset, 1)


def test_batches_are_full_and_one_bad_event_costs_the_others_nothing(evtool: Subject, tmp_path: Path) -> None:
    offsets = evtool.put("t", input=numbered(20))
    out = tmp_path / "out"
    script = (
        f'cat >{tmp_path}/$$; echo "$EVTOOL_COUNT $(wc -l <{tmp_path}/$$)" >>{out}; ! grep -q "data.:7}}" {tmp_path}/$$'
    )
    result = evtool(*DRAIN, "--batch=8", *shell(script))
    assert result.code == 1
    assert rows(out)[0] == ["8", "8"]
    assert all(told == found for told, found in rows(out))
    (letter,) = evtool("dead", "t", "--json").events
    assert (letter["offset"], letter["attempts"]) == (offsets[7], 3)
    assert evtool.committed() == offsets[-1] + 1


def test_a_worker_answers_with_offsets(evtool: Subject, tmp_path: Path) -> None:
    """It is started once; what it answers acknowledges, fails, waits or is final."""
    offsets = evtool.put("t", input=numbered(2000))
    result = evtool(*DRAIN, "--worker", "--", sys.executable, "-c", WORKER, str(tmp_path / "sevens"))
    assert result.code == 1
    letters = evtool("dead", "t", "--json").events
    assert sorted((letter["offset"], letter["attempts"]) for letter in letters) == [(offsets[3], 3), (offsets[5], 1)]
    assert len((tmp_path / "sevens").read_text()) == 2
    assert (evtool.committed(), evtool.row()["lag"]) == (offsets[-1] + 1, 0)


def test_a_worker_that_dies_is_started_again(evtool: Subject, tmp_path: Path) -> None:
    """What it had not answered is tried again, until the event that it dies of is alone."""
    offsets = evtool.put("t", input=numbered(50))
    out = tmp_path / "out"
    code = """
import os, sys
for line in sys.stdin:
    if '"data":20}' in line:
        os._exit(3)
    open(sys.argv[1], "a").write(line[10:line.index(",")] + "\\n")
    print(line[10:line.index(",")], flush=True)
"""
    result = evtool(*DRAIN, "--worker", "--", sys.executable, "-c", code, str(out))
    assert result.code == 1
    (letter,) = evtool("dead", "t", "--json").events
    assert (letter["offset"], letter["attempts"]) == (offsets[20], 3)
    assert {int(offset) for (offset,) in rows(out)} == {*offsets} - {offsets[20]}
    assert evtool.row()["lag"] == 0


def test_a_handler_without_a_group_is_for_what_comes_from_here_on(evtool: Subject) -> None:
    evtool.put("t", "1", "2")
    result = succeed(evtool("subscribe", "t", "--from=-1", "--drain", *shell('sed "s/.*data.:/$EVTOOL_TOPIC /"')))
    assert result.out == "t 2}\n"
    assert evtool("groups").out == ""
