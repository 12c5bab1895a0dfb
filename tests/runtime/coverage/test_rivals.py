"""The scan in blocks against whole queries in double precision, on a pack of several shards."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.coverage import rivals
from skyfix.runtime.coverage.rivals import RIVALS, sampled_tiles, scan
from skyfix.runtime.coverage.sight import OFFSET, Sights, directions_of_no_meaning, imagined
from skyfix.runtime.fuse.hypotheses import SEPARATION_STEPS
from skyfix.runtime.fuse.likelihood import Likelihood
from skyfix.runtime.maps.pack import TilePack

PLACES, FRAMES = 7, 3
LIKELIHOOD = Likelihood(temperature=0.05, epsilon=0.03)  # no defaults

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def pack(holed_pack: Path) -> TilePack:
    return TilePack.open(holed_pack, model_id=None)


@pytest.fixture(scope="module")
def tiles(pack: TilePack) -> NDArray[np.int64]:
    valid = np.argwhere(pack.valid)
    return valid[np.random.default_rng(1).choice(len(valid), PLACES, replace=False)]


@pytest.fixture(scope="module")
def sights(pack: TilePack) -> Sights:
    rng = np.random.default_rng(2)
    sample = sampled_tiles(pack, 50, rng)
    return imagined(rng.uniform(2, 60, PLACES).astype(np.float32), sample, FRAMES, rng)


def descriptors(pack: TilePack) -> Array:
    """(rows, columns, D) out of all shards."""
    whole = np.zeros((pack.grid.rows, pack.grid.columns, pack.dimension))
    for shard in pack.shards:
        part = shard.descriptors.reshape(shard.rows, shard.columns, -1) * shard.scale
        rows = slice(shard.row0, shard.row0 + shard.rows)
        whole[rows, shard.column0 : shard.column0 + shard.columns] = part
    return whole


def shares(
    pack: TilePack, tile: NDArray[np.int64], sights: Sights, place: int, frame: int
) -> Array:
    """Share of every tile (rows, columns), as the filter gives it to the imagined query."""
    every = descriptors(pack)
    own, noise = every[tuple(tile)], sights.noise[frame].astype(np.float64)
    a = float(sights.similarity[place, frame])
    meaning = noise - (noise @ own) * own  # what is left of the noise beside the place's own tile
    query = a * own + np.sqrt(1 - a**2) * meaning
    score = every @ query + np.sqrt(1 - a**2) * OFFSET * (1 - every @ own)
    share = np.where(pack.valid, np.exp(score / LIKELIHOOD.temperature), 0)
    whole: Array = share / share.sum()
    return whole


def test_the_true_places_mass_is_that_of_imagined_queries(
    pack: TilePack, tiles: NDArray[np.int64], sights: Sights
) -> None:
    look = scan(pack, tiles, sights, LIKELIHOOD)
    rows, columns = np.indices(pack.valid.shape)
    for place, tile in enumerate(tiles):
        near = np.hypot(rows - tile[0], columns - tile[1]) <= SEPARATION_STEPS
        for frame in range(FRAMES):
            share = shares(pack, tile, sights, place, frame)
            expected = (1 - LIKELIHOOD.epsilon) * share[near].sum()
            assert look.own[place, frame] == pytest.approx(expected, rel=0.05)


def test_the_strongest_rival_is_a_neighbour_of_the_best_wrong_tile(
    pack: TilePack, tiles: NDArray[np.int64], sights: Sights
) -> None:
    look = scan(pack, tiles, sights, LIKELIHOOD)
    rows, columns = np.indices(pack.valid.shape)
    for place, tile in enumerate(tiles):
        share = shares(pack, tile, sights, place, 0)
        share[np.hypot(rows - tile[0], columns - tile[1]) <= SEPARATION_STEPS] = 0
        best = np.array(np.unravel_index(share.argmax(), share.shape))
        heavy = look.cell[place, 0][np.argsort(-look.mass[place, 0])[:3]]
        assert abs(heavy - best).max(axis=1).min() <= 1


def test_shares_make_a_whole(pack: TilePack, tiles: NDArray[np.int64], sights: Sights) -> None:
    look = scan(pack, tiles, sights, LIKELIHOOD)
    assert look.mass.shape == (PLACES, FRAMES, RIVALS)
    np.testing.assert_allclose(look.own + look.mass.sum(axis=2) + look.rest, 1, atol=0.05)


def test_blocks_of_any_size_give_the_same(
    pack: TilePack, tiles: NDArray[np.int64], sights: Sights, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan(pack, tiles, sights, LIKELIHOOD)
    monkeypatch.setattr(rivals, "BLOCK_BYTES", 1)
    steps: list[tuple[int, int]] = []
    single = scan(pack, tiles, sights, LIKELIHOOD, lambda done, total: steps.append((done, total)))
    np.testing.assert_allclose(single.own, whole.own, rtol=1e-5)
    np.testing.assert_allclose(np.sort(single.mass), np.sort(whole.mass), rtol=1e-5)
    assert steps[-1][0] == steps[-1][1]
    assert all(done < later for (done, _), (later, _) in pairwise(steps))


def test_directions_of_no_meaning_spread_over_the_tiles_as_the_tiles_do() -> None:
    """Tiles that vary in four directions only give directions in those four."""
    rng = np.random.default_rng(3)
    tiles = np.zeros((500, 32), np.float32)
    tiles[:, :4] = rng.normal(size=(500, 4))
    tiles[:, 9] = 3.0  # common to all
    directions = directions_of_no_meaning(tiles, 200, rng)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    assert abs(directions[:, 4:]).max() < 1e-3
    assert (directions[:, :4] ** 2).mean(axis=0) == pytest.approx([0.25] * 4, abs=0.06)
