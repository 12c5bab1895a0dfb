"""Patch -> unit descriptor: the normalisation that training and flight share, and the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .engines.base import Engine, ModelCard, PictureEngine, load_card
from .engines.choose import DEFAULT_ENGINE, Choice, choose, open_engine
from .errors import ModelError
from .types import Patch

SHIPPED_MODELS = Path(__file__).parent / "models"
MIN_STD = 10.0 / 255  # a patch flatter than this (water, fog) is not stretched to noise


@dataclass(frozen=True)
class Encoder:
    """One branch of a model."""

    card: ModelCard
    engine: Engine | PictureEngine

    def describe(self, patches: Sequence[Patch]) -> NDArray[np.float32]:
        """Unit descriptors of patches, (B, D)."""
        if isinstance(self.engine, PictureEngine):
            return self.engine.describe(
                np.stack([patch.image for patch in patches]),
                np.stack([patch.valid for patch in patches]),
            )
        batch = np.stack([normalised(patch, self.card.mean, self.card.std) for patch in patches])
        return self.engine.infer(batch)


@dataclass(frozen=True)
class Model:
    """A model folder, loaded: both branches, which may be one graph."""

    card: ModelCard
    query: Encoder
    map: Encoder
    choice: Choice  # the engine that runs both


def normalised(
    patch: Patch, mean: Sequence[float] | None, std: Sequence[float] | None
) -> NDArray[np.float32]:
    """Network input (3, P, P) of a patch: zero mean, unit variance, zero where not valid.

    With `mean` and `std` of RGB / 255 by these; without, each channel by the patch's own valid
    pixels, which takes exposure and colour cast away before the network sees them.
    """
    if mean is not None and std is not None:
        offset, scale = (np.asarray(part, np.float32) * np.float32(255) for part in (mean, std))
    else:
        pixel_mean, pixel_std = cv2.meanStdDev(patch.image, mask=patch.valid.view(np.uint8))
        offset = pixel_mean[:, 0].astype(np.float32)
        scale = np.maximum(pixel_std[:, 0], MIN_STD * 255).astype(np.float32)
    # channels apart first: numpy takes pixels of three numbers three at a time
    channels = np.ascontiguousarray(patch.image.transpose(2, 0, 1))
    found: NDArray[np.float32] = np.subtract(channels, offset[:, None, None], dtype=np.float32)
    found *= (np.float32(1) / scale)[:, None, None]
    found *= patch.valid  # choosing them takes ten times as long
    return found


def load_model(folder: Path, threads: int = 0, engine: str = DEFAULT_ENGINE) -> Model:
    """Load a model folder with an engine by name (engines/choose.py).

    Raises ModelError, and the engine's own error where it cannot run.
    """
    card = load_card(folder)
    if not {"query", "map"} <= card.graphs.keys():
        raise ModelError(f"{folder}: the card must name the graphs 'query' and 'map'")
    files = sorted({card.graphs["query"], card.graphs["map"]})
    choice = choose(engine, [folder / file for file in files], card.precision)
    engines = {file: open_engine(choice.name, folder / file, card, threads) for file in files}
    return Model(
        card=card,
        query=Encoder(card, engines[card.graphs["query"]]),
        map=Encoder(card, engines[card.graphs["map"]]),
        choice=choice,
    )


def model_folder(name_or_folder: str) -> Path:
    """Folder of a shipped model by name, or the folder itself."""
    shipped = SHIPPED_MODELS / name_or_folder
    folder = shipped if shipped.is_dir() else Path(name_or_folder)
    if not folder.is_dir():
        raise ModelError(
            f"no model {name_or_folder!r}: neither a shipped model nor a folder. "
            "`skyfix models` lists what is shipped."
        )
    return folder
