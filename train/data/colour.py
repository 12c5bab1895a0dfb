"""Changes of colour, parameters drawn anew for each image; images are RGB in 0..1.

With g the grey image (ITU-R BT.601), f the drawn factor and every result clipped to 0..1:

    brightness  f x          contrast  f x + (1 - f) mean(g)          saturation  f x + (1 - f) g

as torchvision and albumentations have it. They round to 8 bits after each step (torchvision on
PIL images, mean(g) too); here nothing is rounded, except where posterising needs the 8-bit value.
"""

from dataclasses import dataclass

import torch

from .draws import chance, rows_of, uniform

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL, OpenCV and torchvision

CONTRAST, SATURATION, HUE = 1, 2, 3  # stages of the jitter; brightness is 0


@dataclass(frozen=True)
class Jitter:
    """How far colours change: factors are drawn from 1 - x..1 + x, the hue's turn from -x..x."""

    brightness: float
    contrast: float
    saturation: float
    hue: float = 0.0  # of a full turn


def jittered(images: torch.Tensor, jitter: Jitter, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation (and hue) of images (B, 3, H, W), in a random order each."""
    count = len(images)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation)
    factors = [uniform(count, 1 - width, 1 + width, generator) for width in ranges]
    if jitter.hue:
        factors.append(uniform(count, -jitter.hue, jitter.hue, generator))
    factor = torch.stack(factors, 1)  # (B, stages)
    shuffled = torch.rand(factor.shape, generator=generator, device=factor.device)
    order = shuffled.argsort(1)  # (B, stages)
    for stage in order.unbind(1):
        images = _jittered_once(images, stage, factor.gather(1, stage[:, None])[:, 0])
    return images


def in_grey(images: torch.Tensor) -> torch.Tensor:
    """The grey images (B, 1, H, W) of (B, 3, H, W)."""
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def greyed(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """This share of the images (B, 3, H, W) without colour."""
    chosen = chance(len(images), share, generator)[:, None, None, None]
    return torch.where(chosen, in_grey(images), images)


def posterised(
    images: torch.Tensor, bits: int, share: float, generator: torch.Generator
) -> torch.Tensor:
    """This share of the images (B, 3, H, W) with only the upper bits of their 8-bit values."""
    chosen = chance(len(images), share, generator)[:, None, None, None]
    step = 2 ** (8 - bits)
    kept = (images * 255).round().div(step, rounding_mode="floor") * step / 255
    return torch.where(chosen, kept, images)


def hue_turned(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) with their hue moved by `turn` (B,), in full turns; value stays."""
    value, spread = images.amax(1), images.amax(1) - images.amin(1)  # (B, H, W)
    red, green, blue = images.unbind(1)
    safe = spread.clamp_min(torch.finfo(images.dtype).tiny)  # grey has no hue: any will do
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * turn[:, None, None]
    channels = []
    for start in (5, 3, 1):  # HSV to RGB, one formula for red, green and blue
        place = (start + sixth) % 6
        channels.append(value - spread * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, 1)


def _jittered_once(images: torch.Tensor, stage: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Each image's change of this turn: `stage` (B,) says which, `factor` (B,) how much."""
    which, by = stage[:, None, None, None], factor[:, None, None, None]
    grey = in_grey(images)  # (B, 1, H, W)
    mean = grey.mean((2, 3), keepdim=True)  # (B, 1, 1, 1)
    other = torch.where(which == SATURATION, grey, torch.where(which == CONTRAST, mean, 0.0))
    out = torch.where(which == HUE, images, other.lerp(images, by)).clamp(0, 1)
    rows = rows_of(stage == HUE)
    if len(rows):
        out = out.index_copy(0, rows, hue_turned(images[rows], factor[rows]))
    return out
