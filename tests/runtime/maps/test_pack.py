"""The pack on disk: what is written is what is read, and what is damaged is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.errors import PackError, PackIntegrityError, PackModelError
from skyfix.runtime.maps.manifest import SHARD_FILES, json_from_manifest, with_pack_id
from skyfix.runtime.maps.pack import TilePack

SHARD = "shard_000005_000005"
FLIPPED_BIT = 0b0001_0000


def test_a_pack_reads_back_what_was_written(shared_pack: Any) -> None:
    pack = TilePack.open(shared_pack.folder, model_id="0123456789abcdef")
    seen = np.zeros(pack.grid.size)
    for shard in pack.shards:
        right = shard.column0 + shard.columns
        here = np.s_[shard.row0 : shard.row0 + shard.rows, shard.column0 : right]
        block = shared_pack.descriptors[here]
        codes = shard.descriptors.reshape(shard.rows, shard.columns, -1).astype(np.float32)
        assert np.abs(codes * shard.scale - block).max() <= shard.scale / 2 * 1.0001
        assert np.array_equal(shard.valid, shared_pack.valid[here])
        seen.reshape(pack.grid.rows, -1)[here] += 1
    assert (seen == 1).all()
    assert pack.manifest == shared_pack.manifest


def test_descriptors_stay_on_disk_and_cannot_be_written(shared_pack: Any) -> None:
    shard = TilePack.open(shared_pack.folder, model_id=None).shards[0]
    assert isinstance(shard.descriptors, np.memmap)
    assert not shard.descriptors.flags.writeable


@given(
    row=st.integers(-30, 60), column=st.integers(-30, 60),
    rows=st.integers(1, 70), columns=st.integers(1, 70),
)  # fmt: skip
def test_an_overview_window_is_the_mosaic_of_its_shards(
    shared_pack: Any, row: int, column: int, rows: int, columns: int
) -> None:
    pack = TilePack.open(shared_pack.folder, model_id=None, verify=False)
    grey, valid = pack.overview(-44.0 + 2.0 * column, 54.0 - 2.0 * row, (rows, columns))
    padded = np.pad(shared_pack.grey, 140)[140 + row :, 140 + column :][:rows, :columns]
    sound = np.pad(shared_pack.grey_valid, 140)[140 + row :, 140 + column :][:rows, :columns]
    assert np.array_equal(grey, padded)
    assert np.array_equal(valid, sound)


def test_a_window_between_pixels_mixes_their_neighbours(shared_pack: Any) -> None:
    pack = TilePack.open(shared_pack.folder, model_id=None)
    grey, valid = pack.overview(-44.0 + 2.0 * 3.25, 54.0 - 2.0 * 7.5, (20, 25))
    field = shared_pack.grey.astype(float)
    right = 0.75 * field[:, 3:28] + 0.25 * field[:, 4:29]
    expected = (right[7:27] + right[8:28]) / 2
    assert np.abs(grey - expected).max() <= 0.51
    sound = shared_pack.grey_valid
    across = sound[:, 3:28] & sound[:, 4:29]
    assert np.array_equal(valid, across[7:27] & across[8:28])


def test_bounds_are_those_of_the_overview(shared_pack: Any) -> None:
    pack = TilePack.open(shared_pack.folder, model_id=None)
    assert pack.bounds_m == (-44.0, 54.0 - 8.0 * 13, -44.0 + 8.0 * 11, 54.0)


def test_a_pack_of_another_model_names_both_ids(shared_pack: Any) -> None:
    with pytest.raises(
        PackModelError, match=r"0123456789abcdef.*not with fedcba9876543210.*--model"
    ):
        TilePack.open(shared_pack.folder, model_id="fedcba9876543210")


@pytest.mark.parametrize("file", SHARD_FILES)
def test_a_flipped_bit_names_the_file(written: Any, file: str) -> None:
    path = written.folder / SHARD / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= FLIPPED_BIT
    path.write_bytes(content)
    with pytest.raises(PackIntegrityError, match=f"{SHARD}/{file}.*altered"):
        TilePack.open(written.folder, model_id=None)


@pytest.mark.parametrize("file", SHARD_FILES)
def test_a_truncated_file_is_named_even_without_hashing(written: Any, file: str) -> None:
    path = written.folder / SHARD / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackIntegrityError, match=f"{SHARD}/{file} has"):
        TilePack.open(written.folder, model_id=None, verify=False)


def test_a_missing_shard_is_named(written: Any) -> None:
    shutil.rmtree(written.folder / SHARD)
    with pytest.raises(PackIntegrityError, match=f"{SHARD}.*missing"):
        TilePack.open(written.folder, model_id=None, verify=False)


def test_a_manifest_that_was_edited_is_refused(written: Any) -> None:
    path = written.folder / "manifest.json"
    path.write_text(path.read_text().replace('"gsd_m": 1.0', '"gsd_m": 1.1'))
    with pytest.raises(PackIntegrityError, match=r"manifest\.json was altered"):
        TilePack.open(written.folder, model_id=None)


def test_a_manifest_cut_short_is_refused(written: Any) -> None:
    path = written.folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PackIntegrityError, match=r"manifest\.json"):
        TilePack.open(written.folder, model_id=None)


@pytest.mark.parametrize("schema", [1, 3])
def test_a_manifest_of_another_schema_says_so(written: Any, schema: int) -> None:
    path = written.folder / "manifest.json"
    path.write_text(json.dumps({"schema": schema, "anything": "else"}))
    with pytest.raises(PackError, match=f"schema {schema}, this skyfix reads 2. Build the pack"):
        TilePack.open(written.folder, model_id=None)


def test_an_accuracy_that_was_made_better_by_hand_is_refused(written: Any) -> None:
    path = written.folder / "manifest.json"
    text = path.read_text()
    assert '"accuracy_m": 2.0' in text
    path.write_text(text.replace('"accuracy_m": 2.0', '"accuracy_m": 0.5'))
    with pytest.raises(PackIntegrityError, match=r"manifest\.json was altered"):
        TilePack.open(written.folder, model_id=None)


def test_a_whole_number_of_metres_is_a_number_of_metres(written: Any) -> None:
    """The fault: 0 is written, 0.0 is read, and their hashes differ."""
    imagery = msgspec.structs.replace(written.manifest.imagery, accuracy_m=0)
    manifest = with_pack_id(msgspec.structs.replace(written.manifest, imagery=imagery))
    (written.folder / "manifest.json").write_bytes(json_from_manifest(manifest))
    assert TilePack.open(written.folder, model_id=None).manifest.imagery.accuracy_m == 0


@pytest.mark.parametrize("accuracy_m", ["-0.1", "1000.5", "null"])
def test_an_accuracy_that_none_can_be_is_refused(written: Any, accuracy_m: str) -> None:
    path = written.folder / "manifest.json"
    stated = f'"accuracy_m": {accuracy_m}'
    path.write_text(path.read_text().replace('"accuracy_m": 2.0', stated))
    with pytest.raises(PackIntegrityError, match=r"imagery\.accuracy_m"):
        TilePack.open(written.folder, model_id=None)


def test_a_folder_without_manifest_is_no_pack(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no tile pack"):
        TilePack.open(tmp_path, model_id=None)
