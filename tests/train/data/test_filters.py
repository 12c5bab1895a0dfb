import cv2
import numpy as np
import torch

from skyfix.train.data.filters import (
    advanced_blur_kernels,
    columns_blurred,
    filtered,
    gaussian_taps,
    sharpening_kernels,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_taps_equal_opencv_s() -> None:
    sigmas = (0.3, 1.0, 5.0)
    for sigma, taps in zip(sigmas, gaussian_taps(torch.tensor(sigmas)), strict=True):
        np.testing.assert_allclose(taps, cv2.getGaussianKernel(5, sigma)[:, 0], atol=1e-6)


def test_the_blur_runs_along_the_columns_only() -> None:
    row = torch.rand(4, 3, 1, 16, generator=generator())
    stripes = row.expand(4, 3, 12, 16)
    assert torch.allclose(columns_blurred(stripes, generator()), stripes, atol=1e-6)
    bars = stripes.transpose(2, 3)
    assert (columns_blurred(bars, generator()) - bars).abs().amax((1, 2, 3)).max() > 0.1


def test_the_blur_is_a_correlation_with_mirrored_edges() -> None:
    image = torch.rand(1, 3, 9, 7, generator=generator(1))
    out = columns_blurred(image, generator(5))[0].permute(1, 2, 0).numpy()
    sigma = 0.1 + 4.9 * float(torch.rand(1, generator=generator(5)))
    kernel = cv2.getGaussianKernel(5, sigma)  # (5, 1)
    plain = image[0].permute(1, 2, 0).numpy()
    expected = cv2.filter2D(plain, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_every_image_is_filtered_by_its_own_kernel() -> None:
    images = torch.rand(3, 3, 12, 10, generator=generator(2))
    kernels = torch.rand(3, 7, 7, generator=generator(3)) / 49
    out = filtered(images, kernels)
    for image, kernel, result in zip(images, kernels, out, strict=True):
        plain = image.permute(1, 2, 0).numpy()
        expected = cv2.filter2D(plain, -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(result.permute(1, 2, 0), expected, atol=1e-5)


def test_blurring_kernels_have_sum_one_and_three_sides() -> None:
    kernels = advanced_blur_kernels(300, generator())
    assert torch.allclose(kernels.sum((1, 2)), torch.ones(300), atol=1e-5)
    assert (kernels >= 0).all()
    reach = (kernels > 0).any(1).sum(1)  # columns in use
    assert set(reach.tolist()) <= {1, 3, 5, 7}  # a narrow and peaked one underflows at its rim
    assert (reach == 7).any()
    assert (kernels[:, 3, 3] * 1.3 >= kernels.amax((1, 2))).all()  # noise is a tenth at most


def test_sharpening_kernels_keep_to_their_ranges() -> None:
    kernels = sharpening_kernels(300, generator())
    alpha = -kernels[:, 2, 2]
    lightness = (kernels[:, 3, 3] - (1 - alpha)) / alpha - 8
    assert 0.2 <= alpha.min() < 0.22
    assert 0.48 < alpha.max() <= 0.5
    assert lightness.min() >= 0.5 - 1e-3
    assert lightness.max() <= 1.0 + 1e-3
    assert (kernels[:, 0] == 0).all()
