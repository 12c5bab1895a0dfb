"""Two pictures of local contrast laid over each other: which shift fits, and does another one?

    local contrast   (grey - mean) / (std + floor), mean and std over a small window
    correlation      of every shift, divided by what the overlap of the windows allows

Local contrast takes out light, haze and gain; the floor leaves fog and night without structure.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Field = NDArray[np.float32]

CONTRAST_PX = 21  # window of mean and std
CONTRAST_FLOOR = 4.0  # grey levels: below, structure is taken for noise
CONTRAST_GAIN = 40.0  # grey levels of one std
MIDDLE = 128.0  # grey level of the local mean; 0 is kept for "not seen"
FACTOR = 2  # pixels in a pixel of the correlated pictures
LEAST_OVERLAP = 0.2  # of the windows, below which a correlation counts for less
PEAK_PX = 6  # pixels of the correlated pictures around a peak that belong to it


def local_contrast(grey: Grey, seen: Mask | None = None) -> Grey:
    """The structure of a picture (h, w), whatever the light; 1..255, 0 where it was not seen."""
    values = grey.astype(np.float32)
    window = (CONTRAST_PX, CONTRAST_PX)
    values -= cv2.blur(values, window)
    squares = np.maximum(cv2.blur(values * values, window), 0)  # running sums may end below
    spread = np.sqrt(squares) + CONTRAST_FLOOR
    contrast = values * (CONTRAST_GAIN / spread) + MIDDLE
    structure = np.clip(contrast, 1, 255).astype(np.uint8)
    if seen is not None:  # beside what was not seen, the border would pass for structure
        inside = cv2.erode(seen.astype(np.uint8), np.ones(window, np.uint8)) > 0
        structure[~inside] = 0
    return structure


def correlation(first: Grey, second: Grey) -> Field:
    """Correlation of two pictures (h, w) at every shift of the second, 0 where not seen.

    The value at the centre + d is that of first(p) with second(p + d), d in correlated pixels.
    """
    windows = [_window(picture) for picture in (first, second)]
    fields = [_windowed(first, windows[0]), _windowed(second, windows[1])]
    overlap = np.maximum(_crossed(*windows), LEAST_OVERLAP * float((windows[0] ** 2).sum()))
    power = [
        float((field**2).sum()) / max(float((window**2).sum()), 1.0)
        for field, window in zip(fields, windows, strict=True)
    ]
    scale = np.maximum(overlap * np.float32(np.sqrt(power[0] * power[1])), np.float32(1e-3))
    correlated: Field = _crossed(*fields) / scale
    return correlated


def best_shift_px(field: Field) -> tuple[float, float]:
    """Columns and rows of the full picture by which the second lies off, where it fits best."""
    row, column = divmod(int(field.argmax()), field.shape[1])
    middle = field.shape[1] // 2, field.shape[0] // 2
    return float((column - middle[0]) * FACTOR), float((row - middle[1]) * FACTOR)


def agreement_and_rival(field: Field) -> tuple[float, float]:
    """Correlation where the pictures lie, and the best one away from there."""
    row, column = field.shape[0] // 2, field.shape[1] // 2
    here = field[row - 1 : row + 2, column - 1 : column + 2].max()
    away = field.copy()
    away[row - PEAK_PX : row + PEAK_PX + 1, column - PEAK_PX : column + PEAK_PX + 1] = -1
    return float(here), float(away.max())


def _window(picture: Grey) -> Field:
    """Weights (h, w) of the shrunk picture: nothing at the border and where it is not seen."""
    size = (picture.shape[1] // FACTOR, picture.shape[0] // FACTOR)
    seen = cv2.resize((picture > 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    window: Field = _hann(size) * (seen > 0.99)
    return window


@lru_cache(maxsize=4)
def _hann(size: tuple[int, int]) -> Field:
    """Root of Hann's window, since two of them are multiplied, (h, w)."""
    return np.sqrt(cv2.createHanningWindow(size, cv2.CV_32F)).astype(np.float32)


def _windowed(picture: Grey, window: Field) -> Field:
    """The picture shrunk, without its mean under the window, times the window."""
    size = (window.shape[1], window.shape[0])
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    mean = (small * window).sum() / max(float(window.sum()), 1.0)
    windowed: Field = (small - mean) * window
    return windowed


def _crossed(first: Field, second: Field) -> Field:
    """Sum of first(p) second(p + d) for every d, none in the centre."""
    spectra = (_spectrum(second), _spectrum(first))
    crossed = cv2.idft(cv2.mulSpectrums(*spectra, 0, conjB=True), flags=cv2.DFT_SCALE)
    return np.fft.fftshift(crossed).astype(np.float32, copy=False)


def _spectrum(field: Field) -> Field:
    """Padded by half, so that shifts up to that do not wrap around."""
    rows, columns = field.shape
    more = [cv2.getOptimalDFTSize(length + length // 2) - length for length in (rows, columns)]
    padded = cv2.copyMakeBorder(field, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT)
    return cv2.dft(padded, nonzeroRows=rows).astype(np.float32, copy=False)
