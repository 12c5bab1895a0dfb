"""Model + frames -> calibration table.

frames -> ranges of all methods in one pass -> each layer alone in int8 -> the worst are kept
       -> the whole graph in int8 beside fp32
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.engines.built import file_sha256
from skyfix.runtime.errors import InputError, ModelError

from .frames import Frames
from .layers import Layer, layers_of
from .observe import observed_ranges, session_of
from .pack import PackQueries
from .quantize import with_int8_layers
from .sensitivity import Reference, fewer, layers_alone, reference_of, worst
from .table import (
    METHODS,
    TABLE_SCHEMA,
    CalibrationTable,
    FramesRecord,
    GraphCalibration,
    LayerCalibration,
    Method,
    Ranges,
    Similarity,
    scale_from_range,
)

UNUSED_SCALE = scale_from_range(1.0)  # of a tensor that is zero on every frame; its layers are kept

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(frozen=True)
class GraphReport:
    """What was found on one graph."""

    file: str
    calibration: GraphCalibration
    cosines: NDArray[np.float64]  # (N,) of int8 and fp32 descriptors
    methods: dict[Method, Similarity]  # every layer in int8, by each method's ranges


@dataclass(frozen=True)
class Report:
    """The table, and what does not belong into it."""

    table: CalibrationTable
    graphs: list[GraphReport] = field(default_factory=list)


def calibrated(
    folder: Path, card: ModelCard, frames: Frames, method: Method, *,
    keep_worst: int = 0, queries: PackQueries | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Report:  # fmt: skip
    """Calibrate every graph of a model; raises ModelError or InputError.

    Args:
        folder: an fp32 model.
        card: its card.
        frames: what the network will see.
        method: how ranges are chosen.
        keep_worst: how many layers of each graph stay in floating point.
        queries: frames to look for on a pack, for R@1.
        progress: called after every step.
    """
    if card.precision != "fp32":
        raise ModelError(
            f"{folder} has {card.precision} graphs: calibrate the fp32 export of the checkpoint, "
            "ranges are measured on it"
        )
    graphs = [
        _graph_report(
            folder / file, frames, method, keep_worst,
            queries if card.graphs["query"] == file else None, progress,
        )
        for file in sorted(set(card.graphs.values()))
    ]  # fmt: skip
    table = CalibrationTable(
        schema=TABLE_SCHEMA, model_id=card.model_id, method=method,
        frames=FramesRecord(len(frames.batch), frames.candidates, frames.sha256),
        graphs={graph.file: graph.calibration for graph in graphs},
    )  # fmt: skip
    return Report(table, graphs)


def _graph_report(
    path: Path, frames: Frames, method: Method, keep_worst: int,
    queries: PackQueries | None, progress: Progress,
) -> GraphReport:  # fmt: skip
    model = onnx.load(path)
    layers = layers_of(model)
    if not layers:
        raise ModelError(f"{path} has no layer that int8 would make faster: leave it in fp16")
    if keep_worst >= len(layers):
        raise InputError(
            f"--keep-worst {keep_worst} would keep all {len(layers)} layers of {path.name}: "
            "export with --precision fp16 instead"
        )
    progress(f"{path.name}: ranges", 0, len(layers))
    ranges = observed_ranges(model, [layer.input for layer in layers], frames.batches())
    records = [_record(layer, ranges[layer.input], method) for layer in layers]
    reference = reference_of(session_of(model), frames.batch, queries)
    methods = {name: _whole(model, records, ranges, name, reference) for name in METHODS}
    records = _measured(model, records, reference, keep_worst, path.name, progress)
    session = session_of(_int8(model, records))
    calibration = GraphCalibration(file_sha256(path), records, reference.similarity(session))
    return GraphReport(path.name, calibration, reference.cosines(session), methods)


def _record(layer: Layer, ranges: Ranges, method: Method) -> LayerCalibration:
    """A layer before it is measured; one whose input is zero on every frame stays as it is."""
    reach = ranges.of(method)
    return LayerCalibration(
        output=layer.output, label=layer.label, kind=layer.kind, activation=layer.input,
        ranges=ranges, scale=scale_from_range(reach) if reach > 0 else UNUSED_SCALE,
        kept=reach == 0,
    )  # fmt: skip


def _int8(model: onnx.ModelProto, records: list[LayerCalibration]) -> onnx.ModelProto:
    return with_int8_layers(model, {r.output: r.scale for r in records if not r.kept})


def _whole(
    model: onnx.ModelProto, records: list[LayerCalibration], ranges: dict[str, Ranges],
    method: Method, reference: Reference,
) -> Similarity:  # fmt: skip
    """All layers in int8 by the ranges of one method."""
    scales = {
        record.output: scale_from_range(ranges[record.activation].of(method))
        for record in records
        if not record.kept
    }
    return reference.similarity(session_of(with_int8_layers(model, scales)))


def _measured(
    model: onnx.ModelProto, records: list[LayerCalibration], reference: Reference,
    keep_worst: int, name: str, progress: Progress,
) -> list[LayerCalibration]:  # fmt: skip
    """The layers with what each does alone in int8, the worst of them kept."""
    live = [record for record in records if not record.kept]
    some = fewer(reference, session_of(model), len(live))
    found: dict[str, Similarity] = {}
    for output, similarity in layers_alone(model, live, some):
        found[output] = similarity
        progress(f"{name}: each layer alone in int8", len(found), len(live))
    keep = set(worst(found, keep_worst))
    return [
        msgspec.structs.replace(
            record, alone=found.get(record.output), kept=record.kept or record.output in keep
        )
        for record in records
    ]
