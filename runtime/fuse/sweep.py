"""Masked normalised cross-correlation of many templates with many windows, at every shift.

With template T of no mean, its mask m and the structure I of the map under it,

    ncc = sum m T I / sqrt( sum m T^2 * max( sum m I^2, sum m MIN_STD_LEVELS^2 ) )

The windows' patches at all shifts are the rows of one matrix, so matrix products of whole numbers,
to which T is rounded, give the correlation of all headings, heights and shifts at once. Each is too
small to be shared among threads: numkong computes it on one; of many windows every thread takes a
part.

J. P. Lewis, "Fast Normalized Cross-Correlation", 1995, with the mask of D. Padfield, "Masked Object
Registration in the Fourier Domain", IEEE TIP 2012, on one side.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numkong
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .template import MIN_STD_LEVELS, Template

AT_ONCE_BYTES = 1_000_000  # of windows' patches, which stay in the cache
THREADS = 2  # share the windows of a search; as many as search tiles (maps/search.py)

Levels = NDArray[np.int8]
Ncc = NDArray[np.float32]


def correlate(windows: Levels, templates: Sequence[Template]) -> Ncc:
    """NCC of T templates (P, P, C) with K windows (K, H, W, C), at every full overlap.

    Returns (K, T, H - P + 1, W - P + 1).
    """
    sought = _Sought.of(templates)
    if len(windows) <= sought.at_once(windows):
        return sought.within(windows)
    parts = np.array_split(windows, THREADS)
    with ThreadPoolExecutor(THREADS) as pool:  # numkong and numpy let the other run meanwhile
        return np.concatenate(list(pool.map(sought.within, parts)))


@dataclass(frozen=True)
class _Sought:
    """Templates as matrices; those of one mask share its sums."""

    levels: "numkong.PackedMatrix"  # (P * P * C, T) whole
    masks: "numkong.PackedMatrix"  # (P * P, M)
    mask_of: NDArray[np.intp]  # (T,) which of them
    length: NDArray[np.float32]  # (T,) root of the sum of squares
    least: NDArray[np.float32]  # (M,) sum of squares of an image that shows hardly anything
    side: int

    @staticmethod
    def of(templates: Sequence[Template]) -> "_Sought":
        levels = np.stack([np.rint(template.levels).ravel() for template in templates])
        masks = np.stack([template.mask.ravel() for template in templates]).astype(np.uint8)
        numbers: dict[bytes, int] = {}
        mask_of = [numbers.setdefault(mask.tobytes(), len(numbers)) for mask in masks]
        masks = masks[np.unique(mask_of, return_index=True)[1]]
        return _Sought(
            numkong.dots_pack(levels.clip(-127, 127).astype(np.int8), dtype="int8"),
            numkong.dots_pack(masks, dtype="uint8"),
            np.array(mask_of),
            np.maximum(np.linalg.norm(levels, axis=1), 1e-6).astype(np.float32),
            masks.sum(axis=1, dtype=np.float32) * np.float32(MIN_STD_LEVELS**2),
            templates[0].mask.shape[0],
        )

    def within(self, windows: Levels) -> Ncc:
        """`correlate` on one thread."""
        count = self.at_once(windows)
        starts = range(0, len(windows), count)
        return np.concatenate([self._at_once(windows[start : start + count]) for start in starts])

    def at_once(self, windows: Levels) -> int:
        """How many of the windows (K, H, W, C) are looked at together."""
        _, height, width, channels = windows.shape
        shifts = (height - self.side + 1) * (width - self.side + 1)
        patches_bytes = int(shifts * self.side**2 * channels)
        return max(1, AT_ONCE_BYTES // patches_bytes)

    def _at_once(self, windows: Levels) -> Ncc:
        count, height, width, channels = windows.shape
        wide = windows.reshape(count, height, width * channels)
        patches = self._patches(wide, self.side * channels)[:, :, ::channels]
        product = np.asarray(numkong.dots_packed(_rows(patches), self.levels))
        squares = np.einsum("khwc,khwc->khw", windows, windows, dtype=np.int32)
        low, high = (
            np.asarray(numkong.dots_packed(_rows(self._patches(part, self.side)), self.masks))
            for part in ((squares & 255).astype(np.uint8), (squares >> 8).astype(np.uint8))
        )
        energy = high * np.float32(256) + low
        length = np.sqrt(np.maximum(energy, self.least))[:, self.mask_of] * self.length
        ncc: Ncc = (product / length).astype(np.float32, copy=False)
        surfaces: Ncc = ncc.reshape(*patches.shape[:3], -1).transpose(0, 3, 1, 2)
        return surfaces

    def _patches(self, pictures: NDArray[np.integer], width: int) -> NDArray[np.integer]:
        return sliding_window_view(pictures, (self.side, width), axis=(1, 2))


def _rows(patches: NDArray[np.integer]) -> NDArray[np.integer]:
    """Patches (K, H, W, P, Q) as the rows of a matrix."""
    return patches.reshape(-1, patches.shape[3] * patches.shape[4])
