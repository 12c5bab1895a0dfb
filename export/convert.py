"""Model folder -> the same model in fp16 or int8, from its own fp32 graphs.

What `skyfix export` does with a checkpoint, for models that are at hand as graphs only, as the
shipped one is. The origin that the new graphs are compared with is the fp32 graph itself.
"""

import shutil
from pathlib import Path

import msgspec
import onnx

from skyfix.calibration.table import graph_calibration, read_table
from skyfix.runtime.engines.base import ModelCard, load_card, model_id_from_graphs, save_card
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.errors import InputError

from .onnx import OPSET, Plan, Written, checked, graphs_of, save, save_for_engine

FULL = "fp32"


def model_from_model(
    source: Path, model_folder: Path, plan: Plan, gsd_m: float | None = None
) -> tuple[ModelCard, dict[str, Written]]:
    """Convert a model; its card, and for each graph how near it is to the fp32 one.

    Raises InputError where the folder exists, the plan cannot be had or the source is not fp32,
    ModelError where a graph fails its check or the table belongs to another one.
    """
    plan.check()
    if model_folder.exists():
        raise InputError(f"{model_folder} exists; name a new folder or remove it")
    card = load_card(source)
    if card.precision != FULL or plan.precision == FULL:
        raise InputError(
            f"{source} is a model of {card.precision}: only {FULL} is converted, and to "
            "--precision fp16 or int8"
        )
    if plan.opset != OPSET:
        raise InputError(f"--opset: the graphs of {source} are written and keep theirs")
    if gsd_m is not None:
        raise InputError(f"--gsd: the card of {source} says {card.gsd_m:g} m/px, leave it out")
    table = read_table(plan.calibration) if plan.calibration else None
    partial = model_folder.with_name(model_folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = sorted(set(card.graphs.values()))
    graphs = {}
    for file in files:
        calibration = graph_calibration(table, source / file) if table else None
        graphs[file] = graphs_of(onnx.load(source / file), plan, calibration)
        save(graphs[file].card, partial / file)
    converted = msgspec.structs.replace(
        card,
        name=model_folder.name,
        precision=plan.precision,
        model_id=model_id_from_graphs(partial, card.graphs),
    )
    save_card(partial, converted)
    written = {}
    for file in files:
        origin = OnnxEngine(source / file, card).infer
        size_px = (card.input_px, card.input_px)
        written[file] = checked(origin, size_px, graphs[file], partial / file, converted)
        save_for_engine(graphs[file], partial / file, converted, plan)
    partial.replace(model_folder)
    return converted, written
