import re

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.train.models.config import ResNetName
from skyfix.train.models.resnet import BasicBlock, ResNet


# torchvision's counts without the classifier; entries of its state dicts without fc.*
@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    [
        ("resnet18", 11_176_512, 120),
        ("resnet34", 21_284_672, 216),
        ("resnet50", 23_508_032, 318),
    ],
)
def test_sizes_are_the_published_ones(name: ResNetName, parameters: int, entries: int) -> None:
    with torch.device("meta"):
        trunk = ResNet(name)
    assert sum(p.numel() for p in trunk.parameters()) == parameters
    assert len(trunk.state_dict()) == entries


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("conv1.weight", (64, 3, 7, 7)),
        ("bn1.running_var", (64,)),
        ("layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        ("layer2.0.conv2.weight", (128, 128, 3, 3)),
        ("layer3.5.conv3.weight", (1024, 256, 1, 1)),
        ("layer4.0.downsample.1.num_batches_tracked", ()),
    ],
)
def test_entries_have_torchvisions_names_and_shapes(key: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert tuple(ResNet("resnet50").state_dict()[key].shape) == shape


@pytest.mark.parametrize(
    ("last_stride", "max_pool", "sides"),
    [
        (2, True, [(31, 38), (16, 19), (8, 10), (4, 5)]),
        (1, True, [(31, 38), (16, 19), (8, 10), (8, 10)]),  # University-1652
        (2, False, [(61, 75), (31, 38), (16, 19), (8, 10)]),  # GeoDTR
    ],
)
def test_each_stage_halves_the_sides_rounded_up(
    last_stride: int, max_pool: bool, sides: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        trunk = ResNet("resnet50", last_stride, max_pool)
        maps = trunk.forward_features(torch.empty(1, 3, 122, 150))
    assert [tuple(m.shape[2:]) for m in maps] == sides
    assert tuple(m.shape[1] for m in maps) == trunk.widths == (256, 512, 1024, 2048)


@pytest.mark.parametrize(("below", "stride"), [(8, 1), (4, 2)])
def test_a_basic_block_is_two_convolutions_and_the_projected_input(below: int, stride: int) -> None:
    block, x = BasicBlock(below, 8, stride).eval(), torch.randn(2, below, 9, 7)
    state = block.state_dict()
    for name in state:
        if re.search(r"(bn\d|downsample\.1)\.(weight|bias|running_mean|running_var)", name):
            torch.nn.init.uniform_(state[name], 0.5, 2.0)

    def convolved(image: torch.Tensor, conv: str, norm: str, stride: int) -> torch.Tensor:
        weight: torch.Tensor = state[f"{conv}.weight"]
        y = F.conv2d(image, weight, stride=stride, padding=weight.shape[2] // 2)
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        shift = state[f"{norm}.bias"] - gain * state[f"{norm}.running_mean"]
        return torch.as_tensor(y * gain[:, None, None] + shift[:, None, None])

    residual = convolved(x, "downsample.0", "downsample.1", stride) if stride == 2 else x
    inner = convolved(x, "conv1", "bn1", stride).clamp(min=0)
    expected = (residual + convolved(inner, "conv2", "bn2", 1)).clamp(min=0)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_the_map_is_that_of_the_last_stage() -> None:
    trunk, images = ResNet("resnet18").eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(trunk(images), trunk.forward_features(images)[3])


def test_convolutions_start_with_the_variance_that_relu_keeps() -> None:
    weight = ResNet("resnet18").state_dict()["layer3.1.conv2.weight"]  # 3 x 3 to 256 channels
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
