"""Semantic augmentation (GeoDTR+): how a place looks may change, how it lies may not.

    strong  jitter 0.3 -> grey p .2 -> posterise to 4 bits p .2 -> blur 1 wide x 5 high, always
    weak    jitter 0.1 -> grey p .1

Each image draws for itself, so the two images of a pair and the two copies of CHSG differ. The
paper calls the blur random; its code blurs every image, with a random sigma. Against the published
torchvision chain on 8-bit images nothing is rounded between the steps.
"""

from typing import Literal

import torch

from .colour import Jitter, greyed, jittered, posterised
from .filters import columns_blurred

Strength = Literal["weak", "strong"]

STRONG_JITTER = Jitter(brightness=0.3, contrast=0.3, saturation=0.3)  # published code
WEAK_JITTER = Jitter(brightness=0.1, contrast=0.1, saturation=0.1)
POSTERISED_BITS = 4


def semantically_changed(
    images: torch.Tensor, strength: Strength, generator: torch.Generator
) -> torch.Tensor:
    """Images (B, 3, H, W) in 0..1, each changed on its own."""
    if strength == "weak":
        return greyed(jittered(images, WEAK_JITTER, generator), 0.1, generator)
    out = greyed(jittered(images, STRONG_JITTER, generator), 0.2, generator)
    return columns_blurred(posterised(out, POSTERISED_BITS, 0.2, generator), generator)
