"""The TensorRT engine on a stand-in: it doubles the first numbers of each patch."""

import logging
import shutil
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.export.engine import engines_from_model
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    BuildOptions,
    Finding,
    VerifyRecord,
    record_path,
    write_json,
)
from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.engines.trt import MAX_PLANS, TensorRTEngine
from skyfix.runtime.errors import CudaError, DeviceMemoryError, EngineError, SkyfixError

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


def doubled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return 2 * batch.reshape(len(batch), -1)[:, :192]


@pytest.mark.parametrize("count", [1, 3, 10, 11, 25])
def test_any_batch_gives_each_patch_its_own_row(graph: Path, count: int) -> None:
    engine = TensorRTEngine(graph, card_of(graph))
    for seed in range(3):  # the capture, then replays on other numbers
        batch = patches(count, seed)
        assert np.array_equal(engine.infer(batch), doubled(batch))


def test_results_stay_when_the_next_batch_comes(graph: Path) -> None:
    engine = TensorRTEngine(graph, card_of(graph))
    first = engine.infer(patches(2, 0))
    engine.infer(patches(2, 1))
    assert np.array_equal(first, doubled(patches(2, 0)))


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
    engine = TensorRTEngine(graph, card_of(graph))
    engine.infer(patches(3))
    calls = counted_calls(device, monkeypatch)
    engine.infer(patches(3))
    assert calls == {"cuGraphLaunch": 1, "cuStreamSynchronize": 1}


def test_more_sizes_than_plans_free_the_one_not_used_for_longest(
    device: Device, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted_calls(device, monkeypatch)
    engine = TensorRTEngine(graph, card_of(graph))
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
    engine = TensorRTEngine(graph, card_of(graph))
    for seed in range(2):
        assert np.array_equal(engine.infer(patches(2, seed)), doubled(patches(2, seed)))
    assert caplog.text.count("no CUDA graph") == 1


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("deserialize", EngineError, "version tag does not match"),
        ("half", EngineError, "both float32"),
        ("context", DeviceMemoryError, "3 of 8 MiB are free"),
        ("run", EngineError, "refused to run"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_words(
    graph: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: type[SkyfixError], words: str
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", step)
    with pytest.raises(error, match=words):
        TensorRTEngine(graph, card_of(graph)).infer(patches(1))


def test_a_full_gpu_is_told_when_the_buffers_are_wanted(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TensorRTEngine(graph, card_of(graph))
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000")
    with pytest.raises(DeviceMemoryError, match="smaller batches"):
        engine.infer(patches(1))


def test_a_kernel_that_fails_is_an_error_and_no_descriptor(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TensorRTEngine(graph, card_of(graph))
    engine.infer(patches(1))
    monkeypatch.setenv("FAKE_CUDA_SYNC", "700")
    with pytest.raises(CudaError, match="memory that is not its own"):
        engine.infer(patches(1))


def test_a_truncated_engine_never_reaches_the_library(graph: Path) -> None:
    engine = graph.with_name("both.engine")
    engine.write_bytes(engine.read_bytes()[:-9])  # the stand-in fails on these bytes
    with pytest.raises(EngineError, match="not the file that was built"):
        TensorRTEngine(graph, card_of(graph))


def test_an_engine_of_another_tensorrt_never_reaches_the_library(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt.__version__", "10.7.0")
    with pytest.raises(EngineError, match=r"built with tensorrt 10\.3\.0, here it is 10\.7\.0"):
        TensorRTEngine(graph, card_of(graph))


def test_an_engine_of_another_length_than_the_card_says_is_refused(graph: Path) -> None:
    card = msgspec.structs.replace(card_of(graph), dimension=64)
    with pytest.raises(EngineError, match="the card says 64"):
        TensorRTEngine(graph, card)


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
        TensorRTEngine(graph, card_of(graph))
    engine = TensorRTEngine(graph, card_of(graph), unchecked=True)
    assert np.array_equal(engine.infer(patches(1)), doubled(patches(1)))


def test_an_engine_without_a_check_runs_with_a_warning_and_one_that_passed_without(
    graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TensorRTEngine(graph, card_of(graph))
        assert "never compared" in caplog.text
        caplog.clear()
        checked(graph, passed=True)
        TensorRTEngine(graph, card_of(graph))
        assert caplog.text == ""
