"""evtool.log.settings: what a topic.json may say, and how it is told what it may not."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import ConfigurationError, StorageError
from evtool.log.files import Directory
from evtool.log.settings import Settings, load, load_chosen, save
from tests.topics import open_directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(str(tmp_path), os.open(tmp_path, os.O_RDONLY))


def write(directory: Directory, text: str) -> None:
    with open(f"{directory.path}/topic.json", "w") as file:
        file.write(text)


def test_without_a_file_the_defaults_hold(directory: Directory) -> None:
    found = load(directory)
    assert found.values() == {
        "segment-bytes": 64 << 20,
        "max-event-bytes": 1 << 20,
        "dedupe": 86400.0,
        "retention": "keep",
        "group-ttl": 7 * 86400.0,
        "max-age": None,
        "max-bytes": None,
        "max-events": None,
    }
    assert Settings().values() == found.values()
    assert not found.has_limits


def test_what_the_file_does_not_say_stays_as_it_is(directory: Directory) -> None:
    write(directory, '{"segment-bytes": 1000, "dedupe": 1.5}')
    found = load(directory)
    assert (found.segment_bytes, found.max_event_bytes, found.dedupe) == (1000, 1 << 20, 1.5)


CHOSEN = {
    "segment-bytes": 1000,
    "max-event-bytes": 17,
    "dedupe": 1.5,
    "retention": "consumed",
    "group-ttl": 60.0,
    "max-age": 3600.0,
    "max-bytes": 1 << 61,
    "max-events": 1,
}


@given(st.sets(st.sampled_from(sorted(CHOSEN))), st.sets(st.sampled_from(sorted(CHOSEN))))
@settings(deadline=None, max_examples=50)
def test_what_was_saved_is_loaded_and_replaces_what_was_there(before: set[str], names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        directory = open_directory(Path(path))
        save(directory, {name: CHOSEN[name] for name in before})
        chosen = {name: CHOSEN[name] for name in names}
        save(directory, chosen)
        assert load_chosen(directory) == chosen
        assert load_chosen(directory, but=before) == {name: CHOSEN[name] for name in names - before}
        found = load(directory)
        assert found.values() == Settings().values() | chosen
        assert found.has_limits == bool(names & {"max-age", "max-bytes", "max-events"})
        text = Path(path, "topic.json").read_bytes()
        assert (json.loads(text), text[-2:]) == (chosen, b"}\n")
        assert os.listdir(path) == ["topic.json"]


def test_values_are_used_as_what_they_are(directory: Directory) -> None:
    write(directory, '{"max-age": 60, "max-events": 5.0, "max-bytes": 1}')
    found = load(directory)
    assert [(type(one), one) for one in (found.max_age, found.max_events, found.max_bytes)] == [
        (float, 60.0),
        (int, 5),
        (int, 1),
    ]


def test_a_wrong_setting_can_be_left_out_to_be_replaced(directory: Directory) -> None:
    write(directory, '{"dedupe": "1h", "colour": 1, "max-bytes": 7}')
    assert load_chosen(directory, but={"dedupe", "colour"}) == {"max-bytes": 7}


def test_what_is_no_setting_is_not_saved(directory: Directory) -> None:
    save(directory, {"dedupe": 1.0})
    for name, value, why in (
        ("colour", 1, "'colour' is not a setting"),
        ("dedupe", 0, "'dedupe' is not a number above 0"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            save(directory, {"max-bytes": 1, name: value})
        assert (caught.value.what, caught.value.why) == (directory.path, why)
    assert load_chosen(directory) == {"dedupe": 1.0}


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_settings_that_the_disk_does_not_take_leave_the_old_ones(
    directory: Directory, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(directory, {"dedupe": 1.0})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError) as caught:
        save(directory, {"dedupe": 2.0})
    monkeypatch.undo()
    assert (caught.value.file, caught.value.why) == (f"{directory.path}/topic.json.new", "No space left on device")
    assert load_chosen(directory) == {"dedupe": 1.0}
    assert before >= (len(os.listdir("/proc/self/fd")) if before else 0)
    save(directory, {"max-events": 2})
    assert load_chosen(directory) == {"max-events": 2}


def test_settings_are_durable_before_they_have_their_name_and_the_name_is_after(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync(fd: int) -> None:
        done.append("names" if fd == directory.fd else "file")
        fsync(fd)

    def move(old: str, new: str, **where: int) -> None:
        done.append(f"{old} to {new}")
        rename(old, new, **where)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    save(directory, {"dedupe": 1.0})
    assert done == ["file", "topic.json.new to topic.json", "names"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON: "),
        ("{", "not JSON: "),
        ("[]", "not a JSON object"),
        ('{"segment_bytes":1}', "'segment_bytes' is not a setting"),
        ('{"colour":1}', "'colour' is not a setting"),
        ('{"dedupe":"1h"}', "'dedupe' is not a number above 0"),
        ('{"dedupe":true}', "'dedupe' is not a number above 0"),
        ('{"dedupe":null}', "'dedupe' is not a number above 0"),
        ('{"dedupe":0.0}', "'dedupe' is not a number above 0"),
        ('{"dedupe":4611686018427387904}', "'dedupe' is too large"),
        ('{"max-bytes":1e300}', "'max-bytes' is too large"),
        ('{"max-events":0.5}', "'max-events' is not a whole number above 0"),
        ('{"max-events":1.5}', "'max-events' is not a whole number above 0"),
        ('{"retention":"forever"}', "'retention' is neither 'keep' nor 'consumed'"),
        ('{"retention":1}', "'retention' is neither 'keep' nor 'consumed'"),
        ('{"segment-bytes":0}', "'segment-bytes' is not a number above 0"),
        ('{"max-event-bytes":-1}', "'max-event-bytes' is not a number above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_file_and_name(directory: Directory, text: str, why: str) -> None:
    write(directory, text)
    with pytest.raises(ConfigurationError) as caught:
        load(directory)
    assert caught.value.what == f"{directory.path}/topic.json"
    assert caught.value.why == why or (why == "not JSON: " and re.match("not JSON: [A-Za-z]", caught.value.why))
    known = "segment-bytes, max-event-bytes, dedupe, retention, group-ttl, max-age, max-bytes, max-events"
    assert caught.value.hint == (f"settings are {known}" if "is not a setting" in why else None)
    assert caught.value.exit_code == 78
