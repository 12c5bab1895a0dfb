"""The peers that every table shows: masked NCC over the whole map, its sweep, and SIFT + RANSAC.

All take the same frames and telemetry as skyfix and answer with the ground point in the image's
centre, in pixels of the map image that they were prepared with (centre of the first pixel = 0).
What depends on the map alone (spectra, keypoints) is prepared once and is not in their times.

Masked NCC after D. Padfield, Masked Object Registration in the Fourier Domain (2012): with the map
f under its mask m, the patch g under its mask n, and * the cross-correlation,

    N = m * n                                           pixels in common
    ncc = (f*g - f*n m*g / N) / sqrt((f^2*n - (f*n)^2 / N) (m*g^2 - (m*g)^2 / N))
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.sense.camera import Camera
from skyfix.runtime.sense.ortho import patch_from_frame, view_from_telemetry
from skyfix.runtime.types import Patch, Reason, Telemetry

MIN_OVERLAP = 0.5  # of the patch's valid pixels must lie on valid map
MIN_VARIANCE = 1e-3  # of the map's own, below which a window has no structure
SIFT_RATIO = 0.8  # Lowe 2004
MIN_INLIERS = 12  # fewer agree by chance on a whole map
RANSAC_PX = 4.0

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Float = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


@dataclass(frozen=True)
class Match:
    """Where a peer puts the image's centre, or NaN where it has no answer."""

    row: float  # map pixels
    column: float
    score: float  # NCC, or the number of inliers
    seconds: float  # from frame to answer
    drone_from_center_en_m: tuple[float, float]


@dataclass(frozen=True)
class MapSpectra:
    """What masked NCC needs of the map, prepared once."""

    shape: tuple[int, int]
    fft_shape: tuple[int, int]
    gsd_m: float
    mean: float
    std: float
    mask: Spectrum
    image: Spectrum
    square: Spectrum


@dataclass(frozen=True)
class SiftMap:
    """Keypoints of the whole map, prepared once."""

    points: Float  # (n, 2) column, row
    descriptors: Float  # (n, 128)
    gsd_m: float


def map_spectra(grey: Grey, valid: Mask, gsd_m: float, patch_px: int) -> MapSpectra:
    """Prepare a map for patches of up to `patch_px` pixels."""
    mean, std = float(grey[valid].mean()), float(grey[valid].std())
    rows, columns = (cv2.getOptimalDFTSize(length + patch_px - 1) for length in grey.shape)
    image = np.where(valid, (grey.astype(np.float32) - np.float32(mean)) / np.float32(std), 0)
    fft_shape = (rows, columns)
    return MapSpectra(
        shape=(grey.shape[0], grey.shape[1]),
        fft_shape=fft_shape,
        gsd_m=gsd_m,
        mean=mean,
        std=std,
        mask=_spectrum(valid, fft_shape),
        image=_spectrum(image, fft_shape),
        square=_spectrum(image * image, fft_shape),
    )


def masked_ncc(
    spectra: MapSpectra, patch_grey: Grey, patch_valid: Mask
) -> tuple[float, float, float]:
    """Row and column of the patch's centre on the map, and its correlation."""
    ncc = _ncc_field(spectra, patch_grey, patch_valid)
    flat = int(ncc.argmax())
    top, left = divmod(flat, ncc.shape[1])
    height, width = patch_grey.shape
    # offsets beyond the map's size are the negative ones of a circular correlation
    top -= spectra.fft_shape[0] * (top >= spectra.shape[0])
    left -= spectra.fft_shape[1] * (left >= spectra.shape[1])
    return top + (height - 1) / 2, left + (width - 1) / 2, float(ncc.flat[flat])


def single_ncc(
    spectra: MapSpectra, image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry,
    patch_px: int,
) -> Match:  # fmt: skip
    """Masked NCC with heading and height as told."""
    return swept_ncc(spectra, image, camera, telemetry, patch_px, (0.0,), (1.0,))


def swept_ncc(
    spectra: MapSpectra, image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry,
    patch_px: int, headings_deg: Sequence[float], scales: Sequence[float],
) -> Match:  # fmt: skip
    """Masked NCC, the best over heading errors and height factors."""
    begin = time.perf_counter()
    best = _no_match(begin)
    for heading_deg in headings_deg:
        for scale in scales:
            guess = replace(
                telemetry,
                yaw_deg=(telemetry.yaw_deg + heading_deg) % 360,
                height_agl_m=telemetry.height_agl_m * scale,
            )
            patch = patch_from_frame(image, camera, guess, patch_px, spectra.gsd_m)
            if isinstance(patch, Reason):
                continue
            row, column, score = masked_ncc(spectra, grey_of_patch(patch), patch.valid)
            if not score <= best.score:  # NaN at first
                best = Match(row, column, score, 0.0, patch.drone_from_center_en_m)
    return replace(best, seconds=time.perf_counter() - begin)


def sift_map(grey: Grey, gsd_m: float) -> SiftMap:
    """Detect SIFT keypoints over the whole map."""
    points, descriptors = _sift(grey)
    return SiftMap(points, descriptors, gsd_m)


def sift_ransac(
    keypoints: SiftMap, image: NDArray[np.uint8], camera: Camera, telemetry: Telemetry
) -> Match:
    """SIFT, ratio test and RANSAC homography against the whole map; no answer below 12 inliers.

    Height is only used to bring the frame to the map's scale; the heading is not used.
    """
    begin = time.perf_counter()
    view = view_from_telemetry(camera, telemetry)
    if isinstance(view, Reason):
        return _no_match(begin)
    shrink = min(1.0, view.gsd_m / keypoints.gsd_m)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    points, descriptors = _sift(small.astype(np.uint8, copy=False))
    pairs = _ratio_matches(descriptors, keypoints.descriptors)
    if len(pairs) < MIN_INLIERS:
        return _no_match(begin)
    source, target = points[pairs[:, 0]], keypoints.points[pairs[:, 1]]
    homography, inliers = cv2.findHomography(source, target, cv2.RANSAC, RANSAC_PX)
    if homography is None or inliers.sum() < MIN_INLIERS:
        return _no_match(begin)
    # the principal point: the same image centre as ortho.py's
    center = camera.matrix[:2, 2] * shrink
    column, row, depth = homography @ (center[0], center[1], 1.0)
    east, north = view.center_en_m
    seconds = time.perf_counter() - begin
    return Match(row / depth, column / depth, float(inliers.sum()), seconds, (-east, -north))


def grey_of_patch(patch: Patch) -> Grey:
    """Grey values of a patch, (P, P)."""
    return cv2.cvtColor(patch.image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _ncc_field(spectra: MapSpectra, patch_grey: Grey, patch_valid: Mask) -> Float:
    """Masked NCC at every offset of the patch, (rows, columns) of the FFT; -1 where too little."""
    shape = spectra.fft_shape
    mean, std = np.float32(spectra.mean), np.float32(spectra.std)
    patch = np.where(patch_valid, (patch_grey.astype(np.float32) - mean) / std, 0)
    patch -= patch.sum() / patch_valid.sum() * patch_valid  # float32 loses less about the mean
    mask, image, square = (
        np.conj(_spectrum(layer, shape)) for layer in (patch_valid, patch, patch * patch)
    )

    def correlation(of_map: Spectrum, of_patch: Spectrum) -> Float:
        return np.fft.irfft2(of_map * of_patch, shape).astype(np.float32, copy=False)

    common = correlation(spectra.mask, mask)
    enough = common > MIN_OVERLAP * patch_valid.sum()
    count = np.maximum(common, 1)
    map_sum, patch_sum = correlation(spectra.image, mask), correlation(spectra.mask, image)
    map_power = correlation(spectra.square, mask) - map_sum * map_sum / count
    patch_power = correlation(spectra.mask, square) - patch_sum * patch_sum / count
    enough &= (map_power > MIN_VARIANCE * count) & (patch_power > MIN_VARIANCE * count)
    product = correlation(spectra.image, image) - map_sum * patch_sum / count
    ncc = np.full(shape, -1, np.float32)
    ncc[enough] = product[enough] / np.sqrt(map_power[enough] * patch_power[enough])
    return ncc


def _spectrum(layer: NDArray[np.generic], shape: tuple[int, int]) -> Spectrum:
    spectrum: Spectrum = np.fft.rfft2(layer.astype(np.float32), shape).astype(
        np.complex64, copy=False
    )
    return spectrum


def _sift(grey: Grey) -> tuple[Float, Float]:
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(grey, None)  # type: ignore[attr-defined]  # not in cv2's stubs
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    return points, descriptors.astype(np.float32, copy=False)


def _ratio_matches(query: Float, target: Float) -> NDArray[np.int64]:
    """Index pairs (k, 2) of descriptors whose nearest neighbour is clearly the nearest."""
    if len(query) == 0 or len(target) < 2:
        return np.zeros((0, 2), np.int64)
    power = (target * target).sum(axis=1)
    pairs = []
    for begin in range(0, len(query), 256):  # bounds the distance matrix
        block = query[begin : begin + 256]
        distance = power - 2 * block @ target.T + (block * block).sum(axis=1, keepdims=True)
        nearest, second = np.argpartition(distance, 1, axis=1)[:, :2].T
        rows = np.arange(len(block))
        clear = distance[rows, nearest] < SIFT_RATIO**2 * distance[rows, second]
        pairs.append(np.stack([rows[clear] + begin, nearest[clear]], axis=1))
    return np.concatenate(pairs)


def _no_match(begin: float) -> Match:
    nan = float("nan")
    return Match(nan, nan, nan, time.perf_counter() - begin, (nan, nan))
