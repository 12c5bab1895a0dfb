"""Masked normalised cross-correlation of many templates with many windows, at every shift.

With template T, its mask m (n pixels) and the image I under it,

    ncc = sum m (T - mean T) I / sqrt( sum m (T - mean T)^2 * (sum m I^2 - (sum m I)^2 / n) )

The windows' patches at all shifts are the rows of one matrix, so three matrix products give the
correlation of all headings, heights and shifts at once. They are too small to be shared among
threads: numkong computes them on this one, where numpy's BLAS would wake its others and wait.

J. P. Lewis, "Fast Normalized Cross-Correlation", 1995, with the mask of D. Padfield, "Masked Object
Registration in the Fourier Domain", IEEE TIP 2012, on one side.
"""

from collections.abc import Sequence

import numkong
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .template import MIN_STD_GREY, Grey, Template

WINDOWS_AT_ONCE = 16  # their patches stay in the cache


def correlate(windows: Grey, templates: Sequence[Template]) -> Grey:
    """NCC of T templates (P, P) with K windows (K, H, W), at every full overlap.

    Returns (K, T, H - P + 1, W - P + 1).
    """
    side = templates[0].mask.shape[0]
    masks = np.stack([template.mask.ravel() for template in templates])
    centred = _packed(np.stack([template.centred.ravel() for template in templates]))
    mask = _packed(masks)
    energy = np.array([template.energy for template in templates], np.float32)
    count = masks.sum(axis=1)
    found = []
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[start : start + WINDOWS_AT_ONCE]
        # without their means the sums of squares stay within float32
        image = some - some.mean(axis=(1, 2), keepdims=True)
        patches = sliding_window_view(image, (side, side), axis=(1, 2))
        shifts = patches.shape[:3]
        patches = patches.reshape(-1, side * side)
        product, total, squares = (
            np.asarray(numkong.dots_packed(left, right))
            for left, right in ((patches, centred), (patches, mask), (patches * patches, mask))
        )  # (windows x shifts, T)
        variance = np.maximum(squares - total * total / count, count * MIN_STD_GREY**2)
        ncc = (product / np.sqrt(variance * energy)).astype(np.float32, copy=False)
        found.append(ncc.reshape(*shifts, len(templates)).transpose(0, 3, 1, 2))
    return np.concatenate(found)


def _packed(rows: Grey) -> "numkong.PackedMatrix":
    return numkong.dots_pack(rows, dtype="float32")
