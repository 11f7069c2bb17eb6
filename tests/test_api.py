"""The Python API: the names that are promised, and a log and groups that are those of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

import evtool
from evtool import errors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program

CODES = {
    "EvtoolError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "ConditionError": 4,
    "DataError": 65,
    "CorruptionError": 65,
    "StorageError": 74,
    "PartialAppendError": 74,
    "SyncError": 74,
    "BusyError": 75,
    "ConfigurationError": 78,
    "TimedOutError": 124,
}


def test_the_public_names_are_these() -> None:
    assert sorted(evtool.__all__) == sorted(["Event", "Group", "Home", "Topic", "open", *CODES])
    assert all(getattr(evtool, name) for name in evtool.__all__)
    assert set(evtool.__all__) < set(dir(evtool))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evtool.nothing


@pytest.mark.parametrize("name", CODES)
def test_every_error_has_its_exit_code(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.EvtoolError)
    assert kind.exit_code == CODES[name]


def test_the_example_of_the_package_runs(home: Path) -> None:
    """The block in the docstring, word for word."""
    handled: list[object] = []
    source = textwrap.dedent((evtool.__doc__ or "").split("\n\n", 1)[1].rsplit("\n\nThe public names", 1)[0])
    exec(compile(source, "example", "exec"), {"handle": lambda event: handled.append(event.data)})
    with evtool.open() as opened:
        assert opened.topics() == ["orders"]
        (event,) = opened.topic("orders").read()
    assert (event.offset, event.key, event.data) == (0, "u1", {"amount": 9.5})
    assert home.is_dir()


def test_what_is_appended_here_is_read_by_the_program_and_the_other_way_round(evtool: Program) -> None:
    import evtool as api

    topic = api.open().topic("t")
    assert topic.append({"n": 1}, key="k", type="y", source="s", id="i", attributes={"own": "o"}) == 0
    assert evtool("append", "t", '{"n":2}').code == 0
    assert evtool("replay", "t").raw == b"".join(event.line for event in topic.read())
    first, second = topic.read()
    assert first.attributes == {"key": "k", "type": "y", "source": "s", "id": "i", "own": "o"}
    assert (first.type, second.type, second.key) == ("y", None, None)
    assert (second.raw, second.data, second.offset) == (b'{"n":2}', {"n": 2}, 1)
    assert len(second.time) == 27
    assert repr(second).startswith('Event(b\'{"offset":1,')


def test_bytes_are_json_and_kept_byte_for_byte(home: Path) -> None:
    topic = evtool.open().topic("t")
    for number, data in enumerate((b'{"a":1.0, "a":1e2}', b'"\\u00e9"', b"[1 ,2]")):
        assert topic.append(data) == number
        assert next(iter(topic.read(number))).raw == data
    with pytest.raises(evtool.DataError, match="not JSON"):
        topic.append(b"{")
    with pytest.raises(evtool.DataError, match="cannot be encoded"):
        topic.append(object())


def test_many_events_are_next_to_each_other(home: Path) -> None:
    topic = evtool.open().topic("t", sync="never")
    assert list(topic.append_many(range(3), key="k")) == [0, 1, 2]
    assert [event.data for event in topic.read(until=2)] == [0, 1]
    assert {event.key for event in topic.read("-2")} == {"k"}
    assert list(topic.append_many([])) == []


def test_conditions_and_ids(home: Path) -> None:
    topic = evtool.open().topic("t")
    assert topic.append(1, id="x", expect=0) == 0
    assert topic.append(2, id="x") == 0
    with pytest.raises(evtool.ConditionError, match="the next offset is 1, not 0"):
        topic.append(3, expect=0)
    for name in ("offset", "data", "key", "topic", "UP", ""):
        with pytest.raises(evtool.UsageError):
            topic.append(1, attributes={name: "x"})


def test_what_makes_no_sense_is_refused(home: Path) -> None:
    opened = evtool.open()
    with pytest.raises(evtool.UsageError):
        opened.topic("../x")
    with pytest.raises(evtool.UsageError, match="not a way to sync"):
        opened.topic("t", sync="maybe")  # type: ignore[arg-type]
    with pytest.raises(evtool.NotFoundError):
        list(opened.topic("t").read())
    assert opened.topics() == []
    home.chmod(0o777)
    with pytest.raises(evtool.ConfigurationError):
        evtool.open()


def test_a_follower_gets_what_comes_and_ends_when_nothing_comes_for_long_enough(home: Path) -> None:
    topic = evtool.open().topic("t")
    topic.append(1)
    seen: list[int] = []

    def follow() -> None:
        seen.extend(event.data for event in evtool.open().topic("t").read(follow=True, timeout=1.0))

    thread = threading.Thread(target=follow)
    thread.start()
    for number in (2, 3):
        topic.append(number)
    thread.join(30)
    assert seen == [1, 2, 3]


def test_a_group_goes_on_where_it_left_off(home: Path) -> None:
    topic = evtool.open().topic("t")
    topic.append_many(range(5))
    with topic.group("g", start="earliest") as group:
        assert group.committed == 0
        for event in group:
            if event.data == 3:
                break
            group.commit(event)
        assert group.committed == 3
    with topic.group("g") as group:
        assert [event.data for event in group] == [3, 4]
        group.commit(4)
    with topic.group("g") as group:
        assert list(group) == []
    with pytest.raises(evtool.ConditionError, match="within a `with` statement"):
        group.commit(1)
    with topic.group("new") as group:
        assert group.committed == 5
    with pytest.raises(evtool.ConditionError, match="no offset 9 yet"), topic.group("odd", start=9):
        pass


def test_a_second_process_stands_by_until_the_first_ends(home: Path) -> None:
    topic = evtool.open().topic("t")
    topic.append_many(range(3))
    code = """
import sys, time
import evtool
def sleep(seconds, sleep=time.sleep):
    print("tries", file=sys.stderr, flush=True)
    sleep(seconds)
time.sleep = sleep
with evtool.open().topic("t").group("g", start="earliest") as group:
    for event in group:
        group.commit(event)
        print(event.data, flush=True)
"""
    with topic.group("g", start="earliest") as group:
        group.commit(next(iter(group)))
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert other.stderr is not None
        assert other.stderr.readline() == b"tries\n"
        assert other.poll() is None
    out, _ = other.communicate(timeout=30)
    assert out == b"1\n2\n"


def test_a_fork_has_a_lock_of_its_own(home: Path) -> None:
    """Parent and child append at once with one object that both have; no offset is given twice, and none left out."""
    topic = evtool.open().topic("t", sync="never")
    topic.append("before")
    pid = os.fork()
    who = "child" if pid == 0 else "parent"
    try:
        offsets = [topic.append({"who": who, "n": n}) for n in range(300)]
        ok = offsets == sorted(set(offsets))
    except BaseException:
        ok = False
    if pid == 0:
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ok
    events = list(topic.read())
    assert [event.offset for event in events] == list(range(601))
    for one in ("parent", "child"):
        assert [event.data["n"] for event in events[1:] if event.data["who"] == one] == list(range(300))


def test_a_users_code_is_checked_against_the_types(tmp_path: Path) -> None:
    """The package says that it is typed, and a wrong use of it is found without being run."""
    pytest.importorskip("mypy")
    right = "import evtool\noffset: int = evtool.open().topic('t').append({'a': 1}, key='k')\n"
    wrong = "import evtool\noffset: str = evtool.open().topic('t').append({'a': 1}, key=1)\n"
    for name, text in (("right", right), ("wrong", wrong)):
        (tmp_path / f"{name}.py").write_text(text)
    codes = {}
    for name in ("right", "wrong"):
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), f"{name}.py"]
        root = os.path.dirname(os.path.dirname(evtool.__file__ or ""))
        run = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "MYPYPATH": root}, capture_output=True, text=True, check=False
        )
        codes[name] = run.returncode, run.stdout.count("error:")
    assert codes == {"right": (0, 0), "wrong": (1, 2)}
