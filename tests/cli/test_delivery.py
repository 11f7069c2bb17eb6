"""evtool subscribe … -- CMD: retries, order by key, batches, workers and time limits."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, linux, switches
from tests.topics import append, commits_file, committed, numbers

if TYPE_CHECKING:
    from tests.program import Result

QUICK = ["--retries=2", "--backoff=1ms..5ms"]
GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]
NOTE = 'echo "$EVTOOL_KEY $EVTOOL_OFFSET" >>"$OUT"; '

WORKER = """
import os, sys
fate = dict(one.split("=") for one in sys.argv[2:])
for line in sys.stdin:
    offset = line[10:line.index(",")]
    with open(sys.argv[1], "a") as out:
        out.write(offset + "\\n")
    what = fate.get(offset, "")
    if what == "die":
        os._exit(3)
    if what == "hang":
        import time
        time.sleep(100)
    print(offset, what.replace("_", " "), flush=True)
"""


def by_shell(evtool: Program, script: str, *options: str, out: Path, drain: bool = True) -> Result:
    """Have events handled by a shell script."""
    end = ["--drain"] if drain else []
    return evtool(*GROUP, *end, *QUICK, *options, "--", "sh", "-c", script, env={"OUT": str(out)})


def noted(path: Path) -> list[list[str]]:
    """What the script has noted, line by line."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def by_key(evtool: Program, count: int, keys: int) -> None:
    for number in range(count):
        append(evtool, "t", str(number), f"--key=k{number % keys}")


def offsets_by_key(rows: list[list[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, offset in rows:
        found.setdefault(key, []).append(int(offset))
    return found


def worker(evtool: Program, tmp_path: Path, *fates: str, options: tuple[str, ...] = ()) -> Result:
    """Have events handled by a worker to which this happens at these offsets, such as 3=die."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, str(script), str(tmp_path / "out"), *fates]
    return evtool(*GROUP, "--drain", "--worker", *QUICK, *options, "--", *command)


def test_while_an_event_waits_for_its_retry_its_key_waits_and_the_others_go_on(evtool: Program, tmp_path: Path) -> None:
    by_key(evtool, 6, 2)
    out = tmp_path / "out"
    script = NOTE + 'test "$EVTOOL_OFFSET $EVTOOL_ATTEMPT" != "0 1"'
    result = by_shell(evtool, script, "--backoff=300ms", out=out)
    assert result.code == 0
    rows = offsets_by_key(noted(out))
    assert rows["k0"] == [0, 0, 2, 4]
    assert rows["k1"] == [1, 3, 5]
    again = [row[1] for row in noted(out)].index("0", 1)
    assert again > 2, "the other key was held up"
    assert committed(evtool) == 6


def test_the_attempt_is_told_and_the_retries_are_as_many_as_were_asked_for(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    result = by_shell(evtool, 'echo "a $EVTOOL_ATTEMPT" >>"$OUT"; exit 1', out=tmp_path / "out")
    assert [attempt for _, attempt in noted(tmp_path / "out")] == ["1", "2", "3"]
    assert result.err.splitlines()[-1] == "evtool: t: offset 0: sh exited with 1 after 3 attempts; set aside in t.dead"


def test_75_is_not_counted_and_100_is_final(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0", "1")
    out = tmp_path / "out"
    script = NOTE + 'test "$EVTOOL_OFFSET" = 1 && exit 100; test "$(grep -c " 0" "$OUT")" -gt 8 || exit 75'
    result = by_shell(evtool, script, out=out)
    assert [row[-1] for row in noted(out)].count("0") == 9
    assert [row[-1] for row in noted(out)].count("1") == 1
    assert [row["offset"] for row in evtool("dead", "t", "--json").events] == [1]
    assert "(not counted)" in result.err


def test_a_dead_letter_has_the_event_and_its_story(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", '{"a":1.0, "b":2}', "--key=k", "--type=y")
    by_shell(evtool, "echo first >&2; echo last words >&2; exit 7", out=tmp_path / "out")
    (letter,) = evtool("replay", "t.dead").events
    event = json.loads(evtool.log("t"))
    story = letter["data"]
    assert b'"event":' + evtool.log("t").rstrip() in evtool.log("t.dead")
    assert (letter["key"], letter["type"], story["event"], story["group"]) == ("k", "y", event, "g")
    assert (story["attempts"], story["exit"], story["signal"]) == (3, 7, None)
    assert story["stderr"] == "first\nlast words\n"
    assert event["time"] < story["first"] <= story["last"] <= letter["time"]


def test_of_much_that_was_said_the_end_is_kept(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    result = by_shell(evtool, "yes 12345678 | head -c 3000000 >&2; echo end >&2; exit 100", out=tmp_path / "out")
    (letter,) = evtool("replay", "t.dead").events
    assert len(letter["data"]["stderr"]) == 4096
    assert letter["data"]["stderr"].endswith("end\n")
    assert len(result.err) > 3000000


@pytest.mark.parametrize("options", [["--jobs=4"], ["--jobs=3", "--batch=2"], ["--batch=3"]])
def test_several_at_a_time_keep_the_order_of_each_key(evtool: Program, tmp_path: Path, options: list[str]) -> None:
    by_key(evtool, 40, 5)
    out = tmp_path / "out"
    script = """while read -r line; do rest=${line#*offset\\":}; offset=${rest%%,*}
    rest=${line#*key\\":\\"}; echo "${rest%%\\"*} $offset" >>"$OUT"; done; sleep 0.0$((EVTOOL_OFFSET % 3))"""
    result = by_shell(evtool, script, *options, out=out)
    assert (result.code, result.err) == (0, "")
    rows = offsets_by_key(noted(out))
    assert sum(map(len, rows.values())) == 40
    assert all(offsets == sorted(offsets) for offsets in rows.values()), rows
    assert committed(evtool) == 40


def test_jobs_run_at_the_same_time(evtool: Program, tmp_path: Path) -> None:
    """Each of four waits until all four are there: one at a time they would wait for ever."""
    append(evtool, "t", *numbers(1, 4))
    script = NOTE + 'until test "$(wc -l <"$OUT")" -ge 4; do sleep 0.01; done'
    assert by_shell(evtool, script, "--jobs=4", out=tmp_path / "out").code == 0


def test_what_jobs_say_is_told_apart_by_offset_line_by_line(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 5))
    script = 'for i in 1 2 3; do echo "o$i"; echo "e$i" >&2; sleep 0.01; done; printf end'
    result = by_shell(evtool, script, "--jobs=3", out=tmp_path / "out")
    for offset in range(6):
        mine = [line for line in result.lines if line.startswith(f"{offset}: ")]
        assert mine == [f"{offset}: {what}" for what in ("o1", "o2", "o3", "end")]
    assert sorted(result.err.splitlines()) == sorted(f"{offset}: e{i}" for offset in range(6) for i in (1, 2, 3))


def test_what_is_handled_above_a_slow_event_is_remembered(evtool: Program, tmp_path: Path) -> None:
    """The consumer is killed while the first event is at work; only that one comes again."""
    append(evtool, "t", *numbers(0, 9))
    script = 'test "$EVTOOL_OFFSET" = 0 && exec sleep 60; exit 0'
    with Running(evtool, *GROUP, "--jobs=2", "--", "sh", "-c", script) as consumer:
        wait_until(lambda: commits_file(evtool).exists() and '"handled":"9"' in commits_file(evtool).read_text())
        assert committed(evtool) == 0
        consumer.end(signal.SIGKILL)
    again = evtool(*GROUP, "--drain", "--", "sh", "-c", 'echo "$EVTOOL_OFFSET"')
    assert (again.code, again.out) == (0, "0\n")
    assert committed(evtool) == 10


def test_a_batch_is_as_full_as_can_be_and_its_variables_tell_of_it(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 9))
    script = 'echo "$EVTOOL_OFFSET $EVTOOL_LAST $EVTOOL_COUNT $(wc -l)" >>"$OUT"'
    assert by_shell(evtool, script, "--batch=4", out=tmp_path / "out").code == 0
    assert noted(tmp_path / "out") == [["0", "3", "4", "4"], ["4", "7", "4", "4"], ["8", "9", "2", "2"]]


def test_a_batch_lingers_for_more(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    out = tmp_path / "out"
    command = ["--batch=2", "--linger=30s", "--count=2", "--", "sh", "-c", f"wc -l >>{out}"]
    with Running(evtool, *GROUP, *command) as consumer:
        consumer.await_waiting()
        assert not out.exists()
        append(evtool, "t", "1")
        assert consumer.end().code == 0
    assert out.read_text().split() == ["2"]


@pytest.mark.parametrize("size", [10, 64])
def test_a_poison_event_in_a_batch_costs_the_others_nothing(evtool: Program, tmp_path: Path, size: int) -> None:
    append(evtool, "t", *numbers(0, 63))
    result = by_shell(evtool, "! grep -q '\"data\":37}'", f"--batch={size}", out=tmp_path / "out")
    assert result.code == 1
    (letter,) = evtool("replay", "t.dead").events
    assert (letter["data"]["event"]["offset"], letter["data"]["attempts"]) == (37, 3)
    assert committed(evtool) == 64


def test_a_run_that_takes_too_long_is_ended_with_all_that_it_has_started(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! >>{pids}; echo $$ >>{pids}; wait"
    result = by_shell(evtool, script, "--timeout-each=200ms", "--retries=0", out=tmp_path / "out")
    assert "sh took longer than 0.2 s; set aside" in result.err
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or "Z" in stat_of(pid), f"the end of {pid}")


def stat_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_one_that_ignores_term_is_killed(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    began = time.monotonic()
    result = by_shell(
        evtool, "trap '' TERM; while :; do sleep 0.1; done", "--timeout-each=100ms", "--retries=0", out=tmp_path / "o"
    )
    assert "took longer than 0.1 s" in result.err
    assert 4 < time.monotonic() - began < PATIENCE


def test_a_handler_that_leaves_something_behind_holds_nothing_up(evtool: Program, tmp_path: Path) -> None:
    """It keeps standard output and error open, and the next event is handled all the same."""
    append(evtool, "t", "0", "1")
    with (tmp_path / "stdout").open("wb") as out:  # what is left behind would hold a pipe of ours open
        command = evtool.command(*GROUP, "--drain", "--", "sh", "-c", "sleep 20 & echo $EVTOOL_OFFSET")
        import subprocess

        began = time.monotonic()
        run = subprocess.run(command, stdout=out, stderr=out, env=evtool.environment({}), timeout=PATIENCE)
    assert run.returncode == 0
    assert time.monotonic() - began < 10
    assert (tmp_path / "stdout").read_text() == "0\n1\n"


def test_a_worker_gets_all_events_and_answers_with_offsets(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 99))
    result = worker(evtool, tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "out").read_text().split() == numbers(0, 99)
    assert committed(evtool) == 100


def test_a_worker_can_fail_put_off_and_refuse(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 5))
    result = worker(evtool, tmp_path, "1=error_no_such_user", "3=never_bad_address")
    assert result.code == 1
    dead = {row["offset"]: row for row in evtool("dead", "t", "--json").events}
    assert sorted(dead) == [1, 3]
    assert (dead[1]["attempts"], dead[1]["stderr"]) == (3, "no such user")
    assert (dead[3]["attempts"], dead[3]["stderr"]) == (1, "bad address")
    assert (tmp_path / "out").read_text().split().count("1") == 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_poison_event_costs_a_worker_its_retries_and_no_other_event(
    evtool: Program, tmp_path: Path, jobs: int
) -> None:
    evtool("append", "t", input="".join(f"{number}\n" for number in range(1000)))
    result = worker(evtool, tmp_path, "500=die", options=(f"--jobs={jobs}",))
    assert result.code == 1
    (letter,) = evtool("replay", "t.dead").events
    assert (letter["data"]["event"]["offset"], letter["data"]["attempts"], letter["data"]["exit"]) == (500, 3, 3)
    assert set((tmp_path / "out").read_text().split()) == set(numbers(0, 999))
    assert committed(evtool) == 1000


def test_a_worker_that_hangs_is_ended_and_its_event_set_aside(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 9))
    result = worker(evtool, tmp_path, "4=hang", options=("--timeout-each=300ms", "--retries=0"))
    assert "took longer than 0.3 s; set aside" in result.err
    assert [row["offset"] for row in evtool("dead", "t", "--json").events] == [4]
    assert committed(evtool) == 10


@pytest.mark.parametrize("command", [["true"], ["sh", "-c", "exec >&-; sleep 1"], ["sh", "-c", "exec <&-; sleep 0.1"]])
def test_a_worker_that_never_answers_ends_in_dead_letters_and_hangs_nothing(
    evtool: Program, command: list[str]
) -> None:
    append(evtool, "t", "0", "1")
    result = evtool(*GROUP, "--drain", "--worker", "--retries=0", "--backoff=1ms", "--", *command)
    assert result.code == 1
    assert sorted(row["offset"] for row in evtool("dead", "t", "--json").events) == [0, 1]


def test_answers_about_nothing_are_complained_of_and_do_no_harm(evtool: Program) -> None:
    append(evtool, "t", "0", "1")
    command = [sys.executable, "-uc", "import sys\nfor one in sys.stdin: print('hello'); print(one[10:one.index(',')])"]
    result = evtool(*GROUP, "--drain", "--worker", "--", *command)
    assert result.code == 0
    assert "answered 'hello', which is about no event that it has" in result.err
    assert committed(evtool) == 2


def test_of_several_topics_a_worker_says_which(evtool: Program) -> None:
    append(evtool, "a", "0")
    append(evtool, "b", "0")
    code = "import sys, json\nfor one in sys.stdin: e = json.loads(one); print(e['topic'], e['offset'], sep=':')"
    options = ["-g", "g", "--from=earliest", "--drain", "--worker"]
    result = evtool("subscribe", "a", "b", *options, "--", sys.executable, "-uc", code)
    assert (result.code, result.err) == (0, "")
    assert (committed(evtool, "a"), committed(evtool, "b")) == (1, 1)


def test_a_glob_does_not_feed_a_group_with_its_own_dead_letters(evtool: Program) -> None:
    append(evtool, "t", "0")
    result = evtool("subscribe", "*", "-g", "g", "--from=earliest", "--drain", "--retries=0", "--", "false")
    assert result.code == 1
    assert evtool("subscribe", "*", "-g", "g", "--drain", "--", "false").code == 0
    assert evtool("tail", "*.dead").events[0]["data"]["event"]["data"] == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--jobs=0"], "--jobs: is a number from 1 to 1000"),
        (["--batch=5000"], "--batch: is a number from 1 to 4096"),
        (["--retries=-1"], "--retries: -1 is below 0"),
        (["--backoff=5s..1s"], "'5s..1s': not a backoff"),
        (["--linger=1s"], "--linger: needs a --batch"),
        (["--worker", "--batch=2"], "--worker: gets events one by one: leave --batch and --linger away"),
        (["--share"], "subscribe: --share needs a --group"),
        (["--lease=5s"], "subscribe: --lease needs --share"),
        (["--manual"], "subscribe: --manual is for a pipe to evtool commit, not for a command after --"),
    ],
)
def test_what_makes_no_sense_is_refused_with_2(evtool: Program, options: list[str], why: str) -> None:
    append(evtool, "t", "0")
    result = evtool("subscribe", "t", *options, "--", "true")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {why}")


def test_options_for_a_handler_need_one(evtool: Program) -> None:
    append(evtool, "t", "0")
    result = evtool("subscribe", "t", "--jobs=2", "--drain")
    assert (result.code, result.err) == (2, "evtool: subscribe: --jobs needs a command after --\n")


@linux
def test_a_consumer_that_waits_with_its_command_costs_nothing(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, *GROUP, "--", "true") as consumer:
        wait_until(lambda: committed(evtool) == 1)
        before = -1
        while (now := switches(consumer.process.pid)) != before:  # it has its last look around, and is then at rest
            before = now
            time.sleep(2.5)
        assert consumer.end(signal.SIGTERM).code == -signal.SIGTERM


def test_something_else_among_the_dead_letters_is_passed_over(evtool: Program) -> None:
    append(evtool, "t", "0")
    append(evtool, "t.dead", '{"event":{}}', '{"event":{"offset":"x"}}', "5", '"\\"event\\":{"')
    assert (evtool("dead", "t").code, evtool("dead", "t").out) == (0, "")
