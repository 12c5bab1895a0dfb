"""Losses over classes: University-1652's baseline learns which building an image shows.

    instance     cross-entropy of the logits with the building

and, where a run asks for them, over unit features f with labels y, s_ij = <f_i, f_j>,
d_ij = |f_i - f_j| (not squared):

    triplet      relu(d_ap - d_an + 0.3), of the pairs that are hard for their anchor:
                 s_ap < max_n s_an + 0.1,  s_an > min_p s_ap - 0.1   (arXiv 1904.06627)
    contrastive  d_ap of the positive pairs, and relu(1 - d_an) of the negative ones
    circle       softplus(lse_n[g a_n (s_n - m)] + lse_p[-g a_p (s_p - 1 + m)]),
                 a_n = relu(s_n + m), a_p = relu(1 + m - s_p) without gradient, over pairs i < j,
                 m = 0.25, g = 32   (arXiv 2002.10857)

The first two are TripletMarginLoss with MultiSimilarityMiner and ContrastiveLoss as of
pytorch-metric-learning: each averages the terms above zero, positives and negatives apart.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the name that all torch code uses

from skyfix.runtime.errors import InputError

from .config import LossConfig
from .distributed import gathered
from .models.network import Encoded

TRIPLET_MARGIN = 0.3  # published code
MINER_EPSILON = 0.1  # pytorch-metric-learning's default, of cosine similarities
NEGATIVE_MARGIN = 1.0  # published code; of distances
CIRCLE_MARGIN = 0.25  # published code
CIRCLE_GAMMA = 32.0  # published code


class ClassLoss(nn.Module):
    """The weighted sum that a configuration asks for."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, encoded: Mapping[str, Encoded], labels: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, float]:
        """Loss summed over the views, and the share of images whose largest logit is right.

        The losses over features see each view alone, or all views at once where the configuration
        says `merge_views`.

        Args:
            encoded: view -> descriptors (B, D) and logits (B, classes).
            labels: view -> (B,) class numbers.
        """
        terms, right = [], []
        for view, one in encoded.items():
            if one.logits is None:
                raise InputError("this network has no classes: learn by pairs, or university1652")
            terms.append(instance_loss(one.logits, labels[view]))
            right.append(one.logits.detach().argmax(dim=1) == labels[view])
        loss = self.config.instance * torch.stack(terms).sum()
        if self.config.class_triplet or self.config.circle or self.config.contrastive:
            loss = loss + self._between_features(encoded, labels)
        return loss, float(torch.cat(right).float().mean())

    def _between_features(
        self, encoded: Mapping[str, Encoded], labels: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The losses over features of all processes, summed over what is compared on its own."""
        features = [gathered(one.descriptor) for one in encoded.values()]  # (B, D) each
        classes = [gathered(labels[view]) for view in encoded]  # (B,) each
        batch = len(classes[0])
        if self.config.merge_views:
            features, classes = [torch.cat(features)], [torch.cat(classes)]
        terms = [self._of_group(*group, batch) for group in zip(features, classes, strict=True)]
        return torch.stack(terms).sum()

    def _of_group(self, features: torch.Tensor, labels: torch.Tensor, batch: int) -> torch.Tensor:
        loss = features.new_zeros(())
        if self.config.class_triplet:
            loss = loss + self.config.class_triplet * triplet(features, labels)
        if self.config.circle:  # the published code divides by the images of one view
            loss = loss + self.config.circle * circle(features, labels) / batch
        if self.config.contrastive:
            loss = loss + self.config.contrastive * contrastive(features, labels)
        return loss


def instance_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (B, classes) with class numbers (B,)."""
    return F.cross_entropy(logits.float(), labels)


def triplet(
    features: torch.Tensor,
    labels: torch.Tensor,
    margin: float = TRIPLET_MARGIN,
    epsilon: float = MINER_EPSILON,
) -> torch.Tensor:
    """Margin loss over the hard triplets of unit features (N, D) with labels (N,)."""
    distance = _distances(features)  # (N, N)
    positive, negative = hard_pairs(features.detach(), labels, epsilon)  # (N, N) each
    excess = distance[:, :, None] - distance[:, None, :] + margin  # (N, N, N) anchor, p, n
    return _mean_above_zero(excess[positive[:, :, None] & negative[:, None, :]].relu())


def contrastive(
    features: torch.Tensor, labels: torch.Tensor, margin: float = NEGATIVE_MARGIN
) -> torch.Tensor:
    """Pull unit features (N, D) of one label (N,) together, push others `margin` apart."""
    distance = _distances(features)  # (N, N)
    positive, negative = _pairs(labels)
    apart = (margin - distance[negative]).relu()
    return _mean_above_zero(distance[positive]) + _mean_above_zero(apart)


def circle(
    features: torch.Tensor,
    labels: torch.Tensor,
    margin: float = CIRCLE_MARGIN,
    gamma: float = CIRCLE_GAMMA,
) -> torch.Tensor:
    """Circle loss of all pairs of unit features (N, D) with labels (N,), not divided by N."""
    similarity = features @ features.T  # (N, N)
    positive, negative = (mask.triu(diagonal=1) for mask in _pairs(labels))
    s_p, s_n = similarity[positive], similarity[negative]
    if not (len(s_p) and len(s_n)):
        return similarity.sum() * 0  # softplus(-inf): nothing to compare
    a_p, a_n = (1 + margin - s_p.detach()).relu(), (s_n.detach() + margin).relu()
    logit_p = -gamma * a_p * (s_p - 1 + margin)
    logit_n = gamma * a_n * (s_n - margin)
    return F.softplus(logit_n.logsumexp(dim=0) + logit_p.logsumexp(dim=0))


def hard_pairs(
    features: torch.Tensor, labels: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (N, N) of the positive and the negative pairs that are hard for their row's anchor."""
    similarity = features @ features.T  # (N, N)
    positive, negative = _pairs(labels)
    hardest_n = similarity.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True)
    hardest_p = similarity.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
    return (
        positive & (similarity - epsilon < hardest_n),
        negative & (similarity + epsilon > hardest_p),
    )


def _pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (N, N) of the pairs of one label, and of two."""
    same = labels[:, None] == labels[None, :]
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def _distances(features: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, N); equal rows are 0 apart and give no gradient."""
    exact = "donot_use_mm_for_euclid_dist"  # the other way loses near pairs to rounding
    return torch.cdist(features, features, compute_mode=exact)


def _mean_above_zero(terms: torch.Tensor) -> torch.Tensor:
    """Mean of the positive ones of (T,) terms; 0 where there are none."""
    return terms.sum() / (terms > 0).sum().clamp(min=1)
