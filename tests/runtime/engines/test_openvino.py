"""OpenVINO beside onnxruntime on the shipped model."""

import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest

from skyfix.runtime.encoder import SHIPPED_MODELS
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.engines.openvino import OpenVinoEngine
from skyfix.runtime.errors import EngineError, MissingExtraError, ModelError

NANO = SHIPPED_MODELS / "nano"
needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None,
    reason="openvino is not installed: pip install 'skyfix[openvino]'",
)


def graph_of(folder: Path) -> Path:
    return folder / load_card(folder).graphs["query"]


@needs_openvino
def test_it_gives_onnxruntimes_descriptors_of_the_shipped_model_at_any_batch() -> None:
    card = load_card(NANO)
    shape = (9, 3, card.input_px, card.input_px)
    batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    batch[:, :, :40, :40] = 0  # as a rotated frame has
    expected = OnnxEngine(graph_of(NANO), card, 1).infer(batch)
    engine = OpenVinoEngine(graph_of(NANO), card, 1)
    assert engine.precision == "f32"
    # one patch, a part of eight, and what is left: each has a compiled graph of its own
    for rows in (slice(None), slice(0, 8), slice(0, 9, 2), slice(3, 4)):
        assert np.abs(engine.infer(batch[rows]) - expected[rows]).max() < 1e-5


@needs_openvino
def test_bf16_is_close_and_is_granted_or_refused_aloud() -> None:
    card = load_card(NANO)
    shape = (4, 3, card.input_px, card.input_px)
    batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    try:
        engine = OpenVinoEngine(graph_of(NANO), card, 1, bf16=True)
    except EngineError as error:
        assert "no bf16 instructions" in str(error)  # noqa: PT017  either answer is right
        return
    assert engine.precision == "bf16"
    expected = OnnxEngine(graph_of(NANO), card, 1).infer(batch)
    cosines = np.sum(engine.infer(batch) * expected, axis=1)
    assert cosines.min() > 0.995


@needs_openvino
def test_a_graph_that_cannot_be_read_is_a_model_error(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    card = load_card(tiny_model_folder)
    whole = (tiny_model_folder / "both.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="Export it again"):
        OpenVinoEngine(tmp_path / "half.onnx", card, 1)


def test_without_the_package_the_extra_is_named(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"skyfix\[openvino\]"):
        OpenVinoEngine(tiny_model_folder / "both.onnx", load_card(tiny_model_folder), 1)


@needs_openvino
def test_only_a_graph_of_lower_precision_is_computed_in_bf16_unasked(
    tiny_model_folder: Path,
) -> None:
    card = load_card(tiny_model_folder)
    graph = tiny_model_folder / "both.onnx"
    half = OpenVinoEngine(graph, msgspec.structs.replace(card, precision="int8"), 1)
    assert OpenVinoEngine(graph, card, 1).precision == "f32"
    assert half.precision in {"bf16", "f32"}  # f32 where the processor has no bf16


@needs_openvino
def test_a_graph_of_another_length_than_the_card_says_is_refused_at_once() -> None:
    card = msgspec.structs.replace(load_card(NANO), dimension=64)
    with pytest.raises(ModelError, match=r"descriptor float32 \(any, 256\).*\(any, 64\)"):
        OpenVinoEngine(graph_of(NANO), card, 1)
