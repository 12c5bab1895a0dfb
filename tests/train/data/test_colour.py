import colorsys

import pytest
import torch

from skyfix.train.data.colour import Jitter, greyed, hue_turned, in_grey, jittered, posterised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int = 6, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=generator(9))


def test_hue_turns_as_in_the_standard_library() -> None:
    images, turn = some_images(3, 5), torch.tensor([0.15, -0.15, 0.4])
    turned = hue_turned(images, turn)
    for image, out, by in zip(images, turned, turn.tolist(), strict=True):
        for before, after in zip(image.flatten(1).T, out.flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
            expected = colorsys.hsv_to_rgb((hue + by) % 1, saturation, value)
            assert after.tolist() == pytest.approx(expected, abs=1e-5)


def test_grey_black_and_white_have_no_hue_to_turn() -> None:
    images = torch.tensor([0.0, 0.3, 1.0])[:, None, None, None].expand(3, 3, 2, 2)
    assert torch.equal(hue_turned(images, torch.tensor([0.1, 0.2, 0.3])), images)


def test_brightness_scales_and_clips() -> None:
    image = some_images(200, 4)
    out = jittered(image, Jitter(0.3, 0.0, 0.0), generator())
    factor = out.flatten(1).sum(1) / image.flatten(1).sum(1)
    assert 0.68 < factor.min() < 0.75
    assert factor.max() > 1.1
    unclipped = out < 1
    ratio = (out / image)[unclipped]
    assert ratio.min() >= 0.7 - 1e-4
    assert ratio.max() <= 1.3 + 1e-4


def test_contrast_keeps_the_mean_of_grey_and_saturation_keeps_grey() -> None:
    image = 0.4 + 0.2 * some_images()  # far from clipping
    contrasted = jittered(image, Jitter(0.0, 0.3, 0.0), generator())
    assert not torch.allclose(contrasted, image, atol=1e-3)
    assert in_grey(contrasted).mean((1, 2, 3)) == pytest.approx(
        in_grey(image).mean((1, 2, 3)), abs=1e-5
    )
    saturated = jittered(image, Jitter(0.0, 0.0, 0.3), generator())
    assert not torch.allclose(saturated, image, atol=1e-3)
    assert torch.allclose(in_grey(saturated), in_grey(image), atol=1e-5)


def test_the_order_of_the_changes_is_drawn_for_each_image() -> None:
    # brightness 1.3 clips white before contrast or after it: the two orders differ
    image = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).expand(400, 3, 4, 4)
    out = jittered(image, Jitter(0.3, 0.3, 0.0), generator())
    clipped_last = (out == 1).any(3).any(2).any(1)
    dull = out.amax((1, 2, 3)) < 1
    assert clipped_last.any()
    assert dull.any()


def test_a_jitter_of_nothing_changes_nothing() -> None:
    image = some_images()
    assert torch.allclose(jittered(image, Jitter(0.0, 0.0, 0.0), generator()), image, atol=1e-6)


def test_posterising_leaves_the_upper_bits_of_every_level() -> None:
    levels = torch.arange(256.0) / 255
    image = levels.expand(1, 3, 1, 256)
    out = posterised(image, 4, 1.0, generator())
    expected = [level & 0xF0 for level in range(256)]
    assert (out[0, 0, 0] * 255).round().long().tolist() == expected


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_the_stated_share_loses_its_colour(share: float) -> None:
    image = some_images(2000, 2)
    out = greyed(image, share, generator(3))
    grey = (out[:, 0] == out[:, 1]).all(2).all(1)
    assert abs(grey.float().mean() - share) < 0.03
    assert torch.equal(out[~grey], image[~grey])
    assert torch.equal(out[grey], in_grey(image[grey]).expand(-1, 3, -1, -1))
