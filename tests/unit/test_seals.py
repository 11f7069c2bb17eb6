"""evtool.log.seals: a chain in which nothing sealed can be altered unnoticed, and which makes nobody wait."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import CorruptionError, StorageError
from evtool.log import seals
from evtool.log.seals import Seals, SealsFile
from tests.topics import open_directory

if TYPE_CHECKING:
    from evtool.log.files import Directory

quick = settings(deadline=None, max_examples=60)
digests = st.integers(0, 5).map(lambda number: hashlib.sha256(b"%d" % number).hexdigest())
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 6), digests),
        st.tuples(st.just("gap"), st.integers(0, 6), st.integers(6, 9)),
        st.tuples(st.just("retire"), st.integers(0, 6), st.one_of(st.none(), digests)),
        st.tuples(st.just("retire only"), st.integers(0, 6), digests),
        st.tuples(st.just("trim"), st.sets(st.integers(0, 6), max_size=3), st.none()),
    ),
    max_size=10,
)


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def apply(directory: Directory, done: list[tuple[str, object, object]]) -> list[tuple[int, str, bool, bool]]:
    """Do all this to the seals of a topic; what each must then say: first offset, digest, gap or not, live or not."""
    model: list[tuple[int, str, bool, bool]] = []
    for what, one, other in done:
        if what == "trim":
            seals.retire(directory, sorted(one))  # type: ignore[call-overload]
            model = [(f, d, gap, live and f not in one) for f, d, gap, live in model]  # type: ignore[operator]
            continue
        with SealsFile(directory) as file:
            if what == "add":
                file.add(one, other)  # type: ignore[arg-type]
                model.append((one, other, False, True))  # type: ignore[arg-type]
            elif what == "gap":
                file.add_gap(one, other)  # type: ignore[arg-type]
                digest = hashlib.sha256(b"%d-%d" % (one, other)).hexdigest()
                if digest not in [known for _, known, gap, _ in model if gap]:
                    model.append((one, digest, True, False))  # type: ignore[arg-type]
            elif what == "retire":
                file.retire([one], but=other)  # type: ignore[list-item,arg-type]
                model = [(f, d, gap, live and (f != one or d == other)) for f, d, gap, live in model]
            else:
                file.retire([one], only=other)  # type: ignore[list-item,arg-type]
                model = [(f, d, gap, live and (f, d) != (one, other)) for f, d, gap, live in model]
    return model


def told(known: list[seals.Seal]) -> list[tuple[int, str, bool, bool]]:
    return [(seal.first, seal.digest, seal.is_gap, seal.is_live) for seal in known]


def removed_or_remade(model: list[tuple[int, str, bool, bool]], since: int) -> list[int]:
    """The segments of a model that have a seal that is retired, or more than one."""
    firsts = [first for first, _, gap, _ in model if not gap]
    retired = {first for first, _, gap, live in model if not gap and not live}
    return sorted(first for first in {*firsts} if first >= since and (first in retired or firsts.count(first) > 1))


def text_of_seals(directory: Directory) -> bytes:
    path = Path(directory.path, "SHA256SUMS")
    return path.read_bytes() if path.exists() else b""


# The chain


@given(steps)
@quick
def test_what_was_said_of_segments_is_read_back_and_chained(done: list[tuple[str, object, object]]) -> None:
    with tempfile.TemporaryDirectory() as where:
        directory = open_directory(Path(where))
        model = apply(directory, done)
        known, broken_at = seals.read(directory)
        assert (told(known), broken_at) == (model, None)
        chain = "0" * 64
        for number, (seal, text) in enumerate(zip(known, text_of_seals(directory).splitlines()[::2], strict=True)):
            chain = hashlib.sha256(f"{chain}\n".encode() + text[1:] + b"\n").hexdigest()
            assert (seal.chain, seal.name) == (chain, text[67:].decode())
            assert seal.position == len(text_of_seals(directory)) // len(known) * number


@given(steps)
@quick
def test_what_is_known_of_a_topic_follows_from_its_seals(done: list[tuple[str, object, object]]) -> None:
    with tempfile.TemporaryDirectory() as where:
        directory = open_directory(Path(where))
        model = apply(directory, done)
        known = Seals(directory)
        assert seals.removed_or_remade(directory, 3) == removed_or_remade(model, 3)
    live = {first: {d for f, d, _, is_live in model if is_live and f == first} for first in range(7)}
    retired = {first for first, _, gap, is_live in model if not gap and not is_live}
    assert known.live == {first: some for first, some in live.items() if some}
    assert known.retired == retired
    assert sorted(known.doubles) == [first for first, some in live.items() if len(some) > 1]
    had = {first: {d for f, d, gap, _ in model if f == first and not gap} for first in range(7)}
    assert known.digests == {first: some for first, some in had.items() if some}
    assert known.remade == {first for first, some in had.items() if len(some) > 1}
    gone = {digest for _, digest, gap, _ in model if gap}
    for following in range(7):
        for first in range(following, 11):
            noted = retired | {one for one, _, gap, _ in model if gap}
            end = min([one for one in noted if following < one < first], default=first)
            is_gone = hashlib.sha256(b"%d-%d" % (following, end - 1)).hexdigest() in gone
            is_explained = following == first or following in retired or is_gone
            assert known.unexplained(following, first) == (None if is_explained else (following, end - 1))


@given(steps.filter(bool), st.data())
@quick
def test_a_torn_last_seal_does_not_count_and_is_written_over(
    done: list[tuple[str, object, object]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as where:
        directory = open_directory(Path(where))
        model = apply(directory, done)
        whole = text_of_seals(directory)
        if not model:
            return
        each = len(whole) // len(model)
        size = data.draw(st.integers(len(whole) - each, len(whole) - 1))
        os.truncate(f"{where}/SHA256SUMS", size)
        with open(f"{where}/SHA256SUMS", "ab") as file:
            file.write(bytes(data.draw(st.sampled_from([0, len(whole) - size]))))
        known, broken_at = seals.read(directory)
        assert (told(known), broken_at) == (model[:-1], None)
        with SealsFile(directory) as file:
            file.add(3, hashlib.sha256(b"x").hexdigest())
        known, broken_at = seals.read(directory)
        assert (len(known), broken_at) == (len(model), None)
        assert len(text_of_seals(directory)) == len(whole)


@pytest.mark.parametrize("at", [0, 1, 30, 64, 65, 66, 67, 80, 88, 92, 93, 94, 101, 130, 165])
def test_a_byte_that_is_altered_breaks_the_chain_there(topic: Directory, at: int) -> None:
    apply(topic, [("add", number, hashlib.sha256(b"x").hexdigest()) for number in range(4)])
    text = bytearray(text_of_seals(topic))
    each = len(text) // 4
    assert each == 166
    text[each + at] ^= 1
    Path(topic.path, "SHA256SUMS").write_bytes(text)
    known, broken_at = seals.read(topic)
    assert (len(known), broken_at) == (1, each)
    assert len(Seals(topic, checked=False).entries) >= 3
    with SealsFile(topic) as file:
        mended = file.mend()
    known, broken_at = seals.read(topic)
    assert (broken_at, told(known[1:])) == (None, told(mended))
    assert {seal.first for seal in known} >= {0, 3}
    assert len(known) >= 3  # what could not be read is one at most


@given(steps.filter(bool), st.data())
@quick
def test_a_flipped_bit_is_found_wherever_it_is(done: list[tuple[str, object, object]], data: st.DataObject) -> None:
    """Also in the last seal: a power cut, which may spoil that, leaves no such thing."""
    with tempfile.TemporaryDirectory() as where:
        directory = open_directory(Path(where))
        if not apply(directory, done):
            return
        text = bytearray(text_of_seals(directory))
        position = data.draw(st.one_of(st.integers(0, len(text) - 1), st.integers(len(text) - 166, len(text) - 1)))
        text[position] ^= 1 << data.draw(st.integers(0, 7))
        Path(where, "SHA256SUMS").write_bytes(text)
        known, broken_at = seals.read(directory)
        assert (len(known), broken_at) == (position // 166, position // 166 * 166)


def test_a_last_seal_of_which_a_power_cut_has_lost_the_beginning_does_not_count(topic: Directory) -> None:
    """It lies across the border of two blocks then."""
    apply(topic, [("add", number, "a" * 64) for number in range(25)])
    text = text_of_seals(topic)
    assert 24 * 166 < 4096 < len(text)
    for lost in (slice(24 * 166, 4096), slice(4096, len(text)), slice(24 * 166, len(text))):
        spoilt = bytearray(text)
        spoilt[lost] = bytes(lost.stop - lost.start)
        Path(topic.path, "SHA256SUMS").write_bytes(spoilt)
        known, broken_at = seals.read(topic)
        assert (len(known), broken_at) == (24, None)
        with SealsFile(topic) as file:
            assert not file.has(24)
            file.add(24, "a" * 64)
        assert text_of_seals(topic) == text


def test_nothing_is_added_behind_a_last_seal_that_cannot_be_read(topic: Directory) -> None:
    """It would have to be overwritten, and nobody would ever learn of the damage."""
    apply(topic, [("add", number, "a" * 64) for number in range(2)])
    text = text_of_seals(topic)[:-90] + b"?" + text_of_seals(topic)[-89:]
    Path(topic.path, "SHA256SUMS").write_bytes(text)
    with pytest.raises(CorruptionError) as caught, SealsFile(topic) as file:
        file.add(2, "a" * 64)
    assert (caught.value.file, caught.value.position) == (f"{topic.path}/SHA256SUMS", 166)
    assert text_of_seals(topic) == text


def test_a_mended_chain_says_what_could_still_be_read(topic: Directory) -> None:
    done: list[tuple[str, object, object]] = [
        ("add", 0, "a" * 64),
        ("add", 1, "b" * 64),
        ("gap", 2, 6),
        ("add", 3, "c" * 64),
    ]
    model = apply(topic, [*done, ("trim", {0}, None)])
    text = text_of_seals(topic)
    Path(topic.path, "SHA256SUMS").write_bytes(text.replace(b"# seal ", b"# soul ", 2))
    with SealsFile(topic) as file:
        assert told(file.mend()) == model
    assert seals.read(topic)[1] is None
    assert text_of_seals(topic) == text


def test_seals_are_durable_before_the_next_is_written(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a power cut spoils none but the last; and what is said to be retired is so before anything is removed."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), fsync(fd)))
    with SealsFile(topic) as file:
        for number in range(3):
            file.add(number, "a" * 64)
        assert synced == [166, 332]
        file.sync()
    assert synced == [166, 332, 498]
    seals.retire(topic, [1])
    assert len(synced) == 4
    for nothing in ([], [1], [7]):
        seals.retire(topic, nothing)
    assert len(synced) == 4


def test_a_topic_without_seals_has_nothing_to_say_it_in(topic: Directory) -> None:
    seals.retire(topic, [0])
    assert os.listdir(topic.path) == []
    assert seals.read(topic) == ([], None)


def test_what_cannot_be_said_is_a_storage_error(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(topic, [("add", 0, "a" * 64)])

    def add(directory: Directory, firsts: list[int]) -> None:
        with SealsFile(directory) as file:
            file.add(firsts[0], "c" * 64)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for call in ("pwrite", "fsync", "pread"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            for say in (seals.retire, add):
                with pytest.raises(StorageError) as caught:
                    say(topic, [0])
                assert (caught.value.file, caught.value.why) == (f"{topic.path}/SHA256SUMS", "Input/output error")
        apply(topic, [("add", 0, "b" * 64)])
    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        seals.retire(topic, [0])
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        seals.read(topic)
