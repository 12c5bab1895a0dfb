"""Shards on disk: written beside and renamed, so that a folder with the right name is whole.

PACK.partial/build.json                  the plan; a restart with the same plan goes on here
PACK.partial/shard_000000_000000/        finished: its files, and record.json
PACK.partial/unfinished/                 the shard that was being written when it stopped
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError, PackError
from ..runtime.maps.manifest import (
    DESCRIPTORS,
    MANIFEST_NAME,
    OVERVIEW,
    OVERVIEW_VALID,
    VALID,
    Block,
    FileRecord,
    PackManifest,
    ShardRecord,
    json_from_manifest,
    shard_name,
)
from ..runtime.maps.quantise import quantised
from .plan import BuildPlan

PLAN_NAME = "build.json"
RECORD_NAME = "record.json"
UNFINISHED = "unfinished"


def opened_partial(folder: Path, plan: BuildPlan) -> Path:
    """The folder where the pack grows: that of an interrupted build of this plan, or a new one."""
    if folder.exists():
        raise InputError(f"{folder} exists already. Remove it, or choose another name with -o.")
    partial = partial_name(folder)
    if _recorded_plan(partial) != plan:
        try:
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise InputError(
                f"{partial} cannot be made ({error.strerror}). Choose another place with -o."
            ) from error
        _write(partial / PLAN_NAME, msgspec.json.encode(plan))
    shutil.rmtree(partial / UNFINISHED, ignore_errors=True)
    return partial


def partial_name(folder: Path) -> Path:
    """Where a pack grows until it is whole."""
    return folder.with_name(folder.name + ".partial")


def finished_shards(partial: Path, plan: BuildPlan) -> dict[Block, ShardRecord]:
    """Records of the shards that an earlier run has finished, by their tiles.

    A shard that is damaged is removed, so that it is built again.
    """
    records = {}
    for tiles in plan.blocks:
        folder = partial / shard_name(tiles)
        record = _whole_record(folder, tiles, plan.dimension)
        if record is not None:
            records[tiles] = record
        elif folder.exists():
            shutil.rmtree(folder)
    return records


def write_shard(
    partial: Path,
    tiles: Block,
    overview: Block,
    descriptors: NDArray[np.float32],
    valid: NDArray[np.bool_],
    grey: NDArray[np.uint8],
    grey_valid: NDArray[np.bool_],
) -> ShardRecord:
    """Write one shard whole, or not at all.

    Args:
        partial: folder of the growing pack.
        tiles: the shard's place in the grid.
        overview: its place in the overview.
        descriptors: (rows * columns, D), zero where not valid.
        valid: (rows, columns) of tiles.
        grey: (H, W) part of the overview.
        grey_valid: (H, W).
    """
    codes, scale = quantised(descriptors)
    arrays: dict[str, NDArray[np.int8] | NDArray[np.uint8]] = {
        DESCRIPTORS: codes,
        VALID: valid.astype(np.uint8),
        OVERVIEW: grey,
        OVERVIEW_VALID: grey_valid.astype(np.uint8),
    }
    beside = partial / UNFINISHED
    beside.mkdir()
    files = {name: _write(beside / name, array.tobytes()) for name, array in arrays.items()}
    record = ShardRecord(
        tiles=tiles, overview=overview, scale=scale, valid_tiles=int(valid.sum()), files=files
    )
    _write(beside / RECORD_NAME, msgspec.json.encode(record))
    beside.replace(partial / record.name)
    return record


def finish(partial: Path, folder: Path, manifest: PackManifest) -> None:
    """Write the manifest, give the pack its name, then drop what only a restart needed."""
    _write(partial / MANIFEST_NAME, json_from_manifest(manifest))
    partial.replace(folder)
    (folder / PLAN_NAME).unlink()
    for record in manifest.shards:
        (folder / record.name / RECORD_NAME).unlink()


@contextmanager
def disk_full_explained(folder: Path, plan: BuildPlan) -> Iterator[None]:
    """Turn 'no space left on device' into what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial = partial_name(folder)
        shutil.rmtree(partial / UNFINISHED, ignore_errors=True)
        written = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        needed_mb = max(0, plan.total_bytes - written) / 1e6
        raise PackError(
            f"the disk of {partial} is full: the pack needs {needed_mb:.1f} MB more, "
            f"{plan.total_bytes / 1e6:.1f} MB in all. Free some space and run the same command "
            "again; it goes on where it stopped."
        ) from error


def _whole_record(folder: Path, tiles: Block, dimension: int) -> ShardRecord | None:
    """The record of a shard whose files have the sizes that it states, None for any other."""
    try:
        record = msgspec.json.decode((folder / RECORD_NAME).read_bytes(), type=ShardRecord)
        sizes = {name: (folder / name).stat().st_size for name in record.files}
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    stated = {name: file.bytes for name, file in record.files.items()}
    whole = record.tiles == tiles and sizes == stated == record.expected_bytes(dimension)
    return record if whole else None


def _recorded_plan(partial: Path) -> BuildPlan | None:
    """The plan of an interrupted build, if there is one that can be read."""
    try:
        return msgspec.json.decode((partial / PLAN_NAME).read_bytes(), type=BuildPlan)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, content: bytes) -> FileRecord:
    """Write a file to the disk itself, so that a power cut after the rename loses nothing."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
