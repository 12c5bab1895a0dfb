from typing import get_args

import pytest
import torch

from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRConfig,
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)
from skyfix.train.models.geodtr import GeoDTR, GeoDTRDrone, GeoDTRPlus
from skyfix.train.models.mfrgn import MFRGN, MFRGNDrone
from skyfix.train.models.network import Network
from skyfix.train.models.sample4geo import Sample4Geo
from skyfix.train.models.three_view import University1652

TWO_VIEWS: InputSizes = {"ground": (128, 512), "aerial": (256, 256)}
SQUARES: InputSizes = {"drone": (256, 256), "satellite": (256, 256)}
CASES: list[tuple[NetworkConfig, InputSizes, type[Network]]] = [
    (GeoDTRConfig(), TWO_VIEWS, GeoDTR),
    (GeoDTRPlusConfig(), TWO_VIEWS, GeoDTRPlus),
    (GeoDTRPlusDroneConfig(), SQUARES, GeoDTRDrone),
    (MFRGNConfig(), TWO_VIEWS, MFRGN),
    (MFRGNDroneConfig(), SQUARES, MFRGNDrone),
    (University1652Config(), {**SQUARES, "street": (256, 256)}, University1652),
    (Sample4GeoConfig(), SQUARES, Sample4Geo),
]


@pytest.mark.parametrize(
    ("config", "input_px", "network"), CASES, ids=[case[2].__name__ for case in CASES]
)
def test_each_configuration_is_of_one_network(
    config: NetworkConfig, input_px: InputSizes, network: type[Network]
) -> None:
    with torch.device("meta"):
        built = build_network(config, input_px)
    assert type(built) is network
    assert built.views == tuple(input_px)


def test_no_configuration_is_left_out() -> None:
    assert {type(config) for config, _, _ in CASES} == set(get_args(NetworkConfig))


def test_the_options_of_a_drone_configuration_reach_the_network() -> None:
    config = GeoDTRPlusDroneConfig("convnext_femto", layer_scale=0.1, layouts=4, projection=64)
    network = build_network(config, {"camera": (64, 64), "map": (64, 64)})
    state = network.state_dict()
    assert state["backbone.stages.0.blocks.0.gamma"][0].item() == pytest.approx(0.1)
    assert state["projection.weight"].shape == (64, 192 * 4)
    assert state["GLE.pe.pe"].shape == (1, 16, 192)
