import math
from collections.abc import Callable, Mapping
from typing import Protocol, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.models.config import InputSizes, MFRGNConfig, MFRGNDroneConfig, PyramidName
from skyfix.train.models.linear_attention import CrossLayer, softmax_attention
from skyfix.train.models.mfrgn import (
    AERIAL,
    MFRGN,
    STREET,
    Branch,
    MFRGNDrone,
    Sampling,
    config_from_official,
    sine_positions,
    state_from_official,
)

PANORAMA = {"ground": (128, 512), "aerial": (256, 256)}
VIGOR = {"ground": (320, 640), "aerial": (320, 320)}
SMALL = {"ground": (64, 128), "aerial": (96, 96)}
ATTO = MFRGNConfig("convnext_atto", layer_scale=0.1)
ATTO_DRONE = MFRGNDroneConfig("convnext_atto", layer_scale=0.1)
PYRAMIDS: list[PyramidName] = [name for union in get_args(PyramidName) for name in get_args(union)]


class Reference(Protocol):
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


def drone_px(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


@pytest.mark.real
def test_the_published_two_view_network_is_this_one(
    reference: Callable[[str], Reference],
) -> None:
    case = reference("mfrgn_convnext_tiny_cvusa")
    config = config_from_official(case.state)
    assert config == MFRGNConfig("convnext_tiny")
    model = MFRGN(config, PANORAMA).eval()
    model.load_state_dict(state_from_official(case.state))  # no key is missing, none is left
    with torch.no_grad():
        ground = model.encode_ground(case.inputs["ground"]).descriptor
        aerial = model.encode_aerial(case.inputs["aerial"]).descriptor
    np.testing.assert_allclose(ground, case.outputs["ground"], atol=1e-5)
    np.testing.assert_allclose(aerial, case.outputs["aerial"], atol=1e-5)


@pytest.mark.real
def test_the_published_drone_network_is_this_one(reference: Callable[[str], Reference]) -> None:
    case = reference("mfrgn_drone_convnext_tiny_256")
    config = config_from_official(case.state)
    assert config == MFRGNDroneConfig("convnext_tiny")
    model = MFRGNDrone(config, drone_px(256)).eval()
    model.load_state_dict(state_from_official(case.state))  # no key is missing, none is left
    with torch.no_grad():
        descriptor = model.encode("drone", case.inputs["image"]).descriptor
    np.testing.assert_allclose(descriptor, case.outputs["image"], atol=1e-5)


def test_the_parameter_count_of_the_pair_is_the_published_one() -> None:
    with torch.device("meta"):
        model = MFRGN(MFRGNConfig(), PANORAMA)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(97.9, abs=0.05)


@pytest.mark.parametrize(
    ("backbone", "side", "millions"), [("convnext_base", 384, 93.4), ("convnext_tiny", 256, 32.3)]
)
def test_parameter_counts_of_the_drones_network_are_the_published_ones(
    backbone: PyramidName, side: int, millions: float
) -> None:
    with torch.device("meta"):
        model = MFRGNDrone(MFRGNDroneConfig(backbone), drone_px(side))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("side", "tokens"), [(384, 622 + 756), (320, 622 + 525), (256, 622 + 336), (128, 622 + 84)]
)
def test_the_global_map_takes_the_tokens_of_the_published_grids(side: int, tokens: int) -> None:
    assert MFRGNDrone(ATTO_DRONE, drone_px(side)).proj.weight.shape == (14, tokens)


@pytest.mark.parametrize("backbone", ["convnext_atto", "resnet18"])
@pytest.mark.parametrize(
    ("input_px", "pps", "ground", "aerial"),
    [
        (PANORAMA, True, 622 + 336, 622 + 336),
        (VIGOR, True, 622 + 1050, 622 + 525),
        (PANORAMA, False, 1024 + 336, 1024 + 336),
        (VIGOR, False, 3200 + 1050, 1600 + 525),
    ],
)
def test_the_global_maps_of_both_views_take_the_tokens_of_the_published_grids(
    backbone: PyramidName, input_px: InputSizes, pps: bool, ground: int, aerial: int
) -> None:
    with torch.device("meta"):
        model = MFRGN(MFRGNConfig(backbone, pps=pps), input_px)
    assert model.ground.proj.weight.shape == (14, ground)
    assert model.aerial.proj.weight.shape == (14, aerial)


def test_without_pooling_the_spatial_kernel_of_the_finest_scale_is_not_laid_flat() -> None:
    pooled, whole = MFRGN(ATTO, SMALL), MFRGN(MFRGNConfig("convnext_atto", pps=False), SMALL)
    kernels = [
        [tuple(weight.shape[2:]) for weight in branch.sp.parameters() if weight.ndim == 4]
        for branch in (pooled.aerial, pooled.ground, whole.aerial, whole.ground)
    ]
    assert kernels == [
        [(81, 1), (7, 7), (5, 5), (3, 3)],
        [(91, 1), (7, 13), (7, 13), (7, 13)],
        [(9, 9), (7, 7), (5, 5), (3, 3)],
        [(7, 13), (7, 13), (7, 13), (7, 13)],
    ]


def test_positions_turn_a_radian_a_column_in_the_first_channel_and_start_at_one() -> None:
    code = sine_positions(4, 8)
    column, row = 5, 2
    expected = torch.tensor([6.0, 3.0])  # x, y counted from 1
    assert code.shape == (128, 4, 8)
    torch.testing.assert_close(code[0:4:2, row, column], expected.sin())
    torch.testing.assert_close(code[1:4:2, row, column], expected.cos())


@pytest.mark.parametrize("sampling", [AERIAL, STREET], ids=["aerial", "street"])
@pytest.mark.parametrize("pps", [True, False], ids=["pooled", "whole"])
def test_both_flows_are_what_the_paper_writes(sampling: Sampling, pps: bool) -> None:
    street = sampling is STREET
    config = MFRGNConfig("convnext_atto", pps=pps)
    branch = Branch(
        config, {"view": (64, 128) if street else (64, 64)}, STREET if street else AERIAL
    )
    branch.eval()
    columns = 2 if street else 1
    sides = [(s, s * columns) for s in (8, 4, 2, 1)]
    widths = (80, 160, 320, 128)
    raw = [torch.randn(2, c, *side) for c, side in zip(widths, sides, strict=True)]
    embedded = [torch.randn(2, 128, *side) for side in sides]
    if not street:
        cells = [(1, 1), (6, 6), (12, 12), (21, 21)]
    else:
        cells = [(1, 1), (3, 12), (6, 24), (7, 63)]

    def sampled(x: torch.Tensor) -> torch.Tensor:
        parts = [F.adaptive_avg_pool2d(x, shape).flatten(2) for shape in cells]
        return torch.cat(parts, dim=2)[..., None] if pps else x

    low = sampled(embedded[0]).flatten(2).transpose(1, 2)
    low = F.layer_norm(low, (128,)) if pps else low
    high = torch.cat([x.flatten(2).transpose(1, 2) for x in embedded[1:]], dim=1)
    for layer in branch.transformer_H.layers:
        high = layer(high, torch.cat([low, high], dim=1))
    low = branch.transformer_L.layers[0](low, torch.cat([low, high], dim=1))
    tokens = torch.cat([low, high], dim=1).transpose(1, 2)  # (B, 128, T)
    maps = [sampled(raw[0]), *raw[1:]]
    vectors, first = [], 0
    for scale, own in enumerate(maps):
        count = math.prod(own.shape[2:])
        prompt = branch.proj_gl[scale](tokens[:, :, first : first + count]).view_as(own)
        channel = branch.ch[scale](F.adaptive_avg_pool2d(prompt, 1)).sigmoid()
        place = branch.sp[scale](prompt.amax(dim=1, keepdim=True)).sigmoid()
        vectors.append((own * channel * place + own).mean(dim=(2, 3)))
        first += count
    local = branch.proj_local(torch.cat(vectors, dim=1))
    expected = torch.cat([branch.proj(tokens).flatten(1), local], dim=1)
    torch.testing.assert_close(branch.describe(raw, embedded), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["convnext_nano", "resnet18"])
def test_descriptors_are_2048_wide_unit_rows_whatever_the_backbone(backbone: PyramidName) -> None:
    model = MFRGN(MFRGNConfig(backbone), SMALL)
    for encoded in model({view: torch.randn(2, 3, *size) for view, size in SMALL.items()}).values():
        assert encoded.descriptor.shape == (2, 2048)
        torch.testing.assert_close(encoded.descriptor.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("backbone", ["convnext_atto", "resnet18"])
def test_inputs_that_are_no_multiple_of_32_fit(backbone: PyramidName) -> None:
    model = MFRGN(MFRGNConfig(backbone), {"ground": (70, 150), "aerial": (90, 90)})
    assert model.encode_ground(torch.randn(2, 3, 70, 150)).descriptor.shape == (2, 2048)
    assert model.encode_aerial(torch.randn(2, 3, 90, 90)).descriptor.shape == (2, 2048)


def test_pooled_cells_rows_feedforward_and_projection_are_the_configurations() -> None:
    config = MFRGNDroneConfig(
        "convnext_atto", pooled_cells=(1, 3, 6), global_rows=6, feedforward=256, projection=64
    )
    model = MFRGNDrone(config, drone_px(64))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["proj.weight"] == (6, 1 + 9 + 36 + 16 + 4 + 1)
    assert shapes["transformer_L.layers.0.mlp.0.weight"] == (256, 128)
    assert shapes["projection.weight"] == (64, 6 * 128 + 256)
    assert model.encode("drone", torch.randn(2, 3, 64, 64)).descriptor.shape == (2, 64)


def test_softmax_attention_reaches_every_layer_of_every_stack() -> None:
    model = MFRGN(MFRGNConfig("convnext_atto", attention="softmax"), SMALL)
    layers = [module for module in model.modules() if isinstance(module, CrossLayer)]
    assert [layer.attention for layer in layers] == [softmax_attention] * 6


def test_views_share_backbone_and_embedding_and_nothing_else() -> None:
    model = MFRGN(ATTO, SMALL)
    touched: dict[str, set[str]] = {}
    for view, size in SMALL.items():
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(
            model.encode(view, torch.randn(2, 3, *size)).descriptor[:, ::7].sum()
        )
        touched[view] = {
            name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None
        }
    assert touched == {
        "ground": {"backbone", "embed", "ground"},
        "aerial": {"backbone", "embed", "aerial"},
    }


def test_dropout_is_random_while_training_only() -> None:
    model, images = MFRGNDrone(ATTO_DRONE, drone_px(64)), torch.randn(2, 3, 64, 64)
    drawn = [model.encode("drone", images).descriptor for _ in range(2)]
    model.eval()
    kept = [model.encode("drone", images).descriptor for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*kept)


@pytest.mark.parametrize("pps", [True, False], ids=["pooled", "whole"])
@pytest.mark.parametrize("backbone", PYRAMIDS)
def test_published_names_and_shapes_of_any_backbone_lead_to_its_network(
    backbone: PyramidName, pps: bool
) -> None:
    with torch.device("meta"):
        two, one = (
            MFRGNConfig(backbone, pps=pps, feedforward=512),
            MFRGNDroneConfig(backbone, pps=pps),
        )
        pair, drone = MFRGN(two, SMALL).state_dict(), MFRGNDrone(one, drone_px(64)).state_dict()
    pair_official = {_official_name(key): value for key, value in pair.items()}
    for config, ours, official in ((two, pair, pair_official), (one, drone, drone)):
        published = {**official, **_beside(official)}
        assert config_from_official(published) == config
        assert {k: v.shape for k, v in state_from_official(published).items()} == {
            k: v.shape for k, v in ours.items()
        }


def _official_name(key: str) -> str:
    view, _, rest = key.partition(".")
    if view not in {"aerial", "ground"}:
        return key
    if rest.startswith("norm1"):
        return rest if view == "aerial" else rest.replace("norm1", "norm2")
    part, _, leaf = rest.partition(".")
    short = {"aerial": "sat", "ground": "grd"}[view]
    if part.startswith("transformer_"):
        return f"transformer_{short}_{part[-1]}.{leaf}"
    return f"{part}_{short}.{leaf}"


def _beside(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What published state dicts may hold beside the network."""
    extra = {"logit_scale": torch.zeros(()), "backbone.backbone.head.norm.weight": torch.zeros(8)}
    norms = {"norm1.weight": torch.zeros(128), "norm2.weight": torch.zeros(128)}
    return extra if "norm1.weight" in state else extra | norms


def test_another_systems_checkpoint_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no checkpoint of MFRGN.*transformer_H"):
        config_from_official({"features.0.0.weight": torch.zeros(96, 3, 4, 4)})


def test_views_of_another_system_are_refused() -> None:
    with pytest.raises(InputError, match="ground and aerial, not of drone, satellite"):
        MFRGN(ATTO, drone_px(64))


def test_the_drones_network_takes_squares_of_one_size_only() -> None:
    with pytest.raises(InputError, match="squares of one size"):
        MFRGNDrone(ATTO_DRONE, {"drone": (64, 64), "satellite": (96, 96)})


def test_images_that_leave_no_place_on_the_coarsest_map_are_refused() -> None:
    with pytest.raises(InputError, match=r"32 px a side or more, not of \(16, 16\)"):
        MFRGNDrone(ATTO_DRONE, drone_px(16))


@pytest.mark.parametrize("pps", [True, False], ids=["pooled", "whole"])
def test_every_parameter_of_the_pair_learns(pps: bool) -> None:
    model = MFRGN(MFRGNConfig("convnext_atto", layer_scale=0.1, pps=pps), SMALL)
    encoded = model({view: torch.randn(4, 3, *size) for view, size in SMALL.items()})
    torch.autograd.backward([e.descriptor[:, ::7].sum() for e in encoded.values()])
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_every_parameter_of_the_drones_network_learns() -> None:
    config = MFRGNDroneConfig("resnet18", projection=64, attention="softmax")
    model = MFRGNDrone(config, drone_px(64))
    torch.autograd.backward(
        model.encode("drone", torch.randn(4, 3, 64, 64)).descriptor[:, ::7].sum()
    )
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
