"""What a frame is worth, in numbers that are measured for each model and kept in its card.

    a tile of similarity s, among n    L = (1 - epsilon) exp(s / T) / sum exp(s / T) + epsilon / n
    the best place, of correlation c   evidence = per_gap (c - c_rival) + per_correlation c - offset

    that among n places            per_gap (1 + a ln n/16), offset + b ln n/16

The first is a maximum-entropy ranking, with a share epsilon of frames that say nothing: no place is
ever ruled out by one frame. The second is the log odds that the best place is right rather than
wrong. All places but one are wrong, so the best one elsewhere, c_rival, shows what wrong places
reach on this ground; and the more places have been looked at, the closer the best wrong ones come
to one another. benchmarks/calibrate_belief.py fits the first two and writes them into a card.
"""

import math
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

# Of the places looked at beyond so many, each factor of e. By views of fengyuan flight A and of
# simulated flights, sought as they are and mirrored, over 1,400 tiles and over 100 km2 (768
# places): wrong ones lead there by up to 0.15 and 0.08, right ones by 0.27 and 0.14 in the median.
# The fit says 0.54 and 0.35; less was taken, for wrong places cost more than frames. Beyond 768 it
# is carried on.
CROWD_FROM, CROWD_GAP, CROWD_OFFSET = 16, 0.3, 0.2

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

    def among(self, places: int) -> "Likelihood":
        """The same for the best of so many places."""
        crowd = math.log(max(places / CROWD_FROM, 1))
        return msgspec.structs.replace(
            self,
            per_gap=self.per_gap * (1 + CROWD_GAP * crowd),
            offset=self.offset + CROWD_OFFSET * crowd,
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
