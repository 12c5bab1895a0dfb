"""One YAML per training run: what is trained, on what, how, for how long. Unknown keys fail."""

from pathlib import Path

import msgspec

from skyfix.runtime.errors import InputError


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which network; see train/models."""

    architecture: str  # "geodtr_plus_drone" or "mfrgn_drone"
    backbone: str = "atto"  # ConvNeXt size
    layer_scale: float = 1e-6  # ConvNeXt's start value; 1e-6 suits 300 epochs, 0.1 short runs
    dropout: float = 0.3  # both papers' code
    layouts: int = 8  # GeoDTR+: number of geometric layout descriptors
    projection: int | None = None  # GeoDTR+: linear map to this many dimensions


class ViewConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a patch is, and how far the camera's view may differ from the map's."""

    input_px: int = 128
    gsd_m: float = 1.25
    heading_deg: float = 10.0  # the descriptor tolerates this error; uniform on both sides
    scale: float = 0.12  # the same for height, as a fraction
    # standard deviation of unknown forward tilt; the same again as heading error
    tilt_deg: float = 4.0
    offset_m: float = 8.0  # a tile's centre may lie this far from the frame's, east and north
    map_appearance: float = 0.4  # strength of what differs within map imagery
    camera_appearance: float = 1.0  # strength of what differs between map and camera


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the ground comes from."""

    folders: dict[str, float]  # folder under the data root -> share of scenes
    licences: dict[str, str]  # the same folders -> licence, for the model card
    procedural: float = 0.0  # share of scenes drawn by runtime/sense/procedural.py
    procedural_maps: int = 12
    held_out: list[str] = []  # pictures of these subfolders validate and never train


class LossConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the losses; 0 leaves one out."""

    info_nce: float = 0.0
    triplet: float = 0.0
    counterfactual: float = 0.0
    label_smoothing: float = 0.1
    ignore_within_m: float = 30.0  # pairs of one scene this close are no negatives


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run."""

    name: str
    model: ModelConfig
    view: ViewConfig
    data: DataConfig
    loss: LossConfig
    licence: str  # of the weights
    batch: int = 64
    scenes: int = 4  # rasters in a batch: batch / scenes pairs compete within one map
    chsg: bool = False  # GeoDTR+: each pair twice, in two layouts, negatives of each other
    steps: int = 6000
    lr: float = 1e-3
    weight_decay: float = 0.03
    warmup: float = 0.05  # share of the steps
    clip: float = 1.0
    ema: float = 0.998  # decay of the averaged weights that are exported
    seed: int = 0
    workers: int = 1
    checkpoint_every: int = 200  # steps


def config_from_yaml(path: Path) -> TrainConfig:
    """Read a configuration; raises InputError with the key at fault."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=TrainConfig)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: {error}. train/config.py lists the keys.") from error
