"""What a frame is worth, in numbers that are measured for each model and kept in its card.

    a tile of similarity s, among n    L = (1 - epsilon) exp(s / T) / sum exp(s / T) + epsilon / n
    the best place, of correlation c   evidence = per_gap (c - c_rival) + per_correlation c - offset

The first is a maximum-entropy ranking, with a share epsilon of frames that say nothing: no place is
ever ruled out by one frame. The second is the log odds that the best place is right rather than
wrong. All places but one are wrong, so the best one elsewhere, c_rival, shows what wrong places
reach on this ground. benchmarks/calibrate_belief.py fits both and writes them into a card.
"""

from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

Correlation = TypeVar("Correlation", float, NDArray[np.floating[Any]])


class Likelihood(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers, and the frames that they were measured on.

    The defaults are those of cards that state none: T and epsilon were set by hand, the others are
    a logistic regression over frames of the first `nano`.
    """

    temperature: Annotated[float, msgspec.Meta(gt=0)] = 0.04  # T, cosine similarity
    epsilon: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.02
    per_gap: Annotated[float, msgspec.Meta(gt=0)] = 23.8
    per_correlation: Annotated[float, msgspec.Meta(ge=0)] = 11.3
    offset: float = 9.7
    frames: tuple[str, ...] = (
        "another model: 960 simulated over drawn maps 500 to 503, half of them sought in another",
        "another model: 57 of fengyuan flight A and as many sought in another map (19 photos)",
        "another model: 36 of the first half of nust and as many sought in another map",
    )

    def of_tiles(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """L of tiles by their similarities, any shape; -inf where there is no tile."""
        informative = np.exp((score - score.max()) / self.temperature)
        share = informative / max(float(informative.sum()), 1e-12)
        tiles = max(int(np.isfinite(score).sum()), 1)
        found: NDArray[np.float32] = (1 - self.epsilon) * share + self.epsilon / tiles
        return found

    def evidence(self, best: Correlation, rival: Correlation) -> Correlation:
        """Log odds of a frame's best place."""
        return self.per_gap * (best - rival) + self.per_correlation * best - self.offset
