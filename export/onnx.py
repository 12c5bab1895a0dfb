"""Checkpoint -> model folder: fp32 ONNX graphs, their card, and proof of parity.

Views that compute the same share one graph (encoder.onnx); others have their own (query.onnx,
map.onnx). Each is compared with torch at several batches before the folder gets its name.
"""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from skyfix.runtime.engines.base import GraphCard, save_card
from skyfix.runtime.engines.onnx import INPUT_NAME, OUTPUT_NAME, OnnxEngine
from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import load_network, load_record

from .branches import DescriptorOnly, branches_of
from .cards import card_from_record, gsd_of

OPSET = 20
MAX_DIFFERENCE = 1e-4  # of descriptor entries, torch against onnxruntime; fp32 rounding is 1e-6
PARITY_BATCHES = (1, 5)  # the batch is dynamic
PARITY_SEEDS = (0, 1, 2)


def model_from_checkpoint(
    checkpoint_folder: Path, model_folder: Path, gsd_m: float | None = None
) -> tuple[GraphCard, dict[str, float]]:
    """Export a checkpoint; the card, and each graph's largest difference from torch.

    Raises InputError where the folder exists or `gsd_m` is missing, ModelError where the parity
    check fails.
    """
    if model_folder.exists():
        raise InputError(f"{model_folder} exists; name a new folder or remove it")
    record, network = load_record(checkpoint_folder), load_network(checkpoint_folder)
    branches = branches_of(network)
    gsd_m = gsd_of(record, branches, gsd_m)
    partial = model_folder.with_name(model_folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # one of the branches that share a file stands for them all
    encoders = {
        branch.file: (DescriptorOnly(network, branch.view).eval(), branch.size_px)
        for branch in branches
    }
    for file, (encoder, size_px) in encoders.items():
        write_graph(encoder, size_px, partial / file)
    dimension = _dimension(*encoders[branches[0].file])
    card = card_from_record(record, branches, partial, dimension, gsd_m, model_folder.name)
    save_card(partial, card)
    found = {
        file: parity(encoder, size_px, OnnxEngine(partial / file, card))
        for file, (encoder, size_px) in encoders.items()
    }
    _check(found, partial)
    partial.replace(model_folder)
    return card, found


def write_graph(network: nn.Module, size_px: tuple[int, int], path: Path) -> None:
    """Write one self-contained graph for images (H, W) with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        # torch's exporter calls parts of torch that torch has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, *size_px),),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    program.optimize()
    onnx.save(_bare(program.model_proto), path)


@torch.no_grad()
def parity(
    network: nn.Module,
    size_px: tuple[int, int],
    engine: OnnxEngine,
    seeds: Sequence[int] = PARITY_SEEDS,
) -> float:
    """Largest difference between torch's and onnxruntime's descriptors of random patches."""
    worst = 0.0
    for seed in seeds:
        for batch in PARITY_BATCHES:
            patches = _random_patches(seed, batch, size_px)
            expected = network(torch.from_numpy(patches)).numpy()
            worst = max(worst, float(np.abs(expected - engine.infer(patches)).max()))
    return worst


def _check(differences: dict[str, float], folder: Path) -> None:
    for file, difference in differences.items():
        if not difference <= MAX_DIFFERENCE:  # so that NaN fails too
            raise ModelError(
                f"onnxruntime's descriptors of {file} differ from torch's by {difference:.1e}, "
                f"more than {MAX_DIFFERENCE:.0e}; the export in {folder} is kept for a look"
            )


@torch.no_grad()
def _dimension(network: nn.Module, size_px: tuple[int, int]) -> int:
    return int(network(torch.zeros(1, 3, *size_px)).shape[1])


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the exporter's notes, which name source files and differ every time."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _random_patches(seed: int, batch: int, size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Normal noise with a zeroed corner, as a rotated frame has."""
    patches = np.random.default_rng(seed).standard_normal((batch, 3, *size_px))
    patches[:, :, : size_px[0] // 3, : size_px[1] // 3] = 0
    return patches.astype(np.float32)
