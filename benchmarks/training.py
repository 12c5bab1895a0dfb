"""What a training step costs beside the bare layers: data, augmentation, loss and loop.

    python benchmarks/training.py [--steps 6] [--batch 8]

A step of the loop (files read by one worker, the published augmentation, loss, optimiser, averaged
weights) is timed against what eager torch needs at the least: forward and backward of the same
network on random pixels with the simplest loss. Both
run by turns in one process; fp32, two cores. Budget: the loop adds less than 10 %.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from cores import CORES, keep_to_two_cores
from tables import TextTable, number, show, verdict

from skyfix.train.config import DatasetRun, config_from_yaml
from skyfix.train.data.cvusa import load
from skyfix.train.loop import Run
from skyfix.train.models.config import MFRGNConfig
from skyfix.train.supervised import DatasetLesson

CONFIGS = Path(__file__).resolve().parents[1] / "train" / "configs"
BUDGET = 0.10
PLACES = 32
AERIAL_PX, PANORAMA_PX = 750, (224, 1232)  # CVUSA's files


def main() -> None:
    """Time both kinds of step for both networks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    keep_to_two_cores()
    torch.set_num_threads(CORES)
    cv2.setNumThreads(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_cvusa(Path(folder))
        for name, config in configurations(arguments.batch).items():
            rows.append(row(name, *timed(config, Path(folder), arguments.steps)))
    header = ("network", "bare step s", "loop's step s", "loop adds", "wait for data s", "budget")
    title = f"training step, batch {arguments.batch}, fp32, {CORES} cores, medians"
    show(TextTable(title, header, rows), markdown=arguments.markdown)


def configurations(batch: int) -> dict[str, DatasetRun]:
    """Published runs at this batch, in fp32."""
    geodtr, mfrgn = (config_from_yaml(CONFIGS / f"{name}.yaml") for name in (
        "cvusa_geodtr_plus", "cvusa_mfrgn",
    ))  # fmt: skip
    assert isinstance(geodtr, DatasetRun)
    assert isinstance(mfrgn, DatasetRun)
    single = msgspec.structs.replace(geodtr.data, chsg=False)
    change = msgspec.structs.replace
    return {
        "GeoDTR+ ConvNeXt-T": change(geodtr, batch=batch, workers=1, data=single),
        "MFRGN ConvNeXt-T": change(
            mfrgn, model=MFRGNConfig("convnext_tiny"), batch=batch, workers=1, precision="fp32"
        ),
    }


def timed(config: DatasetRun, root: Path, steps: int) -> tuple[float, float, float]:
    """Medians of a bare step, of the loop's step, and of the wait for its batch, in seconds."""
    lesson = DatasetLesson(msgspec.structs.replace(config, epochs=100), load(root))
    run = Run(config, lesson, Path(), torch.device("cpu"))
    batches = lesson.batches(0)
    run.advance(next(batches))
    pixels = {
        view: torch.randn(config.batch, 3, *size).to(memory_format=torch.channels_last)
        for view, size in config.input_px.items()
    }
    bare, whole, waits = [], [], []
    for _ in range(steps):
        bare.append(seconds(lambda: bare_step(run, pixels)))
        started = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - started)
        run.advance(batch)
        whole.append(time.perf_counter() - started)
    return float(np.median(bare)), float(np.median(whole)), float(np.median(waits))


def bare_step(run: Run, pixels: dict[str, torch.Tensor]) -> None:
    """Forward and backward of the network, and nothing else."""
    run.network.train()
    run.network.zero_grad(set_to_none=True)
    first, second = run.network(pixels).values()
    torch.autograd.backward((first.descriptor * second.descriptor).sum())


def seconds(step: Callable[[], None]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def row(name: str, bare_s: float, whole_s: float, wait_s: float) -> tuple[str, ...]:
    """A line of the table."""
    added = whole_s / bare_s - 1
    return (
        name, number(bare_s, 2), number(whole_s, 2), f"{added:+.1%}", number(wait_s, 3),
        verdict(met=added < BUDGET),
    )  # fmt: skip


def write_cvusa(root: Path) -> None:
    """Places of random blobs in CVUSA's layout and sizes."""
    rng = np.random.default_rng(0)
    lines = []
    for number_of_place in range(1, PLACES + 1):
        names = [f"{part}/{number_of_place:07d}.jpg" for part in ("bingmap/19", "streetview/panos")]
        for name, size in zip(names, ((AERIAL_PX, AERIAL_PX), PANORAMA_PX), strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (size[0] // 12, size[1] // 12, 3), np.uint8)
            picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / name), picture)
        lines.append(f"{names[0]},{names[1]},annotations/{number_of_place:07d}.png\n")
    (root / "splits").mkdir()
    for split in ("train-19zl", "val-19zl"):
        (root / f"splits/{split}.csv").write_text("".join(lines))


if __name__ == "__main__":
    main()
