"""Building engines: with a stand-in for TensorRT, and as far as NVIDIA's own bindings run."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from skyfix.export.engine import (
    engines_from_model,
    plugins_in,
    read_timings,
    timing_cache_path,
    write_timings,
)
from skyfix.export.pictures import with_preprocessing
from skyfix.export.samples import patches_from_drawing
from skyfix.runtime.encoder import SHIPPED_MODELS, load_model
from skyfix.runtime.engines.base import PictureEngine, load_card
from skyfix.runtime.engines.built import BuildOptions, Machine, read_record, verified_bytes
from skyfix.runtime.engines.cuda import Device, open_device
from skyfix.runtime.errors import (
    CudaError,
    DeviceMemoryError,
    EngineError,
    InputError,
    SkyfixError,
)

OPTIONS = BuildOptions(min_batch=1, best_batch=1, max_batch=4, workspace_mib=64, level=3)
MACHINE = Machine("10.3.0", "Fake Orin", (8, 7))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


@pytest.fixture
def on_device(fake_tensorrt: Device, model: Path) -> Path:
    """A model folder on a machine with a GPU and TensorRT."""
    assert fake_tensorrt.name == MACHINE.gpu
    return model


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_build_leaves_an_engine_and_a_record_of_what_it_was_built_from(on_device: Path) -> None:
    before = names(on_device)
    said: list[str] = []
    records = engines_from_model(on_device, OPTIONS, say=said.append)
    assert names(on_device) - before == {"both.engine", "both.engine.json"}
    record = records["both.onnx"]
    assert record == read_record(on_device / "both.engine")
    graph = hashlib.sha256((on_device / "both.onnx").read_bytes()).hexdigest()
    engine = hashlib.sha256((on_device / "both.engine").read_bytes()).hexdigest()
    assert (record.machine, record.options, record.plugins) == (MACHINE, OPTIONS, [])
    assert (record.graphs, record.engine_sha256) == ({"both.onnx": graph}, engine)
    assert any("built in" in line for line in said)
    plan = json.loads((on_device / "both.engine").read_bytes())
    assert plan["profile"] == {"patch": [[1, 3, 32, 32], [4, 3, 32, 32]]}


def built(folder: Path, options: BuildOptions = OPTIONS) -> bool:
    """Whether the engine was built in this call, not kept."""
    said: list[str] = []
    engines_from_model(folder, options, say=said.append)
    return any("built in" in line for line in said)


def test_an_engine_is_built_again_when_something_changes_and_only_then(
    on_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built(on_device)
    assert not built(on_device)
    assert built(on_device, msgspec.structs.replace(OPTIONS, max_batch=8))
    (on_device / "both.engine").write_bytes(b"{}")
    assert built(on_device, msgspec.structs.replace(OPTIONS, max_batch=8))
    monkeypatch.setattr("tensorrt.__version__", "10.7.0")
    assert built(on_device)
    variant = onnx.load(on_device / "both.onnx")
    onnx.save(variant, on_device / "both.trt.onnx")
    assert built(on_device)
    assert not built(on_device)
    variant.graph.name = "exported again"
    onnx.save(variant, on_device / "both.trt.onnx")
    assert built(on_device)
    (on_device / "both.engine.json").unlink()
    assert built(on_device)


def test_tensorrts_own_variant_of_a_graph_is_the_one_that_is_read(on_device: Path) -> None:
    shutil.copy(on_device / "both.onnx", on_device / "both.trt.onnx")
    record = engines_from_model(on_device, OPTIONS)["both.onnx"]
    assert record.built_from == "both.trt.onnx"
    assert set(record.graphs) == {"both.onnx", "both.trt.onnx"}


def test_a_variant_that_normalises_gets_a_profile_for_pictures(on_device: Path) -> None:
    graph = with_preprocessing(onnx.load(on_device / "both.onnx"), load_card(on_device))
    onnx.save(graph, on_device / "both.trt.onnx")
    engines_from_model(on_device, OPTIONS)
    plan = json.loads((on_device / "both.engine").read_bytes())
    assert plan["profile"] == {
        "picture": [[1, 32, 32, 3], [4, 32, 32, 3]],
        "valid": [[1, 32, 32], [4, 32, 32]],
    }


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("builder", EngineError, "builder does not start"),
        ("parse", EngineError, "Mystery node_7: no importer registered"),
        ("build", EngineError, "could not find any implementation for node pool"),
        ("memory", DeviceMemoryError, "smaller --workspace or --batch"),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_the_old_engine(
    on_device: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[SkyfixError],
    words: str,
) -> None:
    engines_from_model(on_device, OPTIONS)
    before = {path.name: path.read_bytes() for path in on_device.iterdir()}
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", step)
    with pytest.raises(error, match=words):
        engines_from_model(on_device, OPTIONS, rebuild=True)
    assert {path.name: path.read_bytes() for path in on_device.iterdir()} == before


def test_an_interrupted_write_leaves_nothing_that_the_runtime_would_load(
    on_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines_from_model(on_device, OPTIONS)

    def power_fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skyfix.export.engine.write_json", power_fails)
    with pytest.raises(KeyboardInterrupt):
        engines_from_model(on_device, OPTIONS, rebuild=True)
    with pytest.raises(EngineError, match=r"both\.engine\.json cannot be read"):
        verified_bytes(on_device / "both.onnx", MACHINE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"min_batch": 0}, "SMALLEST,BEST,LARGEST"),
        ({"best_batch": 5}, "not 1,5,4"),
        ({"level": 6}, "levels 0 to 5"),
        ({"workspace_mib": 0}, "at least 1 MiB"),
    ],
)
def test_impossible_options_are_refused_before_a_gpu_is_looked_for(
    model: Path, change: dict[str, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        engines_from_model(model, msgspec.structs.replace(OPTIONS, **change))


def test_without_a_gpu_the_driver_is_named_and_nothing_is_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.runtime.engines.cuda_driver.LIBRARY", "libcuda_absent.so")
    open_device.cache_clear()
    before = names(model)
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        engines_from_model(model, OPTIONS)
    assert names(model) == before


def test_a_folder_that_cannot_be_written_is_refused_before_minutes_of_building(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so the answer of the system is planted
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (model, os.W_OK))
    with pytest.raises(InputError, match=r"is read-only.*Copy the model.*my-tiny"):
        engines_from_model(model, OPTIONS)


def test_a_shipped_model_stays_as_it_is(fake_tensorrt: Device) -> None:
    assert fake_tensorrt.name == MACHINE.gpu
    shipped = SHIPPED_MODELS / "nano"
    before = names(shipped)
    with pytest.raises(InputError, match=r"shipped with skyfix.*cp -r .*nano my-nano"):
        engines_from_model(shipped, OPTIONS)
    assert names(shipped) == before


def test_with_a_gpu_but_without_tensorrt_jetpacks_package_is_named(
    fake_gpu: Device, model: Path
) -> None:
    assert fake_gpu.name == MACHINE.gpu
    if find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(EngineError, match="python3-libnvinfer"):
        engines_from_model(model, OPTIONS)


def test_a_tensorrt_before_10_3_is_too_old(
    on_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt.__version__", "8.6.2")
    with pytest.raises(EngineError, match=r"8\.6\.2 is too old"):
        engines_from_model(on_device, OPTIONS)


def test_a_graph_with_plugin_nodes_needs_the_plugin(
    on_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = onnx.helper.make_node("LinearAttention", ["q", "k", "v"], ["o"], domain="skyfix")
    graph = onnx.helper.make_graph([node], "g", [], [])
    data = onnx.helper.make_model(graph).SerializeToString()
    assert plugins_in(data) == ["LinearAttention"]
    (on_device / "both.trt.onnx").write_bytes(data)
    monkeypatch.setattr("skyfix.runtime.engines.trt_library.PLUGIN_GROUP", "skyfix.absent")
    with pytest.raises(EngineError, match=r"plugin LinearAttention.*--no-plugin"):
        engines_from_model(on_device, OPTIONS)


def test_a_name_that_is_no_operator_calls_for_no_plugin() -> None:
    node = onnx.helper.make_node("MatMul", ["q", "k"], ["o"], name="LinearAttention")
    graph = onnx.helper.make_graph([node], "LinearAttention", [], [])
    assert plugins_in(onnx.helper.make_model(graph).SerializeToString()) == []


def test_timings_are_kept_for_the_next_build_and_a_broken_cache_is_not_used(
    on_device: Path,
) -> None:
    path = timing_cache_path(MACHINE)
    engines_from_model(on_device, OPTIONS)
    assert read_timings(path) == b"timing "
    engines_from_model(on_device, OPTIONS, rebuild=True)
    assert read_timings(path) == b"timing timing "
    path.write_bytes(path.read_bytes()[:-1])
    assert read_timings(path) == b""


def test_a_cache_that_cannot_be_kept_stops_no_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    write_timings(tmp_path / "file" / "cache.bin", b"timings")
    assert (tmp_path / "file").read_bytes() == b""


NVINFER = """
void* createInferBuilder_INTERNAL(void* l, int v) { return 0; }
void* createInferRefitter_INTERNAL(void* e, void* l, int v) { return 0; }
void* createInferRuntime_INTERNAL(void* l, int v) { return 0; }
void* createNvOnnxParser_INTERNAL(void* n, void* l, int v) { return 0; }
void* createNvOnnxParserRefitter_INTERNAL(void* r, void* l, int v) { return 0; }
void* getPluginRegistry(void) { return 0; }
void* getBuilderPluginRegistry(int c) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
_Bool initLibNvInferPlugins(void* l, const char* n) { return 0; }
"""


def nvidia_environment(version: str, folder: Path) -> dict[str, str]:
    """Where NVIDIA's own bindings of a version load, with libraries whose factories give null."""
    bindings = Path(sys.prefix) / f"tensorrt_{version}"
    if not bindings.is_dir():
        pytest.skip(f"NVIDIA's bindings are not in {bindings}; `make test` puts them there")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    major = version.partition("_")[0]
    (folder / "stub.c").write_text(NVINFER, encoding="utf-8")
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", folder / f"lib{name}.so.{major}", folder / "stub.c"],
            check=True,
        )
    shim = folder / "tensorrt"
    shim.mkdir()
    (shim / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n",
        encoding="utf-8",
    )
    path = os.pathsep.join((str(folder), str(bindings)))
    return {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(folder)}


@pytest.mark.parametrize("version", ["10_3", "11_4"])
def test_nvidias_bindings_are_called_up_to_the_builder_that_needs_a_gpu(
    version: str, fake_driver: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "nvidia"
    folder.mkdir()
    environment = nvidia_environment(version, folder)
    shutil.copy(fake_driver / "libcuda.so.1", folder)
    done = subprocess.run(
        [sys.executable, "-c", "from skyfix.runtime.cli import main; main()", "export",
         "engine", str(model)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert f"TensorRT {version.replace('_', '.')}" in done.stderr
    assert "builder does not start" in done.stderr
    assert names(model) == {"both.onnx", "model.json"}


@pytest.mark.parametrize("version", ["10_3", "11_4"])
def test_every_name_in_our_type_stubs_is_one_of_nvidias(version: str, tmp_path: Path) -> None:
    stub = ast.parse((ROOT / f".typing/tensorrt_{version}/tensorrt/__init__.pyi").read_text())
    wanted = sorted(stub_names(stub))
    assert "Builder.build_serialized_network" in wanted
    code = (
        "import operator, sys, tensorrt\n"
        "for name in sys.argv[1:]:\n"
        "    try: operator.attrgetter(name)(tensorrt)\n"
        "    except AttributeError: print(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *wanted, "Builder.absent"], capture_output=True, text=True,
        check=True, env=nvidia_environment(version, tmp_path),
    )  # fmt: skip
    assert done.stdout.split() == ["Builder.absent"]


def stub_names(body: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Classes, methods and attributes of a stub, dotted; not what every object has."""
    for node in body.body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from stub_names(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            if node.name != "__buffer__":  # bytes() reads it by C's buffer protocol
                yield prefix + node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield prefix + node.targets[0].id


@pytest.mark.gpu
@pytest.mark.parametrize("pictures", [False, True])
def test_a_real_engine_agrees_with_onnxruntime(
    tiny_model_folder: Path, tmp_path: Path, pictures: bool
) -> None:
    if find_spec("tensorrt") is None:
        pytest.skip("TensorRT is not installed here")
    try:
        open_device()
    except CudaError as error:
        pytest.skip(str(error))
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "real"))
    card = load_card(folder)
    if pictures:
        variant = with_preprocessing(onnx.load(folder / "both.onnx"), card)
        onnx.save(variant, folder / "both.trt.onnx")
    engines_from_model(folder, OPTIONS)
    patches = patches_from_drawing(card, 7)
    expected = load_model(folder).query.describe(patches)
    encoder = load_model(folder, engine="tensorrt").query
    assert isinstance(encoder.engine, PictureEngine) is pictures
    for _ in range(3):  # the capture, and replays
        assert np.abs(encoder.describe(patches) - expected).max() < 1e-4
