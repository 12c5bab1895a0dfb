"""Unit descriptors as int8: value = scale * code, |value - scale * code| <= scale / 2."""

import numpy as np
from numpy.typing import NDArray

MAX_CODE = 127  # symmetric; -128 stays unused so that products of two codes fit every kernel


def quantised(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Codes of the same shape, and their one scale; all zero keeps a scale of 1 / 127."""
    peak = float(np.abs(values).max(initial=0.0)) or 1.0
    scale = peak / MAX_CODE
    return np.rint(values / np.float32(scale)).astype(np.int8), scale
