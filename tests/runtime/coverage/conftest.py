"""A land with ground that stands twice and ground that shows nothing, and its pack."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfix.export.packs import build_pack
from skyfix.runtime.coverage import mission
from skyfix.runtime.encoder import Model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.raster import Raster

SIDE_M, GSD_M, BLOCK_M = 480.0, 0.5, 140.0
STEP_M = 5.0


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of a coarser map, in a quarter of the time."""
    monkeypatch.setattr(mission, "SWEEP_PLACES", 150)


@pytest.fixture(scope="session")
def planted_land() -> Raster:
    """Blobs; the north-west stands again in the south-east, the north-east is bare."""
    count, side = round(SIDE_M / GSD_M), round(BLOCK_M / GSD_M)
    noise = np.random.default_rng(8).normal(size=(count, count, 3)).astype(np.float32)
    blobs = [cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (2.0, 6.0, 18.0)]
    field = np.sum(blobs, axis=0)
    image = np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)
    image[-side:, -side:] = image[:side, :side]
    grain = np.random.default_rng(9).normal(0, 1.0, (side, side, 3))
    image[:side, -side:] = np.clip(90 + grain, 0, 255).astype(np.uint8)
    valid = np.ones((count, count), bool)
    return Raster(image, valid, LocalFrame(47.0, 8.0), -SIDE_M / 2, SIDE_M / 2, GSD_M)


@pytest.fixture(scope="session")
def planted_pack(
    planted_land: Raster, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its pack."""
    folder = tmp_path_factory.mktemp("packs") / "planted"
    build_pack(
        planted_land, tiny_model, folder, imagery=Imagery(fingerprint="planted"), step_m=STEP_M
    )
    return folder


@pytest.fixture(scope="session")
def holed_pack(town: Raster, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards, and a hole in the map."""
    valid = town.valid.copy()
    valid[200:330, 180:320] = False
    folder = tmp_path_factory.mktemp("packs") / "holed"
    build_pack(
        replace(town, valid=valid), tiny_model, folder, imagery=Imagery(fingerprint="holed"),
        step_m=3.0,
    )  # fmt: skip
    return folder
