"""A pack written from arrays that the test knows."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.export.plan import BuildPlan
from skyfix.export.shards import finish, opened_partial, write_shard
from skyfix.runtime.geo import Grid
from skyfix.runtime.maps.manifest import (
    PACK_SCHEMA,
    Block,
    Imagery,
    Overview,
    PackManifest,
    with_pack_id,
)

SIDE = 5  # tiles of a shard; small, so that few tiles make several shards


@dataclass(frozen=True)
class WrittenPack:
    """A pack on disk and what went into it."""

    folder: Path
    manifest: PackManifest
    descriptors: NDArray[np.float32]  # (rows, columns, D) unit
    valid: NDArray[np.bool_]  # (rows, columns)
    grey: NDArray[np.uint8]  # (4 * rows, 4 * columns)
    grey_valid: NDArray[np.bool_]


def write_pack(folder: Path, rows: int = 13, columns: int = 11, dimension: int = 32) -> WrittenPack:
    rng = np.random.default_rng(rows * 100 + columns)
    descriptors = rng.normal(size=(rows, columns, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=-1, keepdims=True)
    valid = rng.random((rows, columns)) > 0.1
    descriptors[~valid] = 0
    grey = rng.integers(0, 256, (4 * rows, 4 * columns)).astype(np.uint8)
    grey_valid = rng.random(grey.shape) > 0.05
    plan = BuildPlan(
        model_id="0123456789abcdef", model_name="test", engine="onnx",
        dimension=dimension, input_px=20,
        gsd_m=1.0, step_px=8, origin_lat_deg=47.0, origin_lon_deg=8.0,
        grid=Grid(-40.0, 50.0, 8.0, rows, columns),
        overview=Overview(-44.0, 54.0, 2.0, 4 * rows, 4 * columns), imagery=Imagery(),
    )  # fmt: skip
    partial = opened_partial(folder, plan)
    records = []
    for row, column in product(range(0, rows, SIDE), range(0, columns, SIDE)):
        tiles = Block(row, column, min(SIDE, rows - row), min(SIDE, columns - column))
        view = Block(*(4 * side for side in (row, column, tiles.rows, tiles.columns)))
        here = (tiles.row_slice, tiles.column_slice)
        there = (view.row_slice, view.column_slice)
        flat = descriptors[here].reshape(-1, dimension)
        records.append(
            write_shard(partial, tiles, view, flat, valid[here], grey[there], grey_valid[there])
        )
    manifest = with_pack_id(
        PackManifest(
            schema=PACK_SCHEMA, pack_id="", model_id=plan.model_id, model_name=plan.model_name,
            dimension=dimension, input_px=20, gsd_m=1.0, origin_lat_deg=47.0, origin_lon_deg=8.0,
            grid=plan.grid, overview=plan.overview, imagery=plan.imagery,
            created_utc="2025-01-01T00:00:00+00:00", shards=tuple(records),
        )
    )  # fmt: skip
    finish(partial, folder, manifest)
    return WrittenPack(folder, manifest, descriptors, valid, grey, grey_valid)


@pytest.fixture
def written(tmp_path: Path) -> WrittenPack:
    return write_pack(tmp_path / "map.pack")


@pytest.fixture(scope="session")
def shared_pack(tmp_path_factory: pytest.TempPathFactory) -> WrittenPack:
    """For tests that only read."""
    return write_pack(tmp_path_factory.mktemp("packs") / "map.pack")
