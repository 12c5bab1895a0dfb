"""The TensorRT engine on a stand-in that computes its graph: 4 x 4 means, made a unit vector."""

import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from skyfix.export.engine import engines_from_model
from skyfix.export.pictures import with_preprocessing
from skyfix.runtime.encoder import Encoder, normalised
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    BuildOptions,
    Finding,
    VerifyRecord,
    record_path,
)
from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.engines.split import EngineSplit
from skyfix.runtime.engines.trt import (
    MAX_PLANS,
    TensorRTEngine,
    TensorRTPictureEngine,
    open_tensorrt,
)
from skyfix.runtime.errors import CudaError, DeviceMemoryError, EngineError, SkyfixError
from skyfix.runtime.files import write_json
from skyfix.runtime.types import Patch

OPTIONS = BuildOptions(min_batch=1, best_batch=1, max_batch=10, workspace_mib=64, level=3)


@pytest.fixture
def device(fake_tensorrt: Device) -> Device:
    return fake_tensorrt


@pytest.fixture
def graph(device: Device, tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A graph with an engine that was built on this device."""
    assert device.name == "Fake Orin"
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))
    engines_from_model(folder, OPTIONS)
    return folder / "both.onnx"


def card_of(graph: Path) -> ModelCard:
    return load_card(graph.parent)


def patches(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)


def pooled(batch: NDArray[np.float32]) -> Any:
    """What the tiny model's graph makes of patches, computed without a graph."""
    means = batch.reshape(len(batch), 3, 8, 4, 8, 4).mean((3, 5)).reshape(len(batch), -1)
    return pytest.approx(means / np.linalg.norm(means, axis=1, keepdims=True), abs=1e-6)


def opened(graph: Path, *, unchecked: bool = False) -> TensorRTEngine:
    engine = open_tensorrt(graph, card_of(graph), unchecked=unchecked)
    assert isinstance(engine, TensorRTEngine)
    return engine


@pytest.mark.parametrize("count", [1, 3, 10, 11, 25])
def test_any_batch_gives_each_patch_its_own_row(graph: Path, count: int) -> None:
    engine = opened(graph)
    for seed in range(3):  # the capture, then replays on other numbers
        batch = patches(count, seed)
        assert engine.infer(batch) == pooled(batch)


def test_results_stay_when_the_next_batch_comes(graph: Path) -> None:
    engine = opened(graph)
    first = engine.infer(patches(2, 0))
    engine.infer(patches(2, 1))
    assert first == pooled(patches(2, 0))


def counted_calls(device: Device, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    calls: Counter[str] = Counter()
    real = device.driver.call

    def counted(function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        calls[function] += 1
        return real(function, *arguments)

    monkeypatch.setattr(device.driver, "call", counted)
    return calls


def test_after_the_first_batch_of_a_size_only_its_graph_is_launched(
    device: Device, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(graph)
    engine.infer(patches(3))
    calls = counted_calls(device, monkeypatch)
    engine.infer(patches(3))
    assert calls == {"cuGraphLaunch": 1, "cuStreamSynchronize": 1}


def test_more_sizes_than_plans_free_the_one_not_used_for_longest(
    device: Device, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted_calls(device, monkeypatch)
    engine = opened(graph)
    sizes = range(1, MAX_PLANS + 1)
    for size in (*sizes, 1):  # 2 is now the oldest
        engine.infer(patches(size))
    assert calls["cuGraphExecDestroy"] == 0
    engine.infer(patches(MAX_PLANS + 1))
    assert calls["cuGraphExecDestroy"] == 1
    calls.clear()
    engine.infer(patches(1))
    assert calls["cuGraphInstantiate"] == 0
    engine.infer(patches(2))
    assert calls["cuGraphInstantiate"] == 1


def test_where_no_graph_can_be_captured_each_step_is_launched_and_said(
    graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_CUDA_NO_CAPTURE", "1")
    engine = opened(graph)
    caplog.clear()  # of the batch that is made ready at once
    for seed in range(2):
        assert engine.infer(patches(2, seed)) == pooled(patches(2, seed))
    assert caplog.text.count("no CUDA graph") == 1


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("deserialize", EngineError, "version tag does not match"),
        ("half", EngineError, "descriptor HALF"),
        ("context", DeviceMemoryError, "3 of 8 MiB are free"),
        ("run", EngineError, "refused to run"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_words(
    graph: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: type[SkyfixError], words: str
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", step)
    with pytest.raises(error, match=words):
        opened(graph).infer(patches(1))


def test_a_full_gpu_is_told_before_the_first_frame_and_at_a_larger_batch(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(graph)
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000")
    with pytest.raises(DeviceMemoryError, match="smaller batches"):
        engine.infer(patches(2))
    with pytest.raises(DeviceMemoryError, match="smaller batches"):
        opened(graph)


def test_a_kernel_that_fails_is_an_error_and_no_descriptor(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(graph)
    engine.infer(patches(1))
    monkeypatch.setenv("FAKE_CUDA_SYNC", "700")
    with pytest.raises(CudaError, match="memory that is not its own"):
        engine.infer(patches(1))


def test_a_truncated_engine_never_reaches_the_library(graph: Path) -> None:
    engine = graph.with_name("both.engine")
    engine.write_bytes(engine.read_bytes()[:-9])  # the stand-in fails on these bytes
    with pytest.raises(EngineError, match="not the file that was built"):
        opened(graph)


def test_an_engine_of_another_tensorrt_never_reaches_the_library(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt.__version__", "10.7.0")
    with pytest.raises(EngineError, match=r"built with tensorrt 10\.3\.0, here it is 10\.7\.0"):
        opened(graph)


def test_an_engine_of_another_length_than_the_card_says_is_refused(graph: Path) -> None:
    card = msgspec.structs.replace(card_of(graph), dimension=64)
    with pytest.raises(EngineError, match=r"descriptor float32 \(any, 64\)"):
        open_tensorrt(graph, card)


def checked(graph: Path, *, passed: bool) -> None:
    """Leave the record of a check for the engine that lies there."""
    digest = msgspec.json.decode(record_path(graph.with_name("both.engine")).read_bytes())
    finding = Finding(
        engine="tensorrt", graph=graph.name, sha256=digest["engine_sha256"], reference="onnx",
        patches=64, min_cosine=1.0 if passed else 0.42, mean_cosine=1.0, gate=0.99, passed=passed,
        top1_agreement=None,
    )  # fmt: skip
    write_json(graph.with_name("verify.json"), VerifyRecord(RECORD_SCHEMA, "id", [finding]))


def test_an_engine_that_failed_its_check_is_refused_until_named_unchecked(graph: Path) -> None:
    checked(graph, passed=False)
    with pytest.raises(EngineError, match=r"cosine to onnx 0\.42000.*tensorrt-unchecked"):
        opened(graph)
    engine = opened(graph, unchecked=True)
    assert engine.infer(patches(1)) == pooled(patches(1))


def test_an_engine_without_a_check_runs_with_a_warning_and_one_that_passed_without(
    graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opened(graph)
        assert "never compared" in caplog.text
        caplog.clear()
        checked(graph, passed=True)
        opened(graph)
        assert caplog.text == ""


@pytest.fixture
def picture_graph(device: Device, tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A graph whose TensorRT variant, and so its engine, normalises pictures itself."""
    assert device.name == "Fake Orin"
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "pictures"))
    graph = folder / "both.onnx"
    onnx.save(with_preprocessing(onnx.load(graph), load_card(folder)), folder / "both.trt.onnx")
    engines_from_model(folder, OPTIONS)
    return graph


def seen(count: int, seed: int) -> list[Patch]:
    """Patches as they are cut from frames: parts of a larger picture, part of it not valid."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
    valid = rng.random((64, 64)) < 0.8
    picture[~valid] = 0
    corners = rng.integers(0, 32, (count, 2))
    return [
        Patch(picture[y : y + 32, x : x + 32], valid[y : y + 32, x : x + 32], 1.0, (0.0, 0.0))
        for y, x in corners
    ]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_where_the_engine_normalises_the_encoder_hands_over_the_pictures(
    picture_graph: Path, count: int
) -> None:
    card = card_of(picture_graph)
    engine = open_tensorrt(picture_graph, card)
    assert isinstance(engine, TensorRTPictureEngine)
    for seed in range(3):
        patches = seen(count, seed)
        expected = np.stack([normalised(patch, None, None) for patch in patches])
        assert Encoder(card, engine).describe(patches) == pooled(expected)


def test_pictures_are_copied_to_the_gpu_as_bytes(
    device: Device, picture_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    real = device.driver.call

    def recorded(function: str, *arguments: int | bytes) -> tuple[int | float, ...]:
        if function == "cuMemcpyHtoDAsync":
            copied.append(int(arguments[2]))
        return real(function, *arguments)

    monkeypatch.setenv("FAKE_CUDA_NO_CAPTURE", "1")
    monkeypatch.setattr(device.driver, "call", recorded)
    engine = open_tensorrt(picture_graph, card_of(picture_graph))
    assert isinstance(engine, TensorRTPictureEngine)
    engine.describe(np.zeros((5, 32, 32, 3), np.uint8), np.ones((5, 32, 32), bool))
    once = [5 * 32 * 32 * 3, 5 * 32 * 32]  # a third of 5 * 3 * 32 * 32 * 4
    assert copied[-4:] == [*once, *once]  # kernels are loaded by a first run


@pytest.mark.parametrize("variable", ["", "FAKE_CUDA_NO_CAPTURE"])
def test_each_batch_tells_its_split_once_a_benchmark_listens(
    graph: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    engine = opened(graph)
    engine.infer(patches(2))
    splits: list[EngineSplit] = []
    engine.tell_splits(splits)
    for seed in range(3):
        assert engine.infer(patches(2, seed)) == pooled(patches(2, seed))
    engine.infer(patches(13))  # in two parts
    assert len(splits) == 5
    assert {split[:3] for split in splits} == {(1.5, 1.5, 1.5)}  # the stand-in's clock
    assert all(split.enqueue_ms > 0 for split in splits)
