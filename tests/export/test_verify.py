"""The check of engines against each other, between engines that run without a GPU."""

import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from skyfix.export.engine import engines_from_model
from skyfix.export.layers import layer_differences, parting
from skyfix.export.onnx import model_from_checkpoint
from skyfix.export.packs import build_pack
from skyfix.export.samples import batch_from_drawing, batch_from_folder
from skyfix.export.verify import (
    compared,
    cosine,
    gate_of,
    top1_agreement,
    torch_described,
    verify_model,
)
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import Model
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.built import BuildOptions, VerifyRecord, finding_of, read_record
from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.engines.trt import TensorRTEngine
from skyfix.runtime.errors import BrokenImageError, EngineError, InputError
from skyfix.runtime.maps.manifest import Imagery
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.types import Patch
from skyfix.train.checkpoint import (
    SCHEMA,
    CheckpointRecord,
    load_checkpoint,
    load_network,
    load_record,
    save_checkpoint,
)
from skyfix.train.models.build import build_network
from skyfix.train.models.config import GeoDTRPlusDroneConfig, InputSizes

pytest.importorskip("openvino", reason="pip install 'skyfix[openvino]'")


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


@pytest.fixture
def card(model: Path) -> ModelCard:
    return load_card(model)


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32)).astype(np.float32)


def exit_code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def test_engines_that_agree_pass_and_the_record_says_so(model: Path, card: ModelCard) -> None:
    record = verify_model(model, card, noise(9), ["onnx", "openvino"])
    (finding,) = record.findings
    assert (finding.engine, finding.reference, finding.patches) == ("openvino", "onnx", 9)
    assert finding.min_cosine == pytest.approx(1, abs=1e-6)
    assert finding.passed
    stored = msgspec.json.decode((model / "verify.json").read_bytes(), type=VerifyRecord)
    assert stored == record


def test_an_engine_that_computes_something_else_fails_and_the_runtime_then_refuses_it(
    fake_tensorrt: Device, model: Path, card: ModelCard
) -> None:
    assert fake_tensorrt.name
    engines_from_model(model, BuildOptions(1, 1, 4, 64, 3))
    TensorRTEngine(model / "both.onnx", card)
    record = verify_model(model, card, noise(5), ["tensorrt"])
    assert [finding.passed for finding in record.findings] == [False]
    digest = read_record(model / "both.engine").engine_sha256
    assert finding_of(model, "tensorrt", digest) == record.findings[0]
    with pytest.raises(EngineError, match="failed its check"):
        TensorRTEngine(model / "both.onnx", card)
    # the stand-in gives twice the first pixels, far from the mean of 4 x 4: it is checked again
    assert not verify_model(model, card, noise(5), ["tensorrt"]).findings[0].passed


def test_onnxruntime_alone_proves_nothing(model: Path, card: ModelCard) -> None:
    with pytest.raises(InputError, match="compared with nothing"):
        verify_model(model, card, noise(2), ["onnx"])
    assert not (model / "verify.json").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_descriptor_that_is_no_direction_fails(model: Path, card: ModelCard, bad: float) -> None:
    expected = OnnxEngine(model / "both.onnx", card).infer(noise(3))
    actual = expected.copy()
    actual[1] = bad
    finding = compared(
        model / "both.onnx", card, ("onnx", expected), ("openvino", actual), None, None
    )
    assert finding.min_cosine == -1
    assert not finding.passed
    assert finding.mean_cosine == pytest.approx(1 / 3)


def test_the_cosine_is_that_of_the_angle_whatever_the_lengths() -> None:
    angles = np.array([0.0, 0.3, np.pi / 2, np.pi])
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    fixed = np.tile(np.array([[2.0, 0.0]], np.float32), (4, 1))
    assert cosine(fixed, turned) == pytest.approx(np.cos(angles), abs=1e-6)


def test_the_gate_follows_the_precision_that_computes(card: ModelCard) -> None:
    assert gate_of(card, "openvino") == 0.9999
    assert gate_of(card, "openvino-bf16") == 0.999
    assert gate_of(msgspec.structs.replace(card, precision="int8"), "tensorrt") == 0.99


def test_a_stated_gate_counts(model: Path, card: ModelCard) -> None:
    expected = OnnxEngine(model / "both.onnx", card).infer(noise(4))
    actual = OnnxEngine(model / "both.onnx", card).infer(noise(4) + 0.3 * noise(4, 1))
    pair = (("onnx", expected), ("openvino", actual))
    smallest = float(cosine(expected, actual).min())
    graph = model / "both.onnx"
    assert compared(graph, card, *pair, None, smallest - 1e-6).passed
    assert not compared(graph, card, *pair, None, smallest + 1e-6).passed


def test_a_checkpoint_of_another_network_is_refused(model: Path, card: ModelCard) -> None:
    with pytest.raises(InputError, match="do not belong together"):
        compared(
            model / "both.onnx", card, ("torch", np.ones((2, 5), np.float32)),
            ("onnx", np.ones((2, 4), np.float32)), None, None,
        )  # fmt: skip


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:03}.png"), image)
    return folder


def test_pictures_are_cut_square_scaled_and_chosen_evenly(card: ModelCard, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "frames", 9)
    assert batch_from_folder(folder, card, 100).shape == (9, 3, 32, 32)
    whole = batch_from_folder(folder, card, 9)
    assert np.array_equal(batch_from_folder(folder, card, 3), whole[[0, 4, 8]])


def test_a_picture_is_red_first_and_its_centre_is_taken(card: ModelCard, tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 16:48] = (10, 20, 200)  # OpenCV writes blue first
    image[:, 32:48] = (10, 20, 100)
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "a.png"), image)
    plain = msgspec.structs.replace(card, mean=[0.0] * 3, std=[1 / 255] * 3)
    (patch,) = batch_from_folder(tmp_path / "frames", plain, 1)
    assert patch[:, 5, [0, 31]] == pytest.approx(np.array([[200, 100], [20, 20], [10, 10]]))


def test_drawn_land_has_the_models_size_and_no_two_tiles_are_equal(card: ModelCard) -> None:
    batch = batch_from_drawing(card, 12)
    assert batch.shape == (12, 3, 32, 32)
    assert len(np.unique(batch.reshape(12, -1), axis=0)) == 12


def test_frames_that_cannot_be_used_are_named(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        batch_from_folder(tmp_path / "absent", card, 4)
    with pytest.raises(InputError, match="holds no pictures"):
        batch_from_folder(tmp_path, card, 4)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(BrokenImageError, match=r"broken\.jpg"):
        batch_from_folder(tmp_path, card, 4)


def two_layers(path: Path, second_weight: float) -> Path:
    """MatMul by the identity, then MatMul by a multiple of a fixed matrix plus a twist."""
    identity = np.eye(32, dtype=np.float32)
    twist = np.roll(identity, 1, axis=1) * second_weight + identity
    helper = onnx.helper
    shape: list[str | int | None] = ["B", 3, 32, 32]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["patch", "w1"], ["first"]),
            helper.make_node("MatMul", ["first", "w2"], ["second"]),
            helper.make_node("Relu", ["second"], ["descriptor"]),
        ],
        "g",
        [helper.make_tensor_value_info("patch", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("descriptor", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(identity, "w1"), numpy_helper.from_array(twist, "w2")],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_the_layer_where_two_graphs_part_is_found_with_its_error(tmp_path: Path) -> None:
    plain, twisted = two_layers(tmp_path / "a.onnx", 0.0), two_layers(tmp_path / "b.onnx", 0.5)
    batch = noise(3)
    first, second = layer_differences(plain, twisted, batch)
    assert (first.name, first.operator) == ("first", "MatMul")
    assert first.cosine == pytest.approx(1)
    expected = batch.astype(np.float64)
    actual = expected + 0.5 * np.roll(expected, 1, axis=3)
    angle = np.vdot(expected, actual) / np.linalg.norm(expected) / np.linalg.norm(actual)
    assert second.cosine == pytest.approx(angle, abs=1e-6)
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert second.relative_error == pytest.approx(error, abs=1e-6)
    assert parting([first, second], 0.999) == second
    assert parting([first, second], 0.1) is None


def test_graphs_without_a_common_name_are_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    plain = two_layers(tmp_path / "a.onnx", 0.0)
    with pytest.raises(InputError, match="share no layer names"):
        layer_differences(plain, tiny_model_folder / "both.onnx", noise(1))


def test_the_verb_passes_and_prints_for_people_and_programs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = write_pictures(tmp_path / "frames", 4)
    words = ["export", "verify", str(model), "--frames", str(frames), "--engine", "openvino"]
    assert exit_code_of(*words, "--json", "--against", str(model)) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["verify"]["findings"][0]["passed"] is True
    assert exit_code_of(*words) == 0
    assert "passed" in capsys.readouterr().out


def test_the_verb_leaves_with_an_error_below_the_gate(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = write_pictures(tmp_path / "frames", 2)
    words = ["export", "verify", str(model), "--frames", str(frames), "--engine", "openvino"]
    assert exit_code_of(*words, "--gate", "1.5") == 3
    output = capsys.readouterr()
    assert "FAILED" in output.out
    assert "Do not fly with it" in output.err


def test_batches_are_three_whole_numbers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("export", "engine", str(model), "--batch", "1,2") == 2
    assert "three whole numbers" in capsys.readouterr().err


def test_agreement_counts_the_patches_with_the_same_best_tile(
    town: Raster, tiny_model: Model, tmp_path: Path
) -> None:
    imagery = Imagery(source="drawn", licence="none", date="2025-01-01")
    build_pack(town, tiny_model, tmp_path / "pack", imagery=imagery, step_m=30)
    pack = TilePack.open(tmp_path / "pack", model_id=tiny_model.card.model_id)
    cuts = [town.read(x - 16, 16, (32, 32), 1.0) for x in (-60.0, 0.0, 60.0)]
    patches = [Patch(cut.image, cut.valid, 1.0, (0.0, 0.0)) for cut in cuts]
    described = tiny_model.query.describe(patches)
    assert top1_agreement(pack, described, described) == 1
    mixed = described[[0, 2, 2]]  # the middle one finds another place
    assert top1_agreement(pack, described, mixed) == pytest.approx(2 / 3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Fresh weights of a drone network for 32 px."""
    config = GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=24)
    sizes: InputSizes = {"drone": (32, 32), "satellite": (32, 32)}
    torch.manual_seed(0)
    record = CheckpointRecord(SCHEMA, config, sizes, source="published.pth")
    save_checkpoint(tmp_path / "run", record, build_network(config, sizes).state_dict())
    return tmp_path / "run"


def test_torchs_descriptors_are_those_of_the_network_in_batches(checkpoint: Path) -> None:
    batch = noise(11)
    with torch.no_grad():
        expected = load_network(checkpoint).encode("drone", torch.from_numpy(batch)).descriptor
    found = torch_described(checkpoint, "encoder.onnx", batch)
    assert np.abs(found - expected.numpy()).max() < 1e-5
    with pytest.raises(InputError, match=r"no branch that would be street\.onnx"):
        torch_described(checkpoint, "street.onnx", batch)


@pytest.mark.slow
def test_torch_is_the_reference_where_its_checkpoint_is_given(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    card, _ = model_from_checkpoint(checkpoint, folder, gsd_m=1.0)
    assert isinstance(card, ModelCard)
    batch = noise(10)
    found = verify_model(folder, card, batch, ["openvino"], checkpoint=checkpoint).findings
    assert [(f.engine, f.reference) for f in found] == [("onnx", "torch"), ("openvino", "torch")]
    assert min(finding.min_cosine for finding in found) > 1 - 1e-6
    weights = load_checkpoint(checkpoint).weights
    weights["projection.weight"] = weights["projection.weight"].roll(1, 0)
    save_checkpoint(tmp_path / "other", load_record(checkpoint), weights)
    other = verify_model(folder, card, batch, ["onnx"], checkpoint=tmp_path / "other").findings
    assert [finding.passed for finding in other] == [False]
