"""Checkpoints: safetensors for tensors, JSON for the rest. Nothing in them can run code."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file

from skyfix.runtime.errors import ModelError, SkyfixError

from .config import RunConfig
from .models.build import build_network
from .models.config import InputSizes, NetworkConfig
from .models.network import Network

WEIGHTS_NAME = "weights.safetensors"  # averaged weights: what is evaluated and exported
STATE_NAME = "state.safetensors"  # live weights and optimiser: what a run goes on from
RECORD_NAME = "checkpoint.json"
SCHEMA = 2


class CheckpointRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint is, beside its tensors."""

    schema: int
    network: NetworkConfig
    input_px: InputSizes  # view -> (H, W)
    run: RunConfig | None = None  # None where the weights were trained elsewhere
    source: str = ""  # where imported weights come from
    step: int = 0
    hours: float = 0.0
    device: str = ""
    score: float | None = None  # R@1 of the last evaluation


@dataclass(frozen=True)
class Checkpoint:
    """A trained network's averaged weights and their record."""

    record: CheckpointRecord
    weights: dict[str, torch.Tensor]


def save_checkpoint(
    folder: Path,
    record: CheckpointRecord,
    weights: dict[str, torch.Tensor],
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint beside the last one, then rename all of it.

    Raises SkyfixError where the disk does not take it; the last checkpoint is then as it was.
    """
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    tensors = {WEIGHTS_NAME: weights} | ({STATE_NAME: state} if state is not None else {})
    names = (*tensors, RECORD_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in tensors.items():
            contiguous = {key: value.contiguous() for key, value in part.items()}
            save_file(contiguous, _beside(folder, name))
        _beside(folder, RECORD_NAME).write_bytes(text + b"\n")
    except Exception as error:  # safetensors' errors share no public base with OSError
        for name in names:
            with contextlib.suppress(OSError):  # where `folder` is a file, for one
                _beside(folder, name).unlink()
        raise SkyfixError(
            f"{folder}: the checkpoint of step {record.step} cannot be written ({error}). "
            "The last one is untouched: make room, and start the run again to go on from it."
        ) from error
    for name in names:
        _beside(folder, name).replace(folder / name)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the averaged weights; raises ModelError."""
    return Checkpoint(load_record(folder), _load(folder / WEIGHTS_NAME))


def load_network(folder: Path) -> Network:
    """The network with its averaged weights, ready to encode; raises ModelError."""
    checkpoint = load_checkpoint(folder)
    network = build_network(checkpoint.record.network, checkpoint.record.input_px)
    fill(network, checkpoint.weights, str(folder))
    return network.eval()


def fill(network: Network, weights: dict[str, torch.Tensor], source: str) -> None:
    """Load weights; raises ModelError that names the keys and shapes that differ."""
    faults = differences(network.state_dict(), weights)
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ModelError(
            f"{source} does not fit this network: {'; '.join(faults[:5])}{more}. "
            "Another architecture, input size or number of layouts was trained."
        )
    network.load_state_dict(weights)


def differences(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor]) -> list[str]:
    """What is missing, left over, or of another shape, a phrase each."""
    return (
        [f"{key} is missing" for key in expected if key not in actual]
        + [f"{key} is unknown here" for key in actual if key not in expected]
        + [
            f"{key} is {tuple(actual[key].shape)}, not {tuple(expected[key].shape)}"
            for key in expected
            if key in actual and actual[key].shape != expected[key].shape
        ]
    )


def load_state(folder: Path) -> dict[str, torch.Tensor]:
    """Read what a run goes on from; raises ModelError."""
    return _load(folder / STATE_NAME)


def load_record(folder: Path) -> CheckpointRecord:
    """Read a checkpoint's record; raises ModelError."""
    path = folder / RECORD_NAME
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise ModelError(f"{path} has schema {schema}, this skyfix reads {SCHEMA}")
        return msgspec.json.decode(data, type=CheckpointRecord)
    except OSError as error:
        raise ModelError(
            f"{folder} is no checkpoint: {RECORD_NAME} cannot be read. `skyfix train` writes one, "
            "`skyfix checkpoint import` makes one of published weights."
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error


class _Schema(msgspec.Struct):
    schema: int


def _beside(folder: Path, name: str) -> Path:
    return folder / f"{name}.tmp"


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors' errors share no public base
        raise ModelError(f"{path} cannot be read: {error}") from error
    return tensors
