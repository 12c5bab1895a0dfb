"""Records on disk: whole, or refused with a sentence."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skyfix.runtime.bench.record import (
    Record,
    check_writable,
    read_record,
)
from skyfix.runtime.errors import InputError
from skyfix.runtime.files import write_json

MakeRecord = Callable[..., Record]


def test_a_record_comes_back_as_it_was_written(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record(path_ms={"ortho": [1.5, None] * 60, "publish": [0.25] * 120})
    write_json(tmp_path / "run.json", record)
    assert read_record(tmp_path / "run.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no record of a benchmark"),
        ("[1, 2]", "no whole record"),
        ("", "no whole record"),
        ("\xff\xfe", "no whole record"),
        ('{"kind": "skyfix bench", "schema": 99}', "has schema 99, this skyfix reads 1"),
        ('{"kind": "skyfix bench", "schema": 1}', "no whole record"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=words):
        read_record(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "none.json")


def test_a_truncated_record_is_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, make_record())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="no whole record"):
        read_record(path)


@pytest.mark.parametrize("field", ["end_to_end_ms", "started_s"])
def test_lists_of_different_length_are_refused(
    make_record: MakeRecord, tmp_path: Path, field: str
) -> None:
    record = make_record()
    shorter = msgspec.structs.replace(record, **{field: getattr(record, field)[:-1]})
    write_json(tmp_path / "run.json", shorter)
    with pytest.raises(InputError, match="differ in length"):
        read_record(tmp_path / "run.json")


def test_a_record_of_no_frames_is_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    empty = make_record(end_to_end_ms=[], started_s=[], path_ms={}, apart_ms={})
    write_json(tmp_path / "run.json", empty)
    with pytest.raises(InputError, match="differ in length"):
        read_record(tmp_path / "run.json")


def test_what_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="its folder does not exist"):
        check_writable(tmp_path / "none" / "run.json")
    check_writable(tmp_path / "run.json")
