"""Every bit of a segment flipped, one at a time: `verify` finds each of them, with a seal or without one."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import evtool as api
from evtool.log import check, seals
from evtool.log.segment import Segment
from evtool.log.verify import verify
from tests.faults.history import Violation
from tests.faults.scale import seeded, step
from tests.topics import open_directory

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from pathlib import Path

    from evtool.log.check import Course
    from evtool.log.files import Directory

SIZE = 64 << 10
KINDS = ("active", "sealed", "without a seal", "seals")


class Specimen:
    """A topic with a segment of 64 KiB, and the file of it in which bits are flipped.

    kind: whether that is the active segment, a sealed one, a sealed one that has no seal yet, or the file of seals.
    """

    def __init__(self, home: Path, kind: str) -> None:
        self.topic = self._make(home, sealed=kind != "active")
        name = seals.FILE_NAME if kind == "seals" else f"{0:020d}.jsonl"
        if kind == "without a seal":
            (home / "topics/t" / seals.FILE_NAME).unlink()
        path = home / "topics/t" / name
        mode = path.stat().st_mode
        path.chmod(0o600)
        self._fd = os.open(path, os.O_RDWR)
        path.chmod(mode)
        self.bits = 8 * path.stat().st_size
        if kind == "without a seal":
            # That the last line has lost its checksum, by a bit in the word "crc", nothing but a seal can tell: who is
            # killed in the midst of an append leaves such lines too.
            self.bits = 8 * (path.read_bytes().rstrip(b"\n").rfind(b"\n") + 1)
        assert self.is_good()

    def _make(self, home: Path, *, sealed: bool) -> Directory:
        """Appends of one event, of two, of three …, until the segment has its size."""
        (home / "topics/t").mkdir(parents=True, mode=0o700)
        for path in (home, home / "topics"):
            path.chmod(0o700)
        (home / "topics/t/topic.json").write_text(f'{{"segment-bytes":{SIZE}}}')
        topic, path = api.open(home).topic("t", sync="never"), home / "topics/t" / f"{0:020d}.jsonl"
        for count in itertools.count():
            events = [{"n": one, "text": "ä" * 200 * one, "list": [1.5, None, "\\"]} for one in range(count % 5)]
            if path.exists() and path.stat().st_size > SIZE - 5000:
                break
            topic.append_many(events, key=f"k{count}", type="some.thing")
        topic.append({"text": "x" * (SIZE - path.stat().st_size - 90)})
        assert path.stat().st_size > SIZE - 50
        if sealed:
            topic.append({"text": "x" * 50})
        assert path.stat().st_mode & 0o200 == (0 if sealed else 0o200)
        return open_directory(home / "topics/t")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def is_good(self) -> bool:
        """Whether verify finds nothing."""
        return not verify(self.topic).problems

    def hides(self, bit: int) -> bool:
        """Whether verify finds nothing though this bit is flipped."""
        at, mask = bit >> 3, 1 << (bit & 7)
        (right,) = os.pread(self._fd, 1, at)
        os.pwrite(self._fd, bytes([right ^ mask]), at)
        try:
            return self.is_good()
        finally:
            os.pwrite(self._fd, bytes([right]), at)


def check_flips(specimen: Specimen, bits: Iterable[int]) -> int:
    """Flip these bits, each by itself; return how many they were."""
    try:
        tried = {bit: specimen.hides(bit) for bit in bits}
        assert specimen.is_good()
    finally:
        specimen.close()
    if hidden := [bit for bit, is_hidden in tried.items() if is_hidden]:
        raise Violation(f"{len(hidden)} of {len(tried)} flipped bits were not found: {hidden[:10]}")
    return len(tried)


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: the bits of one kind of file, each 64th of them, from a random one on."""
    kind = random.choice(KINDS)
    specimen = Specimen(directory / "home", kind)
    return Counter({kind: check_flips(specimen, range(random.randrange(64), specimen.bits, 64))})


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_found(home: Path, kind: str) -> None:
    """A slice of them: FAULT_SCALE=1310 makes it all of them."""
    specimen = Specimen(home, kind)
    distance = step(max(1, specimen.bits // 400))
    assert check_flips(specimen, range(seeded().randrange(distance), specimen.bits, distance)) >= 300


@pytest.mark.parametrize("kind", ["active", "without a seal"])
def test_control_without_checksums_bits_are_hidden(home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(chunk: bytes, _heads: object, _offsets: object, course: Course) -> bool:
        course.group = (course.position + len(chunk), 0, None)
        return True

    specimen = Specimen(home, kind)
    monkeypatch.setattr(check, "_has_right_sums", believe)
    with pytest.raises(Violation, match="flipped bits were not found"):
        check_flips(specimen, range(0, specimen.bits, 1999))


def test_control_without_digests_bits_are_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen = Specimen(home, "sealed")
    digest = seals.digest(Segment(specimen.topic, 0))
    monkeypatch.setattr(seals, "digest", lambda *_: digest)
    with pytest.raises(Violation, match="flipped bits were not found"):
        check_flips(specimen, range(0, specimen.bits, 1999))
