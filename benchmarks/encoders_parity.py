"""Every architecture and branch: its graph beside torch, in fp32 and in fp16.

Networks have random weights from a seed and small inputs; nothing of a graph but its sizes depends
on them. fp16 is computed as a GPU does it, every tensor rounded (export/rounding.py).
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import onnx
import torch
from cores import CORES
from encoders_models import random_network, silent_exporter
from numpy.typing import NDArray

from skyfix.export.attention import attention_nodes
from skyfix.export.branches import Branch, DescriptorOnly, branches_of
from skyfix.export.onnx import full_graph
from skyfix.export.operators import operators_outside
from skyfix.export.parity import Parity, described_by, parity, session_of
from skyfix.export.precision import half_from_full
from skyfix.export.rounding import rounded
from skyfix.train.models.config import (
    GeoDTRConfig,
    GeoDTRPlusConfig,
    GeoDTRPlusDroneConfig,
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
    architecture_name,
)
from skyfix.train.models.linear_attention import CrossLayer, linear_attention
from skyfix.train.models.network import Network

BATCH = 3
PAIR: InputSizes = {"ground": (64, 128), "aerial": (64, 64)}
WIDE: InputSizes = {"ground": (64, 256), "aerial": (128, 128)}
SQUARES: InputSizes = {"drone": (64, 64), "satellite": (64, 64)}
THREE: InputSizes = {**SQUARES, "street": (64, 64)}
# configuration, input sizes; MFRGN's are the smallest that its pooled cells fit into
NETWORKS: tuple[tuple[NetworkConfig, InputSizes], ...] = (
    (GeoDTRConfig(), PAIR),
    (GeoDTRPlusConfig(), PAIR),
    (GeoDTRPlusDroneConfig(), SQUARES),
    (MFRGNConfig("convnext_atto", layer_scale=0.1), WIDE),
    (MFRGNDroneConfig("convnext_atto", layer_scale=0.1, pooled_cells=(1, 3, 6, 8), global_rows=6),
     {"drone": (128, 128), "satellite": (128, 128)}),
    (University1652Config(classes=3), THREE),
    (University1652Config("vgg16", views=2, classes=3), SQUARES),
    (Sample4GeoConfig("convnext_tiny"), PAIR),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One branch of one network."""

    network: str
    branch: str
    full: Parity
    half: Parity
    attentions: int  # nodes of the graph
    layers: int  # of linear attention that the branch goes through
    outside: int  # nodes that TensorRT 10.3 has not, in either precision


def all_rows() -> list[Row]:
    """All networks, one on each core: nothing is timed here, and exports take one core only."""
    context = get_context("spawn")
    with ProcessPoolExecutor(
        CORES, context, initializer=torch.set_num_threads, initargs=(1,)
    ) as at:
        return [row for rows in at.map(rows_of, *zip(*NETWORKS, strict=True)) for row in rows]


def rows_of(config: NetworkConfig, sizes: InputSizes) -> list[Row]:
    """All branches of a network that have graphs of their own."""
    network = random_network(config, sizes)
    own = {branch.file: branch for branch in reversed(branches_of(network))}
    name = f"{architecture_name(config)}, {config.backbone}"
    return [row_of(name, network, branch) for branch in reversed(own.values())]


def row_of(name: str, network: Network, branch: Branch) -> Row:
    """One branch."""
    encoder = DescriptorOnly(network, branch.view).eval()
    with silent_exporter():
        full = full_graph(encoder, branch.size_px)
    half = half_from_full(full)
    batches = [noise(seed, branch.size_px) for seed in (0, 1)]
    return Row(
        network=name, branch=branch.name,
        full=parity(described_by(encoder), session_of(full), batches),
        half=parity(described_by(encoder), session_of(rounded(half)), batches),
        attentions=len(attention_nodes(full)),
        layers=linear_layers(encoder, branch.size_px),
        outside=outside(full) + outside(half),
    )  # fmt: skip


def noise(seed: int, size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Images of any branch."""
    shape = (BATCH, 3, *size_px)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def outside(model: onnx.ModelProto) -> int:
    """Nodes that TensorRT 10.3 would refuse."""
    return len(operators_outside(model))


def linear_layers(encoder: DescriptorOnly, size_px: tuple[int, int]) -> int:
    """Layers of linear attention that an image goes through."""
    passed: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_parts: passed.append("layer"))
        for module in encoder.modules()
        if isinstance(module, CrossLayer) and module.attention is linear_attention
    ]
    with torch.no_grad():
        encoder(torch.zeros(1, 3, *size_px))
    for hook in hooks:
        hook.remove()
    return len(passed)
