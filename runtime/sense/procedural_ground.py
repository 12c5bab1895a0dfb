"""Ground cover of a procedural landscape: noise, field rows, soil patches, water, tree crowns.

Noise is a sum of octaves, each a small random grid enlarged smoothly; nothing ever repeats. Rows
of a field take their brightness from a long random table, so neither do they.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .procedural_land import Parcel, Use
from .procedural_style import Style
from .procedural_town import Sun

CROWN_SPACING_M = 5.2  # one seed a cell of this size: a closed canopy of middle-aged trees
CROWN_RADIUS_M = (1.5, 3.9)
COARSE_CELL_PX = 4  # linear enlargement of smooth noise
TREE_HEIGHT_M = 6.5  # mean, for the shadows

Field = NDArray[np.float32]  # (H, W)
Picture = NDArray[np.float32]  # (H, W, 3) RGB 0..255


@dataclass(frozen=True)
class Cover:
    """What each parcel's ground looks like; row 0 is the ground between parcels."""

    color: NDArray[np.float32]  # (n, 3)
    row_angle: NDArray[np.float32]  # (n,) radians
    row_width_m: NDArray[np.float32]  # (n,)
    row_depth: NDArray[np.float32]  # (n,) relative brightness
    patchiness: NDArray[np.float32]  # (n,) how much bare soil shows
    tree_share: NDArray[np.float32]  # (n,) of the crowns' seeds
    urban: NDArray[np.float32]  # (n,) 1 in towns


def noise(
    rng: np.random.Generator, shape: tuple[int, int], cell_px: float, octaves: int = 3
) -> Field:
    """Smooth noise of about unit deviation whose largest features measure `cell_px`."""
    total = np.zeros(shape, np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        total += np.float32(weight) * _octave(rng, shape, cell_px)
        power += weight * weight
        weight, cell_px = weight * 0.6, max(cell_px / 2.13, 1.0)
    total /= np.float32(0.75 * power**0.5)
    return total


def _octave(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    """Random grid values enlarged smoothly so that a cell measures `cell_px`, (H, W)."""
    if cell_px > 4 * COARSE_CELL_PX:  # a smooth layer is made small and enlarged: five times faster
        size = (shape[0] // COARSE_CELL_PX + 2, shape[1] // COARSE_CELL_PX + 2)
        small = _octave(rng, size, cell_px / COARSE_CELL_PX)
        large = cv2.resize(small, (size[1] * COARSE_CELL_PX, size[0] * COARSE_CELL_PX))
        return large[: shape[0], : shape[1]].astype(np.float32, copy=False)
    rows, columns = (int(length / cell_px) + 4 for length in shape)
    grid = rng.standard_normal((rows, columns), np.float32)
    zoom = np.array([[1 / cell_px, 0, 1 + rng.random()], [0, 1 / cell_px, 1 + rng.random()]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    layer: Field = cv2.warpAffine(grid, zoom, shape[::-1], flags=flags).astype(np.float32)
    return layer


def ramp(value: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, linear between."""
    ramped: Field = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return ramped


def blend(
    picture: Picture, color: NDArray[np.floating], alpha: Field, tone: Field | None = None
) -> None:
    """Lay a colour (3,) or a picture (H, W, 3), made brighter by `tone`, over `picture`."""
    flat, where = picture.reshape(-1, 3), np.flatnonzero(alpha)
    paint = np.asarray(color, np.float32)
    paint = paint[None] if paint.ndim == 1 else paint.reshape(-1, 3)[where]
    if tone is not None:
        paint = paint * tone.reshape(-1, 1)[where]
    ground = flat[where]
    flat[where] = ground + (paint - ground) * alpha.reshape(-1, 1)[where]


def cover_from_parcels(
    rng: np.random.Generator, style: Style, parcels: tuple[Parcel, ...]
) -> Cover:
    """Draw colours, rows and trees of every parcel from the style."""
    use = np.array([Use.VERGE, *(parcel.use for parcel in parcels)])
    count = len(use)
    grass, soil = np.array(style.grass, np.float32), np.array(style.soil, np.float32)
    pale = np.array(style.asphalt, np.float32) * 1.15
    crops = np.array(style.crops, np.float32)[rng.integers(0, len(style.crops), count)]
    mix = rng.random((count, 1)) ** 1.5
    garden = np.where(rng.random((count, 1)) < style.built_share, pale * mix + soil * (1 - mix),
                      grass * mix + soil * (1 - mix))  # fmt: skip
    options = np.stack([crops, grass * (1 - 0.3 * mix) + soil * 0.3 * mix, soil + 20 * mix,
                        np.tile(np.array(style.forest) * 0.8, (count, 1)),
                        soil * 0.6 + grass * 0.4 + 0 * mix, grass * 0.97 + 0 * mix,
                        garden, pale * (0.8 + 0.35 * mix),
                        (garden + grass) / 2])  # fmt: skip
    color = options[use, np.arange(count)] * rng.normal(1, 0.06, (count, 1))
    color += rng.normal(0, 3, (count, 3))
    rows = {Use.CROP: 0.09, Use.ORCHARD: 0.05, Use.MEADOW: 0.025, Use.BARE: 0.05}
    patches = np.array([0.5, 0.8, 0.6, 0.2, 0.7, 0.6, 0.7, 0.35, 0.8], np.float32)
    trees = np.array(
        [0.004, 0.02, 0.008, 0.97, 0.5, 0.3, style.tree_share, 0.015, 0.06], np.float32
    )
    return Cover(
        color=color.astype(np.float32),
        row_angle=rng.uniform(0, np.pi, count).astype(np.float32),
        row_width_m=rng.choice([1.6, 3.0, 6.0, 12.0], count).astype(np.float32),
        row_depth=(np.array([rows.get(Use(kind), 0.0) for kind in use])
                   * rng.uniform(0.3, 1.6, count)).astype(np.float32),
        patchiness=patches[use] * rng.uniform(0.2, 1.2, count).astype(np.float32),
        tree_share=trees[use] * np.where(use == Use.FOREST, 1, rng.uniform(0.3, 2, count)
                                         ).astype(np.float32),
        urban=np.isin(use, (Use.LOT, Use.YARD, Use.VERGE)).astype(np.float32),
    )  # fmt: skip


def paint_ground(
    rng: np.random.Generator, style: Style, cover: Cover, label: NDArray[np.int32], gsd_m: float
) -> Picture:
    """Colours, rows and soil patches of all parcels; `label` (H, W) is the parcel's row."""
    shape = (label.shape[0], label.shape[1])
    picture = cover.color[label]
    bare = 0.7 * noise(rng, shape, 55 / gsd_m, 5) + 0.6 * noise(rng, shape, 8 / gsd_m, 3)
    amount = ramp(bare, 1.3 - 1.6 * style.dryness, 3.0 - 1.2 * style.dryness)
    soil = np.array(style.soil, np.float32) * 1.04
    blend(picture, soil, amount * cover.patchiness[label])
    light = 1 + np.float32(0.05) * bare + np.float32(0.035) * noise(rng, shape, 2.2 / gsd_m, 2)
    light += cover.row_depth[label] * _rows(rng, cover, label, gsd_m)
    picture *= light[..., None]
    hue = noise(rng, shape, 90 / gsd_m, 4)
    picture[..., 0] *= 1 + np.float32(0.03) * hue
    picture[..., 2] *= 1 - np.float32(0.03) * hue
    return picture


def _rows(rng: np.random.Generator, cover: Cover, label: NDArray[np.int32], gsd_m: float) -> Field:
    """Brightness of tractor rows across each parcel, (H, W), about unit deviation."""
    height, width = label.shape
    x = np.arange(width, dtype=np.float32)[None] * np.float32(gsd_m)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(gsd_m)
    width_m = np.maximum(cover.row_width_m, np.float32(2.5 * gsd_m))
    cos, sin = np.cos(cover.row_angle) / width_m, np.sin(cover.row_angle) / width_m
    across = cos[label] * x + sin[label] * y
    across += np.float32(0.35) * noise(rng, (height, width), 40 / gsd_m, 2)
    table = rng.standard_normal(65_536).astype(np.float32)
    index = np.floor(across).astype(np.int32)
    within = across - index
    first = table[(index + label * 577) & 65_535]
    rows: Field = first * (1 - within * within) + np.float32(0.6) * (within > 0.8)
    return rows


@dataclass(frozen=True)
class Crowns:
    """Tree crowns as fields over the picture."""

    alpha: Field  # coverage 0..1
    color: Picture

    def shadow(self, sun: Sun, gsd_m: float) -> Field:
        """Where the crowns' shadows fall, 0..1."""
        offset = sun.shadow_per_height * TREE_HEIGHT_M * 0.75 / gsd_m
        move = np.array([[1, 0, offset[0]], [0, 1, offset[1]]])
        height, width = self.alpha.shape
        return cv2.warpAffine(self.alpha, move, (width, height)).astype(np.float32)


def grow_crowns(
    rng: np.random.Generator, style: Style, density: Field, sun: Sun, gsd_m: float
) -> Crowns:
    """Tree crowns lit by the sun, one a seed where `density` (H, W) lets it live."""
    row, column = _seeds(rng, density.shape, gsd_m)
    alive = rng.random(len(row)) < density[row, column]
    row, column = row[alive], column[alive]
    if not len(row):
        return Crowns(np.zeros_like(density), np.zeros((*density.shape, 3), np.float32))
    label = _nearest_seed(row, column, density.shape)
    radius = (rng.uniform(*CROWN_RADIUS_M, len(row)) / gsd_m).astype(np.float32)
    height, width = density.shape
    dx = np.arange(width, dtype=np.float32)[None] - column.astype(np.float32)[label]
    dy = np.arange(height, dtype=np.float32)[:, None] - row.astype(np.float32)[label]
    ragged = 1 + np.float32(0.15) * noise(rng, (height, width), 1.6 / gsd_m, 2).clip(-1.5, 2)
    inverse = (1 / radius)[label] * ragged
    dx, dy = dx * inverse, dy * inverse
    reach = dx * dx + dy * dy
    alpha = np.clip((1 - np.sqrt(reach)) / inverse + 0.5, 0, 1)
    facing = dx * np.float32(sun.toward_xy[0]) + dy * np.float32(sun.toward_xy[1])
    light: Field = np.float32(0.78) + np.float32(0.34) * np.clip(facing, -1.2, 1.2)
    light += np.float32(0.3) * np.sqrt(np.clip(1 - reach, 0, 1))
    species = rng.normal(1, 0.13, (len(row), 1)) + rng.normal(0, 0.05, (len(row), 3))
    tone = (np.array(style.forest) * species).astype(np.float32)
    stand = 1 + np.float32(0.09) * noise(rng, (height, width), 60 / gsd_m, 3)
    return Crowns(alpha.astype(np.float32), tone[label] * (light * stand)[..., None])


def _seeds(
    rng: np.random.Generator, shape: tuple[int, ...], gsd_m: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of one random point in each cell of a grid."""
    cell = max(CROWN_SPACING_M / gsd_m, 2.0)
    rows, columns = (int(np.ceil(length / cell)) for length in shape)
    spot = rng.random((2, rows, columns)) + np.mgrid[:rows, :columns]
    row, column = (spot * cell).astype(np.int64).reshape(2, -1)
    inside = (row < shape[0]) & (column < shape[1])
    return row[inside], column[inside]


def _nearest_seed(
    row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, ...]
) -> NDArray[np.int32]:
    """Index of the seed nearest to each pixel, (H, W)."""
    free = np.full(shape, 255, np.uint8)
    free[row, column] = 0
    _, region = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    seed_of_region = np.zeros(int(region.max()) + 1, np.int32)
    seed_of_region[region[row, column]] = np.arange(len(row))
    nearest: NDArray[np.int32] = seed_of_region[region]
    return nearest
