"""Fixtures that all tests share: the real data, a real tiny model, a map full of structure."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper

from skyfix.runtime.encoder import Model, load_model
from skyfix.runtime.engines import cuda_driver
from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.engines.cuda import Device, open_device
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FAKES = Path(__file__).parent / "fakes"  # a driver and a TensorRT where there is neither
INPUT_PX = 32
Run = Callable[[str], "subprocess.CompletedProcess[str]"]

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


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1; skipped where there is no C compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the stand-in for the driver cannot be compiled")
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-o", folder / "libcuda.so.1",
         FAKES / "libcuda.c", "-ldl"],
        check=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def run(fake_driver: Path) -> Run:
    """Run Python in a process of its own that finds the stand-in as the system's driver."""

    def run_python(code: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "LD_LIBRARY_PATH": str(fake_driver)},
        )  # fmt: skip

    return run_python


@pytest.fixture
def fake_gpu(fake_driver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """open_device() opens the stand-in, by ctypes."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(fake_driver / "libcuda.so.1"))
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    open_device.cache_clear()
    yield open_device()
    open_device.cache_clear()


@pytest.fixture
def fake_tensorrt(
    fake_gpu: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Device]:
    """`import tensorrt` gets the stand-in; timing caches go to a folder of the test."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sys.modules.pop("tensorrt", None)
    yield fake_gpu
    sys.modules.pop("tensorrt", None)
