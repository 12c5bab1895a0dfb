import pytest
import torch

from skyfix.train.data.semantic import Strength, semantically_changed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(count: int) -> torch.Tensor:
    return torch.rand(1, 3, 24, 20, generator=generator(7)).expand(count, 3, 24, 20)


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_changes_keep_the_range_and_follow_the_seed(strength: Strength) -> None:
    out = semantically_changed(scene(32), strength, generator(0))
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, semantically_changed(scene(32), strength, generator(0)))
    assert not torch.equal(out, semantically_changed(scene(32), strength, generator(1)))


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_the_same_image_twice_in_a_batch_changes_twice(strength: Strength) -> None:
    first, second = semantically_changed(scene(2), strength, generator(0))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("strength", "most"), [("weak", 0.1), ("strong", 0.3)])
def test_brightness_stays_in_its_range(strength: Strength, most: float) -> None:
    image = torch.full((500, 3, 6, 6), 0.5)  # contrast, saturation and blur change no flat grey
    level = semantically_changed(image, strength, generator(0)).mean((1, 2, 3))
    assert 0.5 * (1 - most) - 16 / 255 <= level.min() < 0.5 * (1 - most) + 0.05
    assert 0.5 * (1 + most) - 0.05 < level.max() <= 0.5 * (1 + most) + 1e-5


def test_only_the_strong_one_blurs_and_only_along_the_columns() -> None:
    bars = (torch.arange(24)[:, None] % 2).float().expand(200, 3, 24, 20)
    weak = semantically_changed(bars, "weak", generator(4)).std((1, 2, 3))
    strong = semantically_changed(bars, "strong", generator(4)).std((1, 2, 3))
    across = semantically_changed(bars.transpose(2, 3), "strong", generator(4)).std((1, 2, 3))
    assert weak.min() > 0.4  # of 0.5
    assert (strong < 0.2).float().mean() > 0.75  # sigma below 0.6 px blurs less
    assert across.min() > 0.25


def test_a_landmark_stays_in_its_place() -> None:
    image = torch.full((50, 3, 24, 20), 0.2)
    image[:, :, 9, 13] = 0.9
    out = semantically_changed(image, "strong", generator(5)).mean(1)  # (B, 24, 20)
    row, column = out.flatten(1).argmax(1) // 20, out.flatten(1).argmax(1) % 20
    assert (column == 13).all()
    assert ((row - 9).abs() <= 2).all()  # as far as the blur reaches
