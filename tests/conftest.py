"""Fixtures that all tests share: the real data, a real tiny model, a map full of structure."""

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper

from skyfix.runtime.encoder import Model, load_model
from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
INPUT_PX = 32

# timings mean nothing on a shared machine; in CI the same examples run every time
settings.register_profile("skyfix", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("skyfix")
DIMENSION = 3 * 8 * 8


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real flights and maps; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data in ../shared/data beside the repository are not there")
    return SHARED_DATA


def write_model(folder: Path, exponent: int = 2) -> Path:
    """A model whose descriptor is the patch itself at 8 x 8 pixels."""
    folder.mkdir()
    graph = helper.make_graph(
        [
            helper.make_node(
                "AveragePool", ["patch"], ["small"], kernel_shape=[4, 4], strides=[4, 4]
            ),
            helper.make_node("Flatten", ["small"], ["flat"], axis=1),
            helper.make_node("LpNormalization", ["flat"], ["descriptor"], axis=1, p=exponent),
        ],
        "tiny",
        [helper.make_tensor_value_info("patch", TensorProto.FLOAT, ["B", 3, INPUT_PX, INPUT_PX])],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["B", DIMENSION])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "both.onnx")
    graphs = {"query": "both.onnx", "map": "both.onnx"}
    card = ModelCard(
        schema=CARD_SCHEMA, name="tiny", model_id=model_id_from_graphs(folder, graphs),
        architecture="pool", graphs=graphs, input_px=INPUT_PX, gsd_m=1.0, mean=None, std=None,
        dimension=DIMENSION, precision="fp32", licence="Apache-2.0",
        training=TrainingRecord(config="none", steps=0, hours=0.0, device="none", imagery={}),
    )  # fmt: skip
    save_card(folder, card)
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> Model:
    return load_model(tiny_model_folder, threads=1)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_model(tmp_path_factory.mktemp("models") / "other", 1), threads=1)


@pytest.fixture(scope="session")
def town() -> Raster:
    """Random blobs, 260 x 240 m at 0.5 m a pixel."""
    noise = np.random.default_rng(3).normal(size=(480, 520, 3)).astype(np.float32)
    field = np.sum(
        [cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (2.0, 6.0, 18.0)], axis=0
    )
    image = np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)
    frame = LocalFrame(47.37, 8.54)
    return Raster(image, np.ones((480, 520), bool), frame, -130.0, 120.0, 0.5)
