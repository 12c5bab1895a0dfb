"""University-1652's augmentation: every image on its own, no view follows another.

    padded by 10 px of its edge -> satellite: turned by -90..90 degrees -> cropped -> mirrored p .5
    options: jitter 0.1 before, Random Erasing of the other views after normalisation

The turn takes the nearest pixel and leaves corners black, as torchvision's RandomAffine(90). An
erased rectangle is 0 after normalisation, so it is filled with ImageNet's mean here.
"""

import math

import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .colour import Jitter, jittered
from .draws import chance, integers, uniform

PAD_PX = 10  # published default
MAX_TURN_DEG = 90.0
JITTER = Jitter(brightness=0.1, contrast=0.1, saturation=0.1)  # its color_jitter option


def university_changed(
    images: torch.Tensor, turned: bool, jitter: bool, generator: torch.Generator
) -> torch.Tensor:
    """Images (B, 3, H, W) in 0..1, each changed on its own; `turned` for satellites."""
    if jitter:
        images = jittered(images, JITTER, generator)
    padded = F.pad(images, (PAD_PX,) * 4, mode="replicate")
    if turned:
        padded = turned_by(padded, uniform(len(images), -MAX_TURN_DEG, MAX_TURN_DEG, generator))
    top, left = (integers(len(images), 0, 2 * PAD_PX, generator) for _ in range(2))
    cropped = cropped_at(padded, top, left, (images.shape[-2], images.shape[-1]))
    mirrored = chance(len(images), 0.5, generator)[:, None, None, None]
    return torch.where(mirrored, cropped.flip(-1), cropped)


def turned_by(images: torch.Tensor, turn_deg: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W), each turned clockwise about its centre, corners black."""
    height, width = images.shape[-2:]
    cosine, sine = (turn_deg * math.pi / 180).cos(), (turn_deg * math.pi / 180).sin()
    zero = torch.zeros_like(cosine)
    # where each output pixel comes from, in units of half the width and half the height
    source = torch.stack(
        [
            torch.stack([cosine, sine * height / width, zero], 1),
            torch.stack([-sine * width / height, cosine, zero], 1),
        ],
        1,
    )  # (B, 2, 3)
    grid = F.affine_grid(source, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)


def cropped_at(
    images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size_px: tuple[int, int]
) -> torch.Tensor:
    """A part (B, 3, *size_px) of each image, whose upper left corner is given by (B,) and (B,)."""
    count, channels, _, wide = images.shape
    height, width = size_px
    row = top[:, None] + torch.arange(height, device=images.device)  # (B, H)
    column = left[:, None] + torch.arange(width, device=images.device)  # (B, W)
    rows = images.gather(2, row[:, None, :, None].expand(count, channels, height, wide))
    return rows.gather(3, column[:, None, None, :].expand(count, channels, height, width))
