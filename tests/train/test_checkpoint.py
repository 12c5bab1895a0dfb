from pathlib import Path

import msgspec
import pytest
import torch

from skyfix.runtime.errors import ModelError
from skyfix.train.checkpoint import (
    RECORD_NAME,
    SCHEMA,
    WEIGHTS_NAME,
    CheckpointRecord,
    load_checkpoint,
    load_state,
    save_checkpoint,
)
from skyfix.train.config import config_from_yaml

CONFIG = config_from_yaml(Path(__file__).resolve().parents[2] / "train/configs/nano.yaml")
RECORD = CheckpointRecord(SCHEMA, CONFIG, 7, 0.5, "CPU")


def save(folder: Path) -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    save_checkpoint(folder, RECORD, weights, {"step": torch.tensor(7.0)})


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.record == RECORD
    assert torch.equal(checkpoint.weights["a"], torch.arange(6.0).reshape(2, 3).T)
    assert load_state(tmp_path)["step"] == 7
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    record = msgspec.structs.replace(RECORD, schema=SCHEMA + 1)
    (tmp_path / RECORD_NAME).write_bytes(msgspec.json.encode(record))
    with pytest.raises(ModelError, match="schema 2"):
        load_checkpoint(tmp_path)
