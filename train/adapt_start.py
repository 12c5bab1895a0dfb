"""What an adaptation begins with: a shipped model by name, a model folder, or a checkpoint folder.

A model folder has graphs and, beside them, the YAML it was trained by (nano/nano.yaml); its weights
are read back from the graph (from_graph.py). A checkpoint folder has weights and configuration.
"""

from dataclasses import dataclass
from pathlib import Path

from skyfix.runtime.encoder import model_folder
from skyfix.runtime.engines.base import CARD_NAME, load_card
from skyfix.runtime.errors import InputError

from .checkpoint import RECORD_NAME, load_network, load_record
from .config import ImageryRun, RunConfig, config_from_yaml
from .from_graph import fill_from_graph
from .models.build import build_network
from .models.network import Network


@dataclass(frozen=True)
class Start:
    """A trained network of one branch, and where it comes from."""

    network: Network
    run: ImageryRun
    origin: str  # "nano ac958c730493e787" or the checkpoint's folder
    steps: int
    hours: float


def start_from(name_or_folder: str) -> Start:
    """The start of this name; raises InputError where it cannot be adapted, else ModelError."""
    folder = Path(name_or_folder)
    if (folder / RECORD_NAME).is_file():
        return _start_from_checkpoint(folder)
    return _start_from_model(model_folder(name_or_folder))


def _start_from_checkpoint(folder: Path) -> Start:
    record = load_record(folder)
    run = _imagery_run(record.run, folder)
    return Start(load_network(folder), run, record.source or folder.name, record.step, record.hours)


def _start_from_model(folder: Path) -> Start:
    card = load_card(folder)
    recipes = sorted(folder.glob("*.yaml"))
    if len(recipes) != 1:
        raise InputError(
            f"{folder} has a {CARD_NAME} and {len(recipes)} training configurations (*.yaml) "
            "beside it; one is needed to build its network. Copy the one it was trained by there, "
            "or give --from the checkpoint folder of its run"
        )
    graphs = {card.graphs["query"], card.graphs["map"]}
    if len(graphs) != 1:
        raise InputError(
            f"{folder} has a graph for each view; only models whose views share one are adapted"
        )
    run = _imagery_run(config_from_yaml(recipes[0]), recipes[0])
    network = build_network(run.model, run.input_px)
    fill_from_graph(network, folder / graphs.pop(), card)
    training = card.training
    return Start(network, run, f"{card.name} {card.model_id}", training.steps, training.hours)


def _imagery_run(run: RunConfig | None, source: Path) -> ImageryRun:
    if isinstance(run, ImageryRun):
        return run
    raise InputError(
        f"{source} is of no run on map imagery (kind: imagery): its two views are not both squares "
        "from above at one scale, and a map alone cannot teach it. `skyfix train CONFIG --from` "
        "goes on with it on a data set"
    )
