"""Scoring 10,000 queries against 10,000 gallery items of 2048 numbers, from files on disk.

    python benchmarks/evaluation.py [--items 10000] [--dimension 2048]

Peer: what published evaluation code does, the whole similarity matrix by torch.matmul and a full
torch.argsort of it. Each runs in a process of its own on two cores over the same random
descriptors. Ranks differ where float32 products, which the peer sorts, cannot tell two items
apart. Budget: 60 s and 2 GB. CPU seconds tell more than seconds where the machine is busy.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from cores import CORES, keep_to_two_cores
from numpy.typing import NDArray
from tables import TextTable, number, show, verdict

from skyfix.train.metrics import recall
from skyfix.train.ordering import standing

ITEMS, DIMENSION = 10_000, 2048
BUDGET_S, BUDGET_MB = 60.0, 2000.0
SIGNAL = 0.09  # of the right item: its cosine is a few deviations of a random one
METHODS = {"skyfix": "blocks, counted", "peer": "whole matrix, sorted"}


class Figures(msgspec.Struct, frozen=True):
    """What a method finds, and what that costs."""

    seconds: float
    cpu_seconds: float
    peak_mb: float  # resident, with the files' pages and all imports
    ranks: list[int]


def main() -> None:
    """Run both on the same data and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_to_two_cores()
    if arguments.only:
        print(msgspec.json.encode(measured(arguments.only, arguments.folder)).decode())
        return
    with tempfile.TemporaryDirectory() as folder:
        write_descriptors(Path(folder), arguments.items, arguments.dimension)
        results = {name: in_a_process(name, Path(folder)) for name in METHODS}
    show(table_from(results, arguments.items, arguments.dimension), markdown=True)


def write_descriptors(folder: Path, items: int, dimension: int) -> None:
    """Unit rows; query i resembles gallery item i a little."""
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((items, dimension), np.float32)
    query = SIGNAL * gallery + rng.standard_normal((items, dimension), np.float32)
    for name, rows in (("query", query), ("gallery", gallery)):
        np.save(folder / f"{name}.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))


def in_a_process(name: str, folder: Path) -> Figures:
    """One method's figures."""
    words = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Figures)


def measured(name: str, folder: Path) -> Figures:
    """Ranks and what they cost in this process; imports count in memory only."""
    torch.set_num_threads(CORES)
    query, gallery = (
        np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("query", "gallery")
    )
    started, cpu = time.perf_counter(), time.process_time()
    ranks = (counted if name == "skyfix" else sorted_whole)(query, gallery)
    return Figures(
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        ranks=ranks.tolist(),
    )


def counted(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ranks (Q,) as `skyfix evaluate` finds them."""
    return standing(query, gallery, np.arange(len(query))[:, None]).greater[:, 0]


def sorted_whole(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ranks (Q,) from the sorted matrix."""
    similarity = torch.from_numpy(np.array(query)) @ torch.from_numpy(np.array(gallery)).T
    order = torch.argsort(similarity, dim=1, descending=True)  # (Q, M)
    return (order == torch.arange(len(query))[:, None]).nonzero()[:, 1].numpy()


def table_from(results: dict[str, Figures], items: int, dimension: int) -> TextTable:
    """The figures side by side."""
    own = results["skyfix"]
    met = own.seconds < BUDGET_S and own.peak_mb < BUDGET_MB
    rows = [
        [
            METHODS[name],
            number(figures.seconds),
            number(figures.cpu_seconds),
            number(figures.peak_mb, 0),
            number(recall(np.array(figures.ranks), 1), 2),
            str(np.count_nonzero(np.array(figures.ranks) != np.array(own.ranks))),
        ]
        for name, figures in results.items()
    ]
    return TextTable(
        f"{items:,} x {items:,} x {dimension}, {CORES} cores: under {BUDGET_S:.0f} s and "
        f"{BUDGET_MB:.0f} MB {verdict(met=met)}",
        ("method", "s", "CPU s", "peak MB", "R@1", "other ranks than ours"),
        rows,
    )


if __name__ == "__main__":
    main()
