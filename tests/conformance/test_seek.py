"""evtool seek: a group is moved, and told what that means."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conformance.subject import Subject, await_lines, await_that, numbered, succeed
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

GROUP = ["subscribe", "t", "-g", "g", "--from=earliest", "--data"]


def seek(evtool: Subject, to: str, *options: str) -> list[str]:
    """The row of a seek that goes well."""
    return succeed(evtool("seek", "t", "-g", "g", f"--to={to}", *options)).out.rstrip("\n").split("\t")


def test_a_group_is_moved_and_told_what_that_means(evtool: Subject) -> None:
    """A dry run says the same and moves nothing."""
    offsets = evtool.put("t", input=numbered(10))
    succeed(evtool(*GROUP, "--count=6"))
    here = offsets[6]
    for to, at, skipped, repeated in [
        ("earliest", 0, 0, 6), ("latest", 10, 4, 0), (str(offsets[3]), 3, 0, 3), ("-1", 9, 3, 0), ("2h", 0, 0, 6),
    ]:  # fmt: skip
        place = [*offsets, offsets[-1] + 1][at]
        expected = ["t", "g", str(here), str(place), str(skipped), str(repeated)]
        assert seek(evtool, to, "--dry-run") == [*expected, "no"], to
    assert evtool.committed() == here
    for to, at in [("8", 8), ("2", 2), ("latest", 10), ("earliest", 0)]:
        where = str(offsets[int(to)]) if to.isdigit() else to
        assert seek(evtool, where)[-1] == "yes"
        assert evtool.committed() == [*offsets, offsets[-1] + 1][at]
    assert succeed(evtool(*GROUP, "--drain")).lines == numbered(10).split()


def test_back_and_ahead_among_what_was_handled(evtool: Subject, tmp_path: Path) -> None:
    """A group goes where another one is, and back to what a file says."""
    offsets = evtool.put("t", input=numbered(10))
    succeed(evtool(*GROUP, "--count=6"))
    succeed(evtool("subscribe", "t", "-g", "other", "--from=earliest", "--count=2"))
    (tmp_path / "groups").write_text(evtool("groups", "--json").out)
    assert seek(evtool, "group:other")[3] == str(offsets[2])
    assert succeed(evtool(*GROUP, "-n1")).out == "2\n"
    assert seek(evtool, str(tmp_path / "groups"))[3] == str(offsets[6])
    assert succeed(evtool(*GROUP, "--drain")).lines == numbered(4, 6).split()


@pytest.mark.parametrize("handler", [[], ["--", "sh", "-c", "cat; sleep 0.01"]])
def test_a_group_at_work_is_moved_by_force_only(evtool: Subject, handler: list[str]) -> None:
    offsets = evtool.put("t", input=numbered(10))
    with Running(evtool, *GROUP[:-1], *handler) as consumer:
        await_lines(consumer, 10)
        evtool.await_committed(offsets[-1] + 1)
        refused = evtool("seek", "t", "-g", "g", f"--to={offsets[8]}")
        assert (refused.code, refused.out) == (75, "")
        assert refused.err.startswith("evtool: t, group g: a process consumes for it\nhint: ")
        seek(evtool, str(offsets[8]), "--force")
        await_that(consumer, lambda: consumer.out.count("\n") >= 12, "two to come again")
        evtool.put("t", "10")
        await_that(consumer, lambda: consumer.out.count("\n") >= 13, "it to go on")
        ended = consumer.end(signal.SIGTERM)
    assert [event["data"] for event in ended.events] == [*range(10), 8, 9, 10]
    assert ended.err == "evtool: group g was moved by a seek; going on where it is now\n"
    row = evtool.row()
    assert (row["committed"], row["lag"]) == (row["end"], 0)


def test_what_cannot_be(evtool: Subject) -> None:
    offsets = evtool.put("t", "0")
    succeed(evtool(*GROUP, "--drain"))
    for options, code in [
        (["t", "-g", "none", "--to=earliest"], 3),
        (["none", "-g", "g", "--to=earliest"], 3),
        (["t", "-g", "g", "--to=nonsense"], 2),
        (["t", "-g", "g", f"--to={offsets[0] + 2}"], 4),
    ]:
        assert evtool("seek", *options).code == code, options
    assert evtool.committed() == offsets[0] + 1
