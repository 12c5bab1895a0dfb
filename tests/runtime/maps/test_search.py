"""The search finds what was planted, and a window gives what the whole scan gives there."""

from typing import Any

import numkong
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.geo import Grid
from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.search import (
    candidates_from_scores,
    pack_scores,
    variant_scores,
    window_scores,
)

GRID = Grid(-40.0, 50.0, 8.0, 13, 11)


@pytest.fixture(scope="module")
def pack(shared_pack: Any) -> TilePack:
    return TilePack.open(shared_pack.folder, model_id=None)


@pytest.fixture
def queries() -> np.ndarray:
    rows = np.random.default_rng(5).normal(size=(4, 32)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_scores_are_cosines_within_the_quantisation_error(
    shared_pack: Any, pack: TilePack, queries: np.ndarray
) -> None:
    exact = shared_pack.descriptors @ queries[0]
    scores = pack_scores(pack, queries[0])
    assert np.array_equal(np.isfinite(scores), shared_pack.valid)
    # both factors are off by at most half a step in each of 32 numbers
    bound = 32**0.5 * (pack.shards[0].scale / 2 + np.abs(queries[0]).max() / 254) * 1.2
    assert np.abs(scores - exact)[shared_pack.valid].max() < bound


def test_every_tile_finds_itself(shared_pack: Any, pack: TilePack) -> None:
    for row, column in np.argwhere(shared_pack.valid)[::7]:
        scores = pack_scores(pack, shared_pack.descriptors[row, column])
        assert np.unravel_index(scores.argmax(), scores.shape) == (row, column)
        assert scores.max() == pytest.approx(1, abs=0.02)


@given(
    rows=st.tuples(st.integers(0, 13), st.integers(0, 13)),
    columns=st.tuples(st.integers(0, 11), st.integers(0, 11)),
)
def test_a_window_scores_as_the_whole_scan_does_there(
    shared_pack: Any, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    pack = TilePack.open(shared_pack.folder, model_id=None, verify=False)
    query = shared_pack.descriptors[6, 6]
    window = slice(*rows), slice(*columns)
    assert np.array_equal(window_scores(pack, query, *window), pack_scores(pack, query)[window])


def test_of_several_variants_the_best_counts(pack: TilePack, queries: np.ndarray) -> None:
    whole = slice(0, 13), slice(0, 11)
    each = np.stack([window_scores(pack, query, *whole) for query in queries])
    assert np.array_equal(variant_scores(pack, queries, *whole), each)
    assert np.array_equal(window_scores(pack, queries, *whole), each.max(axis=0))


def test_only_tiles_of_the_window_are_touched(
    pack: TilePack, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = []
    product = numkong.dots_packed

    def counted(rows: np.ndarray, packed: numkong.PackedMatrix) -> object:
        touched.append(len(rows))
        return product(rows, packed)

    monkeypatch.setattr(numkong, "dots_packed", counted)
    window_scores(pack, queries[0], slice(3, 8), slice(2, 9))
    assert sum(touched) == 5 * 7


@given(
    seed=st.integers(0, 1000), count=st.integers(1, 12),
    separation_m=st.floats(0, 60), holes=st.floats(0, 1),
)  # fmt: skip
def test_candidates_are_the_greedy_choice(
    seed: int, count: int, separation_m: float, holes: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(GRID.size).astype(np.float32).reshape(GRID.rows, GRID.columns)
    scores[rng.random(scores.shape) < holes] = -np.inf
    chosen = candidates_from_scores(GRID, scores, count, separation_m)

    expected: list[int] = []
    for index in np.argsort(-scores.ravel()):
        place = np.array(GRID.en_from_index(index))
        apart = (
            np.hypot(*(place - np.array(GRID.en_from_index(np.int64(other))))) >= separation_m
            for other in expected
        )
        if len(expected) < count and np.isfinite(scores.flat[index]) and all(apart):
            expected.append(int(index))
    assert chosen.index.tolist() == expected
    assert np.array_equal(chosen.score, scores.ravel()[expected])


def test_candidates_of_a_window_lie_on_the_packs_grid() -> None:
    scores = np.full((3, 4), -np.inf, np.float32)
    scores[2, 1] = 0.7
    found = candidates_from_scores(GRID, scores, 5, 20.0, corner=(6, 5))
    assert found.index.tolist() == [8 * 11 + 6]
    assert (found.east_m[0], found.north_m[0]) == (-40.0 + 6 * 8, 50.0 - 8 * 8)


def test_no_tiles_give_no_candidates() -> None:
    nothing = np.full((GRID.rows, GRID.columns), -np.inf, np.float32)
    assert candidates_from_scores(GRID, nothing, 5, 20.0).index.size == 0
