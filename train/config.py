"""One YAML per training run: what is trained, on what, how, for how long. Unknown keys fail.

Two kinds of run share the loop: `kind: imagery` draws pairs from any map, self-supervised;
`kind: dataset` learns a published data set's pairs or classes.
"""

from pathlib import Path
from typing import Literal

import msgspec

from skyfix.runtime.errors import InputError

from .models.config import InputSizes, NetworkConfig


class ViewConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a patch is, and how far the camera's view may differ from the map's."""

    input_px: int = 128
    gsd_m: float = 1.25
    heading_deg: float = 10.0  # the descriptor tolerates this error; uniform on both sides
    scale: float = 0.12  # the same for height, as a fraction
    tilt_deg: float = 4.0  # std of the unknown tilt, ahead and aside each
    offset_m: float = 8.0  # a tile's centre may lie this far from the frame's, east and north
    map_appearance: float = 0.4  # strength of what differs within map imagery
    camera_appearance: float = 1.0  # strength of what differs between map and camera


class ImageryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the ground comes from."""

    folders: dict[str, float]  # folder under the data root -> share of scenes
    licences: dict[str, str]  # the same folders -> licence, for the model card
    procedural: float = 0.0  # share of scenes drawn by runtime/sense/procedural.py
    procedural_maps: int = 12
    held_out: list[str] = []  # pictures of these subfolders validate and never train


class NeighbourConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Batches of look-alikes (Sample4Geo)."""

    range: int = 128  # nearest references kept for each
    select: int = 64  # of these that join a seed's batch: half the nearest, half at random
    by_position: bool = True  # near on the map until descriptors are there; else shuffled


class DatasetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published data set, and how its images become batches."""

    name: Literal["cvusa", "cvact", "vigor", "university1652", "sues200", "denseuav"]
    input_px: InputSizes  # view -> (H, W)
    options: dict[str, str | bool] = {}  # of the loader: train/data/<name>.py
    resize: Literal["area", "bilinear", "bicubic"] = "bilinear"
    augment: str = "none"  # train/data/augment.py
    chsg: bool = False  # GeoDTR+: each pair twice, in two layouts, negatives of each other
    # shuffled: every pair once an epoch; unique: besides, no place twice in a batch;
    # views: each view drawn on its own, an epoch as long as the shortest (University-1652)
    # references: each covered reference twice, with any of its queries (GeoDTR+ on VIGOR)
    sampling: Literal["shuffled", "unique", "references", "views"] = "shuffled"
    neighbours: NeighbourConfig | None = None
    test: str | None = None  # the test that scores epochs; None: the data set's first one
    flip_test: bool = False  # sum each test feature with its mirror image's


class LossConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the losses; 0 leaves one out."""

    info_nce: float = 0.0
    triplet: float = 0.0
    counterfactual: float = 0.0
    instance: float = 0.0  # cross-entropy of the place's number, each view
    class_triplet: float = 0.0
    circle: float = 0.0
    contrastive: float = 0.0
    merge_views: bool = False  # the three above compare all views at once, not each alone
    label_smoothing: float = 0.1
    hard_ratio: float | None = None  # triplet: this share of the hardest negatives; None = all
    ignore_within_m: float = 30.0  # imagery: pairs of one scene this close are no negatives


class OptimiserConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What turns gradients into steps."""

    name: Literal["adamw", "sgd"] = "adamw"  # sgd: Nesterov momentum 0.9
    lr: float = 1e-3  # at the configuration's batch
    trunk_lr: float = 1.0  # of pretrained trunks, as a factor (University-1652: 0.1)
    weight_decay: float = 0.03
    decay_vectors: bool = False  # norms, biases and temperatures too, as published code has it
    eps: float = 1e-8
    clip_norm: float | None = None
    clip_value: float | None = None


class ScheduleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Learning rate over the run; shares are of all steps."""

    name: Literal["cosine", "drop"] = "cosine"
    warmup: float = 0.05
    drop_at: float = 1.0  # drop: to a tenth from here on
    per_epoch: bool = False  # GeoDTR+'s code: one value an epoch, the first one 0


class _Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What both kinds of run have."""

    name: str
    model: NetworkConfig
    loss: LossConfig
    licence: str  # of the weights
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    batch: int = 64  # places; CHSG shows each in two layouts
    ema: float = 0.0  # decay of the averaged weights that are exported; 0 = the last weights
    seed: int = 0
    workers: int = 1


class ImageryRun(_Run, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="imagery"):
    """Pairs drawn from maps for ever: two views of one ground area."""

    view: ViewConfig
    data: ImageryConfig
    scenes: int = 4  # rasters in a batch: batch / scenes pairs compete within one map
    chsg: bool = False
    steps: int = 6000
    checkpoint_every: int = 200  # steps

    @property
    def input_px(self) -> InputSizes:
        """Both views are patches."""
        side = self.view.input_px
        return {"camera": (side, side), "map": (side, side)}


class DatasetRun(_Run, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="dataset"):
    """Epochs over a published data set."""

    data: DatasetConfig
    epochs: int
    evaluate_every: int = 1  # epochs

    @property
    def input_px(self) -> InputSizes:
        """The sizes of the data set's views."""
        return self.data.input_px


RunConfig = ImageryRun | DatasetRun


def config_from_yaml(path: Path) -> RunConfig:
    """Read a configuration; raises InputError with the key at fault."""
    try:
        config: RunConfig = msgspec.yaml.decode(path.read_bytes(), type=RunConfig)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: {error}. train/config.py lists the keys.") from error
    return config
