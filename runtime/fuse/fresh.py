"""How far a frame's centre lies from those before it: ground that was just seen says little new.

Not the length of the way: a camera that swings over one place flies far, and sees the same ground.
Where nobody knows which way the drone flew, it is the length all the same.
"""

import math
from collections import deque

REMEMBERED_FRAMES = 32  # bounds the cost of a frame; a straight flight needs the last one only


class FreshGround:
    """The last frames' centres, by dead reckoning."""

    def __init__(self) -> None:
        """Everything is new."""
        self._here_en_m = (0.0, 0.0)
        self._unmeasured_m = 0.0  # flown, nobody knows where to
        self._shown: deque[tuple[float, float, float]] = deque(maxlen=REMEMBERED_FRAMES)

    def move(self, east_m: float, north_m: float, unmeasured_m: float) -> None:
        """The centre has moved: by a vector, or by a length."""
        self._here_en_m = (self._here_en_m[0] + east_m, self._here_en_m[1] + north_m)
        self._unmeasured_m += unmeasured_m

    def take_in(self) -> float:
        """Metres from this frame to the nearest of the last, which it joins; infinite at first."""
        east_m, north_m = self._here_en_m
        nearest_m = min(
            (
                math.hypot(east_m - east, north_m - north) + self._unmeasured_m - unmeasured
                for east, north, unmeasured in self._shown
            ),
            default=math.inf,
        )
        self._shown.append((east_m, north_m, self._unmeasured_m))
        return nearest_m
