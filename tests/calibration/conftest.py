"""A small network with everything that the placement has to tell apart."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    load_card,
    model_id_from_graphs,
    save_card,
)

INPUT_PX = 32
DIMENSION = 24
ATTENTION = """
<opset_import: ["" : 18], domain: "skyfix">
LinearAttention <eps> (q, k, v) => (out)
{
    turned = Transpose <perm = [0, 2, 1]> (k)
    sums = MatMul (turned, v)
    out = MatMul (q, sums)
}
"""


def small_network(seed: int = 0, opset: int = 18) -> onnx.ModelProto:
    """Stem, depthwise, MatMul pair, downsampling, q/k/v, attention function, head, unit length."""
    rng = np.random.default_rng(seed)
    weights = {
        "stem.weight": rng.normal(size=(16, 3, 2, 2), scale=0.3),
        "dw.weight": rng.normal(size=(16, 1, 3, 3), scale=0.3),
        "fc1.weight": rng.normal(size=(16, 64), scale=0.25),
        "fc1.bias": rng.normal(size=64, scale=0.1),
        "fc2.weight": rng.normal(size=(16, 64), scale=0.12),
        "fc2.gamma": rng.uniform(0.2, 1.0, size=(16, 1)),
        "down.weight": rng.normal(size=(32, 16, 2, 2), scale=0.15),
        "q.weight": rng.normal(size=(32, 32), scale=0.2),
        "k.weight": rng.normal(size=(32, 32), scale=0.2),
        "v.weight": rng.normal(size=(32, 32), scale=0.2),
        "narrow.weight": rng.normal(size=(32, 4), scale=0.01),
        "head.weight": rng.normal(size=(DIMENSION, 256), scale=0.1),
    }
    nodes = [
        helper.make_node("Conv", ["patch", "stem.weight"], ["stem"], strides=[2, 2]),
        helper.make_node("Conv", ["stem", "dw.weight"], ["dw"], group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["dw"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["last", "fc1.weight"], ["fc1"]),
        helper.make_node("Add", ["fc1", "fc1.bias"], ["fc1_sum"]),
        helper.make_node("Relu", ["fc1_sum"], ["relu"]),
        helper.make_node("Mul", ["fc2.weight", "fc2.gamma"], ["fc2_scaled"]),
        helper.make_node("Transpose", ["fc2_scaled"], ["fc2_turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["relu", "fc2_turned"], ["fc2"]),
        helper.make_node("Add", ["last", "fc2"], ["residual"]),
        helper.make_node("Transpose", ["residual"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "down.weight"], ["down"], strides=[2, 2]),
        helper.make_node("Reshape", ["down", "flat"], ["tokens"]),
        helper.make_node("Transpose", ["tokens"], ["rows"], perm=[0, 2, 1]),
        *(helper.make_node("MatMul", ["rows", f"{n}.weight"], [n]) for n in "qkv"),
        helper.make_node("LinearAttention", list("qkv"), ["mixed"], domain="skyfix", eps=1e-6),
        helper.make_node("MatMul", ["mixed", "narrow.weight"], ["narrow"]),
        helper.make_node("Tanh", ["narrow"], ["bounded"]),
        helper.make_node("Flatten", ["bounded"], ["vector"]),
        helper.make_node("Gemm", ["vector", "head.weight"], ["head"], transB=1),
        helper.make_node("LpNormalization", ["head"], ["descriptor"], axis=1),
    ]
    stored = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    stored.append(numpy_helper.from_array(np.array([0, 32, 64], np.int64), "flat"))
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("patch", TensorProto.FLOAT, ["B", 3, INPUT_PX, INPUT_PX])],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["B", DIMENSION])],
        stored,
    )  # fmt: skip
    return helper.make_model(
        graph, functions=[parser.parse_function(ATTENTION)], ir_version=9,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("skyfix", 1)],
    )  # fmt: skip


def noise_inputs(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Network inputs (count, 3, P, P)."""
    shape = (count, 3, INPUT_PX, INPUT_PX)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    return small_network()


@pytest.fixture
def inputs() -> NDArray[np.float32]:
    return noise_inputs(20)


@pytest.fixture
def folder(tmp_path: Path, network: onnx.ModelProto) -> Path:
    """A model folder of the small network."""
    path = tmp_path / "small"
    path.mkdir()
    onnx.save(network, path / "both.onnx")
    graphs = {"query": "both.onnx", "map": "both.onnx"}
    save_card(
        path,
        ModelCard(
            schema=CARD_SCHEMA, name="small", model_id=model_id_from_graphs(path, graphs),
            architecture="small", graphs=graphs, input_px=INPUT_PX, gsd_m=1.0, mean=None, std=None,
            dimension=DIMENSION, precision="fp32", licence="Apache-2.0",
            training=TrainingRecord("none", 0, 0.0, "none", {}),
        ),
    )  # fmt: skip
    return path


@pytest.fixture
def card(folder: Path) -> ModelCard:
    return load_card(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty pictures of noise, each of another coarseness."""
    path = tmp_path / "pictures"
    path.mkdir()
    rng = np.random.default_rng(5)
    for index in range(20):
        small = rng.integers(0, 255, (4 + index, 6 + index, 3), np.uint8)
        image = cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path / f"{index:02d}.png"), image)
    return path
