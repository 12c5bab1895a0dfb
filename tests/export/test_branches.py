import pytest
import torch

from skyfix.export.branches import branches_of, flight_px
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRPlusConfig,
    InputSizes,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)

PAIR: InputSizes = {"ground": (64, 128), "aerial": (64, 64)}


def squares(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


@pytest.mark.parametrize(
    ("config", "sizes", "files", "side_px"),
    [
        (MFRGNDroneConfig("convnext_atto"), squares(128), ["encoder.onnx"] * 2, 128),
        (Sample4GeoConfig("convnext_atto"), squares(32), ["encoder.onnx"] * 2, 32),
        (Sample4GeoConfig("convnext_atto"), PAIR, ["query.onnx", "map.onnx"], None),
        # one graph for both, and yet nothing that flies: the query is a panorama
        (
            Sample4GeoConfig("convnext_atto"),
            PAIR | {"ground": (64, 64)},
            ["encoder.onnx"] * 2,
            None,
        ),
        (GeoDTRPlusConfig(), PAIR, ["query.onnx", "map.onnx"], None),
        (University1652Config(classes=3, share=False), squares(32), ["query.onnx", "map.onnx"], 32),
    ],
    ids=["mfrgn_drone", "sample4geo", "pair", "square pair", "geodtr_plus", "unshared"],
)
def test_views_share_a_graph_where_they_compute_the_same(
    config: NetworkConfig, sizes: InputSizes, files: list[str], side_px: int | None
) -> None:
    torch.manual_seed(0)
    branches = branches_of(build_network(config, sizes).eval())
    assert [branch.file for branch in branches] == files
    assert flight_px(branches) == side_px
