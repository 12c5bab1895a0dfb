"""What samples say: percentiles, drift over a run, and the ratio of two runs with its interval.

drift      Theil-Sen slope of block medians times the run's length, over the median;
           flagged if |drift| > 5 % and Mann-Kendall's |z| > 2.58 (p < 0.01)
interval   95 % of ratios of percentiles, both runs drawn again in blocks (moving-block
           bootstrap), because neighbouring frames are alike
change     only where the whole interval lies beyond 5 %: two runs of the same program differ by
           a few percent, and no bootstrap within one run can know that
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

DRIFT = 0.05  # of the median, over the run
DRIFT_Z = 2.58
DRIFT_BLOCKS = 12
BLOCK_FRAMES = 12  # half a lap
DRAWS = 1000
CONFIDENCE_PERCENT = 95.0
NOISE = 0.05  # between two runs of one program on one machine
SEED = 0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Drift:
    """How a quantity moved from the run's begin to its end."""

    share: float  # of the median
    is_significant: bool

    @property
    def is_flagged(self) -> bool:
        """Whether it is neither small nor chance."""
        return self.is_significant and abs(self.share) > DRIFT


class Change(str, Enum):
    """What a ratio means."""

    FASTER = "faster"
    SLOWER = "slower"
    NONE = "no change seen"


@dataclass(frozen=True)
class Ratio:
    """This run over the stored one, and where the ratio lies with 95 % confidence."""

    value: float
    low: float
    high: float

    @property
    def change(self) -> Change:
        """A change is beyond noise with the whole interval."""
        if self.high < 1 - NOISE:
            return Change.FASTER
        return Change.SLOWER if self.low > 1 + NOISE else Change.NONE


def percentiles_of(samples_ms: Sequence[float | None]) -> Percentiles | None:
    """Of the frames that have a sample; None where there is none."""
    found = present(samples_ms)
    if not found.size:
        return None
    return Percentiles(*(float(value) for value in np.percentile(found, (50, 90, 95, 99, 100))))


def present(samples: Sequence[float | None]) -> Array:
    """The samples that are there."""
    return np.array([value for value in samples if value is not None], np.float64)


def drift_of(times_s: Sequence[float], values: Sequence[float | None]) -> Drift | None:
    """Drift of medians of blocks; None where there are too few values to tell."""
    pairs = [
        (time_s, value) for time_s, value in zip(times_s, values, strict=True) if value is not None
    ]
    if len(pairs) < 2 * DRIFT_BLOCKS:
        return None
    blocks = np.array_split(np.array(pairs), DRIFT_BLOCKS)
    when, what = (np.array([np.median(block[:, axis]) for block in blocks]) for axis in (0, 1))
    first, second = np.triu_indices(DRIFT_BLOCKS, 1)
    rise, run = what[second] - what[first], when[second] - when[first]
    slope = float(np.median(rise / np.maximum(run, 1e-9)))
    count = DRIFT_BLOCKS
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    z = float(np.sign(rise).sum()) / spread
    share = slope * (pairs[-1][0] - pairs[0][0]) / float(np.median(what))
    return Drift(share, abs(z) > DRIFT_Z)


def ratio_of(
    now_ms: Sequence[float | None], stored_ms: Sequence[float | None], percent: float
) -> Ratio | None:
    """Ratio of a percentile of two runs; None where one has no samples or only zeros."""
    now, stored = present(now_ms), present(stored_ms)
    if not now.size or not stored.size or np.percentile(stored, percent) <= 0:
        return None
    rng = np.random.default_rng(SEED)
    drawn = redrawn_percentiles(now, percent, rng) / np.maximum(
        redrawn_percentiles(stored, percent, rng), 1e-9
    )
    tail = (100 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    value = np.percentile(now, percent) / np.percentile(stored, percent)
    return Ratio(float(value), float(low), float(high))


def redrawn_percentiles(samples: Array, percent: float, rng: np.random.Generator) -> Array:
    """The percentile of DRAWS series that are put together from blocks of the samples."""
    length = min(BLOCK_FRAMES, samples.size)
    count = math.ceil(samples.size / length)
    starts = rng.integers(0, samples.size - length + 1, (DRAWS, count, 1))
    index = (starts + np.arange(length)).reshape(DRAWS, -1)[:, : samples.size]
    found: Array = np.percentile(samples[index], percent, axis=1)
    return found
