"""Checkpoint -> model folder: ONNX graphs of one precision, their card, and proof of parity.

    network -> fp32 graph -> [int8 layers by a calibration table] -> [fp16] -> two files

    encoder.onnx       what the card names: onnxruntime and OpenVINO run it. In int8 its other
                       layers stay fp32, for fp16 on a CPU is a row of casts
    encoder.trt.onnx   where TensorRT needs another: the attention without its body, pictures
                       instead of patches, fp16 around int8

Views that compute the same share one graph (encoder.onnx); others have their own (query.onnx,
map.onnx). Each is compared with torch at several batches before the folder gets its name.
"""

import hashlib
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from skyfix.calibration.quantize import quantized
from skyfix.calibration.table import CalibrationTable, GraphCalibration, read_table
from skyfix.runtime.engines.base import GraphCard, ModelCard, save_card
from skyfix.runtime.engines.onnx import INPUT_NAME, OUTPUT_NAME, OnnxEngine
from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import load_network, load_record

from .attention import attention_as_nodes, inlined, translations, with_bodies, without_bodies
from .branches import Branch, DescriptorOnly, branches_of
from .cards import card_from_record, gsd_of
from .engine import TRT_SUFFIX
from .fold import simplified
from .operators import operators_outside
from .parity import Infer, Parity, batches_for, described_by, parity, require, session_of
from .pictures import with_preprocessing
from .precision import half_from_full
from .rounding import rounded

OPSET = 20  # the first with Gelu, the last that TensorRT 10.3 takes
OPSETS = range(18, 21)  # the exporter's own opset is 18
QUANTIZED_OPSET = 19  # Q/DQ of fp16 tensors
PRECISIONS = ("fp32", "fp16", "int8")
LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Plan:
    """What is asked of an export."""

    precision: str = "fp32"
    opset: int = OPSET
    plugin: bool = True  # the linear attention in TensorRT is our plugin's
    calibration: Path | None = None  # table, for int8

    def check(self) -> None:
        """Raise InputError for what cannot be had."""
        if self.precision not in PRECISIONS:
            raise InputError(f"--precision takes {', '.join(PRECISIONS)}, not {self.precision}")
        if self.opset not in OPSETS:
            raise InputError(
                f"--opset takes {OPSETS[0]} to {OPSETS[-1]}, not {self.opset}: torch exports "
                f"{OPSETS[0]} and newer, TensorRT 10.3 takes {OPSETS[-1]} and older"
            )
        if (self.precision == "int8") != (self.calibration is not None):
            raise InputError(
                "--precision int8 and --calibration TABLE go together: export in fp32, calibrate "
                "that folder (skyfix calibrate MODEL_DIR --frames FRAMES -o TABLE), export again"
            )
        if self.precision == "int8" and self.opset < QUANTIZED_OPSET:
            raise InputError(
                f"--opset {self.opset}: int8 layers among fp16 ones need {QUANTIZED_OPSET} or 20"
            )


@dataclass(frozen=True)
class Written:
    """One graph of the new model."""

    nodes: int
    parity: Parity
    engine_parity: Parity | None  # with every fp16 tensor rounded as a GPU does it


@dataclass(frozen=True)
class Graphs:
    """The forms of one graph, all with the attention's body."""

    card: onnx.ModelProto  # the file that the card names
    engine: onnx.ModelProto  # what TensorRT's is made of


def model_from_checkpoint(
    checkpoint_folder: Path,
    model_folder: Path,
    gsd_m: float | None = None,
    plan: Plan | None = None,
) -> tuple[GraphCard, dict[str, Written]]:
    """Export a checkpoint; the card, and for each graph how near it is to torch.

    Raises InputError where the folder exists or the plan cannot be had, ModelError where a graph
    fails its check or needs an operator that TensorRT 10.3 has not.
    """
    plan = plan or Plan()
    plan.check()
    if model_folder.exists():
        raise InputError(f"{model_folder} exists; name a new folder or remove it")
    table = read_table(plan.calibration) if plan.calibration else None
    record, network = load_record(checkpoint_folder), load_network(checkpoint_folder)
    branches = branches_of(network)
    gsd_m = gsd_of(record, branches, gsd_m)
    partial = model_folder.with_name(model_folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # one of the branches that share a file stands for them all
    encoders = {
        branch.file: (DescriptorOnly(network, branch.view).eval(), branch) for branch in branches
    }
    graphs = {}
    for file, (encoder, branch) in encoders.items():
        full = full_graph(encoder, branch.size_px, plan.opset)
        graphs[file] = graphs_of(full, plan, _calibrated(full, file, table) if table else None)
        save(graphs[file].card, partial / file)
    dimension = _dimension(*encoders[branches[0].file])
    card = card_from_record(
        record, branches, partial, dimension, gsd_m, model_folder.name, plan.precision
    )
    save_card(partial, card)
    written = {}
    for file, (encoder, branch) in encoders.items():
        origin = described_by(encoder)
        written[file] = checked(origin, branch.size_px, graphs[file], partial / file, card)
        save_for_engine(graphs[file], partial / file, card, plan)
    partial.replace(model_folder)
    return card, written


def full_graph(network: nn.Module, size_px: tuple[int, int], opset: int = OPSET) -> onnx.ModelProto:
    """A self-contained fp32 graph for images (H, W) with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with warnings.catch_warnings(), attention_as_nodes(network):
        # torch's exporter calls parts of torch that torch has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, *size_px),),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: batch},),
            opset_version=opset,
            custom_translation_table=translations(),
            optimize=False,  # simplified() does that, without its limits of size
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    return with_bodies(simplified(program.model_proto))


def graphs_of(full: onnx.ModelProto, plan: Plan, calibration: GraphCalibration | None) -> Graphs:
    """Both forms of a graph in the precision that is asked for."""
    if calibration is not None:
        layers = quantized(full, calibration)
        return Graphs(layers, half_from_full(layers))
    graph = half_from_full(full) if plan.precision == "fp16" else full
    return Graphs(graph, graph)


def _calibrated(full: onnx.ModelProto, file: str, table: CalibrationTable) -> GraphCalibration:
    """The table's part for a graph; raises ModelError where it was made for another."""
    found = table.graphs.get(file)
    if found is None or found.sha256 != hashlib.sha256(bytes_of(full)).hexdigest():
        raise ModelError(
            f"the calibration table is not for {file} of this checkpoint and --opset. Export it "
            "with --precision fp32 and the same --opset, and calibrate that folder."
        )
    return found


def checked(
    origin: Infer, size_px: tuple[int, int], graphs: Graphs, path: Path, card: GraphCard
) -> Written:
    """Compare a written graph with its origin, and TensorRT's as a GPU rounds it."""
    batches = batches_for(card, size_px, card.precision)
    found = parity(origin, OnnxEngine(path, card).infer, batches)
    require(found, card.precision, path.name, str(path.parent))
    engine = None
    if card.precision != "fp32":
        engine = parity(origin, session_of(rounded(graphs.engine)), batches)
        require(engine, card.precision, path.stem + TRT_SUFFIX, str(path.parent))
    return Written(len(graphs.card.graph.node), found, engine)


def save_for_engine(graphs: Graphs, path: Path, card: GraphCard, plan: Plan) -> None:
    """Write TensorRT's graph where it is another; raises ModelError for one that it cannot take."""
    model = without_bodies(graphs.engine) if plan.plugin else inlined(graphs.engine)
    if isinstance(card, ModelCard):
        model = with_preprocessing(model, card)
    outside = operators_outside(model, plugin=plan.plugin)
    if outside:
        raise ModelError(
            f"TensorRT 10.3 has not all operators of {path.name}: {', '.join(outside)}. "
            f"The export is kept in {path.parent} for a look."
        )
    if bytes_of(model) != path.read_bytes():
        save(model, path.with_name(path.stem + TRT_SUFFIX))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph."""
    path.write_bytes(bytes_of(model))


def bytes_of(model: onnx.ModelProto) -> bytes:
    """The same bytes for the same graph: hashes name it."""
    return bytes(model.SerializeToString(deterministic=True))


@torch.no_grad()
def _dimension(network: nn.Module, branch: Branch) -> int:
    return int(network(torch.zeros(1, 3, *branch.size_px)).shape[1])
