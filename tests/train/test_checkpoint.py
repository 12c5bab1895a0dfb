from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from skyfix.runtime.errors import ModelError, SkyfixError
from skyfix.train.checkpoint import (
    RECORD_NAME,
    SCHEMA,
    STATE_NAME,
    WEIGHTS_NAME,
    CheckpointRecord,
    load_checkpoint,
    load_state,
    save_checkpoint,
)
from skyfix.train.config import config_from_yaml

CONFIG = config_from_yaml(Path(__file__).resolve().parents[2] / "train/configs/nano.yaml")
RECORD = CheckpointRecord(SCHEMA, CONFIG.model, CONFIG.input_px, CONFIG, step=7, hours=0.5)


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
    with pytest.raises(ModelError, match="schema 3"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), SafetensorError("28")])
@pytest.mark.parametrize("full_at", [WEIGHTS_NAME, STATE_NAME])
def test_a_full_disk_leaves_the_last_checkpoint_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, full_at: str
) -> None:
    save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half_written(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)
        if path.name.startswith(full_at):
            path.write_bytes(path.read_bytes()[:50])
            raise failure

    monkeypatch.setattr("skyfix.train.checkpoint.save_file", half_written)
    other = msgspec.structs.replace(RECORD, step=8)
    with pytest.raises(SkyfixError, match=r"step 8 cannot be written.*last one is untouched"):
        save_checkpoint(tmp_path, other, {"a": torch.zeros(9)}, {"step": torch.tensor(8.0)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SkyfixError, match="cannot be written"):
        save(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "a file"
