import cv2
import numpy as np
import pytest
import torch

from skyfix.train.data.jpeg import LUMINANCE, compressed, quantisation


def scene(height: int, width: int) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0) * 4
    levels = np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)
    return torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 83)])
@pytest.mark.parametrize("quality", [30, 90, 95, 100])
def test_images_come_back_as_from_opencv(height: int, width: int, quality: int) -> None:
    image = scene(height, width)
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()[..., ::-1]
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    expected = decoded[..., ::-1].astype(int)
    out = (compressed(image, torch.tensor([quality]))[0].permute(1, 2, 0) * 255).round().numpy()
    difference = np.abs(out - expected)
    lost = np.abs(expected - pixels[..., ::-1].astype(int)).mean()
    assert difference.mean() < 1.4  # grey levels; colours this rough lose many
    assert difference.mean() < lost / 3
    assert (difference <= 3).mean() > 0.9


def test_each_image_has_its_own_quality() -> None:
    image = scene(32, 32)
    both = compressed(image.expand(2, -1, -1, -1), torch.tensor([10, 100]))
    assert torch.equal(both[:1], compressed(image, torch.tensor([10])))
    assert torch.equal(both[1:], compressed(image, torch.tensor([100])))
    assert (both[0] - image).abs().mean() > 5 * (both[1] - image).abs().mean()


def test_quantisation_follows_libjpeg() -> None:
    steps = quantisation(torch.tensor([50, 90, 100, 25]), LUMINANCE)
    assert steps[0].flatten().tolist() == list(LUMINANCE)
    assert steps[1].flatten()[:4].tolist() == [3, 2, 2, 3]  # (16 * 20 + 50) // 100 and so on
    assert (steps[2] == 1).all()
    assert steps[3, 0, 0] == 32
