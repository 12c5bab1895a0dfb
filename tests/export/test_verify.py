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
from skyfix.export.pictures import with_preprocessing
from skyfix.export.samples import patches_from_drawing, patches_from_folder
from skyfix.export.verify import (
    compared,
    cosine,
    gate_of,
    inputs_of,
    keep,
    top1_agreement,
    torch_described,
    verify_model,
)
from skyfix.runtime.cli import main
from skyfix.runtime.encoder import Model
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.built import BuildOptions, VerifyRecord, finding_of
from skyfix.runtime.engines.cuda import Device
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.engines.trt import open_tensorrt
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


def seen(count: int, seed: int = 0) -> list[Patch]:
    """Patches of noise, each with a part that is not valid."""
    rng = np.random.default_rng(seed)
    patches = []
    for _ in range(count):
        image, valid = rng.integers(0, 256, (32, 32, 3), np.uint8), rng.random((32, 32)) < 0.9
        image[~valid] = 0
        patches.append(Patch(image, valid, 1.0, (0.0, 0.0)))
    return patches


def exit_code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


def test_engines_that_agree_pass_and_the_record_is_kept(model: Path, card: ModelCard) -> None:
    record = verify_model(model, card, seen(9), ["onnx", "openvino"])
    (finding,) = record.findings
    assert (finding.engine, finding.reference, finding.patches) == ("openvino", "onnx", 9)
    assert finding.min_cosine == pytest.approx(1, abs=1e-6)
    assert finding.passed
    assert keep(model, record)
    stored = msgspec.json.decode((model / "verify.json").read_bytes(), type=VerifyRecord)
    assert stored == record


def built(model: Path, *, pictures: bool = False) -> str:
    """Build the folder's engine, of pictures or of patches; its hash."""
    if pictures:
        variant = with_preprocessing(onnx.load(model / "both.onnx"), load_card(model))
        onnx.save(variant, model / "both.trt.onnx")
    return engines_from_model(model, BuildOptions(1, 1, 4, 64, 3))["both.onnx"].engine_sha256


@pytest.mark.parametrize("pictures", [False, True])
def test_an_engine_is_compared_by_what_it_takes_in_flight(
    fake_tensorrt: Device, model: Path, card: ModelCard, pictures: bool
) -> None:
    assert fake_tensorrt.name
    built(model, pictures=pictures)
    (finding,) = verify_model(model, card, seen(9), ["tensorrt"]).findings
    assert finding.min_cosine == pytest.approx(1, abs=1e-6)
    assert finding.passed


def test_an_engine_that_computes_something_else_fails_and_the_runtime_then_refuses_it(
    fake_tensorrt: Device, model: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake_tensorrt.name
    digest = built(model)
    open_tensorrt(model / "both.onnx", card)
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "numbers")
    record = verify_model(model, card, seen(5), ["tensorrt"])
    assert [finding.passed for finding in record.findings] == [False]
    assert keep(model, record)
    assert finding_of(model, "tensorrt", digest) == record.findings[0]
    with pytest.raises(EngineError, match="failed its check"):
        open_tensorrt(model / "both.onnx", card)
    monkeypatch.delenv("FAKE_TENSORRT_FAIL")  # what failed is checked again, not skipped
    assert verify_model(model, card, seen(5), ["tensorrt"]).findings[0].passed


def test_a_check_of_one_engine_forgets_nothing_of_another(
    fake_tensorrt: Device, model: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake_tensorrt.name
    digest = built(model)
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "numbers")
    keep(model, verify_model(model, card, seen(5), ["tensorrt"]))
    keep(model, verify_model(model, card, seen(5), ["openvino"]))
    found = finding_of(model, "tensorrt", digest)
    assert found is not None
    assert not found.passed
    monkeypatch.delenv("FAKE_TENSORRT_FAIL")
    keep(model, verify_model(model, card, seen(5), ["tensorrt"]))
    stored = msgspec.json.decode((model / "verify.json").read_bytes(), type=VerifyRecord)
    assert sorted((f.engine, f.passed) for f in stored.findings) == [
        ("openvino", True), ("tensorrt", True),
    ]  # fmt: skip


def test_a_shipped_model_is_compared_and_its_folder_left_alone(
    model: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.export.engine.SHIPPED_MODELS", model.parent)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert not keep(model, verify_model(model, card, seen(2), ["openvino"]))
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_onnxruntime_alone_proves_nothing(model: Path, card: ModelCard) -> None:
    with pytest.raises(InputError, match="compared with nothing"):
        verify_model(model, card, seen(2), ["onnx"])


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
    whole = patches_from_folder(folder, card, 100)
    assert [patch.image.shape for patch in whole] == [(32, 32, 3)] * 9
    few = patches_from_folder(folder, card, 5)
    for one, other in zip(few, whole[::2], strict=True):
        both_valid = one.valid & other.valid
        assert np.array_equal(one.image[both_valid], other.image[both_valid])


def test_every_second_patch_lacks_its_corners_as_a_turned_frame_does(card: ModelCard) -> None:
    whole, turned, again, _ = patches_from_drawing(card, 4)
    assert whole.valid.all()
    assert again.valid.all()
    assert not turned.valid[[0, 0, 31, 31], [0, 31, 0, 31]].any()
    assert turned.valid[16, [0, 31]].all()
    assert turned.valid.mean() == pytest.approx(1 - 4 * (1 - 2**-0.5) ** 2 / 2, abs=0.02)
    assert not turned.image[~turned.valid].any()


def test_a_picture_is_red_first_and_its_centre_is_taken(card: ModelCard, tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 16:48] = (10, 20, 200)  # OpenCV writes blue first
    image[:, 32:48] = (10, 20, 100)
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "a.png"), image)
    (patch,) = patches_from_folder(tmp_path / "frames", card, 1)
    assert patch.image[5, [0, 31]].tolist() == [[200, 20, 10], [100, 20, 10]]


def test_drawn_land_has_the_models_size_and_no_two_tiles_are_equal(card: ModelCard) -> None:
    images = np.stack([patch.image for patch in patches_from_drawing(card, 12)])
    assert images.shape == (12, 32, 32, 3)
    assert len(np.unique(images.reshape(12, -1), axis=0)) == 12


def test_frames_that_cannot_be_used_are_named(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        patches_from_folder(tmp_path / "absent", card, 4)
    with pytest.raises(InputError, match="holds no pictures"):
        patches_from_folder(tmp_path, card, 4)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(BrokenImageError, match=r"broken\.jpg"):
        patches_from_folder(tmp_path, card, 4)


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


def test_torchs_descriptors_are_those_of_the_network_in_batches(
    checkpoint: Path, card: ModelCard
) -> None:
    batch = inputs_of(seen(11), card)
    with torch.no_grad():
        expected = load_network(checkpoint).encode("drone", torch.from_numpy(batch)).descriptor
    found = torch_described(checkpoint, "encoder.onnx", card, seen(11))
    assert np.abs(found - expected.numpy()).max() < 1e-5
    with pytest.raises(InputError, match=r"no branch that would be street\.onnx"):
        torch_described(checkpoint, "street.onnx", card, seen(1))


@pytest.mark.slow
def test_torch_is_the_reference_where_its_checkpoint_is_given(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    card, _ = model_from_checkpoint(checkpoint, folder, gsd_m=1.0)
    assert isinstance(card, ModelCard)
    patches = seen(10)
    found = verify_model(folder, card, patches, ["openvino"], checkpoint=checkpoint).findings
    assert [(f.engine, f.reference) for f in found] == [("onnx", "torch"), ("openvino", "torch")]
    assert min(finding.min_cosine for finding in found) > 1 - 1e-6
    weights = load_checkpoint(checkpoint).weights
    weights["projection.weight"] = weights["projection.weight"].roll(1, 0)
    save_checkpoint(tmp_path / "other", load_record(checkpoint), weights)
    other = verify_model(folder, card, patches, ["onnx"], checkpoint=tmp_path / "other").findings
    assert [finding.passed for finding in other] == [False]
