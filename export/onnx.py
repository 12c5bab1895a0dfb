"""Checkpoint -> model folder: one fp32 ONNX graph for both views, its card, and proof of parity."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from skyfix.runtime.encoder import load_model
from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    ModelCard,
    TrainingRecord,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.engines.onnx import INPUT_NAME, OUTPUT_NAME
from skyfix.runtime.errors import InputError, ModelError
from skyfix.train.checkpoint import Checkpoint, load_checkpoint
from skyfix.train.models import build_model

GRAPH_NAME = "encoder.onnx"
OPSET = 20
MAX_DIFFERENCE = 1e-4  # of descriptor entries, torch against onnxruntime; fp32 rounding is 1e-6
PARITY_BATCHES = (1, 5)  # the batch is dynamic


class DescriptorOnly(nn.Module):
    """A network as flown: patches in, unit descriptors out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """(B, 3, P, P) to (B, D)."""
        descriptor: torch.Tensor = self.model(patch).descriptor
        return descriptor


def model_from_checkpoint(checkpoint_folder: Path, model_folder: Path) -> tuple[ModelCard, float]:
    """Export a checkpoint; the card, and the largest difference from torch that was seen.

    Raises InputError where the folder exists, ModelError where the parity check fails.
    """
    if model_folder.exists():
        raise InputError(f"{model_folder} exists; name a new folder or remove it")
    checkpoint = load_checkpoint(checkpoint_folder)
    network = network_from_checkpoint(checkpoint)
    partial = model_folder.with_name(model_folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    input_px = checkpoint.record.config.view.input_px
    write_graph(network, input_px, partial / GRAPH_NAME)
    dimension = int(network(torch.zeros(1, 3, input_px, input_px)).shape[1])
    card = card_from_checkpoint(checkpoint, partial, dimension)
    save_card(partial, card)
    difference = parity(network, partial)
    if difference > MAX_DIFFERENCE:
        raise ModelError(
            f"onnxruntime's descriptors differ from torch's by {difference:.1e}, more than "
            f"{MAX_DIFFERENCE:.0e}; the export in {partial} is kept for a look"
        )
    partial.replace(model_folder)
    return card, difference


def network_from_checkpoint(checkpoint: Checkpoint) -> nn.Module:
    """The averaged weights in their network, ready to describe patches."""
    config = checkpoint.record.config
    model = build_model(config.model, config.view.input_px)
    model.load_state_dict(checkpoint.weights)
    return DescriptorOnly(model).eval()


def write_graph(network: nn.Module, input_px: int, path: Path) -> None:
    """Write one self-contained graph with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        # torch's exporter calls parts of torch that torch has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, input_px, input_px),),
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


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the exporter's notes, which name source files and differ every time."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def card_from_checkpoint(checkpoint: Checkpoint, folder: Path, dimension: int) -> ModelCard:
    """The model card of the graph in `folder`."""
    config, record = checkpoint.record.config, checkpoint.record
    graphs = {"query": GRAPH_NAME, "map": GRAPH_NAME}
    imagery = dict(config.data.licences)
    if config.data.procedural:
        imagery["procedural"] = "Apache-2.0 (drawn by skyfix)"
    return ModelCard(
        schema=CARD_SCHEMA,
        name=config.name,
        model_id=model_id_from_graphs(folder, graphs),
        architecture=f"{config.model.architecture}, ConvNeXt {config.model.backbone}",
        graphs=graphs,
        input_px=config.view.input_px,
        gsd_m=config.view.gsd_m,
        mean=None,
        std=None,
        dimension=dimension,
        precision="fp32",
        training=TrainingRecord(
            config=config.name,
            steps=record.step,
            hours=round(record.hours, 2),
            device=record.device,
            imagery=imagery,
        ),
        licence=config.licence,
    )


def parity(network: nn.Module, folder: Path, seeds: Sequence[int] = (0, 1, 2)) -> float:
    """Largest difference between torch's and onnxruntime's descriptors on random patches."""
    model = load_model(folder)
    worst = 0.0
    for seed in seeds:
        for batch in PARITY_BATCHES:
            patches = _random_patches(seed, batch, model.card.input_px)
            with torch.no_grad():
                expected = network(torch.from_numpy(patches)).numpy()
            actual = model.query.engine.infer(patches)
            worst = max(worst, float(np.abs(expected - actual).max()))
    return worst


def _random_patches(seed: int, batch: int, size_px: int) -> NDArray[np.float32]:
    """Normal noise with a zeroed corner, as a rotated frame has."""
    patches = np.random.default_rng(seed).standard_normal((batch, 3, size_px, size_px))
    patches[:, :, : size_px // 3, : size_px // 3] = 0
    return patches.astype(np.float32)
