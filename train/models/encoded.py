"""What every network of this folder returns for a batch of patches."""

from typing import NamedTuple

import torch


class Encoded(NamedTuple):
    """Descriptors, and what the losses need beside them while training."""

    descriptor: torch.Tensor  # (B, D) unit rows, float32
    layout: torch.Tensor | None = None  # (B, H*W, K) in (0, 1); GeoDTR+ while training
    counterfactual: torch.Tensor | None = None  # (B, D) unit rows; GeoDTR+ while training
