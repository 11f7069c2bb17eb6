"""Sixteen producers and eight readers who are killed and stopped while the log rolls and is trimmed agree about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import senders
from tests.faults.alone import alone
from tests.faults.bustle import bustle
from tests.faults.history import Violation
from tests.faults.scale import scaled, seeded
from tests.faults.senders import Log, Sender, Told, View
from tests.running import linux
from tests.topics import open_directory

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = linux

EVENTS = 5000


def test_a_bustle_leaves_one_history(tmp_path: Path) -> None:
    counts = alone(bustle, tmp_path, seeded(), scaled(EVENTS))
    assert counts["events"] > 10 * scaled(EVENTS)
    assert counts["events seen"] > counts["events"]


def test_control_without_a_lock_there_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(Violation):
        alone(bustle, tmp_path, seeded(), EVENTS, protection="lock")


def test_control_without_healing_a_torn_line_stops_all(tmp_path: Path) -> None:
    """Kills tear a line rarely, so one is torn by hand."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / f"{0:020d}.jsonl").write_bytes(b'{"offset":0,"time":"2026')
    (tmp_path / "t" / f"{0:020d}.jsonl").chmod(0o600)
    with pytest.raises(Violation):
        alone(bustle, tmp_path, seeded(), 100, protection="healing")


# The checker of numbered events finds each anomaly in a history that was doctored to have it.


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    """Two producers of three and two events, who took turns; two segments."""
    from evtool.log.topic import TopicLog
    from tests.faults.numbered import event

    log = TopicLog(open_directory(tmp_path / "t"), "t")
    log.append([event(0, 0, 9), event(0, 1, 9)], b'"data":')
    log.append([event(1, 0, 9)], b'"data":')
    log.append_whole([[event(0, 2, 9), event(1, 1, 9)]], b'"data":')
    return tmp_path / "t"


TOLD = [Sender(0, [Told(0, 2, 0)], 9), Sender(1, [Told(0, 1, 2), Told(1, 1, 4)], 9)]


def test_a_good_history_passes(topic: Path) -> None:
    log = senders.read(topic, 9)
    log.check_senders(TOLD)
    assert (log.first, log.following) == (0, 5)
    second = log.starts[3]
    views = [View(0, 3, second, crc(log, 0, second)), View(3, 5, len(log.text) - second, crc(log, second))]
    assert log.check_views(views) == 5
    assert log.check_views([View(0, 3, -1, 0), views[1]]) == 2


def crc(log: Log, start: int, end: int | None = None) -> int:
    import binascii

    return binascii.crc32(log.text[start:end])


def test_a_trimmed_history_passes(topic: Path) -> None:
    min(topic.glob("*.jsonl")).unlink()
    log = senders.read(topic, 9)
    log.check_senders(TOLD)
    assert (log.first, log.following) == (3, 5)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace(b'"n":1,', b'"n":3,'), "nobody sent 0:3|wrong crc"),
        (lambda text: text.replace(b'"crc":"', b'"crc":"0'), "no event"),
        (lambda text: text[:-1], "no event"),
        (lambda text: b"x" + text, "no event"),
        (lambda text: text.replace(b"\n", b"\nx", 1), "no event"),
        (lambda text: text.replace(b'"offset":1', b'"offset":2'), "offset 2 stands where 1 should"),
        (lambda text: text.replace(b'"time":"2', b'"time":"3', 1), "time falls|wrong crc"),
        (lambda text: text.replace(b'"text":"', b'"text":"x', 1), "with .* bytes"),
        (lambda text: text[: text.index(b"\n") + 1], "begins after offset 0"),
    ],
)
def test_an_anomaly_of_the_lines_is_found(topic: Path, change, what: str) -> None:  # type: ignore[no-untyped-def]
    path = min(topic.glob("*.jsonl"))
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Violation, match=what):
        senders.read(topic, 9)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ([Sender(0, [Told(0, 2, 1)], 9), TOLD[1]], "lost: 0:0"),
        ([Sender(0, [Told(3, 1, 5)], 9), TOLD[1]], "lost: 0:3"),
        ([Sender(0, [Told(1, 2, 1)], 9), TOLD[1]], "lost: 0:1"),
        (TOLD[:1], "nobody sent what is by"),
        ([*TOLD, Sender(2, [Told(0, 1, 5)], 9)], "lost: 2:0"),
    ],
)
def test_a_lost_or_invented_event_is_found(topic: Path, told: list[Sender], what: str) -> None:
    with pytest.raises(Violation, match=what):
        senders.read(topic, 9).check_senders(told)


def test_a_repeated_or_swapped_event_is_found(topic: Path) -> None:
    from evtool.log.topic import TopicLog
    from tests.faults.numbered import event

    TopicLog(open_directory(topic), "t").append([event(0, 1, 9)], b'"data":')
    with pytest.raises(Violation, match="not there in order and once"):
        senders.read(topic, 9).check_senders(TOLD)


def test_what_a_reader_may_not_see_is_found(topic: Path) -> None:
    log = senders.read(topic, 9)
    second, end = log.starts[3], len(log.text)
    good = View(0, 3, second, crc(log, 0, second))
    for views, what in (
        ([good._replace(crc=good.crc ^ 1)], "otherwise"),
        ([good._replace(size=good.size - 1)], "otherwise"),
        ([good, View(4, 5, end - log.starts[4], crc(log, log.starts[4]))], "went from offset 2 to 4"),
        ([good, good], "went from offset 2 to 0"),
        ([View(4, 7, 1, 1)], "was at offset 7"),
    ):
        with pytest.raises(Violation, match=what):
            log.check_views(views)
