"""The models that encoders.py measures: nano, a ConvNeXt-T, their int8 graphs, the stock export.

int8 by the product's own steps: frames chosen for diversity, ranges of one pass, explicit Q/DQ.
Frames are tiles of the map that is flown over, which is at hand before any flight, or drawn land
where the network has random weights and its picture does not matter.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from skyfix.calibration.frames import Candidate, Frames, chosen_frames
from skyfix.calibration.layers import layers_of
from skyfix.calibration.observe import observed_ranges, session_of
from skyfix.calibration.quantize import with_int8_layers
from skyfix.calibration.sensitivity import described
from skyfix.calibration.table import scale_from_range
from skyfix.export.branches import branches_of
from skyfix.export.onnx import model_from_checkpoint
from skyfix.export.rasters import open_raster
from skyfix.export.samples import patches_from_drawing
from skyfix.runtime.engines.base import (
    ModelCard,
    load_card,
    model_id_from_graphs,
    save_card,
)
from skyfix.runtime.types import Patch
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.models.build import build_network
from skyfix.train.models.config import (
    GeoDTRPlusDroneConfig,
    InputSizes,
    NetworkConfig,
    Sample4GeoConfig,
)
from skyfix.train.models.network import Network
from skyfix.train.models.sample4geo import Sample4Geo

SIDE_PX = 256
SQUARES: InputSizes = {"drone": (SIDE_PX, SIDE_PX), "satellite": (SIDE_PX, SIDE_PX)}
GEODTR_PLUS = GeoDTRPlusDroneConfig("convnext_tiny", layer_scale=0.1)
PLAIN = Sample4GeoConfig("convnext_tiny", layer_scale=0.1)  # timm's ConvNeXt-T without classes
GSD_M = 0.5  # of a card that nothing flies by
SPREAD = 0.02  # of the parameters that start as constants: zeros and ones would be folded away
MAP_FRAMES, DRAWN_FRAMES = 48, 18  # to calibrate on
MAP_STEP = 0.5  # of a tile, between the tiles that they are chosen from
STOCK_OPSET = 18


@dataclass(frozen=True)
class Exported:
    """One network in the three forms that are measured."""

    checkpoint: Path
    full: Path  # model folder
    int8: Path  # model folder
    view: str

    def graph(self, *, int8: bool = False) -> Path:
        """The query branch's graph."""
        folder = self.int8 if int8 else self.full
        return folder / load_card(folder).graphs["query"]


def random_network(config: NetworkConfig, input_px: InputSizes) -> Network:
    """Fresh weights from a seed, no parameter constant."""
    torch.manual_seed(0)
    network = build_network(config, input_px).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            parameter.data += SPREAD * torch.randn(parameter.shape, generator=generator)
    return network


def exported_from_network(network: Network, config: NetworkConfig, folder: Path) -> Exported:
    """Checkpoint, `skyfix export`, int8 on drawn land."""
    checkpoint = saved(network, config, folder / "checkpoint")
    with silent_exporter():
        model_from_checkpoint(checkpoint, folder / "fp32", GSD_M)
    card = load_card(folder / "fp32")
    int8_from_model(folder / "fp32", drawn_frames(card), folder / "int8")
    view = branches_of(network)[0].view
    return Exported(checkpoint, folder / "fp32", folder / "int8", view)


def saved(network: Network, config: NetworkConfig, folder: Path) -> Path:
    """A checkpoint folder of a network."""
    record = CheckpointRecord(SCHEMA, config, network.input_px, source="benchmark")
    save_checkpoint(folder, record, network.state_dict())
    return folder


def int8_from_model(full: Path, frames: Frames, folder: Path) -> None:
    """A model folder whose layers are int8 by minmax ranges of frames; the others stay fp32."""
    card = load_card(full)
    folder.mkdir(parents=True)
    for file in set(card.graphs.values()):
        model = onnx.load(full / file)
        layers = layers_of(model)
        ranges = observed_ranges(model, [layer.input for layer in layers], frames.batches())
        scales = {layer.output: scale_from_range(ranges[layer.input].minmax) for layer in layers}
        onnx.save(with_int8_layers(model, scales), folder / file)
    model_id = model_id_from_graphs(folder, card.graphs)
    save_card(folder, msgspec.structs.replace(card, precision="int8", model_id=model_id))


def map_frames(full: Path, raster: Path) -> Frames:
    """Tiles of a map, chosen for diversity."""
    card = load_card(full)
    reader = open_raster(raster).reader
    west_m, south_m, east_m, north_m = reader.bounds_m
    step_m, size_px = MAP_STEP * card.tile_m, (card.input_px, card.input_px)
    found = []
    for north in np.arange(north_m, south_m + card.tile_m, -step_m):
        for west in np.arange(west_m, east_m - card.tile_m, step_m):
            tile = reader.read(west, north, size_px, card.gsd_m)
            if tile.valid.all():
                patch = Patch(tile.image, tile.valid, card.gsd_m, (0.0, 0.0))
                found.append(Candidate(f"{west:.0f} {north:.0f}", patch))
    session = session_of(onnx.load(full / card.graphs["query"]))
    return chosen_frames(found, card, lambda batch: described(session, batch), MAP_FRAMES)


def drawn_frames(card: ModelCard) -> Frames:
    """Drawn land; every patch is taken."""
    patches = patches_from_drawing(card, DRAWN_FRAMES)
    candidates = [Candidate(f"drawn {index}", patch) for index, patch in enumerate(patches)]
    return chosen_frames(
        candidates, card, lambda batch: batch.reshape(len(batch), -1), DRAWN_FRAMES
    )


def stock_export(network: Network, path: Path) -> Path:
    """A pooled ConvNeXt the way its users export it: nothing but the defaults, one image."""
    assert isinstance(network, Sample4Geo)
    image = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    model: nn.Module = network.model
    with silent_exporter():
        program = torch.onnx.export(
            model, (image,), opset_version=STOCK_OPSET, dynamo=True, verbose=False
        )
    assert program is not None
    program.save(path)
    return path


@contextmanager
def silent_exporter() -> Iterator[None]:
    """Torch's exporter without its warnings of absent extensions and of torch's own parts."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
