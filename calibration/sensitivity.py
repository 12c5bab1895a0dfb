"""Which layers int8 hurts: each one alone in int8, against the fp32 graph, on the same frames.

drop of a layer = 1 - cosine(fp32 descriptor, descriptor with that layer in int8)
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from skyfix.runtime.engines.onnx import INPUT_NAME, OUTPUT_NAME
from skyfix.runtime.sense.pictures import evenly

from .frames import MIN_FRAMES, Batch, pieces
from .observe import session_of
from .pack import PackQueries
from .quantize import with_int8_layers
from .table import LayerCalibration, Similarity

MAX_FRAMES = 32  # of a single layer's measurement
BUDGET_S = 60.0  # for all layers together; fewer frames where a model is slow


@dataclass(frozen=True)
class Reference:
    """Descriptors by fp32, and what they find on a pack."""

    batch: Batch  # (N, 3, P, P)
    descriptors: Batch  # (N, D)
    queries: PackQueries | None = None
    tiles: NDArray[np.int64] | None = None  # best tile of each query

    def similarity(self, session: Any) -> Similarity:
        """How far another graph's descriptors are from these."""
        cosines = self.cosines(session)
        found = Similarity(len(cosines), float(cosines.mean()), float(cosines.min()))
        if self.queries is None or self.tiles is None:
            return found
        tiles = self.queries.best_tiles(described(session, self.queries.batch))
        return Similarity(
            found.frames, found.mean_cosine, found.min_cosine,
            self.queries.recall(self.tiles), self.queries.recall(tiles),
            float(np.mean(tiles == self.tiles)),
        )  # fmt: skip

    def cosines(self, session: Any) -> NDArray[np.float64]:
        """Cosine of each frame's descriptor with that of another graph."""
        first = self.descriptors.astype(np.float64)
        second = described(session, self.batch).astype(np.float64)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines: NDArray[np.float64] = np.sum(first * second, axis=1) / norms
        return cosines


def described(session: Any, batch: Batch) -> Batch:
    """Descriptors (N, D) of network inputs."""
    found = [session.run([OUTPUT_NAME], {INPUT_NAME: part})[0] for part in pieces(batch)]
    return np.concatenate(found)


def reference_of(session: Any, batch: Batch, queries: PackQueries | None) -> Reference:
    """The fp32 graph's side of every comparison."""
    tiles = None if queries is None else queries.best_tiles(described(session, queries.batch))
    return Reference(batch, described(session, batch), queries, tiles)


def fewer(reference: Reference, session: Any, layers: int) -> Reference:
    """The part of a reference that all layers can be measured on within the budget."""
    start_s = time.perf_counter()
    described(session, reference.batch[:MIN_FRAMES])
    frame_s = (time.perf_counter() - start_s) / min(MIN_FRAMES, len(reference.batch))
    count = int(np.clip(BUDGET_S / (max(layers, 1) * frame_s), MIN_FRAMES, MAX_FRAMES))
    index = evenly(range(len(reference.batch)), count)
    queries, tiles = reference.queries, reference.tiles
    if queries is not None and tiles is not None:
        some = evenly(range(len(tiles)), count)
        queries = PackQueries(queries.pack, queries.batch[some], queries.true_en_m[some])
        tiles = tiles[some]
    return Reference(reference.batch[index], reference.descriptors[index], queries, tiles)


def layers_alone(
    model: onnx.ModelProto, layers: Sequence[LayerCalibration], reference: Reference
) -> Iterator[tuple[str, Similarity]]:
    """Every layer's output and what int8 does there alone, in the graph's order."""
    for layer in layers:
        session = session_of(with_int8_layers(model, {layer.output: layer.scale}))
        yield layer.output, reference.similarity(session)


def worst(found: dict[str, Similarity], count: int) -> list[str]:
    """Outputs of the `count` layers that lose most, the worst first: by R@1, then by cosine."""
    return sorted(found, key=lambda output: _rank(found[output]))[:count]


def _rank(similarity: Similarity) -> tuple[float, float]:
    return (similarity.recall or 0.0, similarity.mean_cosine)
