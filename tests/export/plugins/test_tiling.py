"""Launches of the linear attention: every row once, workspace within its bound."""

from hypothesis import given
from hypothesis import strategies as st

from skyfix.export.plugins.linear_attention.tiling import (
    FUSED_BLOCKS,
    Problem,
    schedule_of,
    tiling_of,
    workspace_bound,
)

ORIN_NANO, H200 = 8, 132  # multiprocessors


@given(
    heads=st.integers(1, 600),
    queries=st.integers(1, 70000),
    sources=st.integers(1, 70000),
    dimension=st.integers(1, 128),
    multiprocessors=st.integers(1, 200),
)
def test_parts_cover_the_source_once_and_the_workspace_holds_them(
    heads: int, queries: int, sources: int, dimension: int, multiprocessors: int
) -> None:
    tiling = tiling_of(dimension)
    found = schedule_of(Problem(heads, queries, sources), tiling, multiprocessors)
    assert found.blocks >= 1
    bound = workspace_bound(heads, tiling, multiprocessors)
    assert found.workspace_bytes(heads, tiling) <= bound
    if found.parts:
        assert (found.parts - 1) * found.part_rows < sources <= found.parts * found.part_rows
    else:
        assert found.blocks <= FUSED_BLOCKS


def test_mfrgn_s_own_sizes_need_no_workspace() -> None:
    for tokens, source in ((336, 958), (958, 1580), (622, 1580)):
        found = schedule_of(Problem(4, tokens, source), tiling_of(32), H200)
        assert found.workspace_bytes(4, tiling_of(32)) == 0


def test_one_long_head_is_spread_over_the_whole_gpu() -> None:
    found = schedule_of(Problem(1, 65536, 65536), tiling_of(32), H200)
    assert found.parts >= H200
    assert found.blocks >= H200


def test_many_heads_are_not_split_where_they_fill_the_gpu_alone() -> None:
    assert schedule_of(Problem(64, 4096, 4096), tiling_of(32), ORIN_NANO).parts == 1
