import pytest
import torch

from skyfix.train.models.config import GeoDTRPlusDroneConfig
from skyfix.train.models.geodtr import GeoDTRDrone


def drone(input_px: int = 64, **options: object) -> GeoDTRDrone:
    config = GeoDTRPlusDroneConfig("convnext_atto", **options)  # type: ignore[arg-type]  # any field
    return GeoDTRDrone(config, {"camera": (input_px, input_px), "map": (input_px, input_px)})


@pytest.mark.parametrize(
    ("layouts", "projection", "dimension"), [(8, None, 1280), (2, None, 320), (8, 256, 256)]
)
def test_drone_descriptors_are_unit_rows_of_the_stated_size(
    layouts: int, projection: int | None, dimension: int
) -> None:
    network = drone(layouts=layouts, projection=projection)
    encoded = network.encode("map", torch.randn(3, 3, 64, 64))
    assert encoded.layout is not None
    assert encoded.layout.shape == (3, 16, layouts)
    for rows in (encoded.descriptor, encoded.counterfactual):
        assert rows is not None
        assert rows.shape == (3, dimension)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_both_drone_descriptors_mix_the_features_of_their_own_picture() -> None:
    network, images = drone(layouts=2), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        encoded, raw = network.encode("map", images), network.features(images)[0].flatten(1)
    # (C, HW): 16 places in 160-d, of which centring takes one dimension
    span = torch.linalg.qr(raw - raw.mean(dim=1, keepdim=True)).Q[:, :15]
    for rows in (encoded.descriptor, encoded.counterfactual):
        assert rows is not None
        columns = rows.reshape(160, 2)  # channel-major: each column is one layout's sum
        torch.testing.assert_close(span @ (span.T @ columns), columns, atol=1e-4, rtol=0)


def test_a_colour_cast_over_the_whole_patch_leaves_the_drone_descriptor() -> None:
    network = drone()
    raw, cast, layout = torch.randn(2, 160, 16), torch.randn(2, 160, 1), torch.rand(2, 16, 8)
    torch.testing.assert_close(
        network._described(raw + cast, layout), network._described(raw, layout), atol=1e-5, rtol=0
    )


def test_counterfactuals_are_drawn_anew_and_far_from_the_descriptor() -> None:
    network, images = drone(128, dropout=0.0), torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        first, second = network.encode("map", images), network.encode("map", images)
    assert torch.equal(first.descriptor, second.descriptor)
    assert first.counterfactual is not None
    assert second.counterfactual is not None
    for other in (second.counterfactual, first.descriptor):
        assert (first.counterfactual * other).sum(dim=1).max() < 0.9


def test_every_drone_parameter_learns() -> None:
    network = drone(projection=32, layer_scale=0.1)
    encoded = network.encode("map", torch.randn(4, 3, 64, 64))
    assert encoded.counterfactual is not None
    torch.autograd.backward([encoded.descriptor[:, 0].sum(), encoded.counterfactual[:, 1].sum()])
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
