"""Ranges of all activations that are quantised, in one pass over the frames.

Each tensor has a histogram of its absolute values with a fixed number of bins. Its span is a power
of two; a value beyond it doubles the span and adds up pairs of bins, so memory is bounded and the
result is the same in whatever order the frames come. All four methods read the same histogram:

    minmax       the largest value
    percentile   the value that 99.99 % stay below
    entropy      the cut whose 128 levels keep the distribution best (Kullback-Leibler)
    mse          the cut with the smallest mean squared error of its codes
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from skyfix.runtime.engines.onnx import INPUT_NAME, available_cores
from skyfix.runtime.errors import InputError

from .table import MAX_CODE, Ranges

BINS = 8192  # at least 4096 of them in use: 32 a code
PERCENTILE = 99.99
ENTROPY_BINS = 2048  # as TensorRT's calibrator
ENTROPY_LEVELS = 128
CUTS = 128  # candidates of a search, evenly spaced
NOTHING = 2.0**-64  # values below count as zero: fp32 has no scale for them
SMALLEST_CUT = 1 / 32  # of the largest value

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass
class Histogram:
    """Absolute values of one tensor."""

    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))
    span: float = 0.0  # upper edge of the last bin; 0 before the first value above zero
    largest: float = 0.0
    zeros: int = 0  # values before the span was known

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one batch, all finite."""
        absolute = np.abs(values, dtype=np.float32).ravel()
        absolute[absolute < NOTHING] = 0.0
        peak = float(absolute.max(initial=0.0))
        if peak == 0.0 and self.span == 0.0:
            self.zeros += absolute.size
            return
        self.largest = max(self.largest, peak)
        self._grow(peak)
        index = np.minimum((absolute * np.float32(BINS / self.span)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)

    def _grow(self, peak: float) -> None:
        """Double the span until it holds the peak; the sums are as if it always had."""
        if self.span == 0.0:
            self.span = 2.0 ** math.frexp(peak)[1]  # above the peak, at most twice
            self.counts[0] += self.zeros
        while peak >= self.span:
            half = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([half, np.zeros(BINS // 2, np.int64)])
            self.span *= 2

    def ranges(self) -> Ranges:
        """The range by every method; all 0 where every value was."""
        if self.largest == 0.0:
            return Ranges(0.0, 0.0, 0.0, 0.0)
        found = (percentile_range, entropy_range, mse_range)
        cut = [min(method(self.counts, self.span), self.largest) for method in found]
        return Ranges(self.largest, *cut)


def percentile_range(counts: Counts, span: float) -> float:
    """Upper edge of the bin that PERCENTILE of all values lie in or below."""
    below = np.cumsum(counts)
    index = int(np.searchsorted(below, below[-1] * (PERCENTILE / 100)))
    return (index + 1) * span / len(counts)


def entropy_range(counts: Counts, span: float) -> float:
    """The cut that loses least information when what is within takes ENTROPY_LEVELS levels.

    P: the histogram up to the cut, all beyond added to its last bin. Q: the histogram up to the
    cut in equal groups of bins, each group's sum spread over its bins that are not empty.
    """
    coarse = counts.reshape(ENTROPY_BINS, -1).sum(axis=1).astype(np.float64)
    used = int(np.flatnonzero(coarse)[-1]) + 1
    cuts = np.unique(np.linspace(min(ENTROPY_LEVELS, used), used, CUTS).astype(int))
    losses = [_lost_information(coarse, int(cut)) for cut in cuts]
    return float(cuts[int(np.argmin(losses))]) * span / ENTROPY_BINS


def mse_range(counts: Counts, span: float) -> float:
    """The cut whose MAX_CODE levels have the smallest squared error, clipping included."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    centers: Values = (np.arange(used, dtype=np.float64) + 0.5) * (span / len(counts))
    weights = counts[:used]
    cuts = np.linspace(SMALLEST_CUT, 1.0, CUTS) * used * span / len(counts)
    errors = [_squared_error(centers, weights, float(cut)) for cut in cuts]
    return float(cuts[int(np.argmin(errors))])


def _lost_information(counts: Values, cut: int) -> float:
    """Kullback-Leibler divergence of the cut and quantised histogram from the cut one."""
    inside = counts[:cut]
    full = inside.copy()
    full[-1] += counts[cut:].sum()
    edges = np.arange(min(ENTROPY_LEVELS, cut)) * cut // min(ENTROPY_LEVELS, cut)
    filled = (full > 0).astype(np.float64)
    sums, occupied = np.add.reduceat(inside, edges), np.add.reduceat(filled, edges)
    level = np.divide(sums, occupied, out=np.zeros_like(sums), where=occupied > 0)
    spread = np.repeat(level, np.diff(np.append(edges, cut))) * filled
    if spread.sum() == 0:
        return math.inf
    p, q = full / full.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    if (p[~both] > 0).any():  # what the levels cannot say at all
        q = np.where(filled > 0, np.maximum(q, 1e-12), 0.0)
        both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / q[both])))


def _squared_error(centers: Values, weights: Counts, cut: float) -> float:
    scale = cut / MAX_CODE
    codes = np.minimum(np.rint(centers / scale), MAX_CODE)
    return float(np.sum(weights * (centers - codes * scale) ** 2))


def observed_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[NDArray[np.float32]]
) -> dict[str, Ranges]:
    """Ranges of tensors over batches (B, 3, H, W); raises InputError for what is no number."""
    histograms = {name: Histogram() for name in dict.fromkeys(tensors)}
    session = session_with_outputs(model, list(histograms))
    seen = 0
    for batch in batches:
        found = session.run(list(histograms), {INPUT_NAME: batch})
        for name, values in zip(histograms, found, strict=True):
            if not np.isfinite(values).all():
                raise InputError(
                    f"the model's tensor {name} is not finite (NaN or infinite) on frames "
                    f"{seen} to {seen + len(batch) - 1} of those chosen: int8 has no code for it. "
                    "Check the model with `skyfix export verify`, and the frames."
                )
            histograms[name].add(values)
        seen += len(batch)
    return {name: histogram.ranges() for name, histogram in histograms.items()}


def session_with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    """An onnxruntime session that gives tensors of the graph beside its outputs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    present = {output.name for output in opened.graph.output}
    opened.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in tensors if name not in present
    )
    return session_of(opened)


def session_of(model: onnx.ModelProto, threads: int = 0) -> Any:
    """An onnxruntime session of a graph in memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 3  # errors only; they come as exceptions as well
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
