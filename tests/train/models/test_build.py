import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.config import ModelConfig
from skyfix.train.models import GeoDTRDrone, MFRGNDrone, build_model


def test_a_geodtr_configuration_reaches_the_network() -> None:
    config = ModelConfig("geodtr_plus_drone", "femto", 0.1, layouts=4, projection=64)
    model = build_model(config, 64)
    assert isinstance(model, GeoDTRDrone)
    assert model.backbone.widths == (48, 96, 192)
    assert model.backbone.state_dict()["stages.0.blocks.0.gamma"][0].item() == pytest.approx(0.1)
    assert model.projection.weight.shape == (64, 192 * 4)
    assert model.GLE.pe.pe.shape == (1, 16, 192)


def test_an_mfrgn_configuration_reaches_the_network() -> None:
    model = build_model(ModelConfig("mfrgn_drone", "atto", 0.1), 128)
    assert isinstance(model, MFRGNDrone)
    assert model.sides == (16, 8, 4, 2)
    assert model.backbone.state_dict()["backbone.stages.3.blocks.0.gamma"][
        0
    ].item() == pytest.approx(0.1)


def test_an_unknown_architecture_is_named_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"resnet.*geodtr_plus_drone or mfrgn_drone"):
        build_model(ModelConfig("resnet"), 128)
