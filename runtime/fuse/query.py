"""What one frame looks for, and its structure, which is made once however often it is cut."""

from dataclasses import dataclass, field
from functools import cached_property

from ..sense.ortho import Ground
from .attitude import Attitude
from .awaited import Awaited
from .crowd import NO_CROWD, Crowd
from .scales import Scale
from .structure import structured
from .template import Cuts


@dataclass(frozen=True)
class Shown:
    """A frame on the ground, as it is compared with the map at each of its scales."""

    ground: Ground  # grey
    tile_m: float  # width of a tile
    _cuts: dict[Scale, Cuts] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def structure(self) -> Ground:
        """As fine as the frame is."""
        return structured(self.ground, self.tile_m)

    def at(self, scale: Scale) -> Cuts:
        """Its templates at a scale of the map."""
        if scale not in self._cuts:
            ground = self.structure.coarser(scale.gsd_m)
            self._cuts[scale] = Cuts(ground, scale.side_px, scale.gsd_m)
        return self._cuts[scale]


@dataclass(frozen=True)
class Query:
    """The frame, and what is known of its attitude, its place and of wrong places."""

    shown: Shown
    attitude: Attitude
    crowd: Crowd = NO_CROWD  # what wrong places reach on this ground
    awaited: Awaited | None = None  # where the flight's pictures have carried it
