"""Fits of a model's likelihood to frames whose truth is known, and what they are worth: pure maths.

    tiles      log L(true tile), L of runtime/fuse/likelihood.py, highest over T and epsilon
    evidence   logistic regression of "the best place is right" on its gap and its correlation

Every source of frames counts as much as any other, however few its frames are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.fuse.likelihood import CROWD_FROM, CROWD_GAP, CROWD_OFFSET, Likelihood

TEMPERATURES = (0.005, 0.5)  # cosine similarity; between, the likelihood tells tiles apart
# Real flights hold frames that no simulator thinks of: a share is left to them whatever is measured
EPSILONS = (0.005, 0.5)
GRID, ZOOMS = 17, 5  # points on an axis; each zoom leaves an eighth of it
NEWTON_STEPS, RIDGE = 60, 1e-3
PROBABILITY_BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Sources = NDArray[np.str_]


@dataclass(frozen=True)
class Ranking:
    """A frame's similarity to every tile of its map, and which tile is the true one."""

    score: NDArray[np.float32]  # (n,)
    true: int


@dataclass(frozen=True)
class Bin:
    """Frames of about one predicted probability."""

    low: float
    high: float
    frames: int
    predicted: float
    right: float


def weights_by_source(source: Sources) -> Array:
    """Of each frame (F,), 1 in the mean; each source that is there has as much of the whole."""
    names, which, count = np.unique(source, return_inverse=True, return_counts=True)
    weight: Array = len(source) / (len(names) * count[which])
    return weight


def tiles_loss(rankings: Sequence[Ranking], likelihood: Likelihood) -> Array:
    """-log L of the true tile, (F,) nats."""
    share = [likelihood.of_tiles(ranking.score)[ranking.true] for ranking in rankings]
    return -np.log(np.array(share, np.float64))


def evidence_loss(odds: Array, right: Flags) -> Array:
    """-log of the probability that log odds give to what is the case, (F,) nats."""
    return np.logaddexp(0.0, np.where(right, -odds, odds))


def fitted_tiles(rankings: Sequence[Ranking], weight: Array, start: Likelihood) -> Likelihood:
    """T and epsilon under which the true tiles are most likely, by a grid that zooms in."""
    bounds = np.log([TEMPERATURES, EPSILONS])
    outer = bounds.copy()
    uniform = 1 / np.array([len(ranking.score) for ranking in rankings])
    for _ in range(ZOOMS):
        temperatures, epsilons = (np.exp(np.linspace(low, high, GRID)) for low, high in bounds)
        share = np.array([_true_share(rankings, temperature) for temperature in temperatures])
        mixed = share[:, None] * (1 - epsilons[:, None]) + epsilons[:, None] * uniform
        gained = np.log(mixed) @ weight  # (T, epsilon)
        best = np.unravel_index(int(gained.argmax()), gained.shape)
        middle = np.log([temperatures[best[0]], epsilons[best[1]]])
        step = np.diff(bounds, axis=1)[:, 0] / (GRID - 1)
        around = np.stack([middle - step, middle + step], axis=1)
        bounds = np.clip(around, outer[:, :1], outer[:, 1:])
    temperature, epsilon = np.exp(middle).tolist()
    return _changed(start, temperature=temperature, epsilon=epsilon)


def fitted_evidence(
    gap: Array, correlation: Array, places: Array, right: Flags, weight: Array, start: Likelihood
) -> Likelihood | None:
    """The three numbers of the evidence by Newton's method; None where they make no sense.

    What the number of places that were looked at adds to them is as it is (Likelihood.among). A
    place that leads by more is never the less likely to be right: frames that say so are too few.
    """
    crowd = np.log(np.maximum(places / CROWD_FROM, 1))
    design = np.column_stack([gap * (1 + CROWD_GAP * crowd), correlation, -np.ones(len(gap))])
    found = np.zeros(3)
    for _ in range(NEWTON_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(design @ found - CROWD_OFFSET * crowd, -40, 40)))
        slope = design.T @ (weight * (odds - right)) + RIDGE * found
        curvature = (design.T * (weight * odds * (1 - odds))) @ design + RIDGE * np.eye(3)
        found = found - np.linalg.solve(curvature, slope)
    per_gap, per_correlation, offset = found.tolist()
    if not (np.isfinite(found).all() and per_gap > 0 and per_correlation >= 0):
        return None
    return _changed(start, per_gap=per_gap, per_correlation=per_correlation, offset=offset)


def evidence_of(
    likelihood: Likelihood, gap: Array, correlation: Array, places: Array
) -> Array:  # fmt: skip
    """Log odds (F,) of frames' best places, each among as many as were looked at."""
    return np.array([
        likelihood.among(int(count)).evidence(best, best - lead)
        for lead, best, count in zip(gap, correlation, places, strict=True)
    ])  # fmt: skip


def calibration_of(odds: Array, right: Flags) -> list[Bin]:
    """Predicted probability beside how often it was so."""
    predicted = 1 / (1 + np.exp(-np.clip(odds, -40, 40)))
    rows = []
    for low, high in pairwise(PROBABILITY_BINS):
        inside = (predicted >= low) & ((predicted < high) | (high == PROBABILITY_BINS[-1]))
        if inside.any():
            mean, share = float(predicted[inside].mean()), float(right[inside].mean())
            rows.append(Bin(low, high, int(inside.sum()), mean, share))
    return rows


def _true_share(rankings: Sequence[Ranking], temperature: float) -> Array:
    """Softmax of the similarities at the true tile, (F,)."""
    total = [
        np.exp((ranking.score - ranking.score[ranking.true]).astype(np.float64) / temperature).sum()
        for ranking in rankings
    ]
    return 1 / np.array(total)


def _changed(start: Likelihood, **numbers: float) -> Likelihood:
    """With numbers of four digits, which is more than any set of frames can tell."""
    rounded = {name: float(f"{value:.4g}") for name, value in numbers.items()}
    return msgspec.structs.replace(start, **rounded)
