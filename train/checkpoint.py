"""Checkpoints: safetensors for tensors, JSON for the rest. Nothing in them can run code."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file

from skyfix.runtime.errors import ModelError

from .config import TrainConfig

WEIGHTS_NAME = "weights.safetensors"  # averaged weights: what is evaluated and exported
STATE_NAME = "state.safetensors"  # live weights and optimiser: what a run goes on from
RECORD_NAME = "checkpoint.json"
SCHEMA = 1


class CheckpointRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint is, beside its tensors."""

    schema: int
    config: TrainConfig
    step: int
    hours: float
    device: str


@dataclass(frozen=True)
class Checkpoint:
    """A trained network's averaged weights and their record."""

    record: CheckpointRecord
    weights: dict[str, torch.Tensor]


def save_checkpoint(
    folder: Path,
    record: CheckpointRecord,
    weights: dict[str, torch.Tensor],
    state: dict[str, torch.Tensor],
) -> None:
    """Write a checkpoint beside the last one, then rename file by file, the record last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in ((WEIGHTS_NAME, weights), (STATE_NAME, state)):
        contiguous = {key: value.contiguous() for key, value in tensors.items()}
        save_file(contiguous, folder / f"{name}.tmp")
        (folder / f"{name}.tmp").replace(folder / name)
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    (folder / f"{RECORD_NAME}.tmp").write_bytes(text + b"\n")
    (folder / f"{RECORD_NAME}.tmp").replace(folder / RECORD_NAME)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the averaged weights; raises ModelError."""
    return Checkpoint(load_record(folder), _load(folder / WEIGHTS_NAME))


def load_state(folder: Path) -> dict[str, torch.Tensor]:
    """Read what a run goes on from; raises ModelError."""
    return _load(folder / STATE_NAME)


def load_record(folder: Path) -> CheckpointRecord:
    """Read a checkpoint's record; raises ModelError."""
    path = folder / RECORD_NAME
    try:
        record = msgspec.json.decode(path.read_bytes(), type=CheckpointRecord)
    except OSError as error:
        raise ModelError(
            f"{folder} is no checkpoint: {RECORD_NAME} cannot be read. `skyfix train` writes one."
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error
    if record.schema != SCHEMA:
        raise ModelError(f"{path} has schema {record.schema}, this skyfix reads {SCHEMA}")
    return record


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors' errors share no public base
        raise ModelError(f"{path} cannot be read: {error}") from error
    return tensors
