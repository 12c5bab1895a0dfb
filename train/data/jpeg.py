"""JPEG's losses without its bits: the rounding of the 8 x 8 cosine transform, batched.

    RGB -> YCbCr, chroma halved -> 8 x 8 blocks B -> D B D' / Q rounded -> back

D is the orthonormal cosine matrix, Q the tables of ITU-T T.81 annex K, scaled with the quality as
libjpeg does. The entropy coding loses nothing and is left out. libjpeg rounds in between: results
differ by about one grey level.
"""

import math

import torch
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

BLOCK = 8
# fmt: off
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # T.81 table K.1
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
)  # T.81 table K.2
# fmt: on
YCBCR_FROM_RGB = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)  # JFIF


def compressed(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) in 0..1 as they come back from JPEG.

    Args:
        images: RGB.
        quality: (B,) libjpeg's, 1..100.
    """
    height, width = images.shape[-2:]
    # chroma is halved, so its blocks are 16 pixels wide
    fill = (0, -width % (2 * BLOCK), 0, -height % (2 * BLOCK))
    levels = F.pad((images * 255).round(), fill, mode="replicate")
    forth = images.new_tensor(YCBCR_FROM_RGB)
    planes = torch.einsum("dc,bchw->bdhw", forth, levels)  # (B, 3, H, W)
    luma = _quantised(planes[:, :1] - 128, quality, LUMINANCE) + 128
    chroma = _quantised(F.avg_pool2d(planes[:, 1:], 2), quality, CHROMINANCE)
    chroma = F.interpolate(chroma, scale_factor=2.0, mode="bilinear")
    coded = torch.cat([luma, chroma], dim=1)
    back = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(forth), coded)
    return back[..., :height, :width].round().clamp(0, 255) / 255


def quantisation(quality: torch.Tensor, table: tuple[int, ...]) -> torch.Tensor:
    """Steps (B, 8, 8) of the coefficients for each quality (B,), as libjpeg scales them."""
    percent = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality)
    base = torch.tensor(table, device=quality.device, dtype=torch.float32)
    steps = torch.floor((base * percent[:, None] + 50) / 100)
    return steps.clamp(1, 255).reshape(-1, BLOCK, BLOCK)


def _quantised(planes: torch.Tensor, quality: torch.Tensor, table: tuple[int, ...]) -> torch.Tensor:
    """Planes (B, C, H, W), sides divisible by 8, with the coefficients of each block rounded."""
    count, channels, height, width = planes.shape
    shape = (count, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = planes.reshape(shape).transpose(3, 4)  # (B, C, H/8, W/8, 8, 8)
    cosine = _cosine_matrix(planes)
    steps = quantisation(quality, table)[:, None, None, None]  # (B, 1, 1, 1, 8, 8)
    coefficients = ((cosine @ blocks @ cosine.T) / steps).round() * steps
    return (cosine.T @ coefficients @ cosine).transpose(3, 4).reshape(planes.shape)


def _cosine_matrix(like: torch.Tensor) -> torch.Tensor:
    """The orthonormal DCT-II (8, 8)."""
    index = torch.arange(BLOCK, device=like.device, dtype=like.dtype)
    matrix = torch.cos(math.pi / BLOCK * index[:, None] * (index + 0.5)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix
