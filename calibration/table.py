"""The calibration table: which layers of a model's graphs become int8, and with which scales.

    activation = scale * code, |code| <= 127, scale = range / 127

It stays valid for exactly the fp32 graphs whose hashes it holds. docs/formats.md states its fields.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from skyfix.runtime.engines.built import file_sha256
from skyfix.runtime.errors import InputError, ModelError

TABLE_SCHEMA = 1
MAX_CODE = 127
AGAIN = "Calibrate again: skyfix calibrate {folder} --frames FRAMES -o {path}"

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Largest absolute value that a tensor's codes reach, by each method; all from one pass."""

    minmax: NotNegative
    percentile: NotNegative
    entropy: NotNegative
    mse: NotNegative

    def of(self, method: Method) -> float:
        """The range by one method."""
        return float(getattr(self, method))


class Similarity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Descriptors of an int8 graph beside those of the fp32 graph, on the same frames."""

    frames: int
    mean_cosine: float
    min_cosine: float
    recall_fp32: Share | None = None  # R@1 on a pack, of frames whose true place is known
    recall: Share | None = None  # the same in int8
    same_best_tile: Share | None = None  # share of frames with the same best tile of a pack


class LayerCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer that can be computed in int8."""

    output: str  # its output tensor, which identifies it in the graph
    label: str  # its weight's name, for people
    kind: str  # operator
    activation: str  # input tensor that is quantised
    ranges: Ranges
    scale: Positive  # of the activation: range by the table's method / 127
    kept: bool  # stays in floating point
    alone: Similarity | None = None  # when it alone is int8


class GraphCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One graph file of the model."""

    sha256: str  # of the fp32 graph
    layers: list[LayerCalibration]  # in the graph's order
    whole: Similarity | None = None  # all layers that are not kept in int8


class FramesRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it was calibrated on."""

    count: int
    candidates: int  # that they were chosen from
    sha256: str  # of the network inputs, in the order of their choice


class CalibrationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    schema: int
    model_id: str
    method: Method
    frames: FramesRecord
    graphs: dict[str, GraphCalibration]  # file of the model folder -> its layers


class _Header(msgspec.Struct):
    """What can be read of a table of any schema."""

    schema: int


def method_from_text(text: str) -> Method:
    """A method by its name; raises InputError."""
    for method in METHODS:
        if method == text:
            return method
    raise InputError(f"--method {text}: choose among {', '.join(METHODS)}")


def scale_from_range(reach: float) -> float:
    """Scale of int8 codes that reach a value; raises ValueError for none above zero."""
    if not reach > 0:
        raise ValueError(f"a range of {reach} has no scale")
    return reach / MAX_CODE


def graph_calibration(table: CalibrationTable, graph: Path) -> GraphCalibration:
    """The part of the table for one graph file; raises ModelError where it is for another."""
    found = table.graphs.get(graph.name)
    if found is None:
        raise ModelError(
            f"the calibration table is for {', '.join(sorted(table.graphs))}, it holds nothing for "
            f"{graph.name}. Calibrate this model: skyfix calibrate {graph.parent} --frames FRAMES"
        )
    digest = file_sha256(graph)
    if digest != found.sha256:
        raise ModelError(
            f"{graph} was calibrated for another graph (SHA-256 {found.sha256[:16]}..., this one "
            f"is {digest[:16]}...). Calibrate it again: skyfix calibrate {graph.parent} "
            "--frames FRAMES"
        )
    return found


def read_table(path: Path) -> CalibrationTable:
    """Read a table; raises InputError."""
    again = AGAIN.format(folder="MODEL_DIR", path=path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"calibration table {path} cannot be read ({error.strerror}). {again}"
        ) from error
    try:
        schema = msgspec.json.decode(data, type=_Header).schema
        if schema != TABLE_SCHEMA:
            raise InputError(
                f"{path} has schema {schema}, this skyfix reads {TABLE_SCHEMA}. {again}"
            )
        return msgspec.json.decode(data, type=CalibrationTable)
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} is no calibration table: {error}. {again}") from error
