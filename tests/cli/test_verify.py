"""evtool verify: says what is wrong and where, shows that nothing sealed was altered, and is silent if all is well."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from evtool.log.line import render
from tests.program import PATIENCE, wait_until
from tests.running import Running
from tests.topics import append, numbers, write_commit

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore
    from tests.program import Program

LINE = len('{"offset":10,"time":"2026-11-23T22:25:32.123456Z","crc":"5f2a90c1","data":10}\n')
FILE = re.compile(r"evtool: (/[^:]*): (?:line (\d+), byte (\d+): )?(.*)")


def fill(store: FileStore, **settings: object) -> None:
    """Fifty events with 10 to 59 as data, in five segments that begin with offset 0, 10, 20, 30 and 40."""
    store.create("t", {"segment-bytes": 8 * LINE} | {name.replace("_", "-"): value for name, value in settings.items()})
    writer = store.ensure_topic("t").writer()
    for first in range(10, 60, 10):
        writer.append([b'"data":%d' % number for number in range(first, first + 10)])
    writer.sync()


@pytest.fixture
def sealed(evtool: Program, store: FileStore) -> Program:
    """Five segments of ten events each, all but the last of them sealed."""
    fill(store)
    return evtool


def sums(program: Program) -> Path:
    return program.topic("t") / "SHA256SUMS"


def seal(program: Program) -> str:
    """The newest seal of the topic."""
    return str(program("verify", "t", "--json").events[0]["seal"])


def rewrite(path: Path, old: str, new: str) -> None:
    """Alter a file, whatever its mode."""
    text = path.read_text()
    assert old in text
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_text(text.replace(old, new, 1))
    path.chmod(mode)


def alter(program: Program, segment: int, old: str, new: str) -> Path:
    path = program.segments("t")[segment]
    rewrite(path, old, new)
    return path


def retire(program: Program, segment: int) -> None:
    """Make the sums pass over a segment, as whoever may write to the files can."""
    name = program.segments("t")[segment].name
    entry = next(line for line in sums(program).read_text().splitlines() if line.endswith(name))
    rewrite(sums(program), entry, f"#{entry[1:]}")


def problems(program: Program, *options: str) -> list[dict[str, Any]]:
    """What is wrong with the topic."""
    result = program("verify", "t", "--json", *options)
    (row,) = result.events
    assert (result.code, result.err) == (65 if row["problems"] else 0, "")
    return list(row["problems"])


def kinds(program: Program, *options: str) -> list[str]:
    return [problem["kind"] for problem in problems(program, *options)]


def test_a_topic_in_order_gets_a_row_and_nothing_is_said(sealed: Program) -> None:
    size = sum(path.stat().st_size for path in sealed.segments("t"))
    newest = sums(sealed).read_text().split()[-1]
    result = sealed("verify", "t")
    assert (result.code, result.out, result.err) == (0, f"t\t50\t{size}\t5\t4\t0\t{newest}\n", "")
    result = sealed("verify", "t", "--json")
    row = {"topic": "t", "events": 50, "bytes": size, "segments": 5, "sealed": 4, "problems": [], "seal": newest}
    assert (result.code, result.events, result.err) == (0, [row], "")


def test_it_changes_nothing(sealed: Program) -> None:
    alter(sealed, 1, '"data":22', '"data":32')
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_mode) for path in sealed.topic("t").iterdir()}
    sealed("verify", "t")
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_mode) for path in sealed.topic("t").iterdir()} == before


def test_all_topics_are_looked_at_or_those_that_are_named(evtool: Program) -> None:
    for topic in ("a.1", "a.2", "b"):
        append(evtool, topic, "1")
    for arguments, expected in (
        ([], ["a.1", "a.2", "b"]),
        (["a.*"], ["a.1", "a.2"]),
        (["b", "b"], ["b"]),
        (["c*"], []),
    ):
        result = evtool("verify", *arguments)
        assert (result.code, [line.split("\t")[0] for line in result.lines]) == (0, expected)


def test_where_there_is_no_topic_there_is_nothing_wrong(evtool: Program) -> None:
    result = evtool("verify")
    assert (result.code, result.out, result.err) == (0, "", f"evtool: {evtool.home}: nothing there yet\n")
    result = evtool("verify", "t")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: t: no such topic\nhint: there are no topics yet\n"
    append(evtool, "orders", "1")
    assert evtool("verify", "order").err == "evtool: order: no such topic\nhint: did you mean orders?\n"


def test_what_is_wrong_is_said_with_file_line_and_byte_and_a_hint(evtool: Program) -> None:
    for number in numbers(0, 9):
        append(evtool, "t", number)
    path = alter(evtool, 0, '"data":6', '"data":7')
    start = path.read_text().index('{"offset":6')
    result = evtool("verify", "t")
    assert result.code == 65
    assert result.err == (
        f"evtool: {path}: line 7, byte {start}: wrong checksum: not all of offset 6 is as written\n"
        "hint: evtool repair t --dry-run says what can be done\n"
    )
    assert result.out == f"t\t10\t{path.stat().st_size}\t1\t0\t1\t-\n"
    (problem,) = problems(evtool)
    assert problem == {
        "file": str(path),
        "kind": "unsound",
        "line": 7,
        "byte": start,
        "length": path.read_text().index('{"offset":7') - start,
        "offsets": [6, 6],
        "what": "wrong checksum: not all of offset 6 is as written",
    }


def test_nobody_is_sent_to_repair_for_what_it_does_not_mend(evtool: Program) -> None:
    """Times that fall, with checksums that are right."""
    evtool("create", "t", "-q")
    times = (b"2001-01-02T00:00:00.000000Z", b"2001-01-01T00:00:00.000000Z")
    evtool.segments("t")[0].write_bytes(b"".join(render(n, at, b'"data":', [b"1"], 0) for n, at in enumerate(times)))
    assert (kinds(evtool), "hint" in evtool("verify", "t").err) == (["falling"], False)
    assert evtool("repair", "t", "--dry-run").err == "evtool: t: nothing to repair\n"
    alter(evtool, 0, '"data":1', '"data":2')
    assert evtool("verify", "t").err.endswith("\nhint: evtool repair t --dry-run says what can be done\n")


def test_quiet_does_not_silence_what_is_wrong(sealed: Program) -> None:
    alter(sealed, 1, '"data":22', '"data":32')
    loud, quiet = sealed("verify", "t"), sealed("verify", "t", "-q")
    assert (quiet.code, quiet.err) == (65, loud.err)
    assert loud.err


def test_one_damaged_topic_does_not_keep_the_others_back(sealed: Program) -> None:
    append(sealed, "a", "1")
    append(sealed, "z", "1")
    alter(sealed, 1, '"data":22', '"data":32')
    result = sealed("verify")
    assert result.code == 65
    assert [(line.split("\t")[0], line.split("\t")[5]) for line in result.lines] == [("a", "0"), ("t", "1"), ("z", "0")]


def test_each_problem_has_its_kind(sealed: Program) -> None:
    """The kinds of damage to lines are tested with the module; here, those that concern files, each by itself."""
    paths = sealed.segments("t")
    paths[1].chmod(0o600)
    assert kinds(sealed) == ["unsealed"]
    paths[1].chmod(0o444)
    paths[4].chmod(0o400)
    assert kinds(sealed) == ["shut"]
    paths[4].chmod(0o600)
    with paths[4].open("a") as file:
        file.write('{"offset":50,"ti')
    assert kinds(sealed) == ["torn"]
    append_and_heal = sealed("append", "t", "60")
    assert (append_and_heal.code, kinds(sealed)) == (0, [])
    write_commit(sealed, 70)
    assert kinds(sealed) == ["beyond"]
    write_commit(sealed, 51)
    (sealed.topic("t") / "consumers/g.jsonl").write_text("rubbish\n")
    assert kinds(sealed) == ["malformed"]
    write_commit(sealed, 51)
    (sealed.topic("t") / "topic.json").write_text('{"max-age":"x"}')
    assert kinds(sealed) == ["unusable"]
    (sealed.topic("t") / "topic.json").unlink()
    kept = paths[2].read_bytes()
    paths[2].unlink()
    assert sorted(kinds(sealed)) == ["absent", "missing"]
    paths[2].write_bytes(kept)
    paths[2].chmod(0o444)
    assert kinds(sealed) == []


def test_a_broken_chain_of_seals_is_said(sealed: Program) -> None:
    first = sums(sealed).read_text().splitlines()[1]
    rewrite(sums(sealed), first, f"# seal {'0' * 64}")
    (problem,) = problems(sealed)
    assert (problem["kind"], problem["file"]) == ("broken", str(sums(sealed)))


def test_what_was_appended_by_others_and_has_no_checksum_is_said_until_the_next_append(evtool: Program) -> None:
    append(evtool, "t", "0")
    (path,) = evtool.segments("t")
    line = path.read_text().replace('"offset":0', '"offset":1')
    with path.open("a") as file:
        file.write(re.sub(r'"crc":"\w+",', "", line))
    assert kinds(evtool) == ["uncovered"]
    append(evtool, "t", "2")
    assert kinds(evtool) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="to root all files can be read")
def test_a_segment_that_cannot_be_read_is_said_and_the_rest_is_looked_at(sealed: Program) -> None:
    sealed.segments("t")[1].chmod(0)
    assert kinds(sealed) == ["unreadable"]


def test_sha256sum_checks_the_seals_in_a_copy(sealed: Program, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", sealed.topic("t"), tmp_path / "copy"], check=True)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    run = subprocess.run(command, cwd=tmp_path / "copy", capture_output=True, text=True, check=False)
    names = [path.name for path in sealed.segments("t")[:4]]
    assert (run.returncode, run.stdout, run.stderr) == (0, "".join(f"{name}: OK\n" for name in names), "")
    rewrite(tmp_path / "copy" / names[1], '"data":22', '"data":32')
    assert subprocess.run(command, cwd=tmp_path / "copy", capture_output=True, check=False).returncode == 1


# What a seal that was kept elsewhere shows


def test_a_seal_shows_that_nothing_was_altered_while_the_log_grew(sealed: Program) -> None:
    known = seal(sealed)
    append(sealed, "t", *numbers(60, 99))
    append(sealed, "t", *numbers(60, 99))
    assert seal(sealed) != known
    result = sealed("verify", "t", "--since-seal", known)
    assert (result.code, result.err) == (0, "")
    assert result.out.split("\t")[5:8] == ["0", "4", "0"]
    row = sealed("verify", "t", "--since-seal", known, "--json").events[0]
    assert (row["confirmed"], row["trimmed"]) == (4, 0)


def test_what_was_trimmed_is_counted_and_the_rest_confirmed(sealed: Program) -> None:
    known = seal(sealed)
    assert sealed("trim", "t", "--before=25", "--yes").code == 0
    row = sealed("verify", "t", "--since-seal", known, "--json").events[0]
    assert (row["problems"], row["confirmed"], row["trimmed"]) == ([], 2, 2)


def test_whoever_seals_anew_what_was_altered_does_not_get_that_seal(sealed: Program) -> None:
    known = seal(sealed)
    path = sealed.segments("t")[1]
    path.chmod(0o600)
    path.write_text(path.read_text().replace('"data":22', '"data":99'))
    assert sealed("repair", "t", "--yes").code == 0  # makes checksums and seals that fit
    sums(sealed).unlink()
    assert sealed("repair", "t", "--yes").code == 0
    assert kinds(sealed) == []
    result = sealed("verify", "t", "--since-seal", known)
    assert (result.code, result.out) == (4, "")
    assert result.err == f"evtool: t: {known} is none of its seals, or not any more\n"


def test_an_entry_that_was_retired_by_hand_hides_nothing(sealed: Program) -> None:
    """The one byte that no seal covers: a segment that is altered, or removed, and said to be trimmed or compacted."""
    known = seal(sealed)
    retire(sealed, 1)
    assert kinds(sealed, "--since-seal", known) == []
    path = alter(sealed, 1, '"data":22', '"data":99')
    assert kinds(sealed), "the checksum is wrong, with no seal known too"
    assert problems(sealed, "--since-seal", known)[0]["file"] == str(path)
    path.unlink()
    assert "absent" in kinds(sealed, "--since-seal", known)


def test_a_seal_from_after_a_compaction_is_confirmed(evtool: Program, store: FileStore) -> None:
    """What was rewritten or dropped before the seal is not missed by it, and what is altered after it is found."""
    fill(store)
    for number in numbers(1, 5):
        append(evtool, "t", *[number] * 10, "--key=a")
    assert evtool("compact", "t", "--yes").code == 0
    known = seal(evtool)
    assert problems(evtool, "--since-seal", known) == []
    append(evtool, "t", *numbers(60, 69))
    assert problems(evtool, "--since-seal", known) == []
    alter(evtool, 1, '"data":22', '"data":32')
    assert kinds(evtool, "--since-seal", known) != []


def test_a_segment_that_was_repaired_is_not_what_was_sealed(sealed: Program) -> None:
    known = seal(sealed)
    path = alter(sealed, 1, '{"offset":12,', "{what?")
    assert sealed("repair", "t", "--yes").code == 0
    assert kinds(sealed) == []
    (problem,) = problems(sealed, "--since-seal", known)
    assert (problem["kind"], problem["file"]) == ("altered", str(path))


def test_every_alteration_of_a_segment_that_was_repaired_is_found(sealed: Program) -> None:
    alter(sealed, 1, '{"offset":12,', "{what?")
    assert sealed("repair", "t", "--yes").code == 0
    assert kinds(sealed) == []
    assert problems(sealed) == []
    alter(sealed, 1, '"data":24', '"data":99')
    assert kinds(sealed) != []


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["t", "--since-seal=xyz"], 2, "evtool: 'xyz': not a seal\nhint: a seal is 64 digits, "),
        (["t", "--since-seal="], 2, "evtool: '': not a seal\nhint: a seal is 64 digits, "),
        (["t", f"--since-seal={'A' * 64}"], 2, f"evtool: '{'A' * 64}': not a seal\nhint: "),
        ([f"--since-seal={'0' * 64}"], 2, "evtool: verify: a seal belongs to one topic\nhint: name that topic\n"),
        (["t", "u", f"--since-seal={'0' * 64}"], 2, "evtool: verify: a seal belongs to one topic\nhint: "),
        (["t*", f"--since-seal={'0' * 64}"], 2, "evtool: verify: a seal belongs to one topic\nhint: "),
        (["t", f"--since-seal={'0' * 64}"], 4, f"evtool: t: {'0' * 64} is none of its seals, or not any more\n"),
        (["../t"], 2, "evtool: '../t': not a topic name\nhint: "),
        (["t", "none"], 3, "evtool: none: no such topic\n"),
    ],
)
def test_what_makes_no_sense_is_refused(sealed: Program, arguments: list[str], code: int, err: str) -> None:
    result = sealed("verify", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(err)


# With others at work


def test_it_may_run_while_others_append(sealed: Program) -> None:
    """What it finds is a moment of the log: never a torn line, never a segment between two states."""
    with Running(sealed, "append", "t", stdin=subprocess.PIPE) as producer:
        for round_ in range(5):
            assert producer.process.stdin is not None
            producer.process.stdin.write(b"".join(b"%d\n" % number for number in range(3000)))
            producer.process.stdin.flush()
            assert kinds(sealed) == [], round_
        producer.process.stdin.close()
        assert producer.process.wait(PATIENCE) == 0
    assert problems(sealed) == []


def on_terminal(program: Program, *arguments: str, **environment: str) -> str:
    """What the program, with nobody at its keyboard, writes on a terminal, errors included."""
    leader, follower = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "150"} | environment
    process = program.start(*arguments, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    parts = []
    try:
        while part := os.read(leader, 1 << 16):
            parts.append(part)
    except OSError:  # how Linux tells that nobody has the terminal any more
        pass
    os.close(leader)
    process.communicate(timeout=PATIENCE)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_nobody_reading_the_output_is_no_error_and_says_nothing(sealed: Program) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with sealed.start("verify", "t", stdout=theirs) as process:
        os.close(theirs)
        assert process.stderr.read() == b""
        assert process.wait() == -signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said(sealed: Program) -> None:
    with open("/dev/full", "wb") as full, sealed.start("verify", "t", stdout=full) as process:
        assert process.wait() == 74
        assert process.stderr.read() == b"evtool: standard output: No space left on device\n"


def test_each_segment_is_sealed_though_it_is_done_in_the_background(evtool: Program) -> None:
    """One too large to be sealed while a producer waits: the seal comes soon, and fits."""
    evtool("create", "t", "-q", "segment-bytes=1MiB")
    assert evtool("append", "t", input=f'"{"x" * 1000}"\n' * 2500).code == 0
    wait_until(lambda: evtool("verify", "t").out.split("\t")[3:5] == ["3", "2"], "two of three to be sealed")
    assert json.loads(evtool("verify", "t", "--json").out)["problems"] == []
