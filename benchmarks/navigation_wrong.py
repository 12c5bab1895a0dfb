"""Flights that have no place on the map: another region, sea, fog, night. Every position is false.

Each is a ground that the simulator flies over as over any other, so that pictures hang together
from frame to frame, as a filter would wish them to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
from navigation_flights import CAMERA, random_route, stepped
from navigation_land import BLOCK_M, DrawnLand
from navigation_noise import CONSTANT_20, drawn, told
from navigation_scores import Claims, claims_of
from numpy.typing import NDArray

from skyfix.export.rasters import open_raster
from skyfix.runtime.encoder import Model
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.localizer import Localizer, LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster, RasterReader
from skyfix.runtime.publish.messages import FixMessage
from skyfix.runtime.sense.appearance import apply_appearance, draw_appearance
from skyfix.runtime.sense.simulator import Conditions, SimulatedFrame, Simulator

SIDE_M, GSD_M = 1600.0, 0.8
HEIGHT_M = 120.0
STREETS_PER_KM2, LAMPS_PER_KM2 = 16, 240
EMPTY = ("fog", "sea", "night")
A_FLIGHT = 250  # frames, from a lost start
WRONG_LAND = 2  # number of the drawn land that no pack is made of; odd ones are not seen
FRAME = LocalFrame(24.26, 120.72)

Grounds = dict[str, RasterReader]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Nowhere:
    """Frames that no place of the pack looks like."""

    title: str
    part: str
    seed: int
    ground: RasterReader
    frames: int

    @property
    def is_empty(self) -> bool:
        """Whether there is no land."""
        return self.title in EMPTY


class WrongRow(msgspec.Struct, frozen=True, kw_only=True):
    """All flights over one kind of ground against one pack."""

    ground: str
    land: str  # of the pack
    part: str
    claims: Claims


def wrong_row(
    nowhere: Nowhere, land: str, pack: TilePack, model: Model, progress: Callable[[], None]
) -> WrongRow:
    """Fly, and count what is claimed."""
    fixes: list[FixMessage] = []
    for flight in range(0, nowhere.frames, A_FLIGHT):
        localizer = Localizer(pack, model, CAMERA, LocalizerSettings())
        frames = min(A_FLIGHT, nowhere.frames - flight)
        for seen in _frames(nowhere, nowhere.seed + 2 * flight, frames):  # its parity stays
            fixes.append(stepped(localizer, seen))
            progress()
    return WrongRow(ground=nowhere.title, land=land, part=nowhere.part, claims=claims_of(fixes))


def grounds(data: Path, folder: Path, seed: int) -> Grounds:
    """Everything that may lie below, by name; another region is half real, half drawn."""
    number = WRONG_LAND + seed % 2
    return {
        "another region, real": open_raster(data / "nust" / "map.tif").reader,
        "another region, drawn": DrawnLand(
            folder, FRAME, number, 1, 1.0, -BLOCK_M / 2, BLOCK_M / 2
        ),
        **{
            name: _raster(draw(np.random.default_rng((seed, number))))
            for number, (name, draw) in enumerate(zip(EMPTY, (fog, sea, night), strict=True))
        },
    }  # fmt: skip


def sea(rng: np.random.Generator) -> Float:
    """Swell, crests and glint on dark water, (H, W, 3)."""
    swell = _field(rng, 9.0, 2.5) + 0.6 * _field(rng, 3.0, 1.2) + 0.5 * _field(rng, 60.0, 40.0)
    foam = 60 * (_field(rng, 1.5, 0.8) + 0.8 * _field(rng, 40.0, 40.0) > 3.4)
    return _coloured((28, 58, 78), 9.0 * swell + foam)


def fog(rng: np.random.Generator) -> Float:
    """Cloud tops: soft, bright, of every size, (H, W, 3)."""
    sizes_px = (160.0, 60.0, 20.0, 7.0)
    tops = sum((size**0.5 * _field(rng, size, size) for size in sizes_px), np.float32(0))
    return _coloured((196, 201, 207), 1.6 * np.asarray(tops, np.float32))


def night(rng: np.random.Generator) -> Float:
    """Darkness with lamps along streets and around houses, (H, W, 3)."""
    side = round(SIDE_M / GSD_M)
    lamps = np.zeros((side, side), np.float32)
    km2 = SIDE_M**2 / 1e6
    for _ in range(round(STREETS_PER_KM2 * km2)):
        start, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi)
        along = np.arange(0, rng.uniform(100, side), 35 / GSD_M)
        street = start[:, None] + along * np.array([[np.cos(angle)], [np.sin(angle)]])
        _light(lamps, street + rng.normal(0, 1, street.shape), 255)
    _light(lamps, rng.uniform(0, side, (2, round(LAMPS_PER_KM2 * km2))), 120)
    glow = cv2.GaussianBlur(lamps, (0, 0), 1.2) * 8 + cv2.GaussianBlur(lamps, (0, 0), 8) * 40
    return _coloured((7, 7, 10), glow.astype(np.float32))


def _frames(nowhere: Nowhere, seed: int, frames: int) -> Iterator[SimulatedFrame]:
    """A flight of its own heading, height and weather."""
    yaw_deg, height = drawn(CONSTANT_20, 1, seed)
    route = random_route(nowhere.ground.bounds_m, HEIGHT_M, frames, seed)
    rng = np.random.default_rng((seed, 11))
    # nothing was built on sea or cloud: light, lens and sensor alone change there
    weather = replace(draw_appearance(rng, Conditions().appearance), changed=0)
    conditions = Conditions(appearance=0, flicker=0) if nowhere.is_empty else Conditions()
    for seen in Simulator(nowhere.ground, CAMERA, conditions, seed).fly(route):
        misled = told(seen.telemetry, CONSTANT_20, float(yaw_deg[0]), float(height[0]))
        frame = seen.frame
        if nowhere.is_empty:
            rgb = apply_appearance(frame.image[..., ::-1], weather, rng)
            frame = replace(frame, image=rgb[..., ::-1].copy())
        yield replace(seen, frame=frame, telemetry=misled)


def _field(rng: np.random.Generator, across_px: float, along_px: float) -> Float:
    """Smooth noise of unit deviation, longer across than along."""
    side = round(SIDE_M / GSD_M)
    shrink = max(1, int(min(across_px, along_px) / 4))  # a wide blur of a small picture
    small = rng.normal(size=(side // shrink + 1,) * 2).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), across_px / shrink, sigmaY=along_px / shrink)
    whole = cv2.resize(blurred, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((whole - whole.mean()) / whole.std(), np.float32)


def _light(lamps: Float, places: NDArray[np.float64], level: float) -> None:
    row, column = np.rint(places).astype(int)
    inside = (row >= 0) & (row < len(lamps)) & (column >= 0) & (column < len(lamps))
    lamps[row[inside], column[inside]] = level


def _coloured(base: tuple[int, int, int], light: Float) -> Float:
    return np.asarray(base, np.float32) + light[..., None]


def _raster(picture: Float) -> Raster:
    image = np.clip(picture, 0, 255).astype(np.uint8)
    west_m = -SIDE_M / 2
    return Raster(image, np.ones(image.shape[:2], bool), FRAME, west_m, -west_m, GSD_M)
