"""evtool state and diff: the newest event of each key, now and as of a time; and what is for files alone."""

from __future__ import annotations

from tests.conformance.subject import Subject, succeed


def test_the_newest_of_each_key_now_and_before(evtool: Subject) -> None:
    """A key whose newest data are null is deleted; lines are those of a replay."""
    offsets = [
        *evtool.put("t", '{"in":"kitchen"}', "--key=ann"),
        *evtool.put("t", '{"in":"cellar"}', "--key=bob"),
        *evtool.put("t", '"no key"'),
        *evtool.put("t", '{"in":"garden"}', "--key=ann"),
        *evtool.put("t", "null", "--key=bob"),
    ]
    lines = evtool("replay", "t").lines
    assert succeed(evtool("state", "t")).lines == [lines[3]]
    assert succeed(evtool("state", "t", "--at=-1")).lines == [lines[1], lines[3]]
    assert succeed(evtool("state", "t", f"--at={offsets[3]}", "--key=ann", "--data")).out == '{"in":"kitchen"}\n'
    assert succeed(evtool("state", "t", "--at=1h")).out == ""
    assert succeed(evtool("diff", "t", str(offsets[3]))).lines == [
        'changed\tann\t{"in":"kitchen"}\t{"in":"garden"}',
        'removed\tbob\t{"in":"cellar"}\t-',
    ]
    assert succeed(evtool("diff", "t", str(offsets[3]), str(offsets[3]))).out == ""


def test_what_is_for_files_alone_is_refused_elsewhere(evtool: Subject) -> None:
    """With 2 and a reason, and nothing is done."""
    evtool.put("t", "1", "--key=a")
    seal = "--since-seal=" + "0" * 64
    for command in (["repair", "t", "--dry-run"], ["compact", "t", "--dry-run"], ["doctor"], ["verify", "t", seal]):
        result = evtool(*command)
        assert (result.code == 2) == (evtool.capabilities.kind != "file"), (command, result)
        assert len(result.err) > 20 or result.code != 2
    assert evtool.data("t") == ["1"]
