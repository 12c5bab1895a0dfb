"""Published checkpoints: from the file that a system's authors gave to a checkpoint of ours.

    file -> state dict (weights only) -> configuration by its shapes -> our key names -> checked

What shapes do not tell (stride, attention, heads) is the published default unless the caller sets
it. Input sizes are those of the published data sets, whichever fits the shapes.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import torch
from safetensors.torch import load_file

from skyfix.runtime.errors import InputError, ModelError

from .checkpoint import SCHEMA, CheckpointRecord, differences, fill, save_checkpoint
from .models import geodtr, mfrgn, sample4geo, three_view
from .models.build import build_network
from .models.config import (
    InputSizes,
    NetworkConfig,
    University1652Config,
    architecture_name,
)

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network")  # as training scripts save
PARALLEL = "module."  # DataParallel's prefix

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class System:
    """How a published system's weights are read."""

    config: Callable[[Mapping[str, torch.Tensor]], NetworkConfig]
    weights: Callable[[Mapping[str, torch.Tensor]], Weights]
    sizes_px: tuple[InputSizes, ...]  # of the published data sets, the likeliest first


def _pair(ground: tuple[int, int], aerial: tuple[int, int]) -> InputSizes:
    return {"ground": ground, "aerial": aerial}


def _drone(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


_GEODTR_SIZES = (  # CVUSA and CVACT, the same with polar input, VIGOR
    _pair((122, 671), (256, 256)), _pair((122, 671), (122, 671)), _pair((320, 640), (320, 320)),
)  # fmt: skip
_UNIVERSITY_SIZES = tuple(
    dict.fromkeys(("satellite", "street", "drone"), (side, side)) for side in (256, 384)
)
SYSTEMS = {
    "geodtr": System(geodtr.config_from_official, geodtr.state_from_official, _GEODTR_SIZES),
    "geodtr_plus": System(geodtr.config_from_official, geodtr.state_from_official, _GEODTR_SIZES),
    "mfrgn": System(
        mfrgn.config_from_official, mfrgn.state_from_official,
        (_pair((128, 512), (256, 256)), _pair((320, 640), (320, 320))),
    ),
    "mfrgn_drone": System(
        mfrgn.config_from_official, mfrgn.state_from_official,
        (_drone(384), _drone(256), _drone(320)),
    ),
    "university1652": System(
        three_view.config_from_official, three_view.state_from_official, _UNIVERSITY_SIZES
    ),
    "sample4geo": System(
        sample4geo.config_from_official, sample4geo.state_from_official,
        (_drone(384), _pair((140, 768), (384, 384))),
    ),
}  # fmt: skip


def import_checkpoint(
    file: Path,
    system: str,
    folder: Path,
    settings: Mapping[str, str],
    input_px: InputSizes | None = None,
) -> CheckpointRecord:
    """Write the checkpoint folder of a published file; raises InputError, ModelError.

    Args:
        file: .pth, .pt, .bin or .safetensors.
        system: a key of SYSTEMS.
        folder: to be written.
        settings: fields of the network's configuration that shapes do not tell, as text.
        input_px: view -> height and width; None takes the published size that fits.
    """
    if system not in SYSTEMS:
        raise InputError(f"no system is called {system!r}; there are {', '.join(SYSTEMS)}")
    state = official_state(file)
    config = config_with(SYSTEMS[system].config(state), settings)
    if architecture_name(config) != system:
        raise ModelError(
            f"{file} holds weights of {architecture_name(config)}, not of {system}: "
            f"--from {architecture_name(config)} reads them"
        )
    weights = weights_from_official(state, config)
    sizes = input_px or fitting_sizes(config, weights, SYSTEMS[system].sizes_px)
    network = build_network(config, sizes)
    fill(network, weights, str(file))
    source = f"{file.name}, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
    record = CheckpointRecord(SCHEMA, config, sizes, source=source)
    save_checkpoint(folder, record, network.state_dict())
    return record


def weights_from_official(state: Mapping[str, torch.Tensor], config: NetworkConfig) -> Weights:
    """Published weights under our names."""
    if isinstance(config, University1652Config):  # whether trunks are shared decides
        return three_view.state_from_official(state, config)
    return SYSTEMS[architecture_name(config)].weights(state)


def config_with(config: NetworkConfig, settings: Mapping[str, str]) -> NetworkConfig:
    """The configuration with fields set by text ("stride": "1"); raises InputError."""
    fields = cast("dict[str, object]", msgspec.to_builtins(config))
    for key in settings:
        if key not in fields or key == "architecture":
            known = ", ".join(field for field in fields if field != "architecture")
            raise InputError(f"{architecture_name(config)} has no setting {key}; it has {known}")
    try:
        changed = msgspec.convert(fields | dict(settings), type(config), strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"--set: {error}") from error
    return changed


def fitting_sizes(
    config: NetworkConfig, weights: Weights, candidates: Iterable[InputSizes]
) -> InputSizes:
    """The first input sizes whose network takes these weights; the first of all where none does."""
    candidates = tuple(candidates)
    for sizes in candidates:
        with torch.device("meta"):
            network = build_network(config, sizes)
        if not differences(network.state_dict(), weights):
            return sizes
    return candidates[0]


def official_state(file: Path) -> Weights:
    """The tensors of a published file by name, DataParallel's prefix taken off.

    Raises InputError where it cannot be read, ModelError where it holds anything but tensors and
    plain containers: such a file would run its own code when unpickled.
    """
    content = _content(file)
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} holds no state dict but a {type(content).__name__}")
    tensors = {
        str(key).removeprefix(PARALLEL): value
        for key, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ModelError(f"{file} holds no tensors. Save the network's state_dict()")
    return tensors


def _content(file: Path) -> object:
    try:
        if file.suffix == ".safetensors":
            tensors: object = load_file(file)
            return tensors
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} needs code to be unpickled and is refused: whoever wrote it could run "
            "anything here. Where it was made, save only the weights: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # torch and safetensors share no base for broken files
        raise ModelError(f"{file} is no checkpoint that torch can read ({error!r})") from error
