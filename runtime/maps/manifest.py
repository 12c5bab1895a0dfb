"""What manifest.json of a tile pack says; docs/formats.md states every field.

    pack_id = first 16 hex digits of SHA-256(manifest with an empty pack_id)

The manifest holds the hash of every file, so the pack_id stands for the whole pack, and a changed
byte anywhere is found: in a file by its hash, in the manifest by the pack_id.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec

from ..errors import PackError, PackIntegrityError
from ..geo import Grid

MANIFEST_NAME = "manifest.json"
PACK_SCHEMA = 2
DESCRIPTORS, VALID = "descriptors.i8", "valid.u8"
OVERVIEW, OVERVIEW_VALID = "overview.u8", "overview_valid.u8"
SHARD_FILES = (DESCRIPTORS, VALID, OVERVIEW, OVERVIEW_VALID)
# Where the image's accuracy is not stated: that of good orthophotos, an assumption. It is a CE90 of
# 4.3 m; of satellite mosaics it is often worse.
DEFAULT_ACCURACY_M = 2.0
MAX_ACCURACY_M = 1000.0  # an image that may lie further off is no map, or the unit was another

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(gt=0)]
Metres = Annotated[float, msgspec.Meta(gt=0)]
Accuracy = Annotated[float, msgspec.Meta(ge=0, le=MAX_ACCURACY_M)]


class Imagery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the map image comes from; empty = not stated."""

    source: str = ""
    licence: str = ""
    date: str = ""
    crs: str = ""  # of the image as it was read
    fingerprint: str = ""  # changes when the image changes; an interrupted build is resumed by it
    accuracy_m: Accuracy = DEFAULT_ACCURACY_M  # std per axis of where the image says things are


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rectangle of cells: tiles of the grid, or pixels of the overview."""

    row0: Count
    column0: Count
    rows: Count
    columns: Count

    @property
    def size(self) -> int:
        """How many cells the block has."""
        return self.rows * self.columns

    @property
    def row_slice(self) -> slice:
        """Rows of the whole that the block covers."""
        return slice(self.row0, self.row0 + self.rows)

    @property
    def column_slice(self) -> slice:
        """Columns of the whole that the block covers."""
        return slice(self.column0, self.column0 + self.columns)


class Overview(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The grey picture of the whole map that the shards hold in blocks."""

    west_m: float  # outer edge of column 0
    north_m: float  # outer edge of row 0
    gsd_m: Metres
    rows: Positive
    columns: Positive


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be."""

    bytes: Count
    sha256: str


class ShardRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shard: its tiles, its part of the overview, its files."""

    tiles: Block
    overview: Block
    scale: Metres  # descriptor = scale * int8
    valid_tiles: Count
    files: dict[str, FileRecord]

    @property
    def name(self) -> str:
        """Folder of the shard within the pack."""
        return shard_name(self.tiles)

    def expected_bytes(self, dimension: int) -> dict[str, int]:
        """Size of every file, by the shard's shape."""
        return {
            DESCRIPTORS: self.tiles.size * dimension,
            VALID: self.tiles.size,
            OVERVIEW: self.overview.size,
            OVERVIEW_VALID: self.overview.size,
        }


class PackManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about a pack but its bytes."""

    schema: int
    pack_id: str
    model_id: str
    model_name: str
    dimension: Positive
    input_px: Positive  # tiles are square
    gsd_m: Metres  # at which the tiles were read; a query patch must have the same
    origin_lat_deg: float
    origin_lon_deg: float
    grid: Grid  # tile centres
    overview: Overview
    imagery: Imagery
    created_utc: str
    shards: tuple[ShardRecord, ...]

    @property
    def tile_m(self) -> float:
        """Ground width of a tile."""
        return self.input_px * self.gsd_m

    @property
    def overview_gsd_m(self) -> float:
        """Metres a pixel of the overview."""
        return self.overview.gsd_m


class _Header(msgspec.Struct):
    """What can be read of a manifest of any schema."""

    schema: int


def shard_name(tiles: Block) -> str:
    """Folder name of the shard at a place of the grid."""
    return f"shard_{tiles.row0:06d}_{tiles.column0:06d}"


def with_pack_id(manifest: PackManifest) -> PackManifest:
    """The manifest with the pack_id that its content gives."""
    written = msgspec.json.encode(msgspec.structs.replace(manifest, pack_id=""))
    blank = msgspec.json.decode(written, type=PackManifest)  # 0 is read as 0.0: hash what is read
    digest = hashlib.sha256(msgspec.json.encode(blank)).hexdigest()
    return msgspec.structs.replace(manifest, pack_id=digest[:16])


def manifest_from_json(text: bytes, path: Path) -> PackManifest:
    """Decode a manifest; raises PackError for another schema, PackIntegrityError for damage."""
    try:
        schema = msgspec.json.decode(text, type=_Header).schema
        if schema != PACK_SCHEMA:
            raise PackError(
                f"{path} has schema {schema}, this skyfix reads {PACK_SCHEMA}. "
                "Build the pack again with `skyfix map build`."
            )
        manifest = msgspec.json.decode(text, type=PackManifest)
    except msgspec.MsgspecError as error:
        raise PackIntegrityError(f"{path}: {error}. Copy or build the pack again.") from error
    if with_pack_id(manifest).pack_id != manifest.pack_id:
        raise PackIntegrityError(
            f"{path} was altered: its content does not give its pack_id {manifest.pack_id}. "
            "Copy or build the pack again."
        )
    return manifest


def json_from_manifest(manifest: PackManifest) -> bytes:
    """The text of manifest.json, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
