"""Which tiles a pack will have, and which shard holds what: arithmetic before any pixel is read.

All distances are whole pixels at the model's ground sampling distance, counted from the map's
north-west corner, so that every tile is a plain slice of its shard's picture:

    |<- margin ->|<- step ->|          tile centres of column 0, 1, ...
    |<------- input_px ------->|       a tile reaches over the map's edge by at most 40 %
"""

import math
from itertools import product

import msgspec

from ..runtime.engines.base import ModelCard
from ..runtime.errors import InputError, RasterError
from ..runtime.geo import Grid, LocalFrame
from ..runtime.maps.manifest import MAX_ACCURACY_M, Block, Imagery, Overview
from ..runtime.maps.raster import RasterReader

SHARD_TILES = 64  # on a side at most
SHARD_PX = 4096  # on a side at most of the picture that one shard is read from: 50 MB
STEPS_A_TILE = 10  # default tile step: 90 % overlap, 16.25 m for nano (13 px of 1.25 m)
MIN_VALID_FRACTION = 0.6  # of a tile's pixels
MAX_TILE_CHANGE = 0.3  # of the ground width that the model was trained for
FINEST_OVERVIEW_M = 1.0  # refinement needs no finer picture than this
MAX_COARSER = 8  # than the model; an upsampled map has nothing to tell tiles apart by


class BuildPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides the bytes of a pack; two equal plans make equal shards."""

    model_id: str
    model_name: str
    engine: str  # what runs the model: engines round differently
    dimension: int
    input_px: int
    gsd_m: float
    step_px: int
    origin_lat_deg: float
    origin_lon_deg: float
    grid: Grid
    overview: Overview
    imagery: Imagery

    @property
    def frame(self) -> LocalFrame:
        """Local frame of the map."""
        return LocalFrame(self.origin_lat_deg, self.origin_lon_deg)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Tiles of every shard, from the north-west, row by row."""
        side = max(1, min(SHARD_TILES, (SHARD_PX - self.input_px) // self.step_px + 1))
        rows, columns = range(0, self.grid.rows, side), range(0, self.grid.columns, side)
        return tuple(
            Block(
                row0=row, column0=column,
                rows=min(side, self.grid.rows - row),
                columns=min(side, self.grid.columns - column),
            )
            for row, column in product(rows, columns)
        )  # fmt: skip

    @property
    def total_bytes(self) -> int:
        """Size of the finished pack, manifest apart."""
        pixels = self.overview.rows * self.overview.columns
        return self.grid.size * (self.dimension + 1) + 2 * pixels

    def overview_block(self, tiles: Block) -> Block:
        """Pixels of the overview that go with a shard: to half-way to the next, or to the edge."""
        view, grid = self.overview, self.grid
        first_row_m, first_column_m = view.north_m - grid.north_m, grid.east_m - view.west_m
        top, bottom = _share(
            tiles.row0, tiles.rows, grid.rows, first_row_m, grid.step_m, view.gsd_m, view.rows
        )
        left, right = _share(
            tiles.column0, tiles.columns, grid.columns,
            first_column_m, grid.step_m, view.gsd_m, view.columns,
        )  # fmt: skip
        return Block(row0=top, column0=left, rows=bottom - top, columns=right - left)


def plan_from_raster(
    reader: RasterReader,
    card: ModelCard,
    engine: str,
    imagery: Imagery,
    step_m: float | None,
    tile_m: float | None,
) -> BuildPlan:
    """The plan of a pack; raises InputError for a step, tile or accuracy that cannot be."""
    check_accuracy(imagery.accuracy_m)
    gsd_m = _gsd_from_tile(card, tile_m)
    step_px = _whole_step(card.input_px, gsd_m, step_m)
    if reader.gsd_m > MAX_COARSER * gsd_m:
        raise RasterError(
            f"the map has {reader.gsd_m:.3g} m a pixel and model {card.name} needs about "
            f"{gsd_m:.3g} m. Use imagery of at most {MAX_COARSER * gsd_m:.3g} m a pixel."
        )
    west, south, east, north = reader.bounds_m
    grid = _grid_in(west, north, (north - south) / gsd_m, (east - west) / gsd_m,
                    card.input_px, step_px, gsd_m)  # fmt: skip
    overview_gsd_m = max(min(gsd_m, FINEST_OVERVIEW_M), reader.gsd_m)
    return BuildPlan(
        model_id=card.model_id,
        model_name=card.name,
        engine=engine,
        dimension=card.dimension,
        input_px=card.input_px,
        gsd_m=gsd_m,
        step_px=step_px,
        origin_lat_deg=reader.frame.lat_deg,
        origin_lon_deg=reader.frame.lon_deg,
        grid=grid,
        overview=Overview(
            west_m=west, north_m=north, gsd_m=overview_gsd_m,
            rows=math.ceil((north - south) / overview_gsd_m),
            columns=math.ceil((east - west) / overview_gsd_m),
        ),
        imagery=imagery,
    )  # fmt: skip


def check_accuracy(accuracy_m: float) -> None:
    """Refuse what is no standard deviation of a map's place; 0 is a map that is exact."""
    if not 0 <= accuracy_m <= MAX_ACCURACY_M:  # NaN is neither
        raise InputError(
            f"an accuracy of {accuracy_m:g} m is none. Give the standard deviation per axis of the "
            f"image's place on the ground, 0 to {MAX_ACCURACY_M:g} m (CE90 / 2.15 of its data "
            "sheet), or leave --accuracy out."
        )


def _gsd_from_tile(card: ModelCard, tile_m: float | None) -> float:
    """Scale at which tiles are read: the model's, unless another tile width is asked for."""
    if tile_m is None:
        return card.gsd_m
    if not abs(tile_m / card.tile_m - 1) <= MAX_TILE_CHANGE:
        raise InputError(
            f"a tile of {tile_m:g} m is too far from the {card.tile_m:g} m that model {card.name} "
            f"was trained for. Choose {card.tile_m * (1 - MAX_TILE_CHANGE):.0f} to "
            f"{card.tile_m * (1 + MAX_TILE_CHANGE):.0f} m, or leave --tile out."
        )
    return tile_m / card.input_px


def _whole_step(input_px: int, gsd_m: float, step_m: float | None) -> int:
    """Tile step in whole pixels."""
    wanted = input_px / STEPS_A_TILE if step_m is None else step_m / gsd_m
    if not 0.5 <= wanted <= input_px:
        raise InputError(
            f"a step of {step_m} m is no tile step: it must lie between half a pixel "
            f"({gsd_m / 2:.2g} m) and a tile ({input_px * gsd_m:.4g} m)."
        )
    return max(1, round(wanted))


def _grid_in(
    west_m: float, north_m: float, height_px: float, width_px: float,
    input_px: int, step_px: int, gsd_m: float,
) -> Grid:  # fmt: skip
    """Tile centres whose tile can still be valid enough, the first half a tile less 40 % inside."""
    margin_px = math.ceil((MIN_VALID_FRACTION - 0.5) * input_px)
    rows, columns = (
        math.floor((side - 2 * margin_px) / step_px) + 1 for side in (height_px, width_px)
    )
    if min(height_px, width_px) < input_px:
        raise RasterError(
            f"the map of {width_px * gsd_m:.0f} x {height_px * gsd_m:.0f} m is smaller than one "
            f"tile of {input_px * gsd_m:.0f} m. Use a larger map."
        )
    centre_m = (margin_px + (input_px % 2) / 2) * gsd_m  # an odd tile is centred in a pixel
    return Grid(west_m + centre_m, north_m - centre_m, step_px * gsd_m, rows, columns)


def _share(
    first: int, count: int, total: int, offset_m: float, step_m: float, gsd_m: float, pixels: int
) -> tuple[int, int]:
    """Begin and end of the pixels that belong to cells first .. first + count of a grid's side."""

    def edge(cell: int) -> int:
        return round((offset_m + (cell - 0.5) * step_m) / gsd_m)

    begin = 0 if first == 0 else min(pixels, edge(first))
    end = pixels if first + count == total else min(pixels, edge(first + count))
    return begin, end
