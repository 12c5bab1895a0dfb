"""From a training configuration to the rasters that pairs are drawn from."""

import math
from pathlib import Path

import numpy as np

from skyfix.runtime.errors import InputError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country

from ..config import ImageryConfig, ViewConfig
from .imagery import rasters_from_folder
from .raster import PairSampler

PROCEDURAL_SIDE_M = 1400.0
PROCEDURAL_GSD_M = 0.7
PROCEDURAL_SEED = 1000  # demo and tests draw maps with small seeds; training never sees those


def sampler_from_config(data: ImageryConfig, view: ViewConfig, root: Path | None) -> PairSampler:
    """Read every folder, draw the procedural maps, weigh them; raises InputError."""
    if not data.folders and not data.procedural:
        raise InputError("the configuration names neither folders nor procedural maps to train on")
    rasters: list[Raster] = []
    weights: list[float] = []
    for name, share in data.folders.items():
        if root is None:
            raise InputError(f"the configuration names folder {name}; set --data to where it lies")
        if not (root / name).is_dir():
            raise InputError(f"{root / name} is no folder; set --data to the root of the imagery")
        found = rasters_from_folder(root / name, exclude=data.held_out)
        areas = [math.sqrt(float(raster.valid.sum())) for raster in found]
        rasters += found
        weights += [share * area / sum(areas) for area in areas]
    if data.procedural:
        rasters += [
            town_and_country(
                PROCEDURAL_SEED + seed, PROCEDURAL_SIDE_M, PROCEDURAL_SIDE_M, PROCEDURAL_GSD_M,
                LocalFrame(0.0, 0.0),
            )
            for seed in range(data.procedural_maps)
        ]  # fmt: skip
        weights += [data.procedural / data.procedural_maps] * data.procedural_maps
    share_of = np.array(weights)
    return PairSampler(rasters, share_of / share_of.sum(), view)
