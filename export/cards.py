"""The card of an exported model: what the checkpoint's record says, in the runtime's words."""

from pathlib import Path
from typing import Any

from skyfix.runtime.engines.base import (
    CARD_SCHEMA,
    GraphCard,
    ModelCard,
    PictureCard,
    TrainingRecord,
    model_id_from_graphs,
)
from skyfix.runtime.errors import InputError
from skyfix.train.checkpoint import CheckpointRecord
from skyfix.train.config import ImageryRun
from skyfix.train.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from skyfix.train.models.config import architecture_name

from .branches import Branch, flight_px

DRAWN_LICENCE = "Apache-2.0 (drawn by skyfix)"
NOT_STATED = "not stated"


def gsd_of(
    record: CheckpointRecord, branches: tuple[Branch, ...], gsd_m: float | None
) -> float | None:
    """Ground sampling distance that the model flies at, None where it cannot fly.

    Raises InputError where `gsd_m` is wanted and not there, or there and not wanted.
    """
    if flight_px(branches) is None:
        if gsd_m is not None:
            raise InputError(
                "--gsd is for models that fly: this one takes no squares of one size from above"
            )
        return None
    if isinstance(record.run, ImageryRun):
        if gsd_m is not None:
            raise InputError(f"--gsd: the run was trained at {record.run.view.gsd_m:g} m/px")
        return record.run.view.gsd_m
    if gsd_m is None or not gsd_m > 0:
        raise InputError(
            "--gsd is needed, in metres per pixel: camera patches and map tiles are cut at one "
            "ground sampling distance, and these weights do not say at which they were trained. "
            "Take that of the satellite images in the training set, scaled to the input size."
        )
    return gsd_m


def card_from_record(
    record: CheckpointRecord,
    branches: tuple[Branch, ...],
    folder: Path,
    dimension: int,
    gsd_m: float | None,
    name: str,
    precision: str = "fp32",
) -> GraphCard:
    """The card of the graphs in `folder`; `name` is for weights that no run of ours has named."""
    graphs = {branch.name: branch.file for branch in branches}
    run = record.run
    # a run on maps normalises each patch by itself; published weights expect ImageNet's numbers
    own_pixels = isinstance(run, ImageryRun)
    fields: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "name": run.name if run else name,
        "model_id": model_id_from_graphs(folder, graphs),
        "architecture": f"{architecture_name(record.network)}, {record.network.backbone}",
        "graphs": graphs,
        "mean": None if own_pixels else list(IMAGENET_MEAN),
        "std": None if own_pixels else list(IMAGENET_STD),
        "dimension": dimension,
        "precision": precision,
        "training": _training(record),
        "licence": run.licence if run else NOT_STATED,
    }
    side_px = flight_px(branches)
    if side_px is None or gsd_m is None:
        return PictureCard(sizes_px={branch.name: branch.size_px for branch in branches}, **fields)
    if isinstance(run, ImageryRun):
        fields |= {"heading_deg": run.view.heading_deg, "scale": run.view.scale}
    return ModelCard(input_px=side_px, gsd_m=gsd_m, **fields)


def _training(record: CheckpointRecord) -> TrainingRecord:
    run = record.run
    imagery: dict[str, str] = {}
    if isinstance(run, ImageryRun):
        imagery = dict(run.data.licences)
        if run.data.procedural:
            imagery["procedural"] = DRAWN_LICENCE
    elif run is not None:
        imagery = {run.data.name: "terms of the data set's owners"}
    return TrainingRecord(
        config=", ".join(part for part in (run.name if run else "", record.source) if part),
        steps=record.step,
        hours=round(record.hours, 2),
        device=record.device,
        imagery=imagery,
    )
