import cv2
import numpy as np
import pytest
import torch

from skyfix.train.data.university_augment import cropped_at, turned_by, university_changed


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_turn_moves_the_north_to_the_east() -> None:
    image = torch.zeros(1, 3, 65, 65)
    image[..., 4, 32] = 1  # north
    out = turned_by(image, torch.tensor([90.0]))
    assert out[0, 0].nonzero().tolist() == [[32, 60]]


@pytest.mark.parametrize("turn_deg", [-67.0, 30.0])
@pytest.mark.parametrize("shape", [(65, 65), (40, 90)])
def test_turns_equal_opencv_s(turn_deg: float, shape: tuple[int, int]) -> None:
    rough = np.random.default_rng(0).uniform(size=(*shape, 3)).astype(np.float32)
    plain = cv2.GaussianBlur(rough, (0, 0), 4)
    height, width = shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn_deg, 1.0)
    expected = cv2.warpAffine(plain, matrix, (width, height), flags=cv2.INTER_NEAREST)
    image = torch.from_numpy(plain).permute(2, 0, 1)[None]
    out = turned_by(image, torch.tensor([turn_deg]))[0].permute(1, 2, 0).numpy()
    different = np.abs(out - expected) > 0.05
    assert different.mean() < 0.02  # pixels on the border between two nearest ones


def test_each_image_is_cropped_at_its_own_corner() -> None:
    images = torch.rand(3, 3, 12, 11, generator=generator(0))
    top, left = torch.tensor([0, 4, 2]), torch.tensor([3, 0, 1])
    out = cropped_at(images, top, left, (8, 7))
    for row in range(3):
        expected = images[row, :, top[row] : top[row] + 8, left[row] : left[row] + 7]
        assert torch.equal(out[row], expected)


def test_a_crop_moves_by_the_padding_at_most_and_repeats_the_edge() -> None:
    ramp = torch.arange(40.0)[None, :].expand(500, 3, 40, 40) / 40
    out = university_changed(ramp, turned=False, jitter=False, generator=generator(1))
    middle = (out[:, 0, 20, 20] * 40).round()
    moved = torch.where(out[:, 0, 0, 0] <= out[:, 0, 0, -1], middle - 20, middle - 19)
    assert moved.min() == -10
    assert moved.max() == 10
    assert out.min() == 0
    assert 0.4 < (out[:, 0, 0, 0] > out[:, 0, 0, -1]).float().mean() < 0.6  # mirrored


def test_only_turned_images_get_black_corners() -> None:
    white = torch.ones(50, 3, 64, 64)
    plain = university_changed(white, turned=False, jitter=False, generator=generator(2))
    turned = university_changed(white, turned=True, jitter=False, generator=generator(2))
    assert (plain == 1).all()
    black = (turned == 0).float().mean((1, 2, 3))
    assert 0.01 < black.mean() < 0.05
    assert (turned[:, :, 20:44, 20:44] == 1).all()


def test_jitter_is_an_option() -> None:
    flat = torch.full((300, 3, 30, 30), 0.5)
    out = university_changed(flat, turned=False, jitter=True, generator=generator(3))
    assert 0.45 - 1e-5 <= out.min() < 0.46
    assert 0.54 < out.max() <= 0.55 + 1e-5
