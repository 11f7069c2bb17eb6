"""The marks of mirrored events: what they leave as it was, and how the last one of a way is found again."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtool.delivery.origin import Way
from evtool.errors import DataError
from evtool.log import line, payload

OURS, THEIRS, OTHER = "web1:0011aabb", "hub:ccddeeff", "web2:01234567"
MOMENT = b"2026-11-23T22:25:32.123456Z"
TRAPS = [
    f'"origin":"{OURS}","origoffset":"5","origtime":"{MOMENT.decode()}",',
    f'"via":"{OURS}:5",',
    f',"origin":"{OURS}","origoffset":"',
    f',"via":"{OURS}:7"',
    ',"data":',
    OURS,
    f"{OTHER}:9",
    THEIRS,
]
names = st.sampled_from(["key", "type", "origin", "origoffset", "origtime", "via", "originx", "x"])
texts = st.one_of(st.sampled_from(TRAPS), st.text(max_size=6))
attributes = st.dictionaries(names, texts, max_size=5)
data = st.one_of(st.sampled_from(TRAPS), st.text(max_size=6), st.dictionaries(names, texts), st.integers())
ways = st.sampled_from(["", "g"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """The body of any event."""
    return payload.encode_attributes(draw(attributes)) + line.DATA + json.dumps(draw(data)).encode()


def as_lines(wholes: list[bytes], first: int = 0) -> bytes:
    """These bodies as one append leaves them."""
    return line.render(first, MOMENT, b"", wholes, 0) if wholes else b""


def parsed(body: bytes) -> dict[str, object]:
    """A body as the object that it is, in order."""
    found: dict[str, object] = json.loads(b"{" + body + b"}")
    return found


@given(st.lists(bodies(), min_size=1, max_size=4), ways, st.integers(0, 10**18))
def test_a_mark_is_added_and_all_else_stays_byte_for_byte(wholes: list[bytes], name: str, first: int) -> None:
    """But for the `via` of an earlier way, which is replaced; and what began at the destination does not go there."""
    way = Way(OURS, THEIRS, name)
    marked = way.mark_all(as_lines(wholes, first))
    there = dict(zip(map(int, marked.offsets), marked.bodies, strict=True))
    assert list(there) == sorted(there)
    for offset, body in enumerate(wholes, first):
        before = parsed(body)
        is_given = any(one in before for one in ("origin", "origoffset", "origtime"))
        if offset not in there:
            assert is_given
            assert THEIRS in (before.get("origin"), str(before.get("via")).rpartition(":")[0])
            continue
        after = parsed(marked.common + there[offset])
        assert there[offset].endswith(body[body.index(line.DATA) :])
        looks_marked = re.fullmatch(r'[^:"\\]+:[0-9a-f]{8}(-[0-9a-f]{8})?:[0-9]{1,18}', str(before.get("via")))
        added = {"via": f"{way.mark}:{offset}"} if is_given or name or looks_marked else {}
        if not is_given:
            added |= {"origin": OURS, "origoffset": str(offset), "origtime": MOMENT.decode()}
        assert after == before | added
        rest = [one for one in after if one not in added]
        assert rest == [one for one in before if one not in added]


@given(
    st.lists(st.tuples(bodies(), st.sampled_from(["", "g", "other", "nobody"])), max_size=8), ways, st.integers(0, 1000)
)
def test_the_last_arrival_of_a_way_is_found_among_all_others(
    arrived: list[tuple[bytes, str]], name: str, first: int
) -> None:
    """Whatever other ways and producers have put beside it, as far as no producer forges the mark."""
    ways_there = {"": Way(OURS, THEIRS), "g": Way(OURS, THEIRS, "g"), "other": Way(OTHER, THEIRS)}
    wholes: list[bytes] = []
    expected = None
    for offset, (body, by) in enumerate(arrived, first):
        if by == "nobody":
            before = parsed(body)
            forged = str(before.get("via")).startswith(OURS) or before.get("origin") == OURS
            wholes.append(line.DATA + b"1" if forged else body)
            continue
        marked = ways_there[by].mark_all(as_lines([body], offset))
        wholes += [marked.common + one for one in marked.bodies]
        if marked.bodies and by == name:
            expected = offset
    found = Way(OURS, THEIRS, name).last_in(as_lines(wholes))
    assert (found and found[0]) == expected
    assert found is None or found[1] in (None, MOMENT)


@given(st.lists(bodies(), min_size=1, max_size=4), ways)
def test_lines_are_marked_alike_whatever_stands_beside_them(wholes: list[bytes], name: str) -> None:
    """The quick way for blocks without marks gives what the careful one gives."""
    way = Way(OURS, THEIRS, name)
    careful = as_lines([*wholes, b'"origin":"x","data":1'])
    alone = [way.mark_all(as_lines([body], offset)) for offset, body in enumerate(wholes)]
    together = way.mark_all(careful)
    singly = [marked.common + body for marked in alone for body in marked.bodies]
    assert [together.common + body for body in together.bodies[:-1]] == singly


@pytest.mark.parametrize("damaged", [b"xyz\n", b'{"offset":1,"time":"2026","data":1}\n', b"\n", b'{"offset":1'])
def test_a_damaged_line_is_not_left_out_in_silence(damaged: bytes) -> None:
    """An event that cannot be read stops the copy."""
    lines = as_lines([line.DATA + b"1"])
    with pytest.raises(DataError, match="is damaged"):
        Way(OURS, THEIRS).mark_all(lines + damaged.rstrip(b"\n") + b"\n")


def test_events_have_the_same_names_whenever_they_go_a_way_and_other_ones_on_another() -> None:
    """They are what a server knows a message by that comes twice."""
    tokens = Way(OURS, THEIRS).tokens([b"5", b"6"])
    assert tokens == Way(OURS, OTHER).tokens([b"5", b"6"]) == [f"{OURS}:5", f"{OURS}:6"]
    assert not {*tokens} & {*Way(OURS, THEIRS, "g").tokens([b"5", b"6"])}
