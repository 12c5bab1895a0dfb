from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.calibration.frames import Candidate
from skyfix.calibration.pack import PackQueries, pack_cost, true_positions
from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import Model, load_model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.truth import Truth
from skyfix.runtime.types import Patch

TILE_M = 32.0  # of the small network: 32 px at 1 m


@pytest.fixture
def model(folder: Path) -> Model:
    return load_model(folder, threads=1)


@pytest.fixture
def pack(tmp_path: Path, model: Model, town: Raster) -> TilePack:
    build_pack(town, model, tmp_path / "town.pack", imagery=Imagery(), step_m=16.0)
    return TilePack.open(tmp_path / "town.pack", model_id=model.card.model_id)


def tile_descriptors(pack: TilePack) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the pack has tiles, in the grid's order, and what it holds there as unit vectors."""
    (shard,) = pack.shards
    index = np.flatnonzero(pack.valid)
    rows = shard.descriptors[index].astype(np.float32)
    return index, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def queries(pack: TilePack, true_en_m: NDArray[np.float64]) -> PackQueries:
    return PackQueries(pack, np.zeros((len(true_en_m), 3, 32, 32), np.float32), true_en_m)


def test_recall_counts_best_tiles_within_ten_metres_of_a_tile_of_thirty_two(
    pack: TilePack,
) -> None:
    tiles = np.array([0, 7, 20, 33], np.int64)
    places = np.stack(pack.grid.en_from_index(tiles), axis=1)
    places += np.array(
        [[9.9, 0], [0, -10.1], [0, 0], [np.nan, np.nan]]
    )  # 50 / 160 of 32 m are 10 m
    assert queries(pack, places).recall(tiles) == pytest.approx(2 / 3)


def test_without_a_true_place_there_is_no_recall(pack: TilePack) -> None:
    unknown = queries(pack, np.full((3, 2), np.nan))
    assert unknown.recall(np.zeros(3, np.int64)) is None


def test_the_best_tile_of_a_tiles_own_descriptor_is_that_tile(pack: TilePack) -> None:
    index, found = tile_descriptors(pack)
    places = queries(pack, np.full((len(found), 2), np.nan))
    assert np.mean(places.best_tiles(found) == index) > 0.95


def test_the_cost_of_a_packs_int8_is_small_on_its_own_tiles_and_large_on_clipped_numbers(
    pack: TilePack,
) -> None:
    _, found = tile_descriptors(pack)
    cost = pack_cost(pack, found)
    assert (cost.frames, cost.clipped) == (len(found), 0.0)
    assert 0.999 < cost.min_cosine <= cost.mean_cosine <= 1 + 1e-6
    assert cost.same_best_tile > 0.95
    spike = np.zeros((1, pack.dimension), np.float32)
    spike[0, :2] = 8.0, 0.01
    assert pack_cost(pack, spike).clipped == pytest.approx(1 / pack.dimension)


def test_a_truth_of_the_drone_is_moved_to_the_patchs_centre(pack: TilePack) -> None:
    frame: LocalFrame = pack.frame
    lat, lon = frame.wgs84_from_en(np.array([30.0, 40.0]), np.array([10.0, 20.0]))
    blank = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), bool), 1.0
    candidates = [Candidate(name, Patch(*blank, (-3.0, 4.0))) for name in ("a", "b", "c")]
    nothing = np.full(2, np.nan)
    drone = Truth(("a", "b"), lat, lon, np.zeros(2))
    center = Truth(("a", "b"), np.append(lat[:1], nan := nothing[:1]), np.append(lon[:1], nan),
                   np.zeros(2))  # fmt: skip
    found = true_positions(pack, candidates, drone, center)
    np.testing.assert_allclose(found[:2], [[30, 10], [43, 16]], atol=1e-3)
    assert np.isnan(found[2]).all()
