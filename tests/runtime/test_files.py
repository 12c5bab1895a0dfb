"""A file is whole or not there."""

import json
from pathlib import Path

import msgspec
import pytest

from skyfix.runtime.errors import InputError
from skyfix.runtime.files import write_beside, write_json


class Planted(msgspec.Struct):
    name: str
    count: int


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    target.write_bytes(b"old and longer")
    write_beside(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_leaves_what_was_there_and_no_other_file(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    target.mkdir()  # cannot be replaced by a file
    with pytest.raises(InputError, match=r"run\.json cannot be written"):
        write_beside(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory"):
        write_beside(tmp_path / "none" / "run.json", b"new")


def test_a_record_is_json_one_field_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", Planted("Zürich", 3))
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Zürich", "count": 3}
    assert len(text.splitlines()) == 4
    assert text.endswith("}\n")
