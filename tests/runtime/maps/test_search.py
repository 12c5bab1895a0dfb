"""The search finds what was planted, and a window gives what the whole scan gives there."""

from typing import Any

import numkong
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.maps.pack import TilePack
from skyfix.runtime.maps.quantise import quantised
from skyfix.runtime.maps.search import best_scores, pack_scores, window_scores


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
    best, which = best_scores(pack, queries, *whole)
    assert np.array_equal(best, each.max(axis=0))
    assert np.array_equal(np.take_along_axis(each, which[None], axis=0)[0], best)
    assert np.array_equal(window_scores(pack, queries, *whole), each.max(axis=0))


@given(
    rows=st.tuples(st.integers(0, 5), st.integers(6, 13)),
    columns=st.tuples(st.integers(0, 5), st.integers(6, 11)),
    seed=st.integers(0, 99),
)
def test_best_variant_and_score_are_numpys_of_the_codes_and_the_first_wins_a_tie(
    shared_pack: Any, rows: tuple[int, int], columns: tuple[int, int], seed: int
) -> None:
    pack = TilePack.open(shared_pack.folder, model_id=None, verify=False)
    drawn = np.random.default_rng(seed).normal(size=(3, 32)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    variants = unit[[0, 1, 0, 2, 1]]
    cosines = np.full((5, 13, 11), -np.inf)
    for shard in pack.shards:
        here = np.s_[:, shard.row0 : shard.row0 + shard.rows,
                     shard.column0 : shard.column0 + shard.columns]  # fmt: skip
        tiles = shard.descriptors.reshape(shard.rows, shard.columns, 32).astype(np.int64)
        for variant, into in zip(variants, cosines[here], strict=True):
            code, scale = quantised(variant)
            into[:] = (tiles @ code.astype(np.int64)) * (float(scale) * shard.scale)
    best, which = best_scores(pack, variants, slice(*rows), slice(*columns))
    valid = shared_pack.valid[slice(*rows), slice(*columns)]
    expected = cosines[:, slice(*rows), slice(*columns)]
    assert best[valid] == pytest.approx(expected.max(axis=0)[valid], abs=1e-6)
    assert np.all(np.isneginf(best[~valid]))
    first = np.array([0, 1, 3])  # 2 is 0 again, and 4 is 1
    assert np.array_equal(which[valid], first[expected[first].argmax(axis=0)][valid])


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
