from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRConfig,
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    NetworkConfig,
)
from skyfix.train.models.convnext import ConvNeXt
from skyfix.train.models.geodtr import (
    GeoDTR,
    GeoDTRDrone,
    GeoDTRPlus,
    config_from_official,
    places_of,
    state_from_official,
)
from skyfix.train.models.network import Encoded, Network
from skyfix.train.models.resnet import ResNet

SMALL: InputSizes = {"ground": (64, 96), "aerial": (64, 64)}
CVUSA: InputSizes = {"ground": (122, 671), "aerial": (256, 256)}
POLAR: InputSizes = {"ground": (122, 671), "aerial": (122, 671)}
VIGOR: InputSizes = {"ground": (320, 640), "aerial": (320, 320)}


class Reference(Protocol):
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


def drone(input_px: int = 64, **options: object) -> GeoDTRDrone:
    config = GeoDTRPlusDroneConfig("convnext_atto", **options)  # type: ignore[arg-type]  # any field
    return GeoDTRDrone(config, {"camera": (input_px, input_px), "map": (input_px, input_px)})


def on_meta(config: NetworkConfig, input_px: InputSizes) -> Network:
    with torch.device("meta"):
        return build_network(config, input_px)


def parameters(network: Network) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.real
@pytest.mark.parametrize(
    ("case_name", "config"),
    [
        ("geodtr_v1_resnet34_cvusa", GeoDTRConfig()),
        ("geodtr_plus_convnext_cvusa", GeoDTRPlusConfig()),
        ("geodtr_plus_convnext_cvusa_polar", GeoDTRPlusConfig()),
        ("geodtr_plus_resnet34_cvact", GeoDTRPlusConfig("resnet34")),
    ],
)
def test_a_published_checkpoint_gives_the_published_outputs(
    reference: Callable[[str], Reference], case_name: str, config: NetworkConfig
) -> None:
    case = reference(case_name)
    assert config_from_official(case.state) == config
    sizes = {view: (x.shape[2], x.shape[3]) for view, x in case.inputs.items()}
    network = build_network(config, sizes).eval()
    assert isinstance(network, GeoDTR | GeoDTRPlus)
    network.load_state_dict(state_from_official(case.state))  # no key is missing, none is left
    with torch.no_grad():
        encoded = {
            "ground": network.encode_ground(case.inputs["ground"]),
            "aerial": network.encode_aerial(case.inputs["aerial"]),
        }
    for view, (descriptor, layout, *_) in encoded.items():
        np.testing.assert_allclose(descriptor, case.outputs[view], atol=1e-5, rtol=0)
        if f"{view}_layout" in case.outputs:
            assert layout is not None
            np.testing.assert_allclose(layout, case.outputs[f"{view}_layout"], atol=1e-5, rtol=0)


@pytest.mark.real
def test_a_published_checkpoint_loads_also_without_the_bottleneck(
    reference: Callable[[str], Reference],
) -> None:
    case = reference("geodtr_plus_resnet34_cvact")
    network = build_network(GeoDTRPlusConfig("resnet34", bottleneck=False), CVUSA)
    network.load_state_dict(state_from_official(case.state))


@pytest.mark.parametrize(
    ("config", "input_px", "millions"),
    [
        (GeoDTRPlusConfig(), CVUSA, 30.05),
        (GeoDTRPlusConfig(), POLAR, 30.19),
        (GeoDTRPlusConfig(), VIGOR, 35.5),
        (GeoDTRPlusDroneConfig(), {"camera": (256, 256), "map": (256, 256)}, 14.95),  # one branch
    ],
)
def test_parameter_counts_are_the_published_ones(
    config: NetworkConfig, input_px: InputSizes, millions: float
) -> None:
    tolerance = 0.05 if millions == 35.5 else 0.006
    assert parameters(on_meta(config, input_px)) == pytest.approx(millions, abs=tolerance)


@given(st.sampled_from(["convnext_atto", "resnet34"]), st.integers(32, 400), st.integers(32, 400))
@settings(max_examples=8)
def test_there_are_as_many_places_as_the_backbone_leaves(
    name: str, height: int, width: int
) -> None:
    with torch.device("meta"):
        trunk = ResNet("resnet34", max_pool=False) if name == "resnet34" else ConvNeXt(name, 3)
        map_ = trunk(torch.empty(1, 3, height, width))
    assert places_of(name, (height, width)) == map_.shape[2] * map_.shape[3]


@pytest.mark.parametrize(
    ("config", "input_px", "places"),
    [
        (GeoDTRPlusConfig(), CVUSA, (287, 256)),
        (GeoDTRPlusConfig(), VIGOR, (800, 400)),
        (GeoDTRPlusConfig("resnet34"), POLAR, (336, 336)),
        (GeoDTRPlusConfig("resnet34"), VIGOR, (800, 400)),
        (GeoDTRConfig(), CVUSA, (336, 256)),
    ],
)
def test_layouts_lie_on_the_published_grids(
    config: NetworkConfig, input_px: InputSizes, places: tuple[int, int]
) -> None:
    state = on_meta(config, input_px).state_dict()
    assert (state["GLE_grd.b2"].shape[2], state["GLE_sat.b2"].shape[2]) == places


@pytest.mark.parametrize("layouts", [2, 5])
@pytest.mark.parametrize(
    ("config", "width"),
    [
        (GeoDTRConfig, 512),
        (GeoDTRPlusConfig, 384),
        (lambda **options: GeoDTRPlusConfig("resnet34", **options), 512),
    ],
    ids=["geodtr", "plus_convnext", "plus_resnet"],
)
def test_descriptors_are_unit_rows_of_width_times_layouts(
    config: Callable[..., NetworkConfig], width: int, layouts: int
) -> None:
    network = build_network(config(layouts=layouts, heads=2), SMALL)
    encoded = network.encode("ground", torch.randn(3, 3, *SMALL["ground"]))
    assert encoded.layout is not None
    assert encoded.layout.shape[::2] == (3, layouts)
    for rows in (encoded.descriptor, encoded.counterfactual):
        assert rows is not None
        assert rows.shape == (3, width * layouts)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("config", [GeoDTRConfig(), GeoDTRPlusConfig("resnet34", layouts=3)])
def test_each_entry_is_a_channel_seen_through_a_layout(
    config: GeoDTRConfig | GeoDTRPlusConfig,
) -> None:
    network = build_network(config, SMALL).eval()
    assert isinstance(network, GeoDTR | GeoDTRPlus)
    images = torch.randn(1, 3, *SMALL["aerial"])
    with torch.no_grad():
        (descriptor, layout, *_), raw = (
            network.encode_aerial(images),
            network.features("aerial", images).flatten(2),
        )
    assert layout is not None
    product = torch.stack(
        [(raw[0, c] * layout[0, :, k]).sum() for c in range(512) for k in range(config.layouts)]
    )
    torch.testing.assert_close(descriptor[0], product / product.norm(), atol=1e-6, rtol=1e-4)


def test_views_share_nothing() -> None:
    network = build_network(GeoDTRPlusConfig("resnet34"), SMALL)
    encoded = network.encode("aerial", torch.randn(2, 3, *SMALL["aerial"]))
    torch.autograd.backward(encoded.descriptor.sum())
    learning = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert learning == {"backbone_sat", "GLE_sat"}


@pytest.mark.parametrize(
    "config", [GeoDTRConfig(heads=2), GeoDTRPlusConfig("resnet34", bottleneck=False)]
)
def test_every_parameter_learns_from_both_views(config: NetworkConfig) -> None:
    network = build_network(config, SMALL)
    both = network({view: torch.randn(4, 3, *size) for view, size in SMALL.items()})
    torch.autograd.backward([encoded.descriptor[:, 7].sum() for encoded in both.values()])
    still = [
        n
        for n, p in network.named_parameters()
        if p.requires_grad and not torch.is_nonzero(reach(p))
    ]
    assert still == []


def reach(parameter: torch.Tensor) -> torch.Tensor:
    """Largest gradient; 0 where there is none."""
    return torch.zeros(()) if parameter.grad is None else parameter.grad.abs().max()


def small_network(name: str) -> tuple[Network, str, tuple[int, int]]:
    if name == "drone":
        return drone(projection=32, layer_scale=0.1), "map", (64, 64)
    configs: dict[str, NetworkConfig] = {
        "geodtr": GeoDTRConfig(heads=2),
        "plus": GeoDTRPlusConfig("resnet34", heads=2),
        "plus_convnext": GeoDTRPlusConfig(),
        "plus_plain": GeoDTRPlusConfig("resnet34", bottleneck=False, layers=1),
        "plus_orthogonal": GeoDTRPlusConfig("resnet34", normalize=True, orthogonalize=True),
    }
    return build_network(configs[name], SMALL), "ground", SMALL["ground"]


@pytest.mark.parametrize("name", ["geodtr", "plus", "drone"])
def test_evaluation_gives_descriptor_and_layout_and_twice_the_same(name: str) -> None:
    network, view, size = small_network(name)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        first, second = network.eval().encode(view, images), network.encode(view, images)
    assert first.counterfactual is None
    assert first.layout is not None
    assert second.layout is not None
    assert torch.equal(first.descriptor, second.descriptor)
    assert torch.equal(first.layout, second.layout)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GeoDTRConfig(heads=5), r"12 wide.*5 heads do not divide"),
        (GeoDTRPlusConfig("resnet34", heads=3), r"3 heads do not divide.*512"),
    ],
)
def test_heads_that_do_not_divide_the_transformer_are_refused(
    config: NetworkConfig, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        on_meta(config, SMALL)


@pytest.mark.parametrize(
    ("config", "input_px", "message"),
    [
        (GeoDTRConfig(), {"ground": (64, 64)}, r"views ground and aerial.*\['ground'\]"),
        (GeoDTRPlusConfig(), {"drone": (64, 64), "map": (64, 64)}, r"\['drone', 'map'\]"),
        (GeoDTRPlusConfig(), {"ground": (64, 64), "aerial": (64, 31)}, r"31.*too small: 32 px"),
        (
            GeoDTRPlusConfig(normalize=True, orthogonalize=True),
            {"ground": (32, 64), "aerial": (64, 64)},
            "have 8 places: no 8 layouts are orthogonal",
        ),
        (GeoDTRPlusDroneConfig(), {"camera": (16, 16), "map": (16, 16)}, "too small"),
    ],
)
def test_inputs_that_no_branch_takes_are_refused(
    config: NetworkConfig, input_px: InputSizes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        on_meta(config, input_px)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("backbone_sat.layers.0.weight", "backbone_sat.conv1.weight"),
        ("backbone_grd.layers.1.running_mean", "backbone_grd.bn1.running_mean"),
        ("backbone_grd.layers.3.2.bn2.bias", "backbone_grd.layer1.2.bn2.bias"),
        ("backbone_sat.layers.6.0.downsample.1.num_batches_tracked",
         "backbone_sat.layer4.0.downsample.1.num_batches_tracked"),
        ("backbone_sat.net.0.1.weight", "backbone_sat.stem.1.weight"),
        ("backbone_sat.net.4.1.bias", "backbone_sat.stages.2.downsample.1.bias"),
        ("backbone_grd.net.5.8.block.5.weight", "backbone_grd.stages.2.blocks.8.mlp.fc2.weight"),
        ("backbone_grd.net.1.0.block.0.bias", "backbone_grd.stages.0.blocks.0.conv_dw.bias"),
        ("backbone_grd.net.3.1.layer_scale", "backbone_grd.stages.1.blocks.1.gamma"),
        ("ge_sat.tr_module.pos_encoder.linear", "GLE_sat.tr_module.pos_encoder.linear"),
        ("GLE_grd.pe.pe", "GLE_grd.pe.pe"),
        ("head.weight", "head.weight"),  # to be named as unknown
    ],
)  # fmt: skip
def test_published_names_become_ours(published: str, ours: str) -> None:
    assert list(state_from_official({published: torch.zeros(())})) == [ours]


def test_a_layer_scale_loses_its_unit_axes() -> None:
    published = {"backbone_sat.net.1.0.layer_scale": torch.rand(96, 1, 1)}
    (ours,) = state_from_official(published).values()
    assert torch.equal(ours, published["backbone_sat.net.1.0.layer_scale"][:, 0, 0])


def test_shapes_tell_the_configuration() -> None:
    layers = "transformer_encoder.layers"
    version_1 = {"ge_sat.w1": torch.empty(256, 6, 128)} | {
        f"ge_sat.tr_module.{layers}.{i}.linear1.weight": torch.empty(1024, 128) for i in range(3)
    }
    version_2 = {
        "backbone_sat.layers.0.weight": torch.empty(64, 3, 7, 7),
        "GLE_sat.pointwise.weight": torch.empty(4, 512),
        f"GLE_sat.{layers}.0.linear1.weight": torch.empty(256, 512),
    }
    without = {"GLE_sat.pointwise.weight": torch.empty(8, 384)}
    assert config_from_official(version_1) == GeoDTRConfig(layouts=6, layers=3, feedforward=1024)
    assert config_from_official(version_2) == GeoDTRPlusConfig(
        "resnet34", layouts=4, layers=1, feedforward=256
    )
    assert config_from_official(without) == GeoDTRPlusConfig(layers=0)


def test_weights_of_another_system_are_named() -> None:
    with pytest.raises(ModelError, match=r"neither GeoDTR.*fc\.weight.*--from"):
        config_from_official({"fc.weight": torch.empty(2, 2)})


class OneView(torch.nn.Module):
    """Images in, descriptor and layout out."""

    def __init__(self, network: Network, view: str) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        encoded: Encoded = self.network.encode(self.view, images)
        return encoded.descriptor, encoded.layout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # torch's exporter warns about its own parts
@pytest.mark.parametrize(
    "name", ["geodtr", "plus", "plus_convnext", "plus_plain", "plus_orthogonal", "drone"]
)
def test_one_onnx_graph_of_any_batch_gives_torchs_outputs(name: str, tmp_path: Path) -> None:
    network, view, size = small_network(name)
    module, path = OneView(network, view).eval(), tmp_path / "model.onnx"
    torch.onnx.export(
        module,
        (torch.randn(2, 3, *size),),
        path,
        dynamo=True,
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected = module(images)
        actual = session.run(None, {"images": images.numpy()})
        for theirs, ours in zip(actual, expected, strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=0)
