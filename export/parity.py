"""Does a graph give the descriptors of what it was made from? On which pictures, by which gates.

fp32     largest difference of any entry    1e-4 at most; rounding is 1e-6
fp16     smallest cosine                    0.9999 at least
int8     smallest cosine                    0.99 at least, on drawn land: on noise, which no
                                            calibration has seen, it would say nothing
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from skyfix.runtime.encoder import normalised
from skyfix.runtime.engines.base import GraphCard, ModelCard
from skyfix.runtime.engines.onnx import INPUT_NAME, OUTPUT_NAME, available_cores
from skyfix.runtime.errors import ModelError

from .samples import patches_from_drawing
from .verify import GATES, cosine

MAX_DIFFERENCE = 1e-4  # of descriptor entries in fp32
NOISE_BATCHES = (1, 5)  # the batch is dynamic
NOISE_SEEDS = (0, 1, 2)
DRAWN_PATCHES = 16
DRAWN_BATCH = 8

Batch = NDArray[np.float32]  # (B, 3, H, W)
Infer = Callable[[Batch], NDArray[np.float32]]  # to (B, D)


@dataclass(frozen=True)
class Parity:
    """How far a graph's descriptors are from those of what it was made from."""

    difference: float  # the largest of any entry
    cosine: float  # the smallest of any patch

    def passes(self, precision: str) -> bool:
        """Whether that is near enough; NaN is not."""
        if precision == "fp32":
            return self.difference <= MAX_DIFFERENCE
        return self.cosine >= GATES[precision]

    def text(self, precision: str) -> str:
        """What was found beside what is asked."""
        if precision == "fp32":
            return f"largest difference {self.difference:.1e} (at most {MAX_DIFFERENCE:.0e})"
        # a float as near to 1 as these says more by what it lacks
        return f"smallest cosine 1 - {1 - self.cosine:.1e} (at least {GATES[precision]:g})"


def described_by(encoder: nn.Module) -> Infer:
    """A network as torch computes it."""

    @torch.no_grad()
    def infer(batch: Batch) -> NDArray[np.float32]:
        return np.asarray(encoder(torch.from_numpy(batch)).numpy(), np.float32)

    return infer


def parity(origin: Infer, infer: Infer, batches: Sequence[Batch]) -> Parity:
    """Compare a graph with what it comes from."""
    worst = Parity(0.0, 1.0)
    for batch in batches:
        expected, actual = origin(batch), infer(batch)
        # np.maximum and np.minimum hand a NaN on, the built-in ones need not
        worst = Parity(
            float(np.maximum(worst.difference, np.abs(expected - actual).max())),
            float(np.minimum(worst.cosine, cosine(expected, actual).min())),
        )
    return worst


def batches_for(card: GraphCard, size_px: tuple[int, int], precision: str) -> list[Batch]:
    """What graphs of images (H, W) are compared on."""
    flown = isinstance(card, ModelCard) and size_px == (card.input_px, card.input_px)
    noise = list(_noise(size_px))
    if not flown:
        return noise
    assert isinstance(card, ModelCard)
    patches = patches_from_drawing(card, DRAWN_PATCHES)
    drawn = np.stack([normalised(patch, card.mean, card.std) for patch in patches])
    parts = [drawn[start : start + DRAWN_BATCH] for start in range(0, len(drawn), DRAWN_BATCH)]
    return parts if precision == "int8" else [*noise, *parts]


def require(found: Parity, precision: str, file: str, folder: str) -> None:
    """Raise ModelError for a graph that is too far from what it was made from."""
    if not found.passes(precision):
        raise ModelError(
            f"the descriptors of {file} are not those of the source: {found.text(precision)}. "
            f"The export is kept in {folder} for a look. {_advice(precision)}"
        )


def session_of(model: onnx.ModelProto) -> Infer:
    """A graph that has no file of its own, in onnxruntime, node by node as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def infer(batch: Batch) -> NDArray[np.float32]:
        (descriptors,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        return np.asarray(descriptors, np.float32)

    return infer


def _advice(precision: str) -> str:
    return {
        "fp32": "This is a fault of the exporter: report it with the checkpoint's configuration.",
        "fp16": "This network leaves the range of fp16 somewhere; export it with --precision fp32.",
        "int8": "Calibrate with more frames, or keep more layers: skyfix calibrate --keep-worst K.",
    }[precision]


def _noise(size_px: tuple[int, int]) -> Iterator[Batch]:
    """Normal noise with a zeroed corner, as a rotated frame has."""
    for seed in NOISE_SEEDS:
        for batch in NOISE_BATCHES:
            patches = np.random.default_rng(seed).standard_normal((batch, 3, *size_px))
            patches[:, :, : size_px[0] // 3, : size_px[1] // 3] = 0
            yield patches.astype(np.float32)
