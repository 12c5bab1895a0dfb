"""What every network of this folder is: a module that encodes each of its views."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from skyfix.runtime.errors import InputError

from .config import InputSizes


class Encoded(NamedTuple):
    """Descriptors of one view, and what the losses need beside them while training."""

    descriptor: torch.Tensor  # (B, D) unit rows, float32
    layout: torch.Tensor | None = None  # (B, H*W, K); GeoDTR and GeoDTR+
    counterfactual: torch.Tensor | None = None  # (B, D) unit rows; GeoDTR(+) while training
    logits: torch.Tensor | None = None  # (B, classes); University-1652 while training


class Network(nn.Module):
    """Base of all networks: `views` names what it encodes, `input_px` how large."""

    def __init__(self, input_px: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.input_px = dict(input_px)  # view -> (H, W)

    @property
    def views(self) -> tuple[str, ...]:
        """The names that `encode` takes."""
        return tuple(self.input_px)

    def encode(self, view: str, images: torch.Tensor) -> Encoded:
        """Encode normalised images (B, 3, H, W) of one view."""
        raise NotImplementedError

    def forward(self, images: Mapping[str, torch.Tensor]) -> dict[str, Encoded]:
        """Encode several views; through this call DistributedDataParallel sees all gradients."""
        return {view: self.encode(view, batch) for view, batch in images.items()}


def square_px(input_px: InputSizes) -> int:
    """The one side of all inputs; raises InputError where they are not squares of one size."""
    sides = {side for size in input_px.values() for side in size}
    if len(sides) != 1:
        raise InputError(
            f"this network shares one branch and takes squares of one size: {input_px}"
        )
    return sides.pop()
