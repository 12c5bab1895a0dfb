"""Kinds of landscape: colours, sizes and shares that a procedural picture is painted with.

Colours are RGB 0..255 as a satellite shows them; areas and lengths are typical of the region.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """One kind of landscape."""

    name: str
    soil: Color
    grass: Color
    forest: Color
    water: Color
    asphalt: Color
    dirt_road: Color
    crops: tuple[Color, ...]
    roofs: tuple[Color, ...]
    towns_per_km2: float
    town_radius_m: tuple[float, float]
    forest_share: float  # of the districts outside the towns
    park_share: float  # of the blocks in town
    yard_share: float
    vacant_share: float  # of the lots
    river_share: float  # of the pictures
    lake_share: float
    field_shares: tuple[float, float, float, float, float]  # crop, meadow, bare, forest, orchard
    field_edge_shares: tuple[float, float, float]  # track, hedge, bare edge
    block_m2: float
    lot_m2: float
    field_m2: float
    built_share: float  # of a lot's width and depth
    flat_share: float  # of the roofs
    storeys: tuple[float, float]
    wobble_rad: float  # how far cuts are from right angles
    bend_m: float  # how far the whole plan is bent
    tree_share: float  # of a garden's crowns
    dryness: float  # 0..1, how much soil shows through grass

    def jittered(self, rng: np.random.Generator) -> "Jitter":
        """A tint and brightness for one picture."""
        return Jitter(rng.normal(1, 0.025, 3).astype(np.float32), float(rng.uniform(0.85, 1.15)))


@dataclass(frozen=True)
class Jitter:
    """How one picture differs from its style's colours."""

    tint: NDArray[np.float32]  # (3,)
    brightness: float


TEMPERATE = Style(
    name="temperate",
    soil=(139, 117, 92), grass=(104, 122, 69), forest=(51, 70, 38), water=(52, 66, 62),
    asphalt=(122, 121, 119), dirt_road=(172, 156, 128),
    crops=((118, 134, 70), (89, 113, 56), (150, 148, 87), (186, 167, 111), (134, 112, 86),
           (104, 88, 70), (126, 146, 84), (196, 181, 128), (80, 102, 62)),
    roofs=((150, 82, 62), (128, 72, 58), (96, 84, 78), (112, 110, 108), (170, 104, 76),
           (84, 74, 72), (190, 186, 178)),
    towns_per_km2=0.9, town_radius_m=(220, 520), forest_share=0.24, park_share=0.07,
    yard_share=0.12, vacant_share=0.05, river_share=0.55, lake_share=0.3,
    field_shares=(0.62, 0.22, 0.06, 0.07, 0.03), field_edge_shares=(0.2, 0.35, 0.45),
    block_m2=11_000, lot_m2=560, field_m2=16_000, built_share=0.5, flat_share=0.15,
    storeys=(1, 3), wobble_rad=0.1, bend_m=80, tree_share=0.2, dryness=0.15,
)  # fmt: skip
ARID = Style(
    name="arid",
    soil=(194, 168, 132), grass=(164, 152, 106), forest=(96, 100, 66), water=(70, 98, 96),
    asphalt=(138, 132, 124), dirt_road=(214, 192, 158),
    crops=((152, 148, 96), (96, 118, 66), (178, 158, 116), (200, 176, 136), (122, 128, 76),
           (186, 162, 122), (78, 104, 58)),
    roofs=((214, 202, 182), (196, 180, 156), (226, 220, 208), (176, 158, 134), (160, 120, 96),
           (238, 236, 230)),
    towns_per_km2=0.8, town_radius_m=(240, 520), forest_share=0.05, park_share=0.03,
    yard_share=0.14, vacant_share=0.2, river_share=0.25, lake_share=0.08,
    field_shares=(0.34, 0.2, 0.32, 0.02, 0.12), field_edge_shares=(0.45, 0.08, 0.47),
    block_m2=8_500, lot_m2=420, field_m2=14_000, built_share=0.66, flat_share=0.85,
    storeys=(1, 3), wobble_rad=0.06, bend_m=55, tree_share=0.07, dryness=0.75,
)  # fmt: skip
DENSE_TOWN = Style(
    name="dense town",
    soil=(150, 138, 120), grass=(96, 112, 70), forest=(54, 72, 44), water=(60, 74, 66),
    asphalt=(112, 113, 116), dirt_road=(160, 150, 134),
    crops=((104, 122, 66), (128, 136, 82), (146, 132, 98), (86, 106, 60)),
    roofs=((160, 160, 158), (196, 192, 186), (126, 124, 124), (74, 104, 112), (148, 84, 70),
           (216, 214, 210), (96, 130, 118), (112, 94, 88), (176, 166, 148)),
    towns_per_km2=2.2, town_radius_m=(500, 1100), forest_share=0.2, park_share=0.06,
    yard_share=0.16, vacant_share=0.05, river_share=0.5, lake_share=0.1,
    field_shares=(0.5, 0.3, 0.1, 0.07, 0.03), field_edge_shares=(0.35, 0.15, 0.5),
    block_m2=8_000, lot_m2=300, field_m2=5_000, built_share=0.78, flat_share=0.6,
    storeys=(2, 6), wobble_rad=0.07, bend_m=60, tree_share=0.1, dryness=0.25,
)  # fmt: skip
SETTLEMENT = Style(
    name="settlement",
    soil=(168, 120, 88), grass=(108, 122, 66), forest=(58, 80, 38), water=(92, 92, 66),
    asphalt=(134, 124, 116), dirt_road=(186, 140, 106),
    crops=((96, 118, 56), (122, 130, 68), (150, 122, 84), (78, 102, 48), (162, 126, 92)),
    roofs=((178, 176, 172), (140, 92, 74), (206, 204, 202), (122, 74, 60), (156, 146, 136),
           (104, 112, 122), (168, 128, 100)),
    towns_per_km2=1.6, town_radius_m=(300, 700), forest_share=0.2, park_share=0.06,
    yard_share=0.06, vacant_share=0.22, river_share=0.4, lake_share=0.1,
    field_shares=(0.42, 0.26, 0.12, 0.1, 0.1), field_edge_shares=(0.3, 0.3, 0.4),
    block_m2=13_000, lot_m2=340, field_m2=3_500, built_share=0.55, flat_share=0.1,
    storeys=(1, 1.4), wobble_rad=0.24, bend_m=110, tree_share=0.24, dryness=0.5,
)  # fmt: skip
STYLES = (TEMPERATE, ARID, DENSE_TOWN, SETTLEMENT)
