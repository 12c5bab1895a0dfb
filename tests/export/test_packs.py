"""Building packs: what was planted is found, and what was interrupted goes on."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import rasterio

from skyfix.export.packs import build_pack
from skyfix.export.plan import BuildPlan
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import Model
from skyfix.runtime.engines.choose import Choice
from skyfix.runtime.errors import InputError, PackError
from skyfix.runtime.maps.manifest import SHARD_FILES, Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.maps.search import pack_scores
from skyfix.runtime.types import Patch

SKYFIX = (sys.executable, "-c", "from skyfix.runtime.cli import main; main()")
IMAGERY = Imagery(source="drawn", licence="none", date="2025-01-01", fingerprint="seed 3")


class Stopped(Exception):  # noqa: N818  an event, not an error
    """Stands for a crash between two shards."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfix.export.plan.SHARD_TILES", 32)


@pytest.fixture
def pack(town: Raster, tiny_model: Model, tmp_path: Path) -> TilePack:
    build_pack(town, tiny_model, tmp_path / "town.pack", imagery=IMAGERY)
    return TilePack.open(tmp_path / "town.pack", model_id=tiny_model.card.model_id)


def patch_at(town: Raster, east_m: float, north_m: float) -> Patch:
    """What a perfect camera would see, cut without the builder."""
    seen = town.read(east_m - 16, north_m + 16, (32, 32), 1.0)
    return Patch(seen.image, seen.valid, 1.0, (0.0, 0.0))


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("shard_*/*"))
        if file.name in SHARD_FILES
    }


def stop_after(tiles: int) -> Any:
    def progress(done: int, _total: int) -> None:
        if done >= tiles:
            raise Stopped

    return progress


def test_planted_crops_are_found_at_their_place(
    town: Raster, tiny_model: Model, pack: TilePack
) -> None:
    assert len(pack.shards) > 3
    rng = np.random.default_rng(8)
    for east, north in rng.uniform((-100, -90), (100, 90), (40, 2)):
        query = tiny_model.query.describe([patch_at(town, east, north)])[0]
        best = pack_scores(pack, query).argmax()
        found_east, found_north = pack.grid.en_from_index(np.int64(best))
        # the nearest tile centre is at most half a step away on each axis
        assert np.hypot(found_east - east, found_north - north) <= pack.grid.step_m


def test_a_crop_on_a_tile_centre_scores_one(
    town: Raster, tiny_model: Model, pack: TilePack
) -> None:
    index = 20 * pack.grid.columns + 31
    east, north = (float(value) for value in pack.grid.en_from_index(np.int64(index)))
    query = tiny_model.query.describe([patch_at(town, east, north)])[0]
    scores = pack_scores(pack, query)
    assert scores.argmax() == index
    assert scores.max() > 0.99


def test_the_overview_is_the_grey_map_without_seams(town: Raster, pack: TilePack) -> None:
    view = pack.manifest.overview
    grey, valid = pack.overview(view.west_m, view.north_m, (view.rows, view.columns))
    whole = town.read(view.west_m, view.north_m, (view.rows, view.columns), view.gsd_m)
    expected = whole.image @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert valid.all()
    assert (view.columns, view.rows) == (260, 240)
    assert np.abs(grey - expected).max() <= 2


def test_tiles_without_enough_map_are_not_valid(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    valid = town.valid.copy()
    valid[:, :200] = False  # the western 100 m
    build_pack(replace(town, valid=valid), tiny_model, tmp_path / "p", imagery=IMAGERY)
    pack = TilePack.open(tmp_path / "p", model_id=None)
    scores = pack_scores(pack, np.ones(pack.dimension, np.float32))
    east = pack.grid.east_m + np.arange(pack.grid.columns) * pack.grid.step_m
    inside = (east + 16 - -30) / 32  # share of a tile that lies east of the edge at -30 m
    middle = scores[pack.grid.rows // 2]
    assert np.isneginf(middle[inside < 0.56]).all()
    assert np.isfinite(middle[inside > 0.64]).all()


def test_what_lies_under_no_data_changes_nothing(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    valid = town.valid.copy()
    valid[:, 200:230] = False
    for name, fill in (("black", 0), ("white", 255)):
        image = np.where(valid[..., None], town.image, fill).astype(np.uint8)
        # same scale as the map's, so that no pixel mixes valid ones with others
        filled = replace(town, image=image, valid=valid, gsd_m=1.0, west_m=-260.0, north_m=240.0)
        build_pack(filled, tiny_model, tmp_path / name, imagery=IMAGERY, step_m=8.0)
    assert shard_bytes(tmp_path / "black") == shard_bytes(tmp_path / "white")


def test_an_interrupted_build_goes_on_and_gives_the_same_shards(
    town: Raster, tiny_model: Model, pack: TilePack, tmp_path: Path
) -> None:
    again = tmp_path / "again.pack"
    with pytest.raises(Stopped):
        build_pack(town, tiny_model, again, imagery=IMAGERY, progress=stop_after(2500))
    finished = {
        path.name: path.stat().st_ino for path in (tmp_path / "again.pack.partial").glob("shard_*")
    }
    assert finished
    assert not again.exists()
    seen: list[int] = []
    build_pack(town, tiny_model, again, imagery=IMAGERY, progress=lambda done, _: seen.append(done))
    assert seen[0] > 0
    assert all((again / name).stat().st_ino == inode for name, inode in finished.items())
    assert shard_bytes(again) == shard_bytes(pack.folder)
    assert not (tmp_path / "again.pack.partial").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("record.json", cut),
        ("record.json", lambda file: file.write_bytes(b"{}")),
        ("record.json", lambda file: file.write_bytes(b"\xff")),
        ("descriptors.i8", cut),
        ("overview.u8", Path.unlink),
    ],
)
def test_a_shard_that_the_disk_has_damaged_is_built_again(
    town: Raster, tiny_model: Model, pack: TilePack, tmp_path: Path, name: str, damage: Any
) -> None:
    with pytest.raises(Stopped):
        build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY, progress=stop_after(1500))
    damage(tmp_path / "p.partial" / "shard_000000_000000" / name)
    build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY)
    assert shard_bytes(tmp_path / "p") == shard_bytes(pack.folder)


def test_a_build_of_something_else_starts_anew(
    town: Raster, tiny_model: Model, other_model: Model, tmp_path: Path
) -> None:
    less_accurate = msgspec.structs.replace(IMAGERY, accuracy_m=5.0)
    for change in (
        {"step_m": 4.0}, {"tile_m": 30.0},
        {"imagery": Imagery(fingerprint="new")}, {"imagery": less_accurate},
    ):  # fmt: skip
        with pytest.raises(Stopped):
            build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY, progress=stop_after(1500))
        seen: list[int] = []

        def watch(done: int, _total: int, seen: list[int] = seen) -> None:
            seen.append(done)
            raise Stopped

        arguments: dict[str, Any] = {"imagery": IMAGERY, **change}
        with pytest.raises(Stopped):
            build_pack(town, tiny_model, tmp_path / "p", progress=watch, **arguments)
        assert seen == [0]
    build_pack(town, other_model, tmp_path / "p", imagery=IMAGERY)
    assert TilePack.open(tmp_path / "p", model_id=other_model.card.model_id).grid.size


def test_a_build_by_another_engine_starts_anew_and_by_the_same_goes_on(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY, progress=stop_after(1500))
    other = replace(tiny_model, choice=Choice("openvino", "named by the caller"))
    begun: dict[str, int] = {}
    for name, model in (("same", tiny_model), ("other", other)):

        def watch(done: int, _total: int, name: str = name) -> None:
            begun[name] = done
            raise Stopped

        with pytest.raises(Stopped):
            build_pack(town, model, tmp_path / "p", imagery=IMAGERY, progress=watch)
    assert begun["same"] > 0
    assert begun["other"] == 0


def test_a_folder_that_exists_is_left_alone(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="exists already"):
        build_pack(town, tiny_model, tmp_path, imagery=IMAGERY)


def test_a_place_that_cannot_be_written_is_an_input_error(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot be made \(Not a directory"):
        build_pack(town, tiny_model, tmp_path / "file" / "p", imagery=IMAGERY)


def test_a_full_disk_says_how_much_is_needed_and_can_be_resumed(
    town: Raster, tiny_model: Model, pack: TilePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 9:  # the plan, one shard of five files, then in the middle of the second
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PackError, match=r"full: the pack needs \d\.\d MB more, \d\.\d MB in"):
            build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY)
    partial = tmp_path / "p.partial"
    assert [path.name for path in partial.glob("*_*")] == ["shard_000000_000000"]
    build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY)
    assert shard_bytes(tmp_path / "p") == shard_bytes(pack.folder)


def test_a_disk_that_is_really_full(
    town_tif: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    small = f"mount -t tmpfs -o size=1m none {disk}"
    own_mounts = ["unshare", "-rm", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*own_mounts, small], check=False).returncode
    ):
        pytest.skip("this machine lets no user mount a small file system of his own")
    build = " ".join(
        shlex.quote(str(word))
        for word in (*SKYFIX, "map", "build", town_tif, "-o", disk / "p",
                     "--model", tiny_model_folder)
    )  # fmt: skip
    script = (
        f"{small}; {build}; echo left by $?; "
        f"mount -o remount,size=9m {disk} && {build} && ls {disk}"
    )
    done = subprocess.run([*own_mounts, script], check=False, capture_output=True, text=True)
    assert "left by 3" in done.stdout
    assert re.search(r"is full: the pack needs \d\.\d MB more", done.stderr)
    assert done.returncode == 0
    assert done.stdout.split()[-1] == "p"


def test_another_tile_width_is_recorded(town: Raster, tiny_model: Model, tmp_path: Path) -> None:
    manifest = build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY, tile_m=40.0)
    assert manifest.gsd_m == 1.25
    assert manifest.tile_m == 40.0
    assert manifest.grid.step_m == 3 * 1.25


def test_the_plan_knows_the_size_of_the_pack(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY, progress=stop_after(0))
    text = (tmp_path / "p.partial" / "build.json").read_bytes()
    planned = msgspec.json.decode(text, type=BuildPlan).total_bytes
    build_pack(town, tiny_model, tmp_path / "p", imagery=IMAGERY)
    assert sum(map(len, shard_bytes(tmp_path / "p").values())) == planned


@pytest.fixture
def town_tif(town: Raster, tmp_path: Path) -> Path:
    path = tmp_path / "town.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=520, height=480, count=3, dtype="uint8",
        crs="EPSG:32632", transform=rasterio.Affine(0.5, 0, 465000, 0, -0.5, 5246000),
    ) as file:  # fmt: skip
        file.write(town.image.transpose(2, 0, 1))
    return path


def skyfix(*words: str) -> int:
    """Run the command line here; its exit code."""
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def test_the_command_line_builds_shows_and_verifies(
    town_tif: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "town.pack"
    build = ("map", "build", str(town_tif), "-o", str(pack), "--model", str(tiny_model_folder))
    assert skyfix(*build, "--licence", "CC0") == 0
    warnings = " ".join(capsys.readouterr().err.split())
    assert "source, date; state them with --source --date" in warnings
    assert "2 m per axis are assumed" in warnings
    assert skyfix("map", "info", str(pack), "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["imagery"]["accuracy_m"] == 2.0
    assert manifest["imagery"]["crs"] == "EPSG:32632"
    assert manifest["imagery"]["licence"] == "CC0"
    assert skyfix("map", "info", str(pack)) == 0
    # the tangent plane is turned against the UTM zone by 0.34 degrees: a metre or two more
    assert re.search(r"26[0-3] x 24[0-3] m", capsys.readouterr().out)
    assert skyfix("map", "verify", str(pack)) == 0

    victim = pack / "shard_000000_000000" / "descriptors.i8"
    content = bytearray(victim.read_bytes())
    content[777] ^= 1
    victim.write_bytes(content)
    assert skyfix("map", "verify", str(pack)) == 3
    assert "shard_000000_000000/descriptors.i8 was altered" in capsys.readouterr().err
    assert skyfix(*build) == 2  # the folder exists


def test_a_stated_accuracy_is_in_the_pack_and_nothing_is_assumed(
    town_tif: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "town.pack"
    build = ("map", "build", str(town_tif), "-o", str(pack), "--model", str(tiny_model_folder))
    for wrong in ("nan", "-1", "4000"):
        assert skyfix(*build, "--accuracy", wrong) == 2
        assert "or leave --accuracy out" in " ".join(capsys.readouterr().err.split())
    assert skyfix(*build, "--step", "30", "--accuracy", "1.25") == 0
    assert "assumed" not in capsys.readouterr().err
    assert skyfix("map", "info", str(pack), "--json") == 0
    assert json.loads(capsys.readouterr().out)["imagery"]["accuracy_m"] == 1.25
    assert skyfix("map", "info", str(pack)) == 0
    assert re.search(r"accuracy\W+1\.25 m per axis", capsys.readouterr().out)


def test_ctrl_c_leaves_a_build_that_goes_on(
    town_tif: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    pack, partial = tmp_path / "town.pack", tmp_path / "town.pack.partial"
    command = [
        *SKYFIX, "map", "build", str(town_tif),
        "-o", str(pack), "--model", str(tiny_model_folder), "--step", "2",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as build:
        deadline = time.monotonic() + 30
        while not list(partial.glob("shard_*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        build.send_signal(signal.SIGINT)
        _, message = build.communicate(timeout=30)
    assert build.returncode == 130
    assert "goes on from here" in message
    assert not pack.exists()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert TilePack.open(pack, model_id=None).grid.step_m == 2.0
