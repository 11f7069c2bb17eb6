"""evtool.log.settings: what a topic.json may say, and how it is told what it may not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConfigurationError
from evtool.log.files import Directory
from evtool.log.settings import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(str(tmp_path), os.open(tmp_path, os.O_RDONLY))


def write(directory: Directory, text: str) -> None:
    with open(f"{directory.path}/topic.json", "w") as file:
        file.write(text)


def test_without_a_file_the_defaults_hold(directory: Directory) -> None:
    found = load(directory)
    assert (found.segment_bytes, found.max_event_bytes, found.dedupe) == (64 << 20, 1 << 20, 86400)


def test_what_the_file_does_not_say_stays_as_it_is(directory: Directory) -> None:
    write(directory, '{"segment-bytes": 1000, "dedupe": 1.5}')
    found = load(directory)
    assert (found.segment_bytes, found.max_event_bytes, found.dedupe) == (1000, 1 << 20, 1.5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"segment_bytes":1}', "'segment_bytes' is not a setting"),
        ('{"colour":1}', "'colour' is not a setting"),
        ('{"dedupe":"1h"}', "'dedupe' is not a number above 0"),
        ('{"dedupe":true}', "'dedupe' is not a number above 0"),
        ('{"segment-bytes":0}', "'segment-bytes' is not a number above 0"),
        ('{"max-event-bytes":-1}', "'max-event-bytes' is not a number above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_file_and_name(directory: Directory, text: str, why: str) -> None:
    write(directory, text)
    with pytest.raises(ConfigurationError) as caught:
        load(directory)
    assert caught.value.what == f"{directory.path}/topic.json"
    assert why in caught.value.why
    assert caught.value.exit_code == 78
