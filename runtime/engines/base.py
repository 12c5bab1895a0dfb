"""What a model folder holds, and the one interface that runs it.

A model is a folder: `model.json` (the card) and one ONNX graph per branch, or a single graph
where both views share their weights. docs/formats.md states every field of the card.
"""

import hashlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..files import write_json
from ..fuse.likelihood import Likelihood

CARD_NAME = "model.json"
CARD_SCHEMA = 1


class TrainingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from."""

    config: str  # name of the training configuration
    steps: int
    hours: float
    device: str
    imagery: dict[str, str]  # folder or source -> licence


class GraphCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be known to run graphs, and to know whether two files belong together."""

    schema: int
    name: str
    model_id: str  # first 16 hex digits of the SHA-256 over the graphs, in branch order
    architecture: str
    graphs: dict[str, str]  # branch ("query", "map") -> file; one file may serve both
    mean: list[float] | None  # of RGB / 255; None = each patch by its own valid pixels
    std: list[float] | None
    dimension: int
    precision: str
    training: TrainingRecord
    licence: str


class ModelCard(GraphCard, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that can fly: square patches of a known scale."""

    input_px: int
    gsd_m: float
    heading_deg: float = 10.0  # error of heading, either way, that the network was trained for
    scale: float = 0.12  # log of the error of height, either way, likewise
    likelihood: Likelihood = Likelihood()  # of a frame, and what it was measured on

    @property
    def tile_m(self) -> float:
        """Ground width of a patch."""
        return self.input_px * self.gsd_m


class PictureCard(GraphCard, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of panoramas or other pictures without a scale; nothing of the runtime takes it."""

    sizes_px: dict[str, tuple[int, int]]  # branch -> height and width


class Engine(Protocol):
    """One branch of a model, loaded."""

    card: GraphCard

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of normalised patches (B, 3, P, P)."""
        ...


@runtime_checkable
class PictureEngine(Protocol):
    """One branch of a model, loaded, with the normalisation inside: bytes go in as they are."""

    card: GraphCard

    def describe(
        self, pictures: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Unit descriptors (B, D) of RGB pictures (B, P, P, 3) and their valid pixels (B, P, P)."""
        ...


def model_id_from_graphs(folder: Path, graphs: dict[str, str]) -> str:
    """Hash of the graphs' bytes; each file counts once, in the order of the branch names."""
    digest = hashlib.sha256()
    for file in dict.fromkeys(graphs[branch] for branch in sorted(graphs)):
        digest.update((folder / file).read_bytes())
    return digest.hexdigest()[:16]


def load_card(folder: Path) -> ModelCard:
    """Read and check the card of a model folder; raises ModelError."""
    path = folder / CARD_NAME
    try:
        data = path.read_bytes()
        sizes_px = msgspec.json.decode(data, type=_Sizes).sizes_px
        if sizes_px is not None:
            raise ModelError(_cannot_fly(folder, sizes_px))
        card = msgspec.json.decode(data, type=ModelCard)
    except OSError as error:
        raise ModelError(
            f"{folder} is no model folder: {CARD_NAME} cannot be read. "
            "`skyfix models` lists the models that are installed."
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}. Export the model again.") from error
    if card.schema != CARD_SCHEMA:
        raise ModelError(
            f"{path} has schema {card.schema}, this skyfix reads {CARD_SCHEMA}. Export it again."
        )
    missing = [file for file in card.graphs.values() if not (folder / file).is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}. Copy the whole folder.")
    actual = model_id_from_graphs(folder, card.graphs)
    if actual != card.model_id:
        raise ModelError(
            f"{folder}: the graphs have id {actual}, the card says {card.model_id}. "
            "A file was altered or replaced; export the model again."
        )
    return card


class _Sizes(msgspec.Struct):
    sizes_px: dict[str, tuple[int, int]] | None = None


def _cannot_fly(folder: Path, sizes_px: dict[str, tuple[int, int]]) -> str:
    sizes = ", ".join(f"{branch} {height}x{width}" for branch, (height, width) in sizes_px.items())
    return (
        f"{folder} describes pictures ({sizes} px), not square patches of a known ground sampling "
        "distance: it can neither make a tile pack nor fly. Its graphs are plain ONNX files for "
        "other programs; docs/formats.md says what they take."
    )


def save_card(folder: Path, card: GraphCard) -> None:
    """Write the card into a model folder."""
    write_json(folder / CARD_NAME, card)
