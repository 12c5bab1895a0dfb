"""What light, air, season, lens and sensor do to a picture of the ground.

An `Appearance` is drawn once per frame (or once per flight, where the weather stays) and applied
to an RGB image in the order of the light's path: ground, illumination, air, lens, sensor. Where
a paper or a datasheet gives no number, ranges were set by looking at the pictures.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]

DRY_GRASS_RGB = np.array([172, 150, 105], np.float32)
FRESH_GRASS_RGB = np.array([78, 108, 52], np.float32)
AIRLIGHT_RGB = np.array([205, 215, 228], np.float32)


@dataclass(frozen=True)
class Appearance:
    """One draw of everything that changes between two pictures of the same ground."""

    season: float = 0.0  # -1 dry .. 1 fresh: where vegetation's colour moves to
    changed: int = 0  # roofs, cars and plots that came since the map was made
    shadow: float = 0.0  # depth of cloud shadows, 0..1
    relief: float = 0.0  # relighting of brightness gradients: the sun moved
    relief_deg: float = 0.0  # direction of that light
    haze: float = 0.0  # share of airlight, 0..1
    gain: float = 1.0
    gamma: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    contrast: float = 1.0
    vignette: float = 0.0  # loss in the corners, 0..1
    blur_px: float = 0.0  # sigma
    motion_px: float = 0.0  # length
    motion_deg: float = 0.0
    noise: float = 0.0  # standard deviation in grey levels
    jpeg_quality: int = 100


def draw_appearance(rng: np.random.Generator, strength: float) -> Appearance:
    """A random appearance; strength 0 changes nothing, 1 is another year, season and sensor."""

    def spread(width: float) -> float:
        return float(strength * width * rng.uniform(-1, 1))

    def sometimes(probability: float, width: float) -> float:
        return float(strength * rng.uniform(0, width)) if rng.random() < probability else 0.0

    red, green, blue = (float(np.exp(spread(0.25))) for _ in range(3))
    return Appearance(
        season=spread(1.0) if rng.random() < 0.6 else 0.0,
        changed=int(rng.integers(0, 1 + round(12 * strength))),
        shadow=sometimes(0.4, 0.7),
        relief=spread(1.0) if rng.random() < 0.6 else 0.0,
        relief_deg=float(rng.uniform(0, 360)),
        haze=sometimes(0.4, 0.5),
        gain=float(np.exp(spread(0.35))),
        gamma=float(np.exp(spread(0.5))),
        white_balance=(red, green, blue),
        saturation=float(np.exp(spread(0.7))),
        contrast=float(np.exp(spread(0.5))),
        vignette=sometimes(0.5, 0.5),
        blur_px=sometimes(0.5, 1.5),
        motion_px=sometimes(0.2, 4.0),
        motion_deg=float(rng.uniform(0, 180)),
        noise=sometimes(0.6, 10.0),
        jpeg_quality=int(100 - sometimes(0.4, 70)),
    )


def apply_appearance(image: Image, look: Appearance, rng: np.random.Generator) -> Image:
    """The picture (H, W, 3) RGB as that camera would have taken it on that day."""
    ground = image.astype(np.float32)
    if look.season:
        ground = _season(ground, look.season)
    if look.changed:
        ground = _changed_ground(ground, look.changed, rng)
    if look.relief:
        ground = _relight(ground, look.relief, look.relief_deg)
    if look.shadow:
        ground *= _cloud_shadow(image.shape[:2], look.shadow, rng)[..., None]
    if look.haze:
        ground += np.float32(look.haze) * (AIRLIGHT_RGB - ground)
    if look.vignette:
        ground *= _vignette(image.shape[:2], look.vignette)[..., None]
    return _sensor(_lens(ground, look), look, rng)


def _season(ground: FloatImage, season: float) -> FloatImage:
    """Move vegetation's colour towards dry or fresh grass, keeping its texture."""
    excess_green = 2 * ground[..., 1] - ground[..., 0] - ground[..., 2]
    vegetation = np.clip(excess_green / 40, 0, 1)[..., None] * abs(season)
    target = FRESH_GRASS_RGB if season > 0 else DRY_GRASS_RGB
    luma = ground.mean(axis=2, keepdims=True) / max(float(target.mean()), 1.0)
    shifted: FloatImage = ground + vegetation * (target * luma - ground)
    return shifted


def _changed_ground(ground: FloatImage, count: int, rng: np.random.Generator) -> FloatImage:
    """Paint rotated rectangles: what was built, parked or harvested since the map."""
    canvas = np.ascontiguousarray(ground)
    height, width = ground.shape[:2]
    sizes = rng.gamma(2.0, 0.02 * max(height, width), (count, 2)) + 1
    for size in sizes:
        center = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        corners = cv2.boxPoints((center, (float(size[0]), float(size[1])), rng.uniform(0, 180)))
        color = rng.uniform(20, 240) + rng.normal(0, 15, 3)
        cv2.fillConvexPoly(canvas, corners.astype(np.int32), color.tolist(), cv2.LINE_AA)
    return canvas


def _relight(ground: FloatImage, relief: float, direction_deg: float) -> FloatImage:
    """Add the brightness slope along a direction: flanks that faced the sun turn dark."""
    luma = cv2.blur(ground.mean(axis=2), (3, 3))
    angle = np.radians(direction_deg)
    slope = np.cos(angle) * cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=0.125) + np.sin(
        angle
    ) * cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=0.125)
    lit: FloatImage = ground + np.float32(relief) * slope[..., None]
    return lit


def _cloud_shadow(shape: tuple[int, ...], depth: float, rng: np.random.Generator) -> FloatImage:
    """Transmission 1 - depth .. 1 in soft-edged patches, (H, W)."""
    coarse = rng.standard_normal((5, 5)).astype(np.float32)
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    softness = rng.uniform(0.1, 1.0)
    shade: FloatImage = 1 - depth / (1 + np.exp(-field / np.float32(softness)))
    return shade


def _vignette(shape: tuple[int, ...], loss: float) -> FloatImage:
    """Brightness falling with the square of the distance from the centre, (H, W)."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    falloff: FloatImage = 1 - np.float32(loss / 2) * (x * x + y * y)
    return falloff


def _lens(light: FloatImage, look: Appearance) -> FloatImage:
    """Defocus and motion blur."""
    if look.blur_px > 0.2:
        light = cv2.GaussianBlur(light, (0, 0), look.blur_px).astype(np.float32, copy=False)
    if look.motion_px >= 1.5:
        reach = int(np.ceil(look.motion_px))
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        angle = np.radians(look.motion_deg)
        half = np.array([np.cos(angle), np.sin(angle)]) * look.motion_px / 2
        start, end = (np.round(reach + sign * half).astype(int).tolist() for sign in (-1, 1))
        cv2.line(kernel, start, end, 1.0)
        light = cv2.filter2D(light, -1, kernel / kernel.sum()).astype(np.float32, copy=False)
    return light


def _sensor(light: FloatImage, look: Appearance, rng: np.random.Generator) -> Image:
    """Colour, tone curve, noise and compression."""
    light = light * (np.asarray(look.white_balance, np.float32) * np.float32(look.gain))
    if look.saturation != 1:
        luma = light.mean(axis=2, keepdims=True)
        light = luma + np.float32(look.saturation) * (light - luma)
    if look.contrast != 1:
        middle = light.mean()
        light = middle + np.float32(look.contrast) * (light - middle)
    levels = np.clip(light, 0, 255) / 255
    if look.gamma != 1:
        levels = cv2.pow(levels, look.gamma).astype(np.float32, copy=False)
    if look.noise:
        levels = levels + rng.standard_normal(levels.shape, np.float32) * (look.noise / 255)
    picture: Image = np.clip(levels * 255, 0, 255).astype(np.uint8)
    if look.jpeg_quality < 100:
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg_quality])
        picture = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return picture
