"""`skyfix models`: the cards of the models that are installed."""

import logging
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from .encoder import SHIPPED_MODELS
from .engines.base import CARD_NAME, ModelCard, load_card
from .errors import ModelError

BYTES_PER_MB = 1e6

log = logging.getLogger(__name__)


class Listed(msgspec.Struct, frozen=True):
    """One installed model."""

    folder: str
    size_mb: float  # of its graphs
    card: ModelCard


def models(
    json_output: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the models that are installed: what they are, and what they were trained on.

    Example:
        skyfix models
    """
    found = models_in(SHIPPED_MODELS)
    if json_output:
        print(msgspec.json.encode(found).decode())
    elif not found:
        print(f"no models in {SHIPPED_MODELS}. `skyfix export` makes one from a checkpoint.")
    else:
        Console().print(table_from_models(found))


def models_in(root: Path) -> list[Listed]:
    """Whole models below a folder by name; a broken one is logged, and hides no other."""
    return [
        listed
        for path in sorted(root.glob(f"*/{CARD_NAME}"))
        if (listed := _listed(path.parent)) is not None
    ]


def table_from_models(found: list[Listed]) -> Table:
    """One row a model."""
    table = Table("name", "model id", "architecture", box=None)
    for title in ("input", "m/px", "dimension", "MB"):
        table.add_column(title, justify="right")
    for title in ("trained on", "licence"):
        table.add_column(title, overflow="fold")
    for listed in found:
        card = listed.card
        table.add_row(
            card.name, card.model_id, f"{card.architecture}, {card.precision}",
            f"{card.input_px} px", f"{card.gsd_m:g}", str(card.dimension), f"{listed.size_mb:.1f}",
            ", ".join(card.training.imagery) or "-", card.licence,
        )  # fmt: skip
    return table


def _listed(folder: Path) -> Listed | None:
    try:
        card = load_card(folder)
    except ModelError as error:
        log.warning("%s", error)
        return None
    size = sum((folder / file).stat().st_size for file in set(card.graphs.values()))
    return Listed(folder.name, round(size / BYTES_PER_MB, 2), card)
