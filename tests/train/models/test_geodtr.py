import re
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from skyfix.train.models.backbones import ConvNeXt
from skyfix.train.models.geodtr import Encoder, GeoDTRDrone, GeometricLayoutExtractor


class Reference(Protocol):
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, NDArray[np.float32]]


@pytest.mark.real
@pytest.mark.parametrize(
    ("view", "branch", "places"), [("aerial", "sat", 256), ("ground", "grd", 287)]
)
def test_trunk_and_layouts_of_the_published_network_are_these(
    reference: Callable[[str], Reference], view: str, branch: str, places: int
) -> None:
    case = reference("geodtr_plus_convnext_cvusa")
    trunk, layouts = ConvNeXt("tiny", 3), GeometricLayoutExtractor(384, places, 8, bottleneck=True)
    both = nn.ModuleDict({"backbone": trunk, "GLE": layouts}).eval()
    both.load_state_dict(our_names(case.state, branch))
    with torch.no_grad():
        raw = trunk(case.inputs[view]).flatten(2)
        layout = layouts(raw.transpose(1, 2))
        descriptor = nn.functional.normalize((raw @ layout).flatten(1), dim=1)
    np.testing.assert_allclose(layout, case.outputs[f"{view}_layout"], atol=1e-5)
    np.testing.assert_allclose(descriptor, case.outputs[view], atol=1e-5)


def our_names(state: dict[str, torch.Tensor], branch: str) -> dict[str, torch.Tensor]:
    """torchvision's names of one branch's backbone as timm's; the GLE keeps its own."""
    renamed = {}
    for key, value in state.items():
        if key.startswith(f"GLE_{branch}."):
            renamed[key.replace(f"GLE_{branch}", "GLE")] = value
        elif key.startswith(f"backbone_{branch}.net."):
            name = timm_name(key.removeprefix(f"backbone_{branch}.net."))
            renamed[f"backbone.{name}"] = value.flatten() if name.endswith("gamma") else value
    return renamed


def timm_name(key: str) -> str:
    child, rest = key.split(".", 1)
    index = int(child)
    if index == 0:
        return f"stem.{rest}"
    if index % 2 == 0:
        return f"stages.{index // 2}.downsample.{rest}"
    rest = re.sub(r"block\.0\b", "conv_dw", rest)
    rest = re.sub(r"block\.2\b", "norm", rest)
    rest = re.sub(r"block\.3\b", "mlp.fc1", rest)
    rest = re.sub(r"block\.5\b", "mlp.fc2", rest)
    return f"stages.{index // 2}.blocks.{rest}".replace("layer_scale", "gamma")


def test_the_encoder_is_torchs_by_names_and_numbers() -> None:
    layer = nn.TransformerEncoderLayer(
        64, 4, dim_feedforward=96, activation="gelu", batch_first=True
    )
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(64), enable_nested_tensor=False).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = Encoder(64, 96, dropout=0.3).eval()
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, 9, 64)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)


def test_one_branch_at_256_px_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = GeoDTRDrone("tiny", 256, layouts=8)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(14.95, abs=0.01)


@pytest.mark.parametrize(
    ("layouts", "projection", "dimension"), [(8, None, 1280), (2, None, 320), (8, 256, 256)]
)
def test_descriptors_are_unit_rows_of_the_stated_size(
    layouts: int, projection: int | None, dimension: int
) -> None:
    model = GeoDTRDrone("atto", 64, layouts, projection)
    encoded = model(torch.randn(3, 3, 64, 64))
    assert encoded.descriptor.shape == (3, dimension)
    assert encoded.layout.shape == (3, 16, layouts)
    for rows in (encoded.descriptor, encoded.counterfactual):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_evaluation_gives_the_descriptor_alone_and_twice_the_same() -> None:
    model, images = GeoDTRDrone("atto", 64).eval(), torch.randn(2, 3, 64, 64)
    first, second = model(images), model(images)
    assert first.layout is None
    assert first.counterfactual is None
    assert torch.equal(first.descriptor, second.descriptor)


def test_both_descriptors_mix_the_features_of_their_own_picture() -> None:
    model, images = GeoDTRDrone("atto", 64, layouts=2), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        encoded = model(images)
        raw = model.norm(model.backbone(images))[0].flatten(1)  # (C, HW): 16 places in 160-d
    span = torch.linalg.qr(raw - raw.mean(dim=1, keepdim=True)).Q[:, :15]  # centred: one less
    for rows in (encoded.descriptor, encoded.counterfactual):
        columns = rows.reshape(160, 2)  # channel-major: each column is one layout's sum
        torch.testing.assert_close(span @ (span.T @ columns), columns, atol=1e-4, rtol=0)


def test_a_colour_cast_over_the_whole_patch_leaves_the_descriptor() -> None:
    model = GeoDTRDrone("atto", 64)
    raw, cast, layout = torch.randn(2, 160, 16), torch.randn(2, 160, 1), torch.rand(2, 16, 8)
    torch.testing.assert_close(
        model._described(raw + cast, layout), model._described(raw, layout), atol=1e-5, rtol=0
    )


def test_counterfactuals_are_drawn_anew_and_far_from_the_descriptor() -> None:
    model, images = GeoDTRDrone("atto", 128, dropout=0.0), torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        first, second = model(images), model(images)
    assert torch.equal(first.descriptor, second.descriptor)
    for other in (second.counterfactual, first.descriptor):
        assert (first.counterfactual * other).sum(dim=1).max() < 0.9


def test_every_parameter_learns() -> None:
    model = GeoDTRDrone("atto", 64, projection=32, layer_scale=0.1)
    encoded = model(torch.randn(4, 3, 64, 64))
    (encoded.descriptor[:, 0].sum() + encoded.counterfactual[:, 1].sum()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
