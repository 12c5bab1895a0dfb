"""Where else in a pack imagined frames would look like: a scan in blocks of bounded memory.

The filter's likelihood of a tile is softmax(s / T) with a share epsilon that says nothing
(fuse/likelihood.py). Tiles are gathered in cells of three by three, which is what the filter takes
for one place, and the strongest cells away from the true place are kept as its rivals.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numkong
import numpy as np
from numpy.typing import NDArray

from ..fuse.belief import LEAST_LEADERS
from ..fuse.hypotheses import SEPARATION_STEPS
from ..fuse.likelihood import Likelihood
from ..maps.pack import Shard, TilePack
from ..maps.quantise import quantised
from .sight import OFFSET, Sights

RIVALS = LEAST_LEADERS - 1  # the filter looks at so many places or more; one is the true one
CELL = 3  # tiles across a cell
BLOCK_BYTES = 8 << 20  # of likelihoods at a time
MAX_LOG = 80.0  # exp stays within float32

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """What imagined frames say of a uniform belief: P places, F frames, K rivals."""

    own: Float  # (P, F) share of the mass at the true place
    mass: Float  # (P, F, K) share at each rival
    cell: Int  # (P, F, K, 2) row and column of the rival's middle tile

    @property
    def rest(self) -> Float:
        """Share (P, F) that is spread over all other tiles."""
        rest: Float = np.maximum(1 - self.own - self.mass.sum(axis=2), 0)
        return rest


def scan(
    pack: TilePack, tiles: Int, sights: Sights, likelihood: Likelihood,
    progress: Progress = lambda _done, _total: None,
) -> Look:  # fmt: skip
    """Compare the imagined frames of places, at tiles (P, 2) row and column, with every tile."""
    own_codes, own_scales = _descriptors(pack, tiles)
    places, frames = sights.similarity.shape
    size = max(1, BLOCK_BYTES // (4 * frames * max(s.rows * s.columns for s in pack.shards)))
    noise = [_NoiseProduct(sights.noise, shard) for shard in pack.shards]
    own_noise = own_scales[:, None] * (own_codes.astype(np.float32) @ sights.noise.T) + OFFSET
    found = []
    for first in range(0, places, size):
        block = slice(first, min(first + size, places))
        gathered = _Gathered.empty(block.stop - block.start, frames)
        queries = numkong.dots_pack(np.ascontiguousarray(own_codes[block]), dtype="int8")
        for number, shard in enumerate(pack.shards):
            products = np.asarray(numkong.dots_packed(shard.descriptors, queries)).T
            alike = products * (own_scales[block, None] * np.float32(shard.scale))
            share = _exponential(
                alike, noise[number].values, own_noise[block], sights.similarity[block],
                likelihood.temperature,
            )  # fmt: skip
            if not shard.valid.all():
                share *= shard.valid.ravel()
            gathered.take(share, shard, tiles[block])
            progress(first * len(pack.shards) + (number + 1) * (block.stop - first),
                     places * len(pack.shards))  # fmt: skip
        found.append(gathered.look(int(pack.valid.sum()), likelihood.epsilon))
    return Look(*(np.concatenate([getattr(look, name) for look in found])
                  for name in ("own", "mass", "cell")))  # fmt: skip


def sampled_tiles(pack: TilePack, count: int, rng: np.random.Generator) -> Float:
    """Descriptors (n, D) of up to `count` tiles of the map."""
    valid = np.argwhere(pack.valid)
    chosen = valid[rng.choice(len(valid), min(count, len(valid)), replace=False)]
    codes, scales = _descriptors(pack, chosen)
    return codes.astype(np.float32) * scales[:, None]


class _NoiseProduct:
    """The noise directions (F, D) against the tiles of a shard, (F, n), when first asked."""

    def __init__(self, noise: Float, shard: Shard) -> None:
        codes, scales = zip(*map(quantised, noise), strict=True)
        packed = numkong.dots_pack(np.stack(codes), dtype="int8")
        products = np.asarray(numkong.dots_packed(shard.descriptors, packed)).T
        scale = np.array(scales, np.float32)[:, None] * np.float32(shard.scale)
        self.values: Float = (products * scale + np.float32(OFFSET)).astype(np.float32)


def _exponential(
    alike: Float, noise: Float, own_noise: Float, similarity: Float, temperature: float
) -> Float:
    """exp((s - a) / T) of every tile: (p, F, n) from (p, n), (F, n), (p, F) and (p, F).

    Noise has no share in the place's own tile: a copy of it is hit by the same noise, that is none.
    """
    b = np.sqrt(1 - similarity**2) / np.float32(temperature)
    a = similarity / np.float32(temperature)
    log: Float = (a - b * own_noise)[:, :, None] * alike[:, None, :]
    log -= a[:, :, None]
    log += b[:, :, None] * noise[None]
    np.minimum(log, MAX_LOG, out=log)
    np.exp(log, out=log)
    return log


@dataclass
class _Gathered:
    """What the shards so far hold for a block of places."""

    own: NDArray[np.float64]  # (p, F)
    total: NDArray[np.float64]  # (p, F)
    mass: Float  # (p, F, K)
    cell: Int  # (p, F, K, 2)

    @staticmethod
    def empty(places: int, frames: int) -> "_Gathered":
        return _Gathered(
            np.zeros((places, frames)), np.zeros((places, frames)),
            np.zeros((places, frames, RIVALS), np.float32),
            np.full((places, frames, RIVALS, 2), -1),
        )  # fmt: skip

    def take(self, share: Float, shard: Shard, tiles: Int) -> None:
        """Add a shard's exponentials (p, F, n)."""
        places, frames, _ = share.shape
        picture = share.reshape(places, frames, shard.rows, shard.columns)
        for place, rows, columns, near in _surroundings(shard, tiles):
            window = picture[place, :, rows, columns]
            own = (window * near).sum(axis=(1, 2), dtype=np.float64)
            self.own[place] += own
            self.total[place] += own
            window *= ~near
        cells, middle = _cells(picture, shard)
        self.total += cells.sum(axis=2, dtype=np.float64)
        best = min(RIVALS, cells.shape[2])
        strongest = np.argpartition(cells, -best, axis=2)[:, :, -best:]
        mass = np.concatenate([self.mass, np.take_along_axis(cells, strongest, 2)], axis=2)
        cell = np.concatenate([self.cell, middle[strongest]], axis=2)
        kept = np.argpartition(mass, -RIVALS, axis=2)[:, :, -RIVALS:]
        self.mass = np.take_along_axis(mass, kept, 2)
        self.cell = np.take_along_axis(cell, kept[..., None], 2)

    def look(self, count: int, epsilon: float) -> Look:
        """Shares of a belief that was uniform over `count` tiles, `epsilon` of it told nothing."""
        total = np.maximum(self.total, 1e-30)
        own = (1 - epsilon) * self.own / total
        mass = (1 - epsilon) * self.mass / total[:, :, None] + epsilon * CELL**2 / count
        return Look(own.astype(np.float32), mass.astype(np.float32), self.cell)


def _surroundings(
    shard: Shard, tiles: Int
) -> Iterator[tuple[int, slice, slice, NDArray[np.bool_]]]:
    """Of each place that is near a shard: its window there, and which tiles are the place's own."""
    reach = int(SEPARATION_STEPS)
    for place, (row, column) in enumerate(tiles - (shard.row0, shard.column0)):
        rows = slice(max(0, row - reach), min(shard.rows, row + reach + 1))
        columns = slice(max(0, column - reach), min(shard.columns, column + reach + 1))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        down = np.arange(rows.start, rows.stop)[:, None] - row
        right = np.arange(columns.start, columns.stop)[None, :] - column
        yield place, rows, columns, np.hypot(down, right) <= SEPARATION_STEPS


def _cells(picture: Float, shard: Shard) -> tuple[Float, Int]:
    """Mass of every cell (p, F, cells), and the middle tile of each in the pack (cells, 2)."""
    rows, columns = np.arange(0, shard.rows, CELL), np.arange(0, shard.columns, CELL)
    cells = np.add.reduceat(np.add.reduceat(picture, rows, axis=2), columns, axis=3)
    middle_rows = np.minimum(rows + CELL // 2, shard.rows - 1) + shard.row0
    middle_columns = np.minimum(columns + CELL // 2, shard.columns - 1) + shard.column0
    grid = np.stack(np.meshgrid(middle_rows, middle_columns, indexing="ij"), axis=-1)
    return cells.reshape(*picture.shape[:2], -1), grid.reshape(-1, 2)


def _descriptors(pack: TilePack, tiles: Int) -> tuple[NDArray[np.int8], Float]:
    """Codes (P, D) and scales (P,) of tiles, touching only their rows."""
    codes = np.zeros((len(tiles), pack.dimension), np.int8)
    scales = np.zeros(len(tiles), np.float32)
    for shard in pack.shards:
        row, column = (tiles - (shard.row0, shard.column0)).T
        here = (row >= 0) & (row < shard.rows) & (column >= 0) & (column < shard.columns)
        codes[here] = shard.descriptors[row[here] * shard.columns + column[here]]
        scales[here] = shard.scale
    return codes, scales
