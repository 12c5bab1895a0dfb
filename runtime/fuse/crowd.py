"""What wrong places reach over this ground: what the last wide look of a search has shown.

The best of many wrong places fits well by chance, and in part goes on to do so until the drone has
left the ground that made it the best. Once a search has narrowed to it there are no others left to
compare it with, and it would pass for a lone place that fits: of 25 searches over naip of 2012 from
2009, three ended more than a kilometre off.
"""

import math
from dataclasses import dataclass, replace

from .likelihood import CROWD_FROM, Likelihood

# What a wrong place reaches, where hardly another was looked at: the median over naip of another
# year is 0.27, and 99 % stay below 0.45; 0.19 and 0.35 over drawn land. Evidence by this tells
# right from wrong better than by 0.2 or 0.3 (views of benchmarks/calibrate_belief.py).
LONE_RIVAL = 0.25
# Of what the best of many wrong places reaches beyond that, so much is left in the next frame, and
# it is less by a factor of e for every so many tiles' widths of new ground: the best three of 60
# wrong places that move along, over naip of 2009, 2012 and 2016 in frames 20 m apart.
LASTING, LASTING_TILES = 0.8, 0.3


@dataclass(frozen=True)
class Crowd:
    """The best rival among many places, and how much of it is still to be expected."""

    rival: float = LONE_RIVAL  # its correlation
    looked_at: int = CROWD_FROM
    lasting: float = 0.0  # share of what it reaches beyond a lone rival

    def after(self, fresh_tiles: float) -> "Crowd":
        """The same after so much new ground, in tiles' widths."""
        return replace(self, lasting=self.lasting * math.exp(-fresh_tiles / LASTING_TILES))

    @property
    def least_rival(self) -> float:
        """Correlation that a place has to beat, though hardly another is looked at."""
        return LONE_RIVAL + max(self.rival - LONE_RIVAL, 0.0) * self.lasting

    def evidence(self, best: float, likelihood: Likelihood) -> float:
        """Log odds of a place of this correlation as the best of the crowd.

        `likelihood` is the model's as its card states it, for no number of places yet.
        """
        return likelihood.among(self.count).evidence(best, min(best, self.least_rival))

    @property
    def count(self) -> int:
        """Places that a leader is the best of, although most are ruled out by now."""
        return round(CROWD_FROM * float(max(self.looked_at / CROWD_FROM, 1) ** self.lasting))


NO_CROWD = Crowd()
