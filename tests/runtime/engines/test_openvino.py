"""OpenVINO beside onnxruntime on the shipped model."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import onnx
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
def test_a_signal_after_engines_were_let_go_finds_its_stack(tiny_model_folder: Path) -> None:
    program = """
import signal, sys
from pathlib import Path
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.openvino import OpenVinoEngine

folder = Path(sys.argv[1])
engines = [OpenVinoEngine(folder / "both.onnx", load_card(folder), 1) for _ in range(2)]
del engines[0]
del engines[0]
signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    # the fault handler gives the process its first signal stack
    command = [sys.executable, "-X", "faulthandler", "-c", program, str(tiny_model_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


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


ATTENTION = """<ir_version: 10, opset_import: ["": 20, "skyfix": 1]>
one (float[B, 3, 32, 32] patch) => (float[B, 192] descriptor)
    <int64[4] heads = {{0, 1, 3, 64}}> {{
    small = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (patch)
    tokens = Reshape (small, heads)
    mixed = skyfix.LinearAttention <{attributes}> (tokens, tokens, tokens)
    flat = Flatten <axis = 1> (mixed)
    descriptor = LpNormalization <axis = 1, p = 2> (flat)
}}"""


def attention_graph(folder: Path, attributes: str) -> Path:
    text = ATTENTION.format(attributes=attributes)
    onnx.save(onnx.parser.parse_model(text), folder / "graph.onnx")
    return folder / "graph.onnx"


@needs_openvino
def test_linear_attention_is_the_sum_over_all_pairs_with_the_epsilon_that_it_states(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    card = load_card(tiny_model_folder)
    patch = np.random.default_rng(3).normal(0, 4, (1, 3, 32, 32)).astype(np.float32)
    tokens = patch[0].reshape(3, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(3, 64).astype(np.float64)
    weight = np.where(tokens > 0, tokens + 1, np.exp(np.minimum(tokens, 0)))
    for epsilon in (1e-6, 900.0):
        pairs = weight @ weight.T
        flat = (pairs @ tokens / (pairs.sum(axis=1, keepdims=True) + epsilon)).ravel()
        engine = OpenVinoEngine(attention_graph(tmp_path, f"epsilon = {epsilon}"), card, 1)
        expected = flat / np.linalg.norm(flat)
        assert engine.infer(patch)[0] == pytest.approx(expected, abs=1e-5)


@needs_openvino
def test_attention_without_its_epsilon_is_refused_and_not_taken_as_none(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    graph = attention_graph(tmp_path, 'plugin_version = "1"')
    with pytest.raises(ModelError, match=r"LinearAttention does not state its epsilon"):
        OpenVinoEngine(graph, load_card(tiny_model_folder), 1)
