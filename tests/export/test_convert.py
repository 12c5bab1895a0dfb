"""A model at hand as graphs only, in another precision: near its source, or not there at all."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

from skyfix.export import convert
from skyfix.export.convert import model_from_model
from skyfix.export.onnx import Plan
from skyfix.export.operators import element_types
from skyfix.export.samples import patches_from_drawing
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    load_card,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.errors import InputError, ModelError

GRAPH = "encoder.onnx"
ENGINE_GRAPH = "encoder.trt.onnx"
INPUT_PX = 32
DIMENSION = 24
NETWORK = """<ir_version: 10, opset_import: ["": 20]>
g (float[B, 3, 32, 32] patch) => (float[B, 24] descriptor)
<float[16, 3, 4, 4] stem, float[16] scale, float[16] shift, float[16, 64] wide,
 float[64, 16] back, float[1024, 24] head, int64[1] last = {1}, float floor = {1e-12}> {
    small = Conv <strides = [4, 4]> (patch, stem)
    rows = Transpose <perm = [0, 2, 3, 1]> (small)
    norm = LayerNormalization <axis = -1> (rows, scale, shift)
    spread = MatMul (norm, wide)
    curved = Gelu (spread)
    folded = MatMul (curved, back)
    sum = Add (rows, folded)
    flat = Flatten (sum)
    vector = MatMul (flat, head)
    length = ReduceL2 <keepdims = 1> (vector, last)
    held = Clip (length, floor)
    descriptor = Div (vector, held)
}"""
SHAPES = {
    "stem": (16, 3, 4, 4), "wide": (16, 64), "back": (64, 16), "head": (1024, DIMENSION),
}  # fmt: skip


def network(seed: int = 0) -> onnx.ModelProto:
    """A convolution, a norm, three products and the unit length, with drawn weights."""
    rng = np.random.default_rng(seed)
    model = parser.parse_model(NETWORK)
    weights = {name: rng.normal(size=shape, scale=0.2) for name, shape in SHAPES.items()}
    weights |= {"scale": np.ones(16), "shift": np.zeros(16)}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()
    )
    del model.graph.value_info[:]
    return model


def write_source(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    onnx.save(network(seed), folder / GRAPH)
    graphs = {"query": GRAPH, "map": GRAPH}
    save_card(folder, ModelCard(
        schema=CARD_SCHEMA, name="source", model_id=model_id_from_graphs(folder, graphs),
        architecture="drawn", graphs=graphs, input_px=INPUT_PX, gsd_m=1.5, mean=None, std=None,
        dimension=DIMENSION, precision="fp32", licence="Apache-2.0",
        training=TrainingRecord("none", 7, 0.5, "none", {"a": "CC0"}),
    ))  # fmt: skip
    return folder


def write_table(source: Path, folder: Path) -> Path:
    """A table of `skyfix calibrate`, of twenty pictures of noise."""
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(5)
    for index in range(20):
        small = rng.integers(0, 255, (4 + index, 6 + index, 3), np.uint8)
        image = cv2.resize(small, (192, 144), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(pictures / f"{index:02d}.png"), image)
    table = folder / "table.json"
    assert exit_code("calibrate", source, "--frames", pictures, "-o", table, "--count", 16) == 0
    return table


def exit_code(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def cosines(source: Path, other: Path) -> NDArray[np.float32]:
    """Between the descriptors of two models, on drawn land, as the aircraft computes them."""
    first, second = load_model(source, threads=1), load_model(other, threads=1)
    patches = patches_from_drawing(first.card, 12)
    alike: NDArray[np.float32] = np.sum(
        first.query.describe(patches) * second.query.describe(patches), axis=1
    )
    return alike


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("models") / "source")


@pytest.fixture(scope="module")
def table(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(source, tmp_path_factory.mktemp("table"))


def test_an_fp16_model_loads_and_its_descriptors_are_the_sources(
    source: Path, tmp_path: Path
) -> None:
    card, written = model_from_model(source, tmp_path / "half", Plan("fp16"))
    assert written[GRAPH].parity.cosine > 0.9999
    assert cosines(source, tmp_path / "half").min() > 0.9999
    old, new = load_card(source), load_card(tmp_path / "half")
    assert new == card
    assert (new.name, new.precision) == ("half", "fp16")
    assert (new.gsd_m, new.licence, new.training) == (old.gsd_m, old.licence, old.training)
    assert new.model_id != old.model_id
    types = element_types(onnx.load(tmp_path / "half" / GRAPH))
    assert {types[name] for name in ("wide", "back", "head")} == {TensorProto.FLOAT16}
    taken = onnx.load(tmp_path / "half" / ENGINE_GRAPH).graph.input
    assert [value.name for value in taken] == ["picture", "valid"]


def test_int8_layers_stand_in_the_graph_and_the_descriptors_stay_near(
    source: Path, table: Path, tmp_path: Path
) -> None:
    _, written = model_from_model(source, tmp_path / "int8", Plan("int8", calibration=table))
    assert 0.99 <= written[GRAPH].parity.cosine < 0.999999
    assert cosines(source, tmp_path / "int8").min() > 0.99
    assert load_card(tmp_path / "int8").precision == "int8"
    for file in (GRAPH, ENGINE_GRAPH):
        nodes = onnx.load(tmp_path / "int8" / file).graph.node
        assert sum(node.op_type == "QuantizeLinear" for node in nodes) == 2  # the pair of products


def test_the_verb_takes_a_model_where_it_takes_a_checkpoint(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("export", source, "-o", tmp_path / "half", "--precision", "fp16") == 0
    assert "encoder.onnx, rounded as on a GPU: smallest cosine 1 - " in capsys.readouterr().out
    assert load_card(tmp_path / "half").precision == "fp16"
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_an_fp16_model_is_no_source(source: Path, table: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    model_from_model(source, half, Plan("fp16"))
    for plan in (Plan("fp16"), Plan("int8", calibration=table)):
        with pytest.raises(InputError, match="half is a model of fp16: only fp32 is converted"):
            model_from_model(half, tmp_path / "again", plan)
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "only fp32 is converted, and to --precision fp16"),
        (("--precision", "fp16", "--opset", 19), "--opset: the graphs of .* are written"),
        (("--precision", "fp16", "--gsd", 0.5), "--gsd: .* says 1.5 m/px"),
        (("--precision", "int8"), "--precision int8 and --calibration TABLE go together"),
        (("--precision", "fp16", "--calibration", "t.json"), "go together"),
        (("--precision", "int8", "--calibration", "t.json"), "t.json cannot be read"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(
    words: tuple[object, ...], message: str, source: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert exit_code("export", source, "-o", tmp_path / "m", *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="m exists; name a new folder"):
        model_from_model(source, tmp_path / "m", Plan("fp16"))
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "mine.txt"]


def test_a_table_of_another_graph_is_refused(table: Path, tmp_path: Path) -> None:
    other = write_source(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="was calibrated for another graph"):
        model_from_model(other, tmp_path / "int8", Plan("int8", calibration=table))
    assert not (tmp_path / "int8").exists()


def test_a_table_that_lacks_the_graph_is_refused(source: Path, table: Path, tmp_path: Path) -> None:
    planted = json.loads(table.read_text(encoding="utf-8"))
    planted["graphs"] = {"street.onnx": planted["graphs"][GRAPH]}
    (tmp_path / "table.json").write_text(json.dumps(planted), encoding="utf-8")
    plan = Plan("int8", calibration=tmp_path / "table.json")
    with pytest.raises(ModelError, match=r"for street\.onnx, it holds nothing for encoder\.onnx"):
        model_from_model(source, tmp_path / "int8", plan)
    assert not (tmp_path / "int8").exists()


def test_a_source_that_was_altered_is_refused(tmp_path: Path) -> None:
    """The fault: the last byte of the graph is lost."""
    folder = write_source(tmp_path / "source")
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes()[:-1])
    with pytest.raises(ModelError, match="altered or replaced"):
        model_from_model(folder, tmp_path / "half", Plan("fp16"))
    assert not (tmp_path / "half").exists()


def test_a_graph_that_is_far_from_its_source_never_gets_the_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: what is converted has other weights than what it is compared with."""
    monkeypatch.setattr(onnx, "load", lambda _: network(seed=2))
    with pytest.raises(ModelError, match="are not those of the source"):
        model_from_model(source, tmp_path / "half", Plan("fp16"))
    assert not (tmp_path / "half").exists()


def test_an_interrupted_conversion_leaves_no_model_and_does_not_stop_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: Ctrl-C where the first graph is written and its check begins."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(convert, "checked", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model_from_model(source, tmp_path / "half", Plan("fp16"))
    assert not (tmp_path / "half").exists()
    model_from_model(source, tmp_path / "half", Plan("fp16"))
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


@pytest.mark.slow
def test_the_shipped_model_in_fp16_and_int8(tmp_path: Path) -> None:
    shipped = Path(convert.__file__).parents[1] / "runtime" / "models" / "nano"
    assert exit_code("export", "nano", "-o", tmp_path / "half", "--precision", "fp16") == 0
    assert cosines(shipped, tmp_path / "half").min() > 0.9999
    table = write_table(shipped, tmp_path)
    words = ("--precision", "int8", "--calibration", table)
    assert exit_code("export", "nano", "-o", tmp_path / "int8", *words) == 0
    assert cosines(shipped, tmp_path / "int8").min() > 0.99
