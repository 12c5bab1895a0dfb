"""Losses over pairs: row i of the query's descriptors belongs to row i of the reference's.

    s_ij = <query_i, reference_j>,  d_ij = |query_i - reference_j|^2 = 2 - 2 s_ij   (unit rows)

    InfoNCE         mean over i of the smoothed cross-entropy of softmax_j(exp(t) s_ij) with i,
                    both directions averaged; t is learned
    triplet         mean over i != j of log(1 + exp(alpha (d_ii - d_ij))), both directions averaged;
                    with a hard ratio only over the largest ones, chosen in each direction
    counterfactual  mean of log(1 + exp(-beta d(f, f'))), f' made with random layouts

Pairs marked `ignore` are no negatives: they show nearly the same ground.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from .config import LossConfig
from .distributed import gathered
from .models.network import Encoded

TRIPLET_ALPHA = 10.0  # GeoDTR+ ("gamma" in its code)
COUNTERFACTUAL_BETA = 5.0  # GeoDTR+
INITIAL_TEMPERATURE = 0.07  # MFRGN, Sample4Geo, CLIP


class PairLoss(nn.Module):
    """The weighted sum that a configuration asks for, with the temperature that it learns."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        # without InfoNCE it gets no gradient, and DistributedDataParallel would wait for one
        self.logit_scale = nn.Parameter(
            torch.tensor(-math.log(INITIAL_TEMPERATURE)), requires_grad=config.info_nce > 0
        )

    def forward(
        self, query: Encoded, reference: Encoded, ignore: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """Loss, and the share of queries whose own reference is the most similar one.

        Args:
            query: N rows; of several processes, each its own.
            reference: N rows in the same order.
            ignore: (N, N) of all processes: pairs of different rows that are no negatives.
        """
        similarity = gathered(query.descriptor) @ gathered(reference.descriptor).T  # (N, N)
        loss = similarity.new_zeros(())
        if self.config.info_nce:
            scale, smoothing = self.logit_scale.exp(), self.config.label_smoothing
            loss = loss + self.config.info_nce * info_nce(similarity, scale, smoothing, ignore)
        if self.config.triplet:
            triplet = soft_margin_triplet(similarity, ignore, hard_ratio=self.config.hard_ratio)
            loss = loss + self.config.triplet * triplet
        for one in (query, reference):
            if self.config.counterfactual and one.counterfactual is not None:
                apart = counterfactual(one.descriptor, one.counterfactual)
                loss = loss + self.config.counterfactual / 2 * apart
        return loss, recall_at_1(similarity, ignore)


def same_place(places: torch.Tensor) -> torch.Tensor:
    """Pairs (N, N) of different rows whose place (N,) has the same number."""
    return (places[:, None] == places[None, :]).fill_diagonal_(False)


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
    similarity: torch.Tensor,
    ignore: torch.Tensor | None = None,
    alpha: float = TRIPLET_ALPHA,
    hard_ratio: float | None = None,
) -> torch.Tensor:
    """Weighted soft-margin triplet loss over the negatives of cosine similarities (N, N).

    Args:
        similarity: (N, N), positives on the diagonal.
        ignore: (N, N), pairs that are no negatives.
        alpha: weight of the distances.
        hard_ratio: in 0..1, the share of the triplets that counts, largest losses first; None: all.
    """
    negative = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if ignore is not None:
        negative &= ~ignore
    positive = similarity.diagonal()
    forth = F.softplus(2 * alpha * (similarity - positive[:, None]))  # d_ii - d_ij
    back = F.softplus(2 * alpha * (similarity - positive[None, :]))
    if hard_ratio is None:
        return ((forth + back) / 2)[negative].mean()
    kept = max(1, int(hard_ratio * int(negative.sum())))
    return (forth[negative].topk(kept).values + back[negative].topk(kept).values).mean() / 2


def counterfactual(
    descriptor: torch.Tensor, other: torch.Tensor, beta: float = COUNTERFACTUAL_BETA
) -> torch.Tensor:
    """Keep unit descriptors (N, D) away from those made with random layouts."""
    distance = 2 - 2 * (descriptor * other).sum(dim=1)  # (N,)
    return F.softplus(-beta * distance).mean()


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
