"""Pretrained files are made from our own fresh trunks, renamed as the other libraries name them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.config import DatasetConfig, DatasetRun, LossConfig
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    InputSizes,
    MFRGNConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)
from skyfix.train.models.convnext import ConvNeXt
from skyfix.train.models.resnet import ResNet
from skyfix.train.models.sample4geo import PooledConvNeXt
from skyfix.train.models.vgg import VGG16
from skyfix.train.start import first_weights, trunk_state, trunks

Weights = dict[str, torch.Tensor]
SIZES: InputSizes = {"ground": (32, 64), "aerial": (32, 32)}
SQUARES: InputSizes = {"satellite": (32, 32), "drone": (32, 32)}
ATTO = Sample4GeoConfig("convnext_atto", layer_scale=0.1)
HEAD = {"fc.weight": torch.ones(10, 4), "fc.bias": torch.ones(10)}
SOURCE = Path("pretrained.pth")


def run_of(model: NetworkConfig, input_px: InputSizes) -> DatasetRun:
    data = DatasetConfig("cvusa", input_px)
    loss = LossConfig(info_nce=1.0)
    return DatasetRun(name="run", model=model, loss=loss, licence="none", data=data, epochs=1)


def saved(weights: Weights, path: Path) -> Path:
    torch.save(weights, path)
    return path


def checkpoint_of(config: NetworkConfig, folder: Path) -> Weights:
    """A checkpoint of a network with weights of its own."""
    torch.manual_seed(5)
    weights = build_network(config, SIZES).state_dict()
    save_checkpoint(folder, CheckpointRecord(SCHEMA, config, SIZES), weights)
    return weights


def as_timm(trunk: ConvNeXt) -> Weights:
    """With the head of a classifier, and 1x1 convolutions where atto to nano have them."""
    state = {
        key: value[:, :, None, None] if re.search(r"mlp\.fc\d\.weight", key) else value
        for key, value in trunk.state_dict().items()
    }
    return state | {f"head.{key}": value for key, value in HEAD.items()}


def as_torchvision(trunk: PooledConvNeXt) -> Weights:
    """The reverse of the renaming: one count over the stem, the stages and the downsamplings."""
    inner = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}
    state = {}
    for key, value in trunk.state_dict().items():
        parts = key.split(".")
        if parts[0] == "stem":
            name = f"features.0.{'.'.join(parts[1:])}"
        elif parts[0] == "head":
            name = f"classifier.0.{parts[2]}"
        elif parts[2] == "downsample":
            name = f"features.{2 * int(parts[1])}.{'.'.join(parts[3:])}"
        else:
            rest = ".".join(parts[4:])
            for ours, theirs in inner.items():
                rest = re.sub(rf"^{re.escape(ours)}\.", f"{theirs}.", rest)
            name = f"features.{2 * int(parts[1]) + 1}.{parts[3]}.{rest}"
        scale = name.endswith("gamma")
        state[name.replace("gamma", "layer_scale")] = value[:, None, None] if scale else value
    return state | {"classifier.2.weight": torch.ones(10, 320), "classifier.2.bias": torch.ones(10)}


def assert_equal(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


def test_a_run_from_a_checkpoint_begins_with_its_weights(tmp_path: Path) -> None:
    weights = checkpoint_of(ATTO, tmp_path)
    start = first_weights(run_of(ATTO, SIZES), tmp_path, None)
    assert start is not None
    assert_equal(start, weights)


def test_a_checkpoint_of_another_architecture_is_refused_by_its_keys(tmp_path: Path) -> None:
    checkpoint_of(ATTO, tmp_path)
    other = run_of(MFRGNConfig("convnext_atto"), SIZES)
    with pytest.raises(ModelError, match=r"backbone\.backbone\.stem\.0\.weight is missing"):
        first_weights(other, tmp_path, None)


def test_a_checkpoint_of_another_input_size_is_refused_by_its_shapes(tmp_path: Path) -> None:
    model = MFRGNConfig("convnext_atto")
    weights = build_network(model, {"ground": (64, 128), "aerial": (64, 64)}).state_dict()
    save_checkpoint(tmp_path, CheckpointRecord(SCHEMA, model, SIZES), weights)
    with pytest.raises(ModelError, match=r"ground\.proj\.weight is \(\d+, \d+\), not \(\d+, \d+\)"):
        first_weights(run_of(model, SIZES), tmp_path, None)


def test_a_checkpoint_and_a_trunk_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave --trunk out"):
        first_weights(run_of(ATTO, SIZES), tmp_path, SOURCE)


def test_without_either_a_run_begins_from_scratch() -> None:
    assert first_weights(run_of(ATTO, SIZES), None, None) is None


def test_a_convnext_with_timm_names_fills_the_trunk(tmp_path: Path) -> None:
    trunk = PooledConvNeXt("convnext_atto", 0.5)
    file = saved(as_timm(trunk), tmp_path / "timm.pth")
    start = first_weights(run_of(ATTO, SIZES), None, file)
    assert start is not None
    assert_equal(start, {f"model.{key}": value for key, value in trunk.state_dict().items()})


def test_a_convnext_with_torchvision_names_fills_the_trunk() -> None:
    trunk = PooledConvNeXt("convnext_atto", 0.5)
    renamed = as_torchvision(trunk)
    assert {"features.0.1.bias", "features.5.3.block.5.bias", "classifier.0.bias"} < renamed.keys()
    fresh = PooledConvNeXt("convnext_atto", 0.1)
    assert_equal(trunk_state(fresh, renamed, SOURCE), trunk.state_dict())


def test_a_trunk_without_its_last_stage_takes_what_it_has_of_a_whole_one() -> None:
    whole, cut = ConvNeXt("convnext_atto"), ConvNeXt("convnext_atto", stages=3)
    taken = trunk_state(cut, as_timm(whole), SOURCE)
    assert taken.keys() == cut.state_dict().keys()
    assert_equal(taken, {key: whole.state_dict()[key] for key in taken})


def test_a_resnet_with_torchvision_names_fills_every_trunk(tmp_path: Path) -> None:
    trunk = ResNet("resnet50")
    file = saved(trunk.state_dict() | HEAD, tmp_path / "resnet50.pth")
    model = University1652Config(views=2, share=False, classes=4, stride=1)
    start = first_weights(run_of(model, SQUARES), None, file)
    assert start is not None
    for name in ("model_1", "model_2"):
        for key, value in trunk.state_dict().items():
            assert torch.equal(start[f"trunks.{name}.model.{key}"], value), key


def test_files_that_do_not_count_the_steps_of_a_batch_norm_are_taken() -> None:
    trunk = ResNet("resnet18")  # so are those of before torch 0.4.1
    old = {key: value for key, value in trunk.state_dict().items() if "num_batches" not in key}
    assert_equal(trunk_state(ResNet("resnet18"), old, SOURCE), trunk.state_dict())


def test_a_vgg_with_torchvision_names_fills_the_trunk() -> None:
    trunk = VGG16()
    head = {"classifier.0.weight": torch.ones(8, 25088), "classifier.0.bias": torch.ones(8)}
    assert_equal(trunk_state(VGG16(), trunk.state_dict() | head, SOURCE), trunk.state_dict())


@pytest.mark.parametrize(
    ("wanted", "given", "fault"),
    [
        (ResNet("resnet18"), ResNet("resnet34"), r"layer1\.2\.conv1\.weight is unknown here"),
        (ResNet("resnet34"), ResNet("resnet18"), r"layer1\.2\.conv1\.weight is missing"),
        (ConvNeXt("convnext_atto"), ConvNeXt("convnext_femto"), r"stem\.0\.weight is \(48"),
        (ConvNeXt("convnext_tiny", 3), ConvNeXt("convnext_small"), r"blocks\.9\.gamma is unknown"),
        (ConvNeXt("convnext_atto"), ResNet("resnet18"), r"stem\.0\.weight is missing"),
    ],
)
def test_a_pretrained_file_of_another_backbone_is_refused(
    wanted: ResNet | ConvNeXt, given: ResNet | ConvNeXt, fault: str
) -> None:
    with pytest.raises(ModelError, match=rf"pretrained.pth is no pretrained .*{fault}"):
        trunk_state(wanted, given.state_dict() | HEAD, SOURCE)


def test_a_network_names_its_trunks() -> None:
    model = University1652Config(views=3, classes=4)
    network = build_network(model, SQUARES | {"street": (32, 32)})
    assert [type(trunk) for trunk in trunks(network)] == [ResNet, ResNet]
