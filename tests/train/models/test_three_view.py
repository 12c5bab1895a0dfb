import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.models.build import build_network
from skyfix.train.models.config import University1652Config
from skyfix.train.models.three_view import (
    ClassBlock,
    Pool,
    University1652,
    config_from_official,
    state_from_official,
    trunk_names,
)

VIEWS = ("satellite", "street", "drone")
POOLS = ("avg", "max", "avg+max", "gem")
SMALL = dict.fromkeys(VIEWS, (64, 64))
VGG = University1652Config(backbone="vgg16", classes=5)


def _network(**settings: Any) -> University1652:
    """A network with lively statistics, as after training, ready to encode."""
    config = msgspec.structs.replace(VGG, **settings)
    network = University1652(config, SMALL)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.8, 1.2)
        elif key.endswith((".p", "running_mean")):
            value.add_(0.1 * torch.randn_like(value))
    return network.eval()


def _numbered(config: University1652Config) -> University1652:
    """A network each of whose tensors holds a number of its own."""
    with torch.device("meta"):
        network = University1652(config, SMALL)
    network.to_empty(device="cpu")
    for number, value in enumerate(network.state_dict().values()):
        value.fill_(number)
    return network


def _official(network: University1652, config: University1652Config) -> dict[str, torch.Tensor]:
    """Its weights as the published code would have saved them, unused heads included."""
    trunks = {"model_1": "satellite", "model_2": "street"}
    if config.views == 3:
        trunks["model_3"] = "drone"
    ours, state = network.state_dict(), {}
    for official, view in trunks.items():
        prefix = f"trunks.{trunk_names(config)[view]}."
        for key, value in ours.items():
            if key.startswith(prefix):
                inner = key.removeprefix(prefix).replace("pool.p", "model.gem2.p")
                state[f"{official}.{inner}"] = value
        head = "classifier.0" if config.backbone == "vgg16" else "fc"
        state[f"{official}.model.{head}.weight"] = torch.ones(7, 3)
        state[f"{official}.model.{head}.bias"] = torch.ones(7)
    return state | {key: value for key, value in ours.items() if key.startswith("classifier.")}


@pytest.mark.real
def test_features_and_logits_are_the_published_ones(reference: Callable[[str], Any]) -> None:
    case = reference("university1652_three_view_resnet50_256_s1")
    # the case fills the shared trunk's two names with two values, and shapes do not tell a stride
    told = config_from_official(case.state)
    config = msgspec.structs.replace(told, share=True, stride=1)
    network = University1652(config, dict.fromkeys(VIEWS, (256, 256))).eval()
    network.load_state_dict(state_from_official(case.state, config))
    for view in VIEWS:
        with torch.no_grad():
            feature = network.features(view, case.inputs[view])
            logits = network.classifier.classifier(feature)
        np.testing.assert_allclose(feature, case.outputs[f"feature_{view}"], atol=1e-5)
        np.testing.assert_allclose(logits, case.outputs[f"logits_{view}"], atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("share", [True, False])
def test_published_weights_tell_their_network_and_load_into_it(
    views: int, share: bool, pool: str
) -> None:
    config = msgspec.structs.replace(VGG, views=views, share=share, pool=pool)
    network = _numbered(config)
    state = _official(network, config)
    told = config_from_official(state)
    silent = pool == "max"  # has the shapes of avg
    assert msgspec.structs.replace(told, pool=pool) == config
    assert told.pool == ("avg" if silent else pool)
    loaded = state_from_official(state)
    assert loaded.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded[key], value)


def test_published_weights_of_resnet_tell_their_backbone() -> None:
    config = University1652Config(classes=9, share=False)
    network = _numbered(config)
    state = _official(network, config)
    assert config_from_official(state) == config
    assert state_from_official(state).keys() == network.state_dict().keys()


def test_one_differing_value_tells_that_trunks_are_not_shared() -> None:
    state = _official(_numbered(VGG), VGG)
    assert config_from_official(state).share
    key = "model_3.model.features.41.bias"
    state[key] = state[key] + 1e-3
    assert not config_from_official(state).share


def test_a_trunk_told_to_be_shared_takes_the_later_of_two_values() -> None:
    state = _official(_numbered(VGG), VGG)
    state["model_3.model.features.0.bias"] = torch.full((64,), 7.0)
    loaded = state_from_official(state, VGG)
    assert (loaded["trunks.model_1.model.features.0.bias"] == 7).all()
    assert not any("model_3" in key for key in loaded)


def test_other_weights_are_refused_with_the_key_that_they_lack() -> None:
    with pytest.raises(ModelError, match=r"classifier\.classifier\.0\.weight"):
        config_from_official({"backbone.conv1.weight": torch.zeros(1)})


def test_shared_three_views_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        counts = {
            share: sum(
                p.numel()
                for p in University1652(University1652Config(share=share), {}).parameters()
            )
            for share in (True, False)
        }
    assert counts[True] / 1e6 == pytest.approx(48.4, abs=0.05)
    assert counts[False] - counts[True] == 23_508_032  # torchvision's resnet50 without its head


@pytest.mark.parametrize(
    ("views", "share", "groups"),
    [
        (3, True, [{"satellite", "drone"}, {"street", "google"}]),
        (3, False, [{"satellite"}, {"street", "google"}, {"drone"}]),
        (2, True, [{"satellite", "street", "google", "drone"}]),
        (2, False, [{"satellite"}, {"street", "google", "drone"}]),
    ],
)
def test_views_of_one_trunk_see_alike_and_others_do_not(
    views: int, share: bool, groups: list[set[str]]
) -> None:
    network, images = _network(views=views, share=share), torch.randn(1, 3, 64, 64)
    assert len(network.trunks) == len(groups)
    with torch.no_grad():
        features = {view: network.features(view, images) for group in groups for view in group}
    for view, feature in features.items():
        (group,) = (group for group in groups if view in group)
        alike = {other for other in features if torch.equal(features[other], feature)}
        assert alike == group


@pytest.mark.parametrize("pool", POOLS)
def test_each_pool_is_its_loop_over_channels_and_places(pool: str) -> None:
    x = torch.randn(2, 3, 4, 5)
    module = Pool(pool, 3)
    for parameter in module.parameters():
        parameter.data = torch.tensor([1.0, 3.0, 4.5])
    powers = (1.0, 3.0, 4.5)
    expected = []
    for image in x.tolist():
        channels = [[value for row in channel for value in row] for channel in image]
        mean = [sum(values) / 20 for values in channels]
        most = [max(values) for values in channels]
        general = [
            (sum(max(value, 1e-6) ** p for value in values) / 20) ** (1 / p)
            for values, p in zip(channels, powers, strict=True)
        ]
        rows = {"avg": mean, "max": most, "avg+max": mean + most, "gem": general}
        expected.append(rows[pool])
    torch.testing.assert_close(module(x), torch.tensor(expected))
    assert module.width == len(expected[0])


def test_gem_starts_at_a_power_of_3_that_each_channel_learns() -> None:
    pool = Pool("gem", 4)
    assert pool.p.tolist() == [3.0] * 4
    weighted = pool(torch.rand(2, 4, 3, 3)) * torch.tensor([1.0, 0.0, 2.0, 3.0])
    (gradient,) = torch.autograd.grad(weighted.sum(), pool.p)
    assert (gradient != 0).tolist() == [True, False, True, True]


def test_stride_1_keeps_the_sides_of_the_last_stage_of_resnet() -> None:
    for config, side in (
        (University1652Config(stride=1), 8),
        (University1652Config(stride=2), 4),
    ):
        with torch.device("meta"):
            trunk = University1652(config, SMALL).trunks["model_1"].get_submodule("model")
            assert trunk(torch.zeros(1, 3, 128, 128)).shape == (1, 2048, side, side)


def test_the_feature_is_a_linear_map_and_a_batch_norm_of_the_pooled_map() -> None:
    network, images = _network(), torch.randn(3, 3, 64, 64)
    weights = {key: value.double() for key, value in network.state_dict().items()}
    with torch.no_grad():
        pooled = network.trunks["model_2"](images).double()
        feature, logits = network.features("street", images), network.classify("street", images)
    narrow = pooled @ weights["classifier.add_block.0.weight"].T
    narrow = narrow + weights["classifier.add_block.0.bias"]
    norm = {name: weights[f"classifier.add_block.1.{name}"] for name in ("weight", "bias")}
    mean, var = (weights[f"classifier.add_block.1.running_{name}"] for name in ("mean", "var"))
    expected = (narrow - mean) / (var + 1e-5).sqrt() * norm["weight"] + norm["bias"]
    torch.testing.assert_close(feature.double(), expected, rtol=1e-4, atol=1e-4)
    scores = expected @ weights["classifier.classifier.0.weight"].T
    torch.testing.assert_close(logits.double(), scores, rtol=1e-4, atol=1e-5)


def test_descriptors_are_unit_features_and_logits_come_while_training_only() -> None:
    network, images = _network(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        encoded, feature = network.encode("drone", images), network.features("drone", images)
    torch.testing.assert_close(encoded.descriptor, feature / feature.norm(dim=1, keepdim=True))
    assert encoded.logits is None
    trained = network.train().encode("drone", images)
    assert trained.logits is not None
    assert trained.logits.shape == (2, 5)
    torch.testing.assert_close(trained.descriptor.norm(dim=1), torch.ones(2))


def test_dropout_falls_on_features_while_training_only() -> None:
    block = ClassBlock(16, 5, dropout=0.75)
    kept = (block.train().add_block(torch.randn(64, 16)) != 0).float().mean()
    assert float(kept.detach()) == pytest.approx(0.25, abs=0.02)
    assert (block.eval().add_block(torch.randn(64, 16)) != 0).all()


def test_the_flip_summed_descriptor_does_not_know_left_from_right() -> None:
    network, images = _network(), torch.randn(2, 3, 64, 64)
    mirrored = torch.from_numpy(images.numpy()[..., ::-1].copy())
    with torch.no_grad():
        summed = network.flip_summed("drone", images)
        both = network.features("drone", images) + network.features("drone", mirrored)
        torch.testing.assert_close(network.flip_summed("drone", mirrored), summed)
    torch.testing.assert_close(summed, both / both.norm(dim=1, keepdim=True))
    assert not torch.allclose(summed, network.encode("drone", images).descriptor, atol=1e-3)


def test_fresh_weights_have_the_published_spread() -> None:
    block = ClassBlock(2048, 701, 0.5)
    narrow, norm, last = block.add_block[0], block.add_block[1], block.classifier[0]
    for module, mean, spread in (
        (narrow, 0.0, math.sqrt(2 / 512)),  # kaiming by fan-out
        (norm, 1.0, 0.02),
        (last, 0.0, 0.001),
    ):
        weight = module.get_parameter("weight").detach()
        assert float(weight.mean()) == pytest.approx(mean, abs=0.2 * spread)
        assert float(weight.std()) == pytest.approx(spread, rel=0.1)
        assert not module.get_parameter("bias").any()


def test_gradients_of_all_views_reach_the_shared_trunk_and_the_classifier() -> None:
    network = _network().train()
    encoded = network({view: torch.randn(2, 3, 64, 64) for view in ("satellite", "drone")})
    logits = [one.logits for one in encoded.values() if one.logits is not None]
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(torch.cat(logits).square().sum(), parameters, allow_unused=True)
    reached = {
        name.split(".")[1]
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None
    }
    assert reached == {"model_1", "add_block", "classifier"}


def test_a_view_that_the_baseline_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="ground are unknown"):
        University1652(VGG, {"satellite": (64, 64), "ground": (64, 64)})


def test_the_configuration_builds_the_network() -> None:
    with torch.device("meta"):
        network = build_network(VGG, SMALL)
    assert isinstance(network, University1652)
    assert network.views == VIEWS


class _View(nn.Module):
    """What is exported of one view."""

    def __init__(self, network: University1652, view: str) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.encode(self.view, images).descriptor


@pytest.mark.filterwarnings("ignore::Warning")  # torch's exporter warns about its own parts
@pytest.mark.parametrize(
    ("backbone", "pool"),
    [
        ("vgg16", "gem"),
        pytest.param("vgg16", "avg+max", marks=pytest.mark.slow),
        pytest.param("resnet50", "gem", marks=pytest.mark.slow),
    ],
)
def test_an_onnx_graph_of_any_batch_gives_torchs_descriptors(
    backbone: str, pool: str, tmp_path: Path
) -> None:
    view = _View(_network(backbone=backbone, pool=pool, views=2), "satellite").eval()
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        view,
        (torch.randn(2, 3, 64, 64),),
        path,
        dynamo=True,
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = view(images).numpy()
        (actual,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(actual, expected, atol=1e-4)
