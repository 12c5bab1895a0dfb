"""Parts of images taken away, so that no single landmark carries a descriptor."""

import math
from dataclasses import dataclass

import torch

from .draws import chance, integers, uniform

ERASED_AREA = (0.02, 0.4)  # of the image; Random Erasing (arXiv 1708.04896), University-1652's code
ERASED_ASPECT = (0.3, 1 / 0.3)  # height over width
ERASING_TRIES = 20  # published: 100 tries in turn; in a square image one of 3 in 100 fails
COARSE_HOLES = (10, 25)  # MFRGN, Sample4Geo
COARSE_SIDE = (0.1, 0.2)  # of the image's height, both sides
GRID_UNITS = 10  # albumentations' default: a unit is a tenth of the image's width


@dataclass(frozen=True)
class Rectangles:
    """N rectangles an image; of height 0 where there is none."""

    top: torch.Tensor  # (B, N) pixels, as all
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


def erased(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Random Erasing of this share of images (B, 3, H, W): one rectangle each, filled with 0."""
    count, size_px = len(images), (images.shape[-2], images.shape[-1])
    chosen = chance(count, share, generator)
    rectangles = draw_erased(count, size_px, generator)
    hidden = covered(rectangles, size_px) & chosen[:, None, None]
    return images.masked_fill(hidden[:, None], 0.0)


def draw_erased(count: int, size_px: tuple[int, int], generator: torch.Generator) -> Rectangles:
    """One rectangle an image: area and aspect are drawn until it fits."""
    high, wide = size_px
    tries = count * ERASING_TRIES
    area = uniform(tries, *ERASED_AREA, generator) * high * wide
    aspect = uniform(tries, *ERASED_ASPECT, generator)
    height = (area * aspect).sqrt().round().view(count, -1)
    width = (area / aspect).sqrt().round().view(count, -1)
    fits = (height < high) & (width < wide)
    first = fits.int().argmax(1, keepdim=True)
    height = height.gather(1, first) * fits.gather(1, first)
    width = width.gather(1, first)
    top = torch.floor(uniform(count, 0, 1, generator)[:, None] * (high - height + 1))
    left = torch.floor(uniform(count, 0, 1, generator)[:, None] * (wide - width + 1))
    return Rectangles(top, left, height, width)


def coarsely_dropped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """CoarseDropout: 10 to 25 black rectangles in each of images (B, 3, H, W)."""
    size_px = (images.shape[-2], images.shape[-1])
    rectangles = draw_coarse(len(images), size_px, generator)
    return images.masked_fill(covered(rectangles, size_px)[:, None], 0.0)


def draw_coarse(count: int, size_px: tuple[int, int], generator: torch.Generator) -> Rectangles:
    """CoarseDropout's rectangles: both sides follow the image's height, as published."""
    high, wide = size_px
    most = COARSE_HOLES[1]
    low_px, high_px = (math.floor(share * high) for share in COARSE_SIDE)
    holes = integers(count, *COARSE_HOLES, generator)
    counted = torch.arange(most, device=generator.device) < holes[:, None]  # (B, 25)
    height, width = (
        integers(count * most, low_px, high_px, generator).view(count, most) for _ in range(2)
    )
    place = uniform(2 * count * most, 0, 1, generator).view(2, count, most)
    top = torch.floor(place[0] * (high - height + 1))
    left = torch.floor(place[1] * (wide - width + 1))
    return Rectangles(top, left, height * counted, width)


def grid_dropped(images: torch.Tensor, ratio: float) -> torch.Tensor:
    """GridDropout of images (B, 3, H, W): the upper left corner of each unit is black.

    Args:
        images: units are squares of a tenth of their width.
        ratio: the corner's side as a share of the unit's.
    """
    height, width = images.shape[-2:]
    unit_px = max(2, width // GRID_UNITS)
    hole_px = min(max(1, int(unit_px * ratio)), unit_px - 1)
    row = torch.arange(height, device=images.device) % unit_px < hole_px
    column = torch.arange(width, device=images.device) % unit_px < hole_px
    return images.masked_fill(row[:, None] & column, 0.0)


def covered(rectangles: Rectangles, size_px: tuple[int, int]) -> torch.Tensor:
    """Pixels (B, H, W) that lie in one of an image's rectangles."""
    rows = _spans(rectangles.top, rectangles.height, size_px[0])  # (B, N, H)
    columns = _spans(rectangles.left, rectangles.width, size_px[1])  # (B, N, W)
    # a pixel's number of rectangles is a sum over N of row times column: one matrix product
    return rows.transpose(1, 2) @ columns > 0.5


def _spans(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """1 where start <= place < start + length, (B, N, size)."""
    place = torch.arange(size, device=start.device)
    inside = (place >= start[..., None]) & (place < (start + length)[..., None])
    return inside.float()
