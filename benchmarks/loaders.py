"""Pairs a second that a data set's loader feeds, beside what decoding alone would allow.

    python benchmarks/loaders.py

Images are JPEGs as University-1652 has them: 512 x 512 pixels, a drone's and a satellite's of
every building, cut from drawn landscapes. Both runs have two worker processes on two cores: one
reads the batches of a training run, resized and stacked, the other only decodes the same files.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from cores import CORES, keep_to_two_cores
from tables import TextTable, number, show, verdict
from torch.utils.data import DataLoader

from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train.config import DatasetConfig
from skyfix.train.data.dataset import load_dataset
from skyfix.train.data.images import Resize, decoded
from skyfix.train.data.plan import Planner
from skyfix.train.data.reading import EpochReader
from skyfix.train.data.sets import TrainSet

SIDE_PX = 512  # of University-1652's images
QUALITY = 90
BUILDINGS = 200
BATCH = 40
FLOOR_PAIRS_S = 300
EPOCHS = 3  # timed, after one that fills the cache of files and starts the workers
RUNS: tuple[tuple[int, Resize], ...] = (
    (256, "area"),
    (256, "bicubic"),
    (384, "area"),
    (384, "bicubic"),
)


def main() -> None:
    """Make the images, time both ways, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    keep_to_two_cores()
    cv2.setNumThreads(0)  # workers are forked, and OpenCV's threads do not survive that
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = make_images(Path(folder))
        train_set = load_dataset("university1652", Path(folder)).train
        assert train_set is not None
        limit = decoded_pairs_s(train_set)
        rows = []
        for side, resize in RUNS:
            fed = fed_pairs_s(train_set, side, resize)
            rows.append(
                [
                    f"{side} px, {resize}", number(fed, 0), number(limit, 0), f"{fed / limit:.0%}",
                    verdict(met=fed >= FLOOR_PAIRS_S),
                ]
            )  # fmt: skip
    title = f"Loader, JPEGs of {SIDE_PX} x {SIDE_PX} px and {kilobytes:.0f} kB, {CORES} workers"
    header = ("", "pairs/s", "decoding alone", "share", f"{FLOOR_PAIRS_S} pairs/s")
    show(TextTable(title, header, rows), markdown=True)


def make_images(root: Path) -> float:
    """One drone and one satellite image a building; gives their mean size in kB."""
    land = town_and_country(5, 1600, 1600, 1.0, LocalFrame(0, 0)).image
    rng = np.random.default_rng(0)
    sizes = []
    for building in range(BUILDINGS):
        for view, name in (("drone", "image-01.jpeg"), ("satellite", f"{building:04d}.jpg")):
            row, column = rng.integers(0, land.shape[0] - SIDE_PX, 2)
            patch = land[row : row + SIDE_PX, column : column + SIDE_PX, ::-1]
            path = root / "train" / view / f"{building:04d}" / name
            path.parent.mkdir(parents=True)
            assert cv2.imwrite(str(path), patch, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            sizes.append(path.stat().st_size)
    return float(np.mean(sizes)) / 1e3


def fed_pairs_s(train_set: TrainSet, side_px: int, resize: Resize) -> float:
    """Pairs a second that arrive as batches, as training reads them."""
    config = DatasetConfig(
        name="university1652",
        input_px={"drone": (side_px, side_px), "satellite": (side_px, side_px)},
        resize=resize,
    )
    planner = Planner(train_set, config, BATCH, seed=0)
    plan = np.concatenate([planner.epoch(epoch, None) for epoch in range(1 + EPOCHS)])
    batches = iter(DataLoader(EpochReader(planner, plan, 0), batch_size=None, num_workers=CORES))
    for _ in range(planner.epoch_steps):
        next(batches)
    started = time.perf_counter()
    pairs = sum(len(batch["drone"]) for batch, _ in batches)
    return pairs / (time.perf_counter() - started)


def decoded_pairs_s(train_set: TrainSet) -> float:
    """Pairs a second if the same files were decoded and nothing else was done."""
    paths = [path for view in train_set.views.values() for path in view.paths]
    with ProcessPoolExecutor(CORES, get_context("fork")) as pool:
        list(pool.map(decode, paths, chunksize=20))
        started = time.perf_counter()
        count = sum(pool.map(decode, paths * EPOCHS, chunksize=20))
        return count / 2 / (time.perf_counter() - started)


def decode(path: Path) -> int:
    """Decode one image; gives 1, to be counted."""
    decoded(path)
    return 1


if __name__ == "__main__":
    main()
