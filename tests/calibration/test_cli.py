import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from skyfix.calibration.cli import calibrate
from skyfix.calibration.picture import HEIGHT_PX, WIDTH_PX
from skyfix.calibration.quantize import quantized
from skyfix.calibration.table import graph_calibration, read_table
from skyfix.export.packs import build_pack
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import CARD_NAME, model_id_from_graphs
from skyfix.runtime.errors import InputError, ModelError
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.raster import Raster


def save_graph(folder: Path, model: onnx.ModelProto) -> None:
    """Replace the graph of a model folder, and its id in the card."""
    onnx.save(model, folder / "both.onnx")
    card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
    card["model_id"] = model_id_from_graphs(folder, card["graphs"])
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")


def test_the_table_makes_an_int8_graph_and_says_what_it_was_made_from(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table.json"
    calibrate(str(folder), [str(pictures)], out, count=16)
    table = read_table(out)
    assert (table.method, table.frames.count, table.frames.candidates) == ("minmax", 16, 20)
    graph = graph_calibration(table, folder / "both.onnx")
    assert [layer.output for layer in graph.layers] == ["fc1", "fc2", "down", "q", "k", "v"]
    assert all(layer.scale == pytest.approx(layer.ranges.minmax / 127) for layer in graph.layers)
    assert graph.whole is not None
    assert graph.whole.min_cosine > 0.9
    onnx.checker.check_model(quantized(onnx.load(folder / "both.onnx"), graph))
    image = cv2.imread(str(tmp_path / "table.png"))
    assert image is not None
    assert image.shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_the_worst_layers_alone_are_the_kept_ones_and_the_whole_gets_better(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    calibrate(str(folder), [str(pictures)], tmp_path / "all.json", count=16)
    calibrate(str(folder), [str(pictures)], tmp_path / "kept.json", count=16, keep_worst=2)
    everything = read_table(tmp_path / "all.json").graphs["both.onnx"]
    kept = read_table(tmp_path / "kept.json").graphs["both.onnx"]
    by_loss = sorted(everything.layers, key=lambda layer: layer.alone.mean_cosine)  # type: ignore[union-attr]  # all are measured
    assert {layer.output for layer in kept.layers if layer.kept} == {
        layer.output for layer in by_loss[:2]
    }
    assert everything.whole is not None
    assert kept.whole is not None
    assert kept.whole.mean_cosine > everything.whole.mean_cosine


def test_a_pack_tells_whether_int8_finds_the_same_tiles(
    folder: Path, pictures: Path, tmp_path: Path, town: Raster, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "town.pack"
    build_pack(town, load_model(folder, threads=1), pack, imagery=Imagery(), step_m=16.0)
    out = tmp_path / "table.json"
    calibrate(str(folder), [str(pictures)], out, count=16, pack=pack, json_output=True)
    summary = json.loads(capsys.readouterr().out)
    assert set(summary["graphs"]["both.onnx"]["methods"]) == {
        "minmax", "percentile", "entropy", "mse",
    }  # fmt: skip
    assert 0 <= summary["graphs"]["both.onnx"]["whole"]["same_best_tile"] <= 1
    assert summary["pack"]["mean_cosine"] > 0.99


def test_a_graph_that_gives_nan_leaves_nothing_behind(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    model = onnx.load(folder / "both.onnx")
    (relu,) = [node for node in model.graph.node if node.op_type == "Relu"]
    relu.op_type = "Log"  # of negative numbers
    save_graph(folder, model)
    with pytest.raises(InputError, match="NaN"):
        calibrate(str(folder), [str(pictures)], tmp_path / "table.json", count=16)
    assert not list(tmp_path.glob("table*"))


def test_a_model_that_is_not_fp32_is_refused(folder: Path, pictures: Path, tmp_path: Path) -> None:
    text = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
    (folder / CARD_NAME).write_text(json.dumps({**text, "precision": "fp16"}), encoding="utf-8")
    with pytest.raises(ModelError, match="calibrate the fp32 export"):
        calibrate(str(folder), [str(pictures)], tmp_path / "table.json", count=16)


def test_keeping_every_layer_is_refused(folder: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all 6 layers"):
        calibrate(str(folder), [str(pictures)], tmp_path / "table.json", count=16, keep_worst=6)


@pytest.mark.parametrize("place", ["", "no/such/folder/table.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    folder: Path, tmp_path: Path, place: str
) -> None:
    with pytest.raises(InputError, match="-o "):
        calibrate(str(folder), ["no frames are read"], tmp_path / place)


def test_a_layer_whose_input_is_zero_on_every_frame_stays_in_floating_point(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    model = onnx.load(folder / "both.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "fc1.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(64, -1e6, np.float32), tensor.name))
    save_graph(folder, model)
    calibrate(str(folder), [str(pictures)], tmp_path / "table.json", count=16)
    layers = read_table(tmp_path / "table.json").graphs["both.onnx"].layers
    assert [layer.output for layer in layers if layer.kept] == ["fc2"]
