"""What int8 costs a flight: the same frames, the same map, both precisions.

Each precision has a pack of its own, as in flight. R@1 is the share of frames whose best tile of
the whole map lies within 25 m of the ground point in the image's centre; frames whose truth does
not state that point are left out, for the drone's own position is another thing where the camera
was tilted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flights import FLIGHTS, opened_pack
from numpy.typing import NDArray

from skyfix.calibration.frames import Candidate, flight_candidates
from skyfix.export.verify import cosine
from skyfix.runtime.encoder import Model
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import pack_scores
from skyfix.runtime.truth import Truth, read_truth

WITHIN_M = 25.0

Vectors = NDArray[np.float32]


class Known(NamedTuple):
    """A patch, and where its centre is."""

    patch: Candidate
    lat_deg: float
    lon_deg: float


@dataclass(frozen=True)
class Cost:
    """Both precisions on the frames of one flight or several."""

    flights: str
    frames: int
    recall_fp32: float  # shares, 0 to 1
    recall_int8: float
    mean_cosine: float
    min_cosine: float


def costs(data: Path, names: Sequence[str], models: Sequence[Model], packs: Path) -> list[Cost]:
    """Each flight of fengyuan by itself, and all as one where there are several.

    Args:
        data: the real data.
        names: of the flights.
        models: the fp32 one, the int8 one.
        packs: a folder for their packs.
    """
    raster = data / "fengyuan" / "map.tif"
    opened = [opened_pack(raster, model, packs / model.card.model_id) for model in models]
    found = {}
    for name in names:
        flight = FLIGHTS[name]
        truth = read_truth(data / flight.area / flight.telemetry)["center"]
        found[name] = known(flight_candidates(flight.recording(data), models[0].card), truth)
    groups = {name: found[name] for name in names}
    if len(names) > 1:
        groups["+".join(names)] = [one for name in names for one in found[name]]
    return [cost_of(name, frames, models, opened) for name, frames in groups.items()]


def known(candidates: Sequence[Candidate], truth: Truth) -> list[Known]:
    """The patches whose centre's place is stated."""
    rows = {name: row for row, name in enumerate(truth.frames)}
    places = [
        Known(candidate, truth.lat_deg[rows[candidate.name]], truth.lon_deg[rows[candidate.name]])
        for candidate in candidates
    ]
    return [place for place in places if np.isfinite([place.lat_deg, place.lon_deg]).all()]


def cost_of(
    name: str, frames: Sequence[Known], models: Sequence[Model], packs: Sequence[TilePack]
) -> Cost:
    """Describe and look for the frames by both models."""
    patches = [frame.patch.patch for frame in frames]
    full, int8 = (model.query.describe(patches) for model in models)
    recalls = [
        recall(pack, vectors, frames) for pack, vectors in zip(packs, (full, int8), strict=True)
    ]
    cosines = cosine(full, int8)
    return Cost(
        name, len(frames), recalls[0], recalls[1], float(cosines.mean()), float(cosines.min())
    )


def recall(pack: TilePack, vectors: Vectors, frames: Sequence[Known]) -> float:
    """Share of frames whose best tile is near the truth."""
    tiles = np.array([pack_scores(pack, vector).argmax() for vector in vectors])
    east, north = pack.grid.en_from_index(tiles)
    true = np.array([pack.frame.en_from_wgs84(frame.lat_deg, frame.lon_deg) for frame in frames])
    return float(np.mean(np.hypot(east - true[:, 0], north - true[:, 1]) <= WITHIN_M))
