"""evtool.log.damaged: bytes taken out of a log are kept as they were, durably, and never in place of others."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import StorageError
from evtool.log import damaged
from tests.topics import open_directory
from tests.unit.test_segment import write_segment

if TYPE_CHECKING:
    from evtool.log.segment import Segment


@given(st.binary(min_size=1, max_size=60), st.data(), st.sampled_from([1, 7, 1 << 20]))
@settings(deadline=None, max_examples=100)
def test_the_bytes_of_any_part_of_a_segment_are_kept(text: bytes, data: st.DataObject, block: int) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, len(text)))
    with tempfile.TemporaryDirectory() as where, pytest.MonkeyPatch.context() as patch:
        patch.setattr(damaged, "_BLOCK", block)
        topic = open_directory(Path(where))
        segment = write_segment(topic, 7, text)
        kept = Path(damaged.put_aside(topic, segment, start, end))
        assert kept.read_bytes() == text[start:end]
        assert kept.parent == Path(where, "damaged")
        assert kept.name.startswith(f"{7:020d}.jsonl@{start}.")
        assert Path(segment.path).read_bytes() == text


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return write_segment(open_directory(tmp_path), 0, b"0123456789")


def test_what_was_kept_before_is_never_replaced(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by what is taken from the same place at the same moment."""
    monkeypatch.setattr("time.time_ns", lambda: 5)
    kept = Path(damaged.put_aside(open_directory(tmp_path), segment, 2, 4))
    assert kept.name == f"{0:020d}.jsonl@2.5"
    with pytest.raises(StorageError) as caught:
        damaged.put_aside(open_directory(tmp_path), segment, 2, 9)
    assert (caught.value.file, caught.value.why) == (str(kept), "File exists")
    assert kept.read_bytes() == b"23"


@pytest.mark.parametrize("call", ["write", "pread", "fsync"])
def test_what_cannot_be_kept_is_told(
    tmp_path: Path, segment: Segment, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("time.time_ns", lambda: 5)
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError) as caught:
        damaged.put_aside(open_directory(tmp_path), segment, 2, 9)
    assert caught.value.file == f"{tmp_path}/damaged/{0:020d}.jsonl@2.5"
    assert caught.value.why == "No space left on device"


def test_it_is_durable_with_all_its_names_before_anybody_cuts_anything(
    tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    kept = Path(damaged.put_aside(open_directory(tmp_path), segment, 2, 9))
    assert synced == [path.stat().st_ino for path in (kept, kept.parent, tmp_path)]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
