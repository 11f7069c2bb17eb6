"""Data in data in data: what may be appended can be shown, set aside and listed, though some libraries give up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.program import Program

DEPTHS = [250, 260, 1000]


def _deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_deep_event_is_set_aside_and_listed(evtool: Program, depth: int) -> None:
    deep = _deep(depth)
    assert evtool("append", "t", input=deep).code == 0
    handling = ["subscribe", "t", "-g", "g", "--from=earliest", "--drain", "-q", "--retries=0"]
    assert evtool(*handling, "--", "false").code == 1
    listed = evtool("dead", "t", "--json")
    assert (listed.code, listed.err) == (0, "")
    assert f'"data":{deep}' in listed.out


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_data_of_a_cloudevent_may_be_deep(evtool: Program, depth: int) -> None:
    event = f'{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{_deep(depth)}}}'
    appended = evtool("append", "t", "--cloudevents", input=event)
    assert (appended.code, appended.err) == (0, "")
    assert evtool("replay", "t", "--data").lines == [_deep(depth)]


def test_what_is_too_deep_is_refused(evtool: Program) -> None:
    """With 65, and nothing is stored."""
    refused = evtool("append", "t", input=_deep(1025))
    assert refused.code == 65
    assert "depth" in refused.err
