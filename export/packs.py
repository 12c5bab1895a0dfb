"""Map raster -> tile pack.

    raster windows -> patches -> encoder (map branch) -> quantise -> shard -> manifest

One picture is read for each shard, by a thread that stays one shard ahead of the encoder; tiles
are slices of it. A build that was interrupted goes on with the first shard that is not finished.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice, product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.encoder import Model
from ..runtime.maps.manifest import (
    PACK_SCHEMA,
    Block,
    Imagery,
    PackManifest,
    ShardRecord,
    with_pack_id,
)
from ..runtime.maps.raster import Raster, RasterReader
from ..runtime.types import Patch
from .plan import MIN_VALID_FRACTION, BuildPlan, plan_from_raster
from .shards import disk_full_explained, finish, finished_shards, opened_partial, write_shard

BATCH = 32  # tiles a call of the encoder; larger ones are not faster on a CPU

Progress = Callable[[int, int], None]  # tiles done, tiles in all


def build_pack(
    reader: RasterReader,
    model: Model,
    folder: Path,
    *,
    imagery: Imagery,
    step_m: float | None = None,
    tile_m: float | None = None,
    progress: Progress = lambda _done, _total: None,
) -> PackManifest:
    """Build the tile pack of a map, or finish an interrupted build of it.

    Args:
        reader: the map.
        model: its map branch describes the tiles.
        folder: must not exist; until the pack is whole it grows in `folder`.partial.
        imagery: where the map comes from.
        step_m: between tile centres, rounded to whole pixels; default a tenth of a tile.
        tile_m: ground width of a tile, within 30 % of the model's own, which is the default.
        progress: called with the tiles done and the tiles in all after every batch.

    Raises:
        InputError: the folder exists, or step or tile do not suit the model.
        PackError: the disk is full.
    """
    plan = plan_from_raster(reader, model.card, model.choice.name, imagery, step_m, tile_m)
    with disk_full_explained(folder, plan):
        partial = opened_partial(folder, plan)
        records = finished_shards(partial, plan)
        todo = [tiles for tiles in plan.blocks if tiles not in records]
        done = sum(tiles.size for tiles in records)
        progress(done, plan.grid.size)
        for window in _windows(reader, plan, todo):
            descriptors = np.zeros((window.tiles.size, plan.dimension), np.float32)
            valid = np.zeros(window.tiles.size, bool)
            for index, patches in _batches(_patches(window, plan)):
                descriptors[index], valid[index] = model.map.describe(patches), True
                progress(done + index[-1] + 1, plan.grid.size)
            records[window.tiles] = window.written(partial, plan, descriptors, valid)
            done += window.tiles.size
            progress(done, plan.grid.size)
        manifest = _manifest(plan, [records[tiles] for tiles in plan.blocks])
        finish(partial, folder, manifest)
    return manifest


@dataclass(frozen=True)
class Window:
    """What one shard is made from; the overview is read while the tiles are encoded."""

    tiles: Block
    picture: Future[Raster]  # model's scale, reaching half a tile over the shard's tile centres
    sight: Future[Raster]  # the shard's part of the overview

    def written(
        self,
        partial: Path,
        plan: BuildPlan,
        descriptors: NDArray[np.float32],
        valid: NDArray[np.bool_],
    ) -> ShardRecord:
        """Write the shard."""
        sight = self.sight.result()
        grey = cv2.cvtColor(sight.image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
        grey[~sight.valid] = 0
        return write_shard(
            partial, self.tiles, plan.overview_block(self.tiles),
            descriptors, valid.reshape(self.tiles.rows, self.tiles.columns), grey, sight.valid,
        )  # fmt: skip


def _windows(reader: RasterReader, plan: BuildPlan, todo: Iterable[Block]) -> Iterator[Window]:
    """Windows of all shards in turn; one thread reads the next while the caller encodes this."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        ahead = None
        for tiles in todo:
            following = Window(
                tiles,
                picture=pool.submit(_picture, reader, plan, tiles),
                sight=pool.submit(_sight, reader, plan, tiles),
            )
            if ahead is not None:
                yield ahead
            ahead = following
        if ahead is not None:
            yield ahead
    finally:
        pool.shutdown(cancel_futures=True)


def _picture(reader: RasterReader, plan: BuildPlan, tiles: Block) -> Raster:
    """The picture that a shard's tiles are cut from, black where not valid."""
    grid, half_m = plan.grid, plan.input_px / 2 * plan.gsd_m
    picture = reader.read(
        grid.east_m + tiles.column0 * grid.step_m - half_m,
        grid.north_m - tiles.row0 * grid.step_m + half_m,
        (_reach_px(tiles.rows, plan), _reach_px(tiles.columns, plan)),
        plan.gsd_m,
    )
    picture.image[~picture.valid] = 0
    return picture


def _sight(reader: RasterReader, plan: BuildPlan, tiles: Block) -> Raster:
    """The shard's part of the overview, in colour."""
    view, block = plan.overview, plan.overview_block(tiles)
    return reader.read(
        view.west_m + block.column0 * view.gsd_m,
        view.north_m - block.row0 * view.gsd_m,
        (block.rows, block.columns),
        view.gsd_m,
    )


def _reach_px(count: int, plan: BuildPlan) -> int:
    """Pixels that so many tiles in a row cover."""
    return (count - 1) * plan.step_px + plan.input_px


def _patches(window: Window, plan: BuildPlan) -> Iterator[tuple[int, Patch]]:
    """The tiles that the map covers well enough, each with its flat index in the shard."""
    side, picture = plan.input_px, window.picture.result()
    for index, (row, column) in enumerate(
        product(range(window.tiles.rows), range(window.tiles.columns))
    ):
        top, left = row * plan.step_px, column * plan.step_px
        here = (slice(top, top + side), slice(left, left + side))
        if np.count_nonzero(picture.valid[here]) >= MIN_VALID_FRACTION * side * side:
            yield index, Patch(picture.image[here], picture.valid[here], plan.gsd_m, (0.0, 0.0))


def _batches(
    patches: Iterator[tuple[int, Patch]],
) -> Iterator[tuple[list[int], list[Patch]]]:
    """Patches in groups that the encoder takes at once."""
    while group := list(islice(patches, BATCH)):
        yield [index for index, _ in group], [patch for _, patch in group]


def _manifest(plan: BuildPlan, records: list[ShardRecord]) -> PackManifest:
    """The manifest of a pack whose shards are all written."""
    return with_pack_id(
        PackManifest(
            schema=PACK_SCHEMA,
            pack_id="",
            model_id=plan.model_id,
            model_name=plan.model_name,
            dimension=plan.dimension,
            input_px=plan.input_px,
            gsd_m=plan.gsd_m,
            origin_lat_deg=plan.origin_lat_deg,
            origin_lon_deg=plan.origin_lon_deg,
            grid=plan.grid,
            overview=plan.overview,
            imagery=plan.imagery,
            created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            shards=tuple(records),
        )
    )
