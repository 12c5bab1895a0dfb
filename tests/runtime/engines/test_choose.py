"""The caller names an engine, or is told which one `auto` took and why."""

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skyfix.export.engine import engines_from_model
from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines import choose as choosing
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.built import (
    RECORD_SCHEMA,
    BuildOptions,
    Finding,
    VerifyRecord,
    read_record,
)
from skyfix.runtime.engines.choose import ENGINES, choose, installed_engines, open_engine
from skyfix.runtime.engines.cuda import Device, open_device
from skyfix.runtime.errors import CudaError, InputError, MissingExtraError
from skyfix.runtime.files import write_json

OPTIONS = BuildOptions(1, 1, 4, 64, 3)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """State which packages are found."""

    def only(*packages: str) -> None:
        monkeypatch.setattr(choosing, "find_spec", lambda name: name in packages or None)

    return only


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


@pytest.fixture
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.mark.parametrize("name", ENGINES)
def test_a_named_engine_is_the_one_that_is_taken(name: str, folder: Path) -> None:
    assert choose(name, [folder / "both.onnx"], "fp32").name == name


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match="auto, onnx, openvino, openvino-bf16, tensorrt"):
        choose("tensorflow", [], "fp32")


@pytest.mark.usefixtures("x86")
def test_auto_takes_the_first_that_can_run_and_says_why_not_the_others(
    folder: Path, installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    graphs = [folder / "both.onnx"]
    with caplog.at_level(logging.INFO):
        installed("onnxruntime")
        choice = choose("auto", graphs, "int8")
        assert choice.name == "onnx"
        assert choice.why == "tensorrt: not installed; openvino: not installed; onnx can run"
        assert f"engine onnx: {choice.why}" in caplog.text
    installed("onnxruntime", "openvino", "tensorrt")
    choice = choose("auto", graphs, "int8")
    assert choice.name == "openvino"
    assert choice.why.startswith("tensorrt: no engine was built for both.onnx")


@pytest.mark.parametrize(
    ("precision", "machine", "name"),
    [
        ("fp32", "x86_64", "onnx"),
        ("fp16", "x86_64", "openvino"),
        ("int8", "AMD64", "openvino"),
        ("int8", "aarch64", "onnx"),
    ],
)
def test_auto_takes_openvino_for_what_x86_computes_in_bf16(
    folder: Path,
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    machine: str,
    name: str,
) -> None:
    installed("onnxruntime", "openvino")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert choose("auto", [folder / "both.onnx"], precision).name == name


def test_auto_takes_openvino_where_it_is_the_only_one(
    folder: Path, installed: Callable[..., None]
) -> None:
    installed("openvino")
    assert choose("auto", [folder / "both.onnx"], "fp32").name == "openvino"


def test_where_nothing_is_installed_auto_names_the_extra(
    folder: Path, installed: Callable[..., None]
) -> None:
    installed()
    with pytest.raises(InputError, match=r"skyfix\[cpu\]"):
        choose("auto", [folder / "both.onnx"], "fp32")


def test_auto_takes_a_built_engine_only_once_it_has_passed_its_check(
    folder: Path, fake_tensorrt: Device, installed: Callable[..., None]
) -> None:
    assert fake_tensorrt.name
    installed("onnxruntime", "tensorrt")
    graphs = [folder / "both.onnx"]
    engines_from_model(folder, OPTIONS)
    assert "was not checked" in choose("auto", graphs, "fp32").why
    digest = read_record(folder / "both.engine").engine_sha256
    for passed, name in ((False, "onnx"), (True, "tensorrt")):
        finding = Finding("tensorrt", "both.onnx", digest, "onnx", 64, 0.9, 0.9, 0.5, passed, None)
        write_json(folder / "verify.json", VerifyRecord(RECORD_SCHEMA, "id", [finding]))
        assert choose("auto", graphs, "fp32").name == name


def test_a_named_gpu_engine_without_a_gpu_is_an_error_and_no_other_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.runtime.engines.cuda_driver.LIBRARY", "libcuda_absent.so")
    open_device.cache_clear()
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        load_model(folder, engine="tensorrt")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnx", "onnxruntime", "cpu"), ("openvino", "openvino", "openvino")],
)
def test_a_named_engine_that_is_not_installed_names_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"skyfix\[{extra}\]"):
        open_engine(name, folder / "both.onnx", load_card(folder))


def test_a_model_knows_what_runs_it(folder: Path) -> None:
    assert load_model(folder, threads=1).choice == choosing.Choice("onnx", "named by the caller")


def test_a_check_compares_what_is_installed_and_tensorrt_where_it_was_built(
    folder: Path, installed: Callable[..., None]
) -> None:
    installed("onnxruntime", "tensorrt")
    graphs = [folder / "both.onnx"]
    assert installed_engines(graphs) == ["onnx"]
    (folder / "both.engine").write_bytes(b"")
    assert installed_engines(graphs) == ["onnx", "tensorrt"]
