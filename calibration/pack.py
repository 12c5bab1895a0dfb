"""What int8 does on a tile pack: does the same tile win, and is it the true one?

    R@1 = share of frames whose best tile lies within RECALL_TILES of the true place

A pack holds int8 descriptors with one scale a shard, and no pictures to make the fp32 ones from.
What that quantisation costs is measured on the frames' own descriptors: each takes the way of a
tile's into each shard and back, and searches the pack once as fp32 and once as int8 query.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.quantise import MAX_CODE
from skyfix.runtime.maps.search import pack_scores
from skyfix.runtime.truth import Truth

from .frames import Batch, Candidate

RECALL_TILES = 50 / 160  # of a tile's width: the 50 m by which descriptors alone are judged

Positions = NDArray[np.float64]


class PackCost(msgspec.Struct, frozen=True):
    """What int8 descriptors cost against fp32 ones, on this pack and these frames."""

    frames: int
    mean_cosine: float  # of fp32 descriptors and themselves after a shard's int8
    min_cosine: float
    clipped: float  # share of their numbers beyond the shard's scale
    same_best_tile: float  # share of frames where fp32 and int8 query find the same tile


@dataclass(frozen=True)
class PackQueries:
    """Frames that are looked for on a pack."""

    pack: TilePack
    batch: Batch  # (N, 3, P, P) network inputs
    true_en_m: Positions  # (N, 2) in the pack's frame, NaN where unknown

    @property
    def has_truth(self) -> bool:
        """Whether R@1 can be told."""
        return bool(np.isfinite(self.true_en_m).all(axis=1).any())

    def best_tiles(self, descriptors: Batch) -> NDArray[np.int64]:
        """Index of the best tile of each descriptor (N, D) in the pack's grid."""
        return np.array([pack_scores(self.pack, query).argmax() for query in descriptors], np.int64)

    def recall(self, tiles: NDArray[np.int64]) -> float | None:
        """R@1 of best tiles over the frames with a known place; None without any."""
        known = np.isfinite(self.true_en_m).all(axis=1)
        if not known.any():
            return None
        east, north = self.pack.grid.en_from_index(tiles)
        away_m = np.hypot(east - self.true_en_m[:, 0], north - self.true_en_m[:, 1])
        return float(np.mean(away_m[known] <= RECALL_TILES * self.pack.manifest.tile_m))


def true_positions(
    pack: TilePack, candidates: Sequence[Candidate], drone: Truth, center: Truth
) -> Positions:
    """Where the patches' centres truly are in the pack's frame, (N, 2), NaN where unknown."""
    row_of = {name: row for row, name in enumerate(drone.frames)}
    found = np.full((len(candidates), 2), np.nan)
    for index, candidate in enumerate(candidates):
        row = row_of.get(candidate.name)
        if row is None:
            continue
        offset = np.zeros(2)
        lat, lon = center.lat_deg[row], center.lon_deg[row]
        if not np.isfinite([lat, lon]).all():  # the drone is where it is, its camera looks ahead
            lat, lon = drone.lat_deg[row], drone.lon_deg[row]
            offset = np.array(candidate.patch.drone_from_center_en_m)
        if np.isfinite([lat, lon]).all():
            found[index] = np.array(pack.frame.en_from_wgs84(lat, lon)) - offset
    return found


def pack_cost(pack: TilePack, descriptors: Batch) -> PackCost:
    """What the pack's own int8 costs, on fp32 descriptors (N, D); raises InputError."""
    if not pack.shards:
        raise InputError(f"{pack.folder} has no shards: build the pack again")
    scales = np.array([shard.scale for shard in pack.shards], np.float32)[:, None, None]
    codes = np.rint(descriptors / scales)
    back = np.clip(codes, -MAX_CODE, MAX_CODE) * scales  # (shards, N, D)
    norms = np.linalg.norm(back, axis=2) * np.linalg.norm(descriptors, axis=1)
    cosines = (back * descriptors).sum(axis=2) / np.maximum(norms, np.finfo(np.float32).tiny)
    same = [pack_scores(pack, query).argmax() == _best_by_fp32(pack, query)
            for query in descriptors]  # fmt: skip
    return PackCost(
        len(descriptors), float(cosines.mean()), float(cosines.min()),
        float(np.mean(np.abs(codes) > MAX_CODE)), float(np.mean(same)),
    )  # fmt: skip


def _best_by_fp32(pack: TilePack, query: Batch) -> int:
    """The best tile for a query that is not quantised."""
    scores = np.full((pack.grid.rows, pack.grid.columns), -np.inf, np.float32)
    for shard in pack.shards:
        products = shard.descriptors.astype(np.float32) @ query * np.float32(shard.scale)
        part = np.where(shard.valid, products.reshape(shard.valid.shape), -np.inf)
        rows = slice(shard.row0, shard.row0 + shard.rows)
        scores[rows, shard.column0 : shard.column0 + shard.columns] = part
    return int(scores.argmax())
