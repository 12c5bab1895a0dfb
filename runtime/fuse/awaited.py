"""Where a flight's own pictures say that the next place lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Awaited:
    """The last place that led, carried on by visual odometry."""

    east_m: float
    north_m: float
    std_m: float  # per axis, of that place and of the way since

    def log_prior(self, east_m: Array, north_m: Array) -> Array:
        """Log weight of a place: Cauchy's, for an anchor may itself have been wrong.

        Along a furrow or a road a picture fits anywhere, but not the way from one to the next.
        """
        away = ((east_m - self.east_m) ** 2 + (north_m - self.north_m) ** 2) / self.std_m**2
        prior: Array = -np.log1p(away / 2)
        return prior
