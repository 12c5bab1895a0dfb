"""What a search remembers from frame to frame, until it has a position."""

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from skyfix.runtime import localizer as module
from skyfix.runtime.encoder import Model
from skyfix.runtime.fuse.belief import Belief
from skyfix.runtime.fuse.crowd import LASTING, NO_CROWD, Crowd
from skyfix.runtime.fuse.hypotheses import Weighed
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.fuse.query import Query
from skyfix.runtime.fuse.refine import refined
from skyfix.runtime.fuse.scales import Scales
from skyfix.runtime.fuse.track import Sight, Track, followed
from skyfix.runtime.localizer import Localizer
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.types import Hypothesis, Reason

from .test_localizer import CAMERA, SECOND_NS, seen_from, told, track

Asked = list[Query]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What every frame is looked for with."""
    queries: Asked = []

    def noted(
        places: Sequence[Hypothesis], belief: Belief, nowhere: float, query: Query, scales: Scales,
        likelihood: Likelihood,
    ) -> Weighed | None:  # fmt: skip
        queries.append(query)
        return refined(places, belief, nowhere, query, scales, likelihood)

    monkeypatch.setattr(module, "refined", noted)
    return queries


def test_new_ground_is_counted_in_the_packs_tiles_whatever_the_models(
    pack: TilePack, tiny_model: Model, town: Raster, fresh: list[float]
) -> None:
    finer = msgspec.structs.replace(tiny_model.card, gsd_m=tiny_model.card.gsd_m / 4)
    slow = [replace(pose, east_m=2.0 * k, north_m=30.0) for k, pose in enumerate(track(3))]
    for model in (tiny_model, replace(tiny_model, card=finer)):
        localizer = Localizer(pack, model, CAMERA)
        for pose in slow:
            localizer.step(seen_from(town, pose), told(pose))
    assert fresh[:3] == fresh[3:]
    assert fresh[0] == math.inf
    assert fresh[1:3] == pytest.approx([2.0 / pack.manifest.tile_m] * 2, rel=0.2)


def test_ground_that_was_just_seen_confirms_nothing_by_itself(
    pack: TilePack, tiny_model: Model, town: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drone that hovers sees the same again; the one that flies on is sure at once."""
    gathered = []

    def noted(track: Track, sight: Sight, max_speed_mps: float) -> tuple[Track, Reason | None]:
        gathered.append(sight.evidence)
        return followed(track, sight, max_speed_mps)

    monkeypatch.setattr(module, "followed", noted)
    first = track(1)[0]
    for flown_m in (0.0, 20.0):
        localizer = Localizer(pack, tiny_model, CAMERA)
        for pose in (first, replace(first, time_ns=SECOND_NS, east_m=first.east_m + flown_m)):
            localizer.step(seen_from(town, pose), told(pose))
    _, hovering, _, flying = gathered
    assert 0 < hovering < 0.2 * flying


def test_the_rivals_of_a_wide_look_are_remembered_until_there_is_a_position(
    pack: TilePack, tiny_model: Model, town: Raster, asked: Asked
) -> None:
    localizer = Localizer(pack, tiny_model, CAMERA)
    reasons = [localizer.step(seen_from(town, pose), told(pose)).reason for pose in track(3)]
    assert reasons == [Reason.UNCONFIRMED, None, None]
    first, second, third = (query.crowd for query in asked)
    assert first == NO_CROWD == third
    assert isinstance(second, Crowd)
    assert second.looked_at >= 16
    assert 0 < second.lasting < LASTING
