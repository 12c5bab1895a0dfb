"""Frames whose truth is known, as the localizer sees them: beside the tiles, and at a place."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from calibrate_belief_fit import Ranking
from numpy.typing import NDArray

from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.attitude import Tolerance, Variant, attitude_from_telemetry, variants_of
from skyfix.runtime.fuse.belief import leaders_to_look_at, uniform_belief, updated
from skyfix.runtime.fuse.hypotheses import (
    OFF_MAP,
    SAME_PLACE_TILES,
    SEPARATION_STEPS,
    Weighed,
    nowhere_of,
    places_from_leaders,
    rival_of,
)
from skyfix.runtime.fuse.integrity import UNREFINED_STD_STEPS
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.query import Query, Shown
from skyfix.runtime.fuse.refine import lean_of, refined
from skyfix.runtime.fuse.scales import scales_of_pack
from skyfix.runtime.fuse.tilt import tilt_of_picture, unknown_tilt, widened
from skyfix.runtime.localizer import LocalizerSettings
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import Scores, best_scores
from skyfix.runtime.sense.ortho import Ground
from skyfix.runtime.types import Hypothesis, Patch, Reason, Telemetry

RIGHT_WITHIN_M = 25.0


@dataclass(frozen=True)
class Shot:
    """A frame on the ground by what was told, described."""

    frame: str
    query: Query
    variants: list[Variant]
    descriptors: Scores  # (Q, D)
    held_out: bool
    source: str  # where it comes from


@dataclass(frozen=True)
class Sighting:
    """A shot beside every tile of a map."""

    shot: Shot
    pack: TilePack
    scores: Scores  # (rows, columns)
    which: NDArray[np.intp]  # variant of each
    center_en_m: tuple[float, float] | None  # the truth; None where the map does not hold it


@dataclass(frozen=True)
class Outcome:
    """One sighting's best place against the truth."""

    held_out: bool
    source: str
    right: bool
    places: int  # that were looked at
    weight: float
    correlation: float
    gap: float  # to the best place elsewhere
    error_en_m: tuple[float, float]
    cov_en_m2: NDArray[np.float64]


def described(
    frame: str, ground: Ground | Reason, telemetry: Telemetry, model: Model, held_out: bool,
    source: str,
) -> Shot | None:  # fmt: skip
    """A frame as the network sees it; None where it cannot be used."""
    if isinstance(ground, Reason):
        return None
    card = model.card
    attitude = attitude_from_telemetry(telemetry)
    patches = {}
    for variant in variants_of(attitude, Tolerance(card.heading_deg, card.scale)):
        scale = math.exp(variant.log_scale)
        patch = ground.patch(card.input_px, card.gsd_m, variant.turn_deg, scale)
        if isinstance(patch, Patch):
            patches[variant] = patch
    if not patches:
        return None
    query = Query(Shown(ground.grey(), card.tile_m), attitude)
    descriptors = model.query.describe(list(patches.values()))
    return Shot(frame, query, list(patches), descriptors, held_out, source)


def seen(shot: Shot, pack: TilePack, center_en_m: tuple[float, float] | None) -> Sighting:
    """A shot beside all of a map."""
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    return Sighting(shot, pack, *best_scores(pack, shot.descriptors, *whole), center_en_m)


def ranking_of(sighting: Sighting) -> Ranking | None:
    """Similarities with the tile nearest to the truth; None where no tile holds it."""
    pack = sighting.pack
    if sighting.center_en_m is None:
        return None
    row, column = (round(index) for index in pack.grid.cell_from_en(*sighting.center_en_m))
    inside = 0 <= row < pack.grid.rows and 0 <= column < pack.grid.columns
    if not inside or not pack.valid[row, column]:
        return None
    before = int(pack.valid.ravel()[: row * pack.grid.columns + column].sum())
    return Ranking(sighting.scores[pack.valid], before)


def outcome_of(sighting: Sighting, likelihood: Likelihood) -> Outcome | None:
    """The best place by correlation; over another map none is right."""
    places = places_of(sighting, likelihood)
    if places is None:
        return None
    best = max(places.hypotheses, key=lambda place: place.correlation)
    tile_m = sighting.pack.manifest.tile_m
    rivals = [
        place.correlation
        for place in places.hypotheses
        if math.hypot(place.east_m - best.east_m, place.north_m - best.north_m)
        > SAME_PLACE_TILES * tile_m
    ]
    true_east, true_north = sighting.center_en_m or (math.inf, math.inf)
    east, north = best.east_m - true_east, best.north_m - true_north
    return Outcome(
        held_out=sighting.shot.held_out,
        source=sighting.shot.source,
        right=math.hypot(east, north) < RIGHT_WITHIN_M,
        places=places.looked_at,
        weight=places.hypotheses[0].weight,
        correlation=best.correlation,
        gap=best.correlation - rival_of(best.correlation, rivals),
        error_en_m=(east, north),
        cov_en_m2=_tilted(best, sighting).cov_en_m2,
    )


def _tilted(place: Hypothesis, sighting: Sighting) -> Hypothesis:
    """As sure as the tilt leaves it that the frame itself shows."""
    lean = lean_of(place, sighting.shot.query, _scales(sighting.pack))
    if lean is None:
        return place
    tilt = tilt_of_picture(unknown_tilt(LocalizerSettings().tilt_std_deg), [lean.seen])
    return widened(place, lean.pull, tilt)


def places_of(sighting: Sighting, likelihood: Likelihood) -> Weighed | None:
    """The method's stages behind the scan, for a frame alone."""
    pack, scores, step_m = sighting.pack, sighting.scores, sighting.pack.grid.step_m
    whole = (slice(0, pack.grid.rows), slice(0, pack.grid.columns))
    belief = updated(uniform_belief(pack.grid, pack.valid), whole, scores, likelihood)
    found = leaders_to_look_at(belief, SEPARATION_STEPS * step_m)
    start = places_from_leaders(
        found, [float(scores[place.row, place.column]) for place in found],
        [sighting.shot.variants[sighting.which[place.row, place.column]] for place in found],
        UNREFINED_STD_STEPS * step_m,
    )  # fmt: skip
    return refined(
        start.hypotheses, belief, nowhere_of(OFF_MAP), sighting.shot.query, _scales(pack),
        likelihood,
    )  # fmt: skip


_scales = lru_cache(maxsize=8)(scales_of_pack)
