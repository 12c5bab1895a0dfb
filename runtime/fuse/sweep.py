"""Masked normalised cross-correlation of many templates with many windows, at every shift.

With template T, its mask m (n pixels) and the image I under it,

    ncc = sum m (T - mean T) I / sqrt( sum m (T - mean T)^2 * (sum m I^2 - (sum m I)^2 / n) )

The windows' patches at all shifts are the rows of one matrix, so three matrix products give the
correlation of all headings, heights and shifts at once. Each is too small to be shared among
threads: numkong computes it on one, where numpy's BLAS would wake its others and wait; of many
windows every thread takes a part.

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

from .template import MIN_STD_GREY, Grey, Template

WINDOWS_AT_ONCE = 16  # their patches stay in the cache
THREADS = 2  # share the windows of a search; as many as search tiles (maps/search.py)


def correlate(windows: Grey, templates: Sequence[Template]) -> Grey:
    """NCC of T templates (P, P) with K windows (K, H, W), at every full overlap.

    Returns (K, T, H - P + 1, W - P + 1).
    """
    sought = _Sought.of(templates)
    if len(windows) <= WINDOWS_AT_ONCE:
        return sought.within(windows)
    parts = np.array_split(windows, THREADS)
    with ThreadPoolExecutor(THREADS) as pool:  # numkong and numpy let the other run meanwhile
        return np.concatenate(list(pool.map(sought.within, parts)))


@dataclass(frozen=True)
class _Sought:
    """Templates as matrices; those of one mask share its sums."""

    centred: "numkong.PackedMatrix"  # (P * P, T)
    masks: "numkong.PackedMatrix"  # (P * P, M)
    mask_of: NDArray[np.intp]  # (T,) which of them
    energy: NDArray[np.float32]  # (T,)
    count: NDArray[np.float32]  # (M,)
    side: int

    @staticmethod
    def of(templates: Sequence[Template]) -> "_Sought":
        masks = np.stack([template.mask.ravel() for template in templates])
        numbers: dict[bytes, int] = {}
        mask_of = [numbers.setdefault(mask.tobytes(), len(numbers)) for mask in masks]
        masks = masks[np.unique(mask_of, return_index=True)[1]]
        return _Sought(
            _packed(np.stack([template.centred.ravel() for template in templates])),
            _packed(masks),
            np.array(mask_of),
            np.array([template.energy for template in templates], np.float32),
            masks.sum(axis=1),
            templates[0].mask.shape[0],
        )

    def within(self, windows: Grey) -> Grey:
        """`correlate` on one thread."""
        starts = range(0, len(windows), WINDOWS_AT_ONCE)
        return np.concatenate(
            [self._at_once(windows[start : start + WINDOWS_AT_ONCE]) for start in starts]
        )

    def _at_once(self, windows: Grey) -> Grey:
        # without their means the sums of squares stay within float32
        image = windows - windows.mean(axis=(1, 2), keepdims=True)
        patches = sliding_window_view(image, (self.side, self.side), axis=(1, 2))
        shifts = patches.shape[:3]
        patches = patches.reshape(-1, self.side**2)
        product, total, squares = (
            np.asarray(numkong.dots_packed(left, right))
            for left, right in (
                (patches, self.centred), (patches, self.masks), (patches * patches, self.masks),
            )
        )  # fmt: skip
        least = self.count * np.float32(MIN_STD_GREY**2)
        variance = np.maximum(squares - total * total / self.count, least)
        spread = np.sqrt(variance)[:, self.mask_of] * np.sqrt(self.energy)
        ncc: Grey = (product / spread).astype(np.float32, copy=False)
        surfaces: Grey = ncc.reshape(*shifts, -1).transpose(0, 3, 1, 2)
        return surfaces


def _packed(rows: Grey) -> "numkong.PackedMatrix":
    return numkong.dots_pack(rows, dtype="float32")
