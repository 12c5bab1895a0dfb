"""Blurring and sharpening: a kernel drawn for each image, edges mirrored without their pixel.

    Gaussian       w(x) ~ exp(-x^2 / (2 s^2))
    AdvancedBlur   w(u) ~ n exp(-(u' C^-1 u)^b / 2),  C = R diag(s_x^2, s_y^2) R',  n noise
    Sharpen        (1 - a) identity + a (8 + l at the centre, -1 around it)

The second and third are named after albumentations' transforms, whose defaults of version 1 they
take: odd side 3..7, s 0.2..1, any angle, b half the time 0.5..1 and else 1..8, n 0.9..1.1;
a 0.2..0.5, l 0.5..1.
"""

import math

import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .draws import chance, integers, uniform

GAUSSIAN_TAPS = 5  # GeoDTR+'s kernel: 1 wide, 5 high
GAUSSIAN_SIGMA_PX = (0.1, 5.0)
MAX_SIDE = 7  # AdvancedBlur


def filtered(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each image (B, 3, H, W) correlated with its own kernel (B, h, w) of odd sides; in 0..1."""
    count, channels, height, width = images.shape
    high, wide = kernels.shape[1:]
    edge = (wide // 2, wide // 2, high // 2, high // 2)
    padded = F.pad(images, edge, mode="reflect")
    joined = padded.reshape(1, count * channels, *padded.shape[-2:])
    weight = kernels.repeat_interleave(channels, 0)[:, None]  # (B * 3, 1, h, w)
    out = F.conv2d(joined, weight, groups=count * channels)
    return out.reshape(count, channels, height, width).clamp(0, 1)


def columns_blurred(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """GeoDTR+'s blur of images (B, 3, H, W): along the columns, sigma drawn for each."""
    sigma = uniform(len(images), *GAUSSIAN_SIGMA_PX, generator)
    weight = gaussian_taps(sigma)  # (B, 5)
    half = GAUSSIAN_TAPS // 2
    padded = F.pad(images, (0, 0, half, half), mode="reflect")
    height = images.shape[-2]
    out = torch.zeros_like(images)
    # five shifted sums: on a CPU several times as fast as a grouped convolution
    for tap in range(GAUSSIAN_TAPS):
        out.addcmul_(padded[:, :, tap : tap + height], weight[:, tap, None, None, None])
    return out


def gaussian_taps(sigma_px: torch.Tensor) -> torch.Tensor:
    """Weights (B, 5) of a Gaussian for each sigma (B,); sum 1."""
    half = GAUSSIAN_TAPS // 2
    offset_px = torch.arange(-half, half + 1, device=sigma_px.device)
    return (-0.5 * (offset_px / sigma_px[:, None]) ** 2).softmax(1)


def advanced_blur_kernels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Generalised Gaussians (count, 7, 7) of random side, extent, angle, form and noise."""
    half = integers(count, 1, MAX_SIDE // 2, generator)[:, None, None]
    sigma_x, sigma_y = (uniform(count, 0.2, 1.0, generator)[:, None, None] for _ in range(2))
    angle = uniform(count, -math.pi / 2, math.pi / 2, generator)[:, None, None]
    flat, peaked = uniform(count, 0.5, 1, generator), uniform(count, 1, 8, generator)
    form = torch.where(chance(count, 0.5, generator), flat, peaked)[:, None, None]
    offset = torch.arange(-(MAX_SIDE // 2), MAX_SIDE // 2 + 1, device=generator.device)
    y, x = torch.meshgrid(offset, offset, indexing="ij")  # (7, 7) each
    along = (x * angle.cos() + y * angle.sin()) / sigma_x  # (B, 7, 7)
    across = (y * angle.cos() - x * angle.sin()) / sigma_y
    kernel = torch.exp(-0.5 * (along**2 + across**2) ** form)
    noise = uniform(count * MAX_SIDE**2, 0.9, 1.1, generator).view(count, MAX_SIDE, MAX_SIDE)
    kernel = kernel * noise * (torch.maximum(x.abs(), y.abs()) <= half)
    return kernel / kernel.sum((1, 2), keepdim=True)


def sharpening_kernels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Sharpening kernels (count, 7, 7): 3 x 3, with room around as the blur's."""
    alpha = uniform(count, 0.2, 0.5, generator)
    lightness = uniform(count, 0.5, 1.0, generator)
    kernel = torch.zeros(count, MAX_SIDE, MAX_SIDE, device=generator.device)
    middle = MAX_SIDE // 2
    kernel[:, middle - 1 : middle + 2, middle - 1 : middle + 2] = -alpha[:, None, None]
    kernel[:, middle, middle] = (1 - alpha) + alpha * (8 + lightness)
    return kernel
