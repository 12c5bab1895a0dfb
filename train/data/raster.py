"""Self-supervised pairs from any map: one ground area as the map shows it and as a camera sees it.

    scene (a raster at a drawn scale) -> place -> map patch
                                              `-> pose -> rendered frame -> ortho -> camera patch

The camera's frame comes from the simulator's renderer and becomes a patch by the aircraft's own
ortho, with the attitude and height errors that the descriptor shall tolerate.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.encoder import normalised
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.appearance import Appearance, apply_appearance, draw_appearance
from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import patch_from_frame
from skyfix.runtime.sense.simulator import Pose, center_from_pose, render, tilted
from skyfix.runtime.types import Patch, Telemetry

from ..config import ViewConfig

FRAME_WIDTH_PX = 176  # enough for a patch of 128 px, and cheap
FRAME_ASPECTS = (9 / 16, 2 / 3, 3 / 4, 1.0)
FIELD_OF_VIEW_DEG = (45.0, 85.0)  # horizontal; drones' main cameras
FOOTPRINT_TILES = (0.75, 1.8)  # width of the frame on the ground, in tile widths
PIXELS_PER_PATCH_PIXEL = (0.7, 4.0)  # how far a raster is magnified or reduced
MIN_MAP_VALID = 0.75
MAX_TRIES = 30

Batch = tuple[
    NDArray[np.float32],  # (B, 3, P, P) camera patches
    NDArray[np.float32],  # (B, 3, P, P) map patches
    NDArray[np.float32],  # (B, 2) east, north of the frame's centre, metres in its scene
    NDArray[np.int64],  # (B,) scene number within the batch
]


@dataclass(frozen=True)
class Pair:
    """Two views of one place."""

    camera: Patch
    map: Patch
    center_en_m: tuple[float, float]


@dataclass(frozen=True)
class PairSampler:
    """Draws pairs and batches; the same seed gives the same batches."""

    rasters: list[Raster]
    weights: NDArray[np.float64]  # (n,) share of each raster, sums to 1
    view: ViewConfig
    known_scale: bool = False  # a raster's own `gsd_m` holds; else its scale is drawn

    def batches(self, size: int, scenes: int, seed: int) -> Iterator[Batch]:
        """Endless batches of `size` pairs from `scenes` scenes."""
        rng = np.random.default_rng(seed)
        while True:
            pairs: list[Pair] = []
            scene_of: list[int] = []
            for scene in range(scenes):
                drawn = self._scene_pairs(rng, size // scenes)
                pairs += drawn
                scene_of += [scene] * len(drawn)
            yield (
                np.stack([normalised(pair.camera, None, None) for pair in pairs]),
                np.stack([normalised(pair.map, None, None) for pair in pairs]),
                np.array([pair.center_en_m for pair in pairs], np.float32),
                np.array(scene_of, np.int64),
            )

    def _scene_pairs(self, rng: np.random.Generator, count: int) -> list[Pair]:
        """Pairs of one scene; a raster without enough ground is drawn again."""
        while True:
            raster = self.rasters[rng.choice(len(self.rasters), p=self.weights)]
            scene = raster if self.known_scale else scene_from_raster(raster, self.view, rng)
            if scene is None:
                continue
            map_look = draw_appearance(rng, self.view.map_appearance)
            mirror, turns = bool(rng.integers(2)), int(rng.integers(4))
            pairs = []
            for _ in range(MAX_TRIES * count):
                pair = draw_pair(scene, self.view, map_look, rng)
                if pair is not None:
                    pairs.append(_laid_out(pair, mirror, turns))
                if len(pairs) == count:
                    return pairs


def scene_from_raster(raster: Raster, view: ViewConfig, rng: np.random.Generator) -> Raster | None:
    """The raster at a drawn scale, or None where it cannot hold a tile with room around."""
    tile_px = view.input_px * 1.35
    low, high = PIXELS_PER_PATCH_PIXEL
    high = min(high, min(raster.valid.shape) / tile_px)
    if high <= low:
        return None
    ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
    return replace(raster, gsd_m=view.gsd_m / ratio)


def draw_pair(
    scene: Raster, view: ViewConfig, map_look: Appearance, rng: np.random.Generator
) -> Pair | None:
    """One pair at a random place, or None where the scene has no ground there."""
    camera, pose = draw_camera(rng), draw_pose(scene, view, rng)
    width_m = rng.uniform(*FOOTPRINT_TILES) * view.input_px * view.gsd_m
    pose = replace(pose, height_m=width_m * camera.matrix[0, 0] / camera.width_px)
    center = center_from_pose(camera, pose)
    map_patch = _map_patch(scene, center, view, map_look, rng)
    if map_patch.valid.mean() < MIN_MAP_VALID:
        return None
    frame = render(scene, camera, pose)
    look = draw_appearance(rng, view.camera_appearance)
    seen = apply_appearance(frame, look, rng)
    telemetry = Telemetry(
        time_ns=0,
        yaw_deg=pose.yaw_deg + pose.roll_deg + rng.uniform(-1, 1) * view.heading_deg,
        pitch_deg=-90.0,
        roll_deg=0.0,
        height_agl_m=pose.height_m * math.exp(rng.uniform(-1, 1) * view.scale),
    )
    # the ortho swaps channels (frames are BGR): hand it BGR, get RGB as the map's
    patch = patch_from_frame(
        np.ascontiguousarray(seen[..., ::-1]), camera, telemetry, view.input_px, view.gsd_m
    )
    return Pair(patch, map_patch, center) if isinstance(patch, Patch) else None


def draw_camera(rng: np.random.Generator) -> Camera:
    """A pinhole camera of random field of view and aspect."""
    height_px = round(FRAME_WIDTH_PX * float(rng.choice(FRAME_ASPECTS)))
    half = math.radians(rng.uniform(*FIELD_OF_VIEW_DEG) / 2)
    focal_px = FRAME_WIDTH_PX / 2 / math.tan(half)
    center_x, center_y = (FRAME_WIDTH_PX - 1) / 2, (height_px - 1) / 2
    matrix = np.array([[focal_px, 0, center_x], [0, focal_px, center_y], [0, 0, 1]])
    return Camera(FRAME_WIDTH_PX, height_px, matrix, np.zeros(0))


def draw_pose(scene: Raster, view: ViewConfig, rng: np.random.Generator) -> Pose:
    """A place inside the scene, any heading, a little tilt."""
    west, south, east, north = scene.bounds_m
    room = 0.5 * view.input_px * view.gsd_m
    ahead, aside = np.clip(rng.normal(0, view.tilt_deg, 2), -12, 12)
    level = Pose(
        time_ns=0,
        east_m=float(rng.uniform(west + room, max(east - room, west + room + 1))),
        north_m=float(rng.uniform(south + room, max(north - room, south + room + 1))),
        height_m=100.0,
        yaw_deg=float(rng.uniform(-180, 180)),
        pitch_deg=-90.0,
        roll_deg=0.0,
    )
    return tilted(level, float(ahead), float(aside))


def _map_patch(
    scene: Raster,
    center_en_m: tuple[float, float],
    view: ViewConfig,
    look: Appearance,
    rng: np.random.Generator,
) -> Patch:
    """The tile whose centre lies near the frame's, as the map's imagery shows it."""
    half_m = view.input_px * view.gsd_m / 2
    east, north = np.array(center_en_m) + rng.uniform(-1, 1, 2) * view.offset_m
    window = scene.read(east - half_m, north + half_m, (view.input_px, view.input_px), view.gsd_m)
    image = apply_appearance(window.image, look, rng)
    image[~window.valid] = 0
    return Patch(image, window.valid, view.gsd_m, (0.0, 0.0))


def _laid_out(pair: Pair, mirror: bool, turns: int) -> Pair:
    """Both patches mirrored and turned alike: north-up patches stay a pair in any layout."""
    east, north = pair.center_en_m
    if mirror:
        east = -east
    for _ in range(turns):  # counter-clockwise
        east, north = -north, east
    return Pair(
        _patch_laid_out(pair.camera, mirror, turns),
        _patch_laid_out(pair.map, mirror, turns),
        (east, north),
    )


def _patch_laid_out(patch: Patch, mirror: bool, turns: int) -> Patch:
    image = patch.image[:, ::-1] if mirror else patch.image
    valid = patch.valid[:, ::-1] if mirror else patch.valid
    return replace(
        patch,
        image=np.ascontiguousarray(np.rot90(image, turns)),
        valid=np.ascontiguousarray(np.rot90(valid, turns)),
    )
