"""What one frame looks for."""

from dataclasses import dataclass
from functools import cached_property

from ..sense.ortho import Ground
from .attitude import Attitude
from .awaited import Awaited
from .crowd import NO_CROWD, Crowd
from .structure import structured


@dataclass(frozen=True)
class Query:
    """The frame, the size of a tile, and what is known of the attitude and of wrong places."""

    ground: Ground  # grey
    tile_m: float
    attitude: Attitude
    crowd: Crowd = NO_CROWD  # what wrong places reach on this ground
    awaited: Awaited | None = None  # where the flight's pictures have carried it

    @cached_property
    def structure(self) -> Ground:
        """The frame as it is compared with the map."""
        return structured(self.ground, self.tile_m)
