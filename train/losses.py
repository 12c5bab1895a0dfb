"""Losses over pairs: row i of the camera's descriptors belongs to row i of the map's.

    s_ij = <camera_i, map_j>,  d_ij = |camera_i - map_j|^2 = 2 - 2 s_ij   (unit descriptors)

    InfoNCE         mean over i of the smoothed cross-entropy of softmax_j(exp(t) s_ij) with i,
                    both directions averaged; t is learned
    triplet         mean over i != j of log(1 + exp(10 (d_ii - d_ij))), both directions averaged
    counterfactual  mean of log(1 + exp(-5 d(f, f'))), f' made with random layouts

Pairs marked `ignore` are no negatives: they show nearly the same ground.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .config import LossConfig
from .models.encoded import Encoded

TRIPLET_ALPHA = 10.0  # GeoDTR+ ("gamma" in its code)
COUNTERFACTUAL_BETA = 5.0  # GeoDTR+
INITIAL_TEMPERATURE = 0.07  # MFRGN, Sample4Geo, CLIP


class PairLoss(nn.Module):
    """The weighted sum that a configuration asks for, with the temperature that it learns."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(INITIAL_TEMPERATURE)))

    def forward(
        self, encoded: Encoded, place: torch.Tensor, scene: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """Loss, and the share of pairs whose own map patch is the camera's most similar one.

        Args:
            encoded: 2N rows, the camera's first, the map's in the same order after them.
            place: (N, 2) metres within the scene.
            scene: (N,) scene numbers.
        """
        camera, tile = encoded.descriptor.chunk(2)  # (N, D) each
        similarity = camera @ tile.T  # (N, N)
        ignore = same_ground(place, scene, self.config.ignore_within_m)
        loss = similarity.new_zeros(())
        if self.config.info_nce:
            scale, smoothing = self.logit_scale.exp(), self.config.label_smoothing
            loss = loss + self.config.info_nce * info_nce(similarity, scale, smoothing, ignore)
        if self.config.triplet:
            loss = loss + self.config.triplet * soft_margin_triplet(similarity, ignore)
        if self.config.counterfactual and encoded.counterfactual is not None:
            apart = counterfactual(encoded.descriptor, encoded.counterfactual)
            loss = loss + self.config.counterfactual * apart
        return loss, recall_at_1(similarity, ignore)


def same_ground(place: torch.Tensor, scene: torch.Tensor, within_m: float) -> torch.Tensor:
    """Pairs (N, N) of different rows that lie in one scene and closer than `within_m`."""
    near = torch.cdist(place.double(), place.double()) < within_m
    near &= scene[:, None] == scene[None, :]
    return near.fill_diagonal_(False)


def info_nce(
    similarity: torch.Tensor,
    scale: torch.Tensor | float,
    smoothing: float,
    ignore: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE of cosine similarities (N, N); smoothing spreads over what counts."""
    if ignore is None:
        ignore = torch.zeros_like(similarity, dtype=torch.bool)
    logits = scale * similarity
    forth = _smoothed_cross_entropy(logits, smoothing, ignore)
    back = _smoothed_cross_entropy(logits.T, smoothing, ignore.T)
    return (forth + back) / 2


def soft_margin_triplet(
    similarity: torch.Tensor, ignore: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted soft-margin triplet loss over all negatives of cosine similarities (N, N)."""
    negative = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if ignore is not None:
        negative &= ~ignore
    positive = similarity.diagonal()
    forth = F.softplus(2 * TRIPLET_ALPHA * (similarity - positive[:, None]))  # d_ii - d_ij
    back = F.softplus(2 * TRIPLET_ALPHA * (similarity - positive[None, :]))
    return ((forth + back) / 2)[negative].mean()


def counterfactual(descriptor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Keep unit descriptors (N, D) away from those made with random layouts."""
    distance = 2 - 2 * (descriptor * other).sum(dim=1)  # (N,)
    return F.softplus(-COUNTERFACTUAL_BETA * distance).mean()


def recall_at_1(similarity: torch.Tensor, ignore: torch.Tensor) -> float:
    """Share of rows of (N, N) whose diagonal entry no other counted entry exceeds."""
    counted = similarity.detach().masked_fill(ignore, -math.inf)
    best = counted.max(dim=1).values
    return float((counted.diagonal() >= best).float().mean())


def _smoothed_cross_entropy(
    logits: torch.Tensor, smoothing: float, ignore: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each row with its diagonal entry; ignored entries take no part."""
    log_p = logits.masked_fill(ignore, -math.inf).log_softmax(dim=1)
    spread = log_p.masked_fill(ignore, 0).sum(dim=1) / (~ignore).sum(dim=1)
    return -((1 - smoothing) * log_p.diagonal() + smoothing * spread).mean()
