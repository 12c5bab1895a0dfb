"""A map and a model -> a model of that map, and its pack: what has to be done before take-off.

    map -> ground in memory -> fine-tuned weights -> graph, parity-checked -> model folder -> pack

`skyfix train --adapt` finds this through the entry-point group skyfix.adaptation: learning is the
training folder's, but reading any map, writing graphs and building packs is this one's, and the
training folder must not import it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.engines.onnx import available_cores
from skyfix.runtime.errors import InputError, ModelError, RasterError, SkyfixError
from skyfix.runtime.maps.raster import Raster, RasterReader
from skyfix.train.adapt import Adaptation, Clock, Progress, adapt, adapted_run
from skyfix.train.adapt_start import Start
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.config import ImageryRun

from .onnx import model_from_checkpoint
from .plan import MAX_COARSER
from .rasters import MapFile

OVERSAMPLED = 2.0  # ground pixels a patch pixel: cameras see finer than patches do
MAX_GROUND_PX = 64_000_000  # 100 km2 at nano's scale, 260 MB; of a larger map the middle is learned
MAX_WORKERS = 8  # processes that draw pairs; each holds some batches
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Adapted:
    """The model that was written."""

    card: ModelCard
    adaptation: Adaptation
    parity: float  # largest difference between torch's and onnxruntime's descriptors


def model_from_map(
    map_file: MapFile,
    name: str,
    start: Start,
    output: Path,
    *,
    licence: str,
    minutes: float,
    device: torch.device,
    clock: Clock,
    report: Callable[[Progress], None],
) -> Adapted:
    """Fine-tune a model on a map and write it as a model folder.

    Args:
        map_file: the map.
        name: of the map, for the card.
        start: what to begin with.
        output: the new model folder; must not exist.
        licence: of the map's imagery, for the card.
        minutes: wall clock of the fine-tuning.
        device: to learn on.
        clock: tells the seconds.
        report: called at every step.

    Raises SkyfixError where the map taught nothing that holds beyond what was learned from:
    nothing is written then.
    """
    if output.exists():
        raise InputError(f"{output} exists; name a new folder or remove it")
    ground = ground_from_map(map_file.reader, start.run.view.gsd_m)
    workers = min(MAX_WORKERS, max(1, available_cores() - 1))
    run = adapted_run(
        start.run, f"{start.run.name}-{Path(name).stem}", name, licence or NOT_STATED, workers
    )
    found = adapt(start.network, run, ground, minutes, device, clock, report)
    if not found.better:
        raise SkyfixError(
            f"{start.origin} finds {100 * found.before:.1f} % of the views over the held-out part "
            f"of {name}, and after {found.steps} steps at best {100 * found.after:.1f} %: no sure "
            f"gain ({found.deviations:.1f} deviations), so nothing was written. Fly the model as "
            "it is, or give more --minutes"
        )
    return _written(start, run, found, name, output, device)


def ground_from_map(reader: RasterReader, model_gsd_m: float) -> Raster:
    """The map in memory, or the middle of a large one; raises RasterError for too coarse a map."""
    if reader.gsd_m > MAX_COARSER * model_gsd_m:
        raise RasterError(
            f"the map has {reader.gsd_m:.3g} m a pixel and the model needs about "
            f"{model_gsd_m:.3g} m. Use imagery of at most {MAX_COARSER * model_gsd_m:.3g} m a pixel"
        )
    west, south, east, north = reader.bounds_m
    gsd_m = max(reader.gsd_m, model_gsd_m / OVERSAMPLED)
    if (east - west) * (north - south) / gsd_m**2 > MAX_GROUND_PX:
        gsd_m = max(reader.gsd_m, model_gsd_m)
    kept = min(1.0, gsd_m * (MAX_GROUND_PX / ((east - west) * (north - south))) ** 0.5)
    width_m, height_m = kept * (east - west), kept * (north - south)
    return reader.read(
        (west + east - width_m) / 2,
        (south + north + height_m) / 2,
        (int(height_m / gsd_m), int(width_m / gsd_m)),
        gsd_m,
    )


def _written(
    start: Start, run: ImageryRun, found: Adaptation, name: str, output: Path, device: torch.device
) -> Adapted:
    """The model folder, made beside its place and renamed; its recipe lies in it for next time."""
    record = CheckpointRecord(
        SCHEMA, run.model, run.input_px, run,
        source=f"adapted from {start.origin} to {name}",
        step=start.steps + found.steps,
        hours=start.hours + found.seconds / 3600,
        device=_device_name(device),
        score=found.after,
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        checkpoint, model = Path(folder) / "checkpoint", Path(folder) / "model"
        save_checkpoint(checkpoint, record, found.learned)
        card, graphs = model_from_checkpoint(checkpoint, model)
        if not isinstance(card, ModelCard):
            raise ModelError(f"{start.origin} cannot fly: its views are not squares of one scale")
        (model / f"{run.name}.yaml").write_bytes(msgspec.yaml.encode(run))
        model.replace(output)
    return Adapted(card, found, max(graph.parity.difference for graph in graphs.values()))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
