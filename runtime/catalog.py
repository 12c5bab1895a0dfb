"""`skyfix models`: the cards of the models that are installed."""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from .encoder import SHIPPED_MODELS
from .engines.base import CARD_NAME, ModelCard, load_card
from .errors import MissingExtraError, ModelError

# the runtime must not import torch: whoever does registers a describer under this name
NETWORKS_GROUP = "skyfix.networks"
BYTES_PER_MB = 1e6

log = logging.getLogger(__name__)


class Listed(msgspec.Struct, frozen=True):
    """One installed model."""

    folder: str
    size_mb: float  # of its graphs
    card: ModelCard


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A network (geodtr_plus, mfrgn_drone...), training YAML or checkpoint folder."
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the models that are installed: what they are, and what they were trained on.

    With NAME, describe a network of the training folder: parameters and multiply-adds a branch.

    Example:
        skyfix models
        skyfix models mfrgn_drone
    """
    if name is not None:
        describe(name, json_output=json_output)
        return
    found = models_in(SHIPPED_MODELS)
    if json_output:
        print(msgspec.json.encode(found).decode())
    elif not found:
        print(f"no models in {SHIPPED_MODELS}. `skyfix export` makes one from a checkpoint.")
    else:
        Console().print(table_from_models(found))


def describe(name: str, *, json_output: bool) -> None:
    """Hand over to the folder that knows networks; raises MissingExtraError where it is absent."""
    found = list(entry_points(group=NETWORKS_GROUP))
    if not found:
        raise MissingExtraError("torch", "train")
    print_network: Callable[..., None] = found[0].load()
    print_network(name, json_output=json_output)


def models_in(root: Path) -> list[Listed]:
    """Whole models below a folder by name; a broken one is logged, and hides no other."""
    return [
        listed
        for path in sorted(root.glob(f"*/{CARD_NAME}"))
        if (listed := _listed(path.parent)) is not None
    ]


def table_from_models(found: list[Listed]) -> Table:
    """A block of lines a model: what it is, what it takes, where it comes from."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for listed in found:
        card, training = listed.card, listed.card.training
        imagery = "; ".join(f"{name}: {licence}" for name, licence in training.imagery.items())
        table.add_row(card.name, f"model id {card.model_id}, {listed.size_mb:.1f} MB")
        table.add_row("network", f"{card.architecture}, {card.precision}")
        table.add_row(
            "takes", f"{card.input_px} px at {card.gsd_m:g} m/px, gives {card.dimension} numbers"
        )
        table.add_row(
            "trained", f"{training.steps} steps, {training.hours:g} h on {training.device}"
        )
        table.add_row("on", imagery or "-")
        table.add_row("calibrated on", "\n".join(card.likelihood.frames) or "-")
        table.add_row("licence", card.licence, end_section=True)
    return table


def _listed(folder: Path) -> Listed | None:
    try:
        card = load_card(folder)
    except ModelError as error:
        log.warning("%s", error)
        return None
    size = sum((folder / file).stat().st_size for file in set(card.graphs.values()))
    return Listed(folder.name, round(size / BYTES_PER_MB, 2), card)
