"""From the command line to a model and its pack; the clock is the test's own."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from skyfix.export.adapt import MAX_GROUND_PX, ground_from_map
from skyfix.runtime.cli import main
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import RasterError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train import adapt as adapting
from skyfix.train import held_out
from skyfix.train.adapt_start import start_from
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.config import ImageryConfig, ImageryRun, LossConfig, ViewConfig
from skyfix.train.models.build import build_network
from skyfix.train.models.config import MFRGNDroneConfig

RUN = ImageryRun(
    name="tiny",
    licence="Apache-2.0",
    model=MFRGNDroneConfig(
        "convnext_atto", layer_scale=0.1, pooled_cells=(1, 2), feedforward=32, global_rows=2,
        projection=16,
    ),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=ImageryConfig(folders={"a": 1.0}, licences={"a": "CC0"}),
    loss=LossConfig(info_nce=1.0),
    batch=4,
    precision="fp32",
)  # fmt: skip


def ground(width_m: float, height_m: float, gsd_m: float) -> Raster:
    shape = (round(height_m / gsd_m), round(width_m / gsd_m))
    image, frame = np.zeros((*shape, 3), np.uint8), LocalFrame(0.0, 0.0)
    return Raster(image, np.ones(shape, bool), frame, 0.0, 0.0, gsd_m)


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with town.tif and run/, and a second for every look at the clock."""
    torch.manual_seed(0)
    weights = build_network(RUN.model, RUN.input_px).state_dict()
    record = CheckpointRecord(SCHEMA, RUN.model, RUN.input_px, RUN, step=70, hours=0.5)
    save_checkpoint(tmp_path / "run", record, weights)
    town = town_and_country(4, 600.0, 500.0, 2.0, LocalFrame(0.0, 0.0))
    height, width = town.valid.shape
    with rasterio.open(
        tmp_path / "town.tif", "w", driver="GTiff", width=width, height=height, count=3,
        dtype="uint8", crs="EPSG:32632",
        transform=rasterio.Affine(2.0, 0.0, 500_000, 0.0, -2.0, 5_200_000),
    ) as file:  # fmt: skip
        file.write(town.image.transpose(2, 0, 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(held_out, "MAX_TILES", 60)
    monkeypatch.setattr(held_out, "VIEWS", 40)
    monkeypatch.setattr("skyfix.export.adapt.MAX_WORKERS", 0)
    monkeypatch.setattr("skyfix.export.adapt_cli.monotonic", map(float, itertools.count()).__next__)
    return tmp_path


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--adapt", "town.tif", "--device", "cpu", "--minutes", "0.5", *arguments])
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_a_map_and_a_checkpoint_become_a_model_and_its_pack(
    area: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adapting, "SURE", -1000.0)  # a few steps teach nothing that is sure
    stated = ("--licence", "CC-BY-4.0", "--accuracy", "1.5")
    assert called("--from", "run", "-o", "area", *stated) == 0
    card = load_card(area / "area")
    assert card.name == "tiny-town"
    assert card.training.imagery == {"a": "CC0", "town.tif": "CC-BY-4.0"}
    assert card.training.steps > 70
    assert "adapted from run to town.tif" in card.training.config
    pack = TilePack.open(area / "area.pack", model_id=card.model_id)
    assert pack.manifest.imagery.licence == "CC-BY-4.0"
    assert pack.manifest.imagery.accuracy_m == 1.5
    assert "held-out part of town.tif: R@1" in capsys.readouterr().out
    assert sorted(path.name for path in area.iterdir()) == ["area", "area.pack", "run", "town.tif"]
    again = start_from(str(area / "area"))  # an area's model can be adapted to the next map
    assert again.run.data.licences["town.tif"] == "CC-BY-4.0"
    patches = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = again.network.encode("map", torch.from_numpy(patches)).descriptor.numpy()
    engine = OnnxEngine(area / "area" / card.graphs["map"], card)
    assert engine.infer(patches) == pytest.approx(expected, abs=1e-5)


def test_a_map_that_taught_nothing_leaves_no_model(
    area: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adapting, "SURE", 1000.0)
    assert called("--from", "run", "-o", "area") == 3
    error = capsys.readouterr().err
    assert "no sure gain" in error
    assert "Fly the model as it is" in error
    assert sorted(path.name for path in area.iterdir()) == ["run", "town.tif"]


def test_an_accuracy_that_is_none_is_refused_before_anything_is_learned(
    area: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skyfix.export.adapt.model_from_map", None)
    assert called("--from", "run", "-o", "area", "--accuracy", "-2") == 2
    assert "an accuracy of -2 m is none" in capsys.readouterr().err
    assert sorted(path.name for path in area.iterdir()) == ["run", "town.tif"]


def test_what_exists_is_not_overwritten(area: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (area / "area.pack").mkdir()
    assert called("--from", "run", "-o", "area") == 2
    assert "area.pack exists" in capsys.readouterr().err


def test_a_map_that_is_too_coarse_is_refused_before_anything_is_learned() -> None:
    with pytest.raises(RasterError, match=r"20 m a pixel and the model needs about 1\.25"):
        ground_from_map(ground(1000.0, 1000.0, 20.0), 1.25)


def test_a_map_is_read_finer_than_patches_are() -> None:
    read = ground_from_map(ground(300.0, 200.0, 0.5), 2.0)
    assert read.gsd_m == 1.0
    assert read.valid.shape == (200, 300)


def test_of_a_large_map_the_middle_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfix.export.adapt.MAX_GROUND_PX", 10_000)
    whole = ground(400.0, 400.0, 1.0)
    read = ground_from_map(whole, 2.0)
    assert read.gsd_m == 2.0  # the model's own scale, before ground is left out
    assert read.valid.size == pytest.approx(10_000, rel=0.03)
    west, south, east, north = read.bounds_m
    assert ((west + east) / 2, (south + north) / 2) == pytest.approx((200.0, -200.0), abs=2.0)
    assert MAX_GROUND_PX == 64_000_000
