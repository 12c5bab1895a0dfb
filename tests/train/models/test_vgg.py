import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.train.models.vgg import VGG16

# torchvision's configuration "D"; M is a max-pool
PUBLISHED = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def _reference(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The published layers one by one, by torchvision's key names."""
    x, index = images, 0
    for layer in PUBLISHED:
        if layer == "M":
            x, index = F.max_pool2d(x, 2), index + 1
            continue
        norm = f"features.{index + 1}."
        x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], 1, 1)
        mean, var = state[norm + "running_mean"], state[norm + "running_var"]
        x = F.batch_norm(x, mean, var, state[norm + "weight"], state[norm + "bias"])
        x, index = F.relu(x), index + 3
    return x


def _lively(trunk: VGG16) -> VGG16:
    """Statistics and biases as after training: none is 0 or 1."""
    for key, value in trunk.state_dict().items():
        if value.ndim == 1:
            value.copy_(torch.rand_like(value) * 0.4 + (0.8 if "bias" not in key else -0.2))
    return trunk.eval()


def test_the_layers_and_their_names_are_torchvisions() -> None:
    trunk = _lively(VGG16())
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(trunk(images), _reference(trunk.state_dict(), images))


def test_the_convolutions_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        trunk = VGG16()
    # 14,714,688 of torchvision's vgg16.features, and two numbers for each of 4,224 channels
    assert sum(p.numel() for p in trunk.parameters()) == 14_714_688 + 2 * 4_224
    assert list(trunk.state_dict())[-1] == "features.41.num_batches_tracked"


def test_the_map_has_stride_32_with_sides_rounded_down() -> None:
    with torch.device("meta"):
        assert VGG16()(torch.zeros(2, 3, 127, 70)).shape == (2, 512, 3, 2)


def test_a_fresh_trunk_keeps_the_scale_of_its_input_through_thirteen_layers() -> None:
    with torch.no_grad():
        spread = float(VGG16()(torch.randn(4, 3, 64, 64)).std())
    assert 0.1 < spread < 10
