"""What can be wrong on a device, through the command line: a sentence, and nothing half-written.

The driver and TensorRT are the stand-ins of tests/fakes; files, records and checks are real.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from skyfix.export.packs import build_pack
from skyfix.export.pictures import with_preprocessing
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import Model
from skyfix.runtime.engines.base import load_card, model_id_from_graphs, save_card
from skyfix.runtime.engines.cuda import Device, open_device
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.raster import Raster

Words = list[str]
Plant = Callable[[Path, pytest.MonkeyPatch], None]
VERBS = ("engine", "verify", "replay")
USERS = ("verify", "replay")  # of an engine that lies there
REBUILD = "Build it again on this device: skyfix export engine"


@pytest.fixture(scope="module")
def flight(town: Raster, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Words:
    """Pack, frames, telemetry and camera of a replay."""
    folder = tmp_path_factory.mktemp("flight")
    imagery = Imagery(source="drawn", licence="none", date="2025-01-01")
    build_pack(town, tiny_model, folder / "pack", imagery=imagery, step_m=16)
    (folder / "frames").mkdir()
    lines = ["frame,time_s,yaw_deg,pitch_deg,roll_deg,height_agl_m"]
    for index, east_m in enumerate((-20.0, -10.0, 0.0)):
        seen = town.read(east_m - 32, 24, (96, 128), 0.5)
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), seen.image[..., ::-1])
        lines.append(f"{index}.png,{index},0,-90,0,50")
    (folder / "flight.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "camera.yaml").write_text(
        "image_width: 128\nimage_height: 96\n"
        "camera_matrix: [100, 0, 63.5, 0, 100, 47.5, 0, 0, 1]\n",
        encoding="utf-8",
    )
    return [
        "replay", "--pack", str(folder / "pack"), "--frames", str(folder / "frames"),
        "--telemetry", str(folder / "flight.csv"), "--camera", str(folder / "camera.yaml"),
    ]  # fmt: skip


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


@pytest.fixture
def device(fake_tensorrt: Device) -> Device:
    return fake_tensorrt


@pytest.fixture
def engine(device: Device, model: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A model folder with an engine of pictures that was built on this device."""
    assert device.name == "Fake Orin"
    variant = with_preprocessing(onnx.load(model / "both.onnx"), load_card(model))
    onnx.save(variant, model / "both.trt.onnx")
    assert exit_code(["export", "engine", str(model)]) == 0
    capsys.readouterr()
    return model


def exit_code(words: Words) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def command(verb: str, model: Path, flight: Words, engine: str = "tensorrt") -> Words:
    if verb == "replay":
        out = str(model.parent / "fixes.jsonl")
        return [*flight, "--model", str(model), "--engine", engine, "--out", out]
    if verb == "verify":
        return ["export", "verify", str(model), "--engine", engine, "--limit", "4"]
    return ["export", "engine", str(model)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(words: Words, folder: Path, capsys: pytest.CaptureFixture[str], code: int = 3) -> str:
    """The one line of the refusal, once it is sure that nothing was written."""
    before = contents(folder)
    assert exit_code(words) == code
    assert contents(folder) == before
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_the_whole_chain_runs_and_finds_what_the_cpu_finds(
    engine: Path, flight: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(command("verify", engine, flight)) == 0
    out = engine.parent / "fixes.jsonl"
    found = {}
    for name in ("onnx", "tensorrt"):
        assert exit_code(command("replay", engine, flight, name)) == 0
        lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        found[name] = [(fix["status"], fix["lat_deg"], fix["lon_deg"]) for fix in lines]
    assert "engine tensorrt" in capsys.readouterr().out
    assert len(found["onnx"]) == 3
    assert found["tensorrt"] == found["onnx"]


def other_tensorrt(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorrt.__version__", "10.7.0")


def other_gpu(model: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    path = model / "both.engine.json"
    path.write_bytes(path.read_bytes().replace(b"Fake Orin", b"Fake Thor"))


def other_graph(model: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(model / "both.onnx", model / "both.trt.onnx")


def truncated(model: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    path = model / "both.engine"
    path.write_bytes(path.read_bytes()[:-100])


def without_record(model: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "both.engine.json").unlink()


def without_engine(model: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "both.engine").unlink()


def unreadable(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "deserialize")


@pytest.mark.parametrize("verb", USERS)
@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (other_tensorrt, "built with tensorrt 10.3.0, here it is 10.7.0"),
        (other_gpu, "built with gpu Fake Thor, here it is Fake Orin"),
        (other_graph, "built from another both.trt.onnx than lies here"),
        (truncated, "truncated or altered"),
        (without_record, "both.engine.json cannot be read"),
        (without_engine, "has no engine for both.onnx"),
        (unreadable, "version tag does not match"),
    ],
)
def test_an_engine_that_is_not_of_this_place_is_refused_with_the_way_to_a_new_one(
    engine: Path,
    flight: Words,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    plant: Plant,
    words: str,
) -> None:
    plant(engine, monkeypatch)
    line = refused(command(verb, engine, flight), engine.parent, capsys)
    assert words in line
    assert REBUILD in line


def test_an_engine_that_failed_its_check_does_not_fly(
    engine: Path,
    flight: Words,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "numbers")
    assert exit_code(command("verify", engine, flight)) == 3
    assert "verify.json keeps the record" in capsys.readouterr().err
    line = refused(command("replay", engine, flight), engine.parent, capsys)
    assert "failed its check" in line
    assert "tensorrt-unchecked" in line


def no_gpu(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfix.runtime.engines.cuda_driver.LIBRARY", "libcuda_absent.so")
    open_device.cache_clear()


def gpu_lost(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_INIT", "100")
    open_device.cache_clear()


def old_driver(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_VERSION", "10020")
    open_device.cache_clear()


def old_tensorrt(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorrt.__version__", "8.6.2")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (no_gpu, "no NVIDIA driver"),
        (gpu_lost, "Take another engine, such as --engine onnx"),
        (old_driver, "supports CUDA 10.2, skyfix needs 11.4"),
        (old_tensorrt, "8.6.2 is too old"),
    ],
)
def test_a_machine_that_cannot_run_engines_is_told_what_it_lacks(
    engine: Path,
    flight: Words,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    plant: Plant,
    words: str,
) -> None:
    plant(engine, monkeypatch)
    assert words in refused(command(verb, engine, flight), engine.parent, capsys)


def full_for_buffers(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_MEMORY", "1000")


def full_for_context(_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "context")


@pytest.mark.parametrize("verb", USERS)
@pytest.mark.parametrize("plant", [full_for_buffers, full_for_context])
def test_a_full_gpu_stops_a_flight_before_its_first_frame(
    engine: Path,
    flight: Words,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    plant: Plant,
) -> None:
    plant(engine, monkeypatch)
    line = refused(command(verb, engine, flight), engine.parent, capsys)
    assert "End other programs" in line


def test_a_gpu_too_small_for_the_builder_keeps_what_was_there(
    engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "memory")
    words = ["export", "engine", str(engine), "--rebuild"]
    assert "smaller --workspace or --batch" in refused(words, engine.parent, capsys)


def graph(inputs: dict[str, tuple[int, list[str | int | None]]], pool: int = 4) -> onnx.ModelProto:
    """A graph as another exporter might write it, with whatever inputs."""
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    first = next(iter(inputs))
    nodes = [
        helper.make_node("Cast", [first], ["x"], to=TensorProto.FLOAT),
        helper.make_node(
            "AveragePool", ["x"], ["small"], kernel_shape=[pool] * 2, strides=[pool] * 2
        ),
        helper.make_node("Flatten", ["small"], ["descriptor"], axis=1),
    ]
    output = helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["B", "D"])
    made = helper.make_graph(nodes, "foreign", values, [output])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


F32, F16 = TensorProto.FLOAT, TensorProto.FLOAT16
FOREIGN = {
    "another input name": graph({"input.1": (F32, ["B", 3, 32, 32])}),
    "one input more": graph({"patch": (F32, ["B", 3, 32, 32]), "mask": (F32, ["B", 32, 32])}),
    "a fixed batch": graph({"patch": (F32, [1, 3, 32, 32])}),
    "another size": graph({"patch": (F32, ["B", 3, 64, 64])}),
    "half-precision input": graph({"patch": (F16, ["B", 3, 32, 32])}),
    "channels last": graph({"patch": (F32, ["B", 32, 32, 3])}),
    "another length": graph({"patch": (F32, ["B", 3, 32, 32])}, pool=8),
}


def put(model: Path, data: bytes) -> None:
    """The folder as somebody has made it by hand: the card's hash is that of the file."""
    card = load_card(model)
    (model / "both.onnx").write_bytes(data)
    save_card(
        model, msgspec.structs.replace(card, model_id=model_id_from_graphs(model, card.graphs))
    )


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", FOREIGN)
def test_a_graph_of_another_exporter_is_refused_when_it_is_loaded(
    device: Device,
    model: Path,
    flight: Words,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    fault: str,
) -> None:
    assert device.name
    put(model, FOREIGN[fault].SerializeToString())
    name = "openvino" if verb == "verify" else "onnx"
    line = refused(command(verb, model, flight, name), model.parent, capsys)
    assert "patch float32 (any, 3, 32, 32); descriptor float32 (any, 192)" in line
    assert "export the checkpoint with `skyfix export`" in line


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_is_no_graph_is_refused(
    device: Device, model: Path, flight: Words, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert device.name
    put(model, b"no graph at all")
    name = "openvino" if verb == "verify" else "onnx"
    line = refused(command(verb, model, flight, name), model.parent, capsys)
    assert "cannot read" in line or "cannot be loaded" in line
    assert "both.onnx" in line


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_graph_in_the_place_of_ours_is_seen_by_its_hash(
    device: Device, model: Path, flight: Words, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert device.name
    (model / "both.onnx").write_bytes(FOREIGN["another input name"].SerializeToString())
    line = refused(command(verb, model, flight, "onnx"), model.parent, capsys)
    assert "altered or replaced" in line


def test_a_foreign_variant_for_tensorrt_never_becomes_an_engine(
    device: Device, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert device.name
    onnx.save(FOREIGN["one input more"], model / "both.trt.onnx")
    line = refused(["export", "engine", str(model)], model.parent, capsys)
    assert "both.trt.onnx is no graph of this model" in line


def test_without_notes_of_its_exporter_a_graph_is_as_good(
    device: Device, model: Path, flight: Words
) -> None:
    assert device.name
    bare = onnx.load(model / "both.onnx")
    bare.producer_name = bare.producer_version = bare.doc_string = bare.graph.name = ""
    del bare.metadata_props[:]
    bare.graph.name = "g"
    put(model, bare.SerializeToString())
    assert exit_code(command("engine", model, flight)) == 0
    assert exit_code(command("verify", model, flight)) == 0
    assert (model / "verify.json").is_file()


def test_the_verbs_of_the_device_need_neither_torch_nor_onnx() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'rasterio', 'pyproj', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "import skyfix.export.device_cli, skyfix.export.engine\n"
        "import skyfix.export.samples, skyfix.export.verify\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
