"""MFRGN's and Sample4Geo's augmentation of single images.

    JPEG quality 90..100           p .5
    jitter 0.15, hue too           p .5
    AdvancedBlur or Sharpen        p .3
    GridDropout or CoarseDropout   p .3   the grid's ratio is 0.5 for panoramas, else 0.4

Joint flips and rotations of a pair stand in layout_simulation.py. Against the published
albumentations chain the JPEG step comes after the resize, not before it, since batches have one
size; and nothing is rounded to 8 bits between the other steps.
"""

import torch

from .colour import Jitter, jittered
from .draws import chance, integers, rows_of
from .erasing import coarsely_dropped, grid_dropped
from .filters import advanced_blur_kernels, filtered, sharpening_kernels
from .jpeg import compressed

JPEG_QUALITY = (90, 100)
JITTER = Jitter(brightness=0.15, contrast=0.15, saturation=0.15, hue=0.15)
GRID_RATIO = 0.4
PANORAMA_GRID_RATIO = 0.5


def mfrgn_changed(
    images: torch.Tensor, grid_ratio: float, generator: torch.Generator
) -> torch.Tensor:
    """Images (B, 3, H, W) in 0..1, each changed on its own."""
    count = len(images)
    images = images.clone()
    rows = rows_of(chance(count, 0.5, generator))
    if len(rows):
        quality = integers(len(rows), *JPEG_QUALITY, generator)
        images[rows] = compressed(images[rows], quality)
    rows = rows_of(chance(count, 0.5, generator))
    if len(rows):
        images[rows] = jittered(images[rows], JITTER, generator)
    rows = rows_of(chance(count, 0.3, generator))
    if len(rows):
        images[rows] = _blurred_or_sharpened(images[rows], generator)
    rows = rows_of(chance(count, 0.3, generator))
    if len(rows):
        images[rows] = _dropped(images[rows], grid_ratio, generator)
    return images


def _blurred_or_sharpened(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    count = len(images)
    blurring = chance(count, 0.5, generator)[:, None, None]
    kernels = torch.where(
        blurring, advanced_blur_kernels(count, generator), sharpening_kernels(count, generator)
    )
    return filtered(images, kernels)


def _dropped(images: torch.Tensor, grid_ratio: float, generator: torch.Generator) -> torch.Tensor:
    by_grid = chance(len(images), 0.5, generator)[:, None, None, None]
    return torch.where(
        by_grid, grid_dropped(images, grid_ratio), coarsely_dropped(images, generator)
    )
