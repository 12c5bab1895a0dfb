"""How linear_attention.cu is compiled and launched, as whole numbers; no GPU is touched.

fused                    one launch: each block sums its head's source, then answers queries
reduce, combine, apply   the source in `parts`, their sums added, the queries: long sequences
"""

from dataclasses import dataclass

MAX_HEAD_DIM = 128
MAX_HEADS = 65535  # B * h is the grid's second dimension
FUSED_MAX_SOURCE = 2048  # tokens; estimate: two more launches against rows that wait in line
FUSED_BLOCKS = 16  # a head, at most: each reads the whole source again
BLOCKS_PER_MULTIPROCESSOR = 2  # what the registers of the FP16 kernels allow
MIN_PART_ROWS = 128  # below, a part costs more than it saves
FLOAT_BYTES = 4

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """What is compiled in."""

    head_dim: int
    half: bool
    epsilon: float

    def options(self) -> tuple[str, ...]:
        """Macros of linear_attention.cu; the compiler checks the tiling against its own."""
        tiling = tiling_of(self.head_dim)
        return (
            f"-DHEAD_DIM={self.head_dim}",
            f"-DHALF={int(self.half)}",
            f"-DEPSILON={self.epsilon!r}",
            f"-DTHREADS={tiling.threads}",
            f"-DSLABS={tiling.slabs}",
        )


@dataclass(frozen=True)
class Tiling:
    """What the host must know of the kernels' tiling."""

    padded: int  # head dimension, up to the next multiple of 16
    slabs: int  # blocks that share the value channels
    threads: int  # a block
    rows: int  # queries that a block answers at once

    @property
    def partial_floats(self) -> int:
        """Outer products and weights of a part."""
        return (self.padded + 1) * self.padded


@dataclass(frozen=True)
class Problem:
    """Sizes of one call."""

    heads: int  # B * h
    queries: int  # T
    sources: int  # S


@dataclass(frozen=True)
class Schedule:
    """One call's launches: `parts` is 0 for the fused kernel."""

    parts: int
    part_rows: int
    blocks: int  # of queries, a head

    def workspace_bytes(self, heads: int, tiling: Tiling) -> int:
        """Partial sums."""
        return heads * self.parts * tiling.partial_floats * FLOAT_BYTES


def tiling_of(head_dim: int) -> Tiling:
    """The constants at the head of linear_attention.cu."""
    padded = (head_dim + 15) // 16 * 16
    slabs = 2 if padded > 64 else 1
    tiles = padded // 16
    roles = tiles // 2 if tiles % 2 == 0 else tiles
    groups = {1: 8, 2: 4, 3: 2, 4: 2}.get(roles, 1)
    warps = roles * groups
    return Tiling(padded, slabs, threads=warps * 32, rows=warps * 16)


def schedule_of(problem: Problem, tiling: Tiling, multiprocessors: int) -> Schedule:
    """Launches that fill the GPU without reading the source more often than needed."""
    wanted = max(1, multiprocessors * BLOCKS_PER_MULTIPROCESSOR // tiling.slabs)
    per_head = max(1, wanted // problem.heads)
    answers = _divided_up(problem.queries, tiling.rows)
    if problem.sources <= FUSED_MAX_SOURCE:
        return Schedule(0, 0, min(answers, per_head, FUSED_BLOCKS))
    parts = min(per_head, _divided_up(problem.sources, MIN_PART_ROWS))
    rows = _divided_up(problem.sources, parts)
    return Schedule(_divided_up(problem.sources, rows), rows, min(answers, per_head))


def workspace_bound(heads: int, tiling: Tiling, multiprocessors: int) -> int:
    """Bytes that no schedule for up to `heads` heads exceeds."""
    parts = max(heads, multiprocessors * BLOCKS_PER_MULTIPROCESSOR)  # heads * (wanted // heads)
    return parts * tiling.partial_floats * FLOAT_BYTES


def _divided_up(count: int, by: int) -> int:
    return -(-count // by)
