"""evtool subscribe --share: several processes of one group take different events."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, numbered, succeed
from tests.program import finish, wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

GROUP = ["subscribe", "t", "-g", "g", "--from=earliest", "--share"]
WORKER = """
import os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for line in sys.stdin:
    offset = line[10:line.index(",")]
    os.write(out, f"{offset}\\n".encode())
    time.sleep(0.0005)
    print(offset, flush=True)
"""


def rows(path: Path) -> list[list[str]]:
    """What handlers have noted, line by line."""
    return [line.split() for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_each_event_is_handled_by_one_of_them(evtool: Subject, tmp_path: Path) -> None:
    """Nothing is missed and nothing comes twice when all ends well; each of them has its part."""
    offsets = evtool.put("t", input=numbered(60))
    out = tmp_path / "out"
    both = f'test $(cut -d" " -f1 {out} | sort -u | wc -l) = 2'
    script = f'echo "$PPID $EVTOOL_OFFSET" >>{out}; until {both}; do sleep 0.01; done'
    started = [evtool.start(*GROUP, "--drain", "--jobs=2", "--", "sh", "-c", script) for _ in range(2)]
    for one in started:
        succeed(finish(one))
    assert sorted(int(offset) for _, offset in rows(out)) == offsets
    assert len({who for who, _ in rows(out)}) == 2
    row = evtool.row()
    assert (row["committed"], row["lag"], row["active"]) == (offsets[-1] + 1, 0, False)


def test_several_that_begin_a_group_at_once_repeat_nothing(evtool: Subject, tmp_path: Path) -> None:
    """Whichever of them makes the group, and however far it has come when the others see it."""
    for topic in ("a", "b", "c"):
        offsets = evtool.put(topic, input=numbered(40))
        out = tmp_path / topic
        group = ["subscribe", topic, "-g", "g", "--from=earliest", "--share", "--drain", "--"]
        started = [evtool.start(*group, "sh", "-c", f"echo $EVTOOL_OFFSET >>{out}") for _ in range(3)]
        for one in started:
            succeed(finish(one))
        assert sorted(int(offset) for (offset,) in rows(out)) == offsets


def test_the_order_of_a_key_holds_within_a_process_and_where_promised_across_them(
    evtool: Subject, tmp_path: Path
) -> None:
    lines = "".join(f'{{"k":"{n % 7}","n":{n}}}\n' for n in range(70))
    offsets = evtool.put("t", "--key-from=.k", input=lines)
    out = tmp_path / "out"
    script = f'echo "b $PPID $EVTOOL_KEY $EVTOOL_OFFSET" >>{out}; echo "e $PPID $EVTOOL_KEY $EVTOOL_OFFSET" >>{out}'
    started = [evtool.start(*GROUP, "--drain", "--jobs=2", "--", "sh", "-c", script) for _ in range(2)]
    for one in started:
        succeed(finish(one))
    noted = rows(out)
    assert sorted(int(row[3]) for row in noted if row[0] == "b") == offsets
    processes = {row[1] for row in noted}
    for parts in [processes] if evtool.capabilities.keeps_keys_apart else [{one} for one in processes]:
        for key in range(7):
            mine = [(row[0], int(row[3])) for row in noted if row[1] in parts and row[2] == str(key)]
            assert mine == [(what, offset) for _, offset in mine[::2] for what in "be"]
            assert mine == sorted(mine, key=lambda one: one[1])


def test_what_a_killed_one_had_others_have_when_its_lease_has_expired(evtool: Subject, tmp_path: Path) -> None:
    offsets = evtool.put("t", input=numbered(20))
    out = tmp_path / "out"
    block = f'echo "x $EVTOOL_OFFSET" >>{out}; exec sleep 100'
    with Running(evtool, *GROUP, "--lease=1s", "--", "sh", "-c", block) as first:
        wait_until(lambda: rows(out), "the first to begin")
        first.end(signal.SIGKILL)
    succeed(evtool(*GROUP, "--drain", "--lease=1s", "--", "sh", "-c", f'echo "y $EVTOOL_OFFSET" >>{out}'))
    assert sorted(int(offset) for who, offset in rows(out) if who == "y") == offsets
    assert (evtool.committed(), evtool.row()["lag"]) == (offsets[-1] + 1, 0)


def test_a_lease_is_renewed_as_long_as_a_handler_takes(evtool: Subject, tmp_path: Path) -> None:
    evtool.put("t", "0")
    out = tmp_path / "out"
    script = f"echo x >>{out}; sleep 2.2"
    started = [evtool.start(*GROUP, "--drain", "--lease=1s", "--", "sh", "-c", script) for _ in range(2)]
    for one in started:
        succeed(finish(one))
    assert rows(out) == [["x"]]


def test_one_that_is_told_to_stop_gives_back_what_it_has_not_begun(evtool: Subject, tmp_path: Path) -> None:
    """At once, however long the lease."""
    offsets = evtool.put("t", input=numbered(10))
    out = tmp_path / "out"
    script = f"echo $EVTOOL_OFFSET >>{out}; sleep 0.3"
    with Running(evtool, *GROUP, "--lease=1h", "--", "sh", "-c", script) as one:
        wait_until(lambda: rows(out), "the first to begin")
        assert one.end(signal.SIGTERM).code == -signal.SIGTERM
    succeed(evtool(*GROUP, "--drain", "--", "sh", "-c", f"echo $EVTOOL_OFFSET >>{out}"))
    assert sorted(int(offset) for (offset,) in rows(out)) == offsets


def test_many_events_through_workers_come_and_go(evtool: Subject, tmp_path: Path) -> None:
    """One more joins while two are at work, and one of the first leaves; nothing is missed or doubled."""
    offsets = evtool.put("t", input=numbered(3000))
    out = tmp_path / "out"
    worker = ["--worker", "--", sys.executable, "-c", WORKER, str(out)]
    with Running(evtool, *GROUP, *worker) as leaver:
        wait_until(lambda: len(rows(out)) > 100, "it to begin")
        others = [evtool.start(*GROUP, "--drain", *worker) for _ in range(2)]
        assert leaver.end(signal.SIGTERM).code == -signal.SIGTERM
        for one in others:
            succeed(finish(one))
    assert sorted(int(offset) for (offset,) in rows(out)) == offsets
    assert evtool.row()["lag"] == 0


def test_sharing_and_consuming_alone_exclude_each_other(evtool: Subject) -> None:
    offsets = evtool.put("t", "0")
    with Running(evtool, *GROUP, "--", "true") as sharing:
        evtool.await_committed(offsets[0] + 1)
        with Running(evtool, "subscribe", "t", "-g", "g", "--data") as alone:
            alone.await_err("evtool: t: another process consumes for group g; standing by\n")
            assert sharing.end(signal.SIGTERM).code == -signal.SIGTERM
            evtool.put("t", "1")
            alone.await_out("1\n")
            evtool.await_committed(offsets[0] + 2)
            alone.end(signal.SIGTERM)
