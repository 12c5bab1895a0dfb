from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.train.models.mfrgn import MFRGNDrone, pyramid_pooling, sine_positions


class Reference(Protocol):
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


@pytest.mark.real
def test_the_published_drone_network_is_this_one(reference: Callable[[str], Reference]) -> None:
    case = reference("mfrgn_drone_convnext_tiny_256")
    model = MFRGNDrone("tiny", 256).eval()
    model.load_state_dict(case.state)  # no key is missing, none is left
    with torch.no_grad():
        descriptor = model(case.inputs["image"]).descriptor
    np.testing.assert_allclose(descriptor, case.outputs["image"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "input_px", "millions"), [("base", 384, 93.4), ("tiny", 256, 32.3)]
)
def test_parameter_counts_are_the_published_ones(size: str, input_px: int, millions: float) -> None:
    with torch.device("meta"):
        model = MFRGNDrone(size, input_px)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("input_px", "tokens"), [(384, 622 + 756), (320, 622 + 525), (256, 622 + 336), (128, 622 + 84)]
)
def test_the_global_map_takes_the_tokens_of_the_published_grids(input_px: int, tokens: int) -> None:
    assert MFRGNDrone("atto", input_px).proj.weight.shape == (14, tokens)


@pytest.mark.parametrize("side", [12, 16, 20, 32, 48])
def test_pooling_by_a_matrix_is_torchs_adaptive_pooling(side: int) -> None:
    image = torch.randn(side, side)
    pooled = [F.adaptive_avg_pool2d(image[None], n).flatten() for n in (1, 6, 12, 21)]
    torch.testing.assert_close(pyramid_pooling(side) @ image.flatten(), torch.cat(pooled))


def test_positions_turn_a_radian_a_column_in_the_first_channel_and_start_at_one() -> None:
    code = sine_positions(8)
    column, row = 5, 2
    expected = torch.tensor([6.0, 3.0])  # x, y counted from 1
    torch.testing.assert_close(code[0:4:2, row, column], expected.sin())
    torch.testing.assert_close(code[1:4:2, row, column], expected.cos())


def test_weights_pooled_backwards_equal_the_pooled_raw_map() -> None:
    model = MFRGNDrone("atto", 64)
    model.eval()
    raw, tokens = torch.randn(2, 80, 8, 8), torch.randn(2, 622, 128)
    prompt = model.proj_gl[0](tokens.transpose(1, 2))[..., None]  # (B, C, 622, 1)
    channel = model.ch[0](prompt.mean(dim=(2, 3), keepdim=True)).sigmoid()
    place = model.sp[0](prompt.amax(dim=1, keepdim=True)).sigmoid()
    sampled = torch.cat([F.adaptive_avg_pool2d(raw, n).flatten(2) for n in (1, 6, 12, 21)], dim=2)[
        ..., None
    ]  # (B, C, 622, 1)
    expected = (sampled * channel * place + sampled).mean(dim=(2, 3))
    torch.testing.assert_close(model._weighed(0, raw, tokens), expected)


@pytest.mark.parametrize("size", ["atto", "nano"])
def test_descriptors_are_2048_wide_unit_rows_whatever_the_backbone(size: str) -> None:
    descriptor = MFRGNDrone(size, 128)(torch.randn(2, 3, 128, 128)).descriptor
    assert descriptor.shape == (2, 2048)
    torch.testing.assert_close(descriptor.norm(dim=1), torch.ones(2))


def test_every_parameter_learns() -> None:
    model = MFRGNDrone("atto", 64, layer_scale=0.1)
    model(torch.randn(4, 3, 64, 64)).descriptor[:, ::7].sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
