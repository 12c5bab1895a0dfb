"""A tile pack: a folder of int8 descriptors on a regular grid, and a grey overview picture.

    manifest.json
    shard_000000_000000/    at most 64 x 64 tiles, named by its first row and column
        descriptors.i8      (rows * columns, D) int8, C order, one scale a shard
        valid.u8            (rows, columns) 1 where the map has a tile
        overview.u8         (H, W) grey, this shard's own part of the overview
        overview_valid.u8   (H, W) 1 where the map has a pixel

Row 0 is in the north. Plain arrays and JSON: opening a pack runs no code of its maker.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import PackError, PackIntegrityError, PackModelError
from ..geo import Grid, LocalFrame
from .manifest import (
    DESCRIPTORS,
    MANIFEST_NAME,
    OVERVIEW,
    OVERVIEW_VALID,
    SHARD_FILES,
    VALID,
    Block,
    PackManifest,
    ShardRecord,
    manifest_from_json,
)

HASH_CHUNK_BYTES = 1 << 20
ALIGNED_PX = 1e-3  # closer to whole pixels than this, the overview is copied, not resampled


@dataclass(frozen=True)
class Shard:
    """A block of tiles; its descriptors stay on disk until they are touched."""

    folder: Path
    row0: int
    column0: int
    rows: int
    columns: int
    scale: float
    descriptors: NDArray[np.int8]  # (rows * columns, D) read-only memory map
    valid: NDArray[np.bool_]  # (rows, columns)
    overview: Block  # pixels of the whole overview

    @cached_property
    def pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Grey and valid of the overview block, mapped when a flight first comes here."""
        shape = (self.overview.rows, self.overview.columns)
        grey, valid = (
            np.memmap(self.folder / name, np.uint8, "r", shape=shape)
            for name in (OVERVIEW, OVERVIEW_VALID)
        )
        return grey, valid


@dataclass(frozen=True, eq=False)
class TilePack:
    """An opened pack."""

    folder: Path
    manifest: PackManifest
    frame: LocalFrame
    grid: Grid  # of tile centres, the whole pack
    shards: tuple[Shard, ...]

    @staticmethod
    def open(folder: Path, *, model_id: str | None, verify: bool = True) -> "TilePack":
        """Open a pack; raises PackError, PackIntegrityError or PackModelError.

        Args:
            folder: holds manifest.json.
            model_id: the model that will search it; None opens a pack of any model.
            verify: also hash every file, which takes time on a large pack.
        """
        manifest = read_manifest(folder)
        if model_id is not None and manifest.model_id != model_id:
            raise PackModelError(
                f"{folder} was built with model {manifest.model_id} ({manifest.model_name}), "
                f"not with {model_id}. Name that model with --model, "
                "or build the pack again with this one."
            )
        for record in manifest.shards:
            _check_files(folder, record, manifest.dimension)
        if verify:
            verify_hashes(folder, manifest)
        return TilePack(
            folder=folder,
            manifest=manifest,
            frame=LocalFrame(manifest.origin_lat_deg, manifest.origin_lon_deg),
            grid=manifest.grid,
            shards=tuple(
                _shard_from_record(folder, record, manifest.dimension) for record in manifest.shards
            ),
        )

    @property
    def pack_id(self) -> str:
        """Hash over everything in the pack."""
        return self.manifest.pack_id

    @property
    def dimension(self) -> int:
        """Numbers in a descriptor."""
        return self.manifest.dimension

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Where the grid has a tile, (rows, columns)."""
        valid = np.zeros((self.grid.rows, self.grid.columns), bool)
        for shard in self.shards:
            rows = slice(shard.row0, shard.row0 + shard.rows)
            valid[rows, shard.column0 : shard.column0 + shard.columns] = shard.valid
        return valid

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """West, south, east, north edges of the map in the frame."""
        view = self.manifest.overview
        return (
            view.west_m,
            view.north_m - view.rows * view.gsd_m,
            view.west_m + view.columns * view.gsd_m,
            view.north_m,
        )

    def overview(
        self, west_m: float, north_m: float, size_px: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Grey and valid (rows, columns) of the window whose outer corner is (west_m, north_m).

        Pixels have the overview's scale. A corner between its pixels shifts the picture by the
        fraction (bilinear); a corner on them copies it. Not valid where off the map.
        """
        view = self.manifest.overview
        row, column = (view.north_m - north_m) / view.gsd_m, (west_m - view.west_m) / view.gsd_m
        if max(abs(row - round(row)), abs(column - round(column))) < ALIGNED_PX:
            return self._overview_pixels(round(row), round(column), size_px)
        row0, column0 = math.floor(row), math.floor(column)
        grey, valid = self._overview_pixels(row0, column0, (size_px[0] + 1, size_px[1] + 1))
        down, right = row - row0, column - column0
        kernel = np.outer([1 - down, down], [1 - right, right])
        # filter2D correlates; anchored at its first tap it reads the pixel and those after it
        grey = cv2.filter2D(grey, -1, kernel, anchor=(0, 0)).astype(np.uint8, copy=False)
        whole = valid[:-1, :-1] & valid[1:, :-1] & valid[:-1, 1:] & valid[1:, 1:]
        return grey[:-1, :-1], whole

    def _overview_pixels(
        self, row0: int, column0: int, size_px: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The window at whole pixels, put together from the shards that it touches."""
        rows, columns = size_px
        grey, valid = np.zeros(size_px, np.uint8), np.zeros(size_px, bool)
        for shard in self._shards_touched(row0, column0, rows, columns):
            block = shard.overview
            top, bottom = max(row0, block.row0), min(row0 + rows, block.row0 + block.rows)
            left = max(column0, block.column0)
            right = min(column0 + columns, block.column0 + block.columns)
            there = (slice(top - row0, bottom - row0), slice(left - column0, right - column0))
            here = (
                slice(top - block.row0, bottom - block.row0),
                slice(left - block.column0, right - block.column0),
            )
            grey_block, valid_block = shard.pixels
            grey[there], valid[there] = grey_block[here], valid_block[here]
        return grey, valid

    def _shards_touched(self, row0: int, column0: int, rows: int, columns: int) -> list[Shard]:
        """Those with a pixel of the overview in a window."""
        top, left, bottom, right = self._overview_edges.T
        touched = (top < row0 + rows) & (bottom > row0) & (left < column0 + columns)
        return [self.shards[index] for index in np.flatnonzero(touched & (right > column0))]

    @cached_property
    def _overview_edges(self) -> NDArray[np.int64]:
        """First row and column of every shard's overview, and those behind it, (shards, 4)."""
        blocks = [shard.overview for shard in self.shards]
        return np.array([
            (block.row0, block.column0, block.row0 + block.rows, block.column0 + block.columns)
            for block in blocks
        ])  # fmt: skip


def read_manifest(folder: Path) -> PackManifest:
    """The manifest of a pack, checked against itself."""
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        raise PackError(
            f"{folder} is no tile pack: {MANIFEST_NAME} cannot be read ({error.strerror}). "
            "`skyfix map build` makes one."
        ) from error
    return manifest_from_json(text, path)


def verify_hashes(folder: Path, manifest: PackManifest) -> None:
    """Read every byte; raises PackIntegrityError that names the first file that was altered."""
    for record in manifest.shards:
        for file in SHARD_FILES:
            path = folder / record.name / file
            if file_sha256(path) != record.files[file].sha256:
                raise PackIntegrityError(
                    f"{path} was altered: its hash is not the manifest's. "
                    "Copy or build the pack again."
                )


def file_sha256(path: Path) -> str:
    """Hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _check_files(folder: Path, record: ShardRecord, dimension: int) -> None:
    """Refuse missing files and sizes that the shard's shape does not give."""
    for file, expected in record.expected_bytes(dimension).items():
        path = folder / record.name / file
        try:
            actual = path.stat().st_size
        except OSError as error:
            raise PackIntegrityError(
                f"{path} is missing ({error.strerror}). Copy the whole pack again."
            ) from error
        stated = record.files[file].bytes if file in record.files else None
        if not actual == expected == stated:
            raise PackIntegrityError(
                f"{path} has {actual} bytes, not {expected}. Copy or build the pack again."
            )


def _shard_from_record(folder: Path, record: ShardRecord, dimension: int) -> Shard:
    """Map a shard whose files have been checked."""
    tiles, where = record.tiles, folder / record.name
    valid = np.fromfile(where / VALID, np.uint8).reshape(tiles.rows, tiles.columns)
    return Shard(
        folder=where,
        row0=tiles.row0,
        column0=tiles.column0,
        rows=tiles.rows,
        columns=tiles.columns,
        scale=record.scale,
        descriptors=np.memmap(where / DESCRIPTORS, np.int8, "r", shape=(tiles.size, dimension)),
        valid=valid.astype(bool),
        overview=record.overview,
    )
