from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skyfix.runtime.errors import ModelError
from skyfix.train.models.config import ConvNeXtName, Sample4GeoConfig
from skyfix.train.models.sample4geo import Sample4Geo, config_from_official, state_from_official

ATTO = Sample4GeoConfig("convnext_atto", layer_scale=0.1)


class Reference(Protocol):
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


@pytest.mark.real
def test_the_published_network_is_this_one(reference: Callable[[str], Reference]) -> None:
    case = reference("sample4geo_convnext_tiny_256")
    config = config_from_official(case.state)
    model = Sample4Geo(config, {"drone": (256, 256), "satellite": (256, 256)}).eval()
    model.load_state_dict(state_from_official(case.state))  # no key is missing, none is left
    with torch.no_grad():
        features = model.features(case.inputs["image"])
    np.testing.assert_allclose(features, case.outputs["image"], atol=1e-5)


def test_the_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        model = Sample4Geo(Sample4GeoConfig(), {"drone": (384, 384)})
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(87.56, abs=0.01)


def test_views_of_two_sizes_pass_the_same_weights_and_give_unit_rows() -> None:
    model = Sample4Geo(ATTO, {"ground": (64, 160), "aerial": (64, 64)}).eval()
    aerial = torch.randn(2, 3, 64, 64)
    encoded = model({"ground": torch.randn(2, 3, 64, 160), "aerial": aerial})
    assert encoded["ground"].descriptor.shape == (2, 320)
    torch.testing.assert_close(encoded["ground"].descriptor.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(
        encoded["aerial"].descriptor, model.encode("ground", aerial).descriptor
    )


def test_features_are_the_normed_mean_of_the_last_map() -> None:
    model = Sample4Geo(ATTO, {"drone": (64, 96)})
    weight, bias = model.model.head.parameters()
    torch.nn.init.normal_(weight)
    torch.nn.init.normal_(bias)
    images = torch.randn(2, 3, 64, 96)
    mean = model.model.forward_features(images)[-1].flatten(2).mean(dim=2)  # (B, C)
    centred = mean - mean.mean(dim=1, keepdim=True)
    expected = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(model.features(images), expected * weight + bias)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_small", "convnext_base"])
def test_the_backbone_is_read_off_a_state_dict(name: ConvNeXtName) -> None:
    with torch.device("meta"):
        state = Sample4Geo(Sample4GeoConfig(name), {"drone": (64, 64)}).state_dict()
    assert config_from_official(state).backbone == name


def test_the_temperature_is_no_weight_of_the_network() -> None:
    state = Sample4Geo(ATTO, {"drone": (64, 64)}).state_dict()
    ours = state_from_official({"logit_scale": torch.tensor(2.659), **state})
    assert list(ours) == list(state)


def test_another_systems_checkpoint_is_refused() -> None:
    with pytest.raises(ModelError, match="no backbone known"):
        config_from_official({"features.0.0.weight": torch.zeros(96, 3, 4, 4)})


def test_every_parameter_learns() -> None:
    model = Sample4Geo(ATTO, {"drone": (64, 64)})
    torch.autograd.backward(
        model.encode("drone", torch.randn(4, 3, 64, 64)).descriptor[:, ::7].sum()
    )
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
