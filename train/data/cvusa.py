"""CVUSA: a ground panorama and the aerial image around it, one to one.

    splits/{train,val}-19zl.csv    aerial path, ground path, annotation path (not used)
    split_locations/all.csv        line number = id: lat, lon of the aerial, lat, lon of the ground
    polarmap/19/<id>.png           the aerial images after the polar transform, where wanted

Some pairs occur twice, also in both splits. Training leaves its repeats out on request; the test
keeps them, as every published number does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError

from .duplicates import HashedImages, repeated_pairs
from .files import Disk, Line, read_lines
from .sets import DataSet, ImageSet, TestSet, TrainSet

SPLITS = {"train": "splits/train-19zl.csv", "val": "splits/val-19zl.csv"}
LOCATIONS = "split_locations/all.csv"


@dataclass(frozen=True)
class Pair:
    """One line of a split."""

    id: int  # number of the aerial image's name
    aerial: Path
    ground: Path


def load(root: Path, *, polar: bool = False, drop_duplicates: bool = False) -> DataSet:
    """The pairs below a root that holds splits/; raises InputError when there are none.

    Args:
        root: folder that holds splits/, bingmap/ and streetview/.
        polar: take the polar-transformed aerial images of polarmap/.
        drop_duplicates: leave out training pairs that repeat another pair of either split. Reads
            every image once: the hashes are kept in pixel_hashes.csv.
    """
    missing: list[str] = []
    train = _pairs(root, SPLITS["train"], polar, missing)
    val = _pairs(root, SPLITS["val"], polar, missing)
    if not train and not val:
        hint = " `skyfix polar` makes polarmap/." if polar else ""
        raise InputError(
            f"{root}: no pair of CVUSA is whole. ROOT is the folder that holds "
            f"{' and '.join(SPLITS.values())} and the images that they list.{hint} "
            + " ".join(missing[:3])
        )
    if drop_duplicates:
        train = _without_repeats(root, train, val)
    lat_lon = _locations(root)
    tests: tuple[TestSet, ...] = ()
    if val:
        ground, aerial = _views(val, lat_lon)
        truth = np.arange(len(val))[:, None]  # (Q, 1)
        tests = (TestSet("val", ground, aerial, "pairs", truth),)
    return DataSet("cvusa", _train_set(train, lat_lon), tests, tuple(missing))


def _pairs(root: Path, split: str, polar: bool, missing: list[str]) -> list[Pair]:
    """Pairs of a split that are whole on disk; tells the others to `missing`."""
    if not (root / split).is_file():
        missing.append(f"missing list: {root / split}")
        return []
    disk = Disk()
    pairs = []
    for line in read_lines(root / split, 3, ","):
        pair = _pair(root, line, polar)
        lacking = [path for path in (pair.aerial, pair.ground) if not disk.has(path)]
        missing.extend(f"{line.where}: missing image {path}" for path in lacking)
        if not lacking:
            pairs.append(pair)
    return pairs


def _pair(root: Path, line: Line, polar: bool) -> Pair:
    aerial, ground, _ = line.columns
    stem = Path(aerial).stem
    if not stem.isdecimal():
        raise InputError(f"{line.where}: the aerial image's name is no number: {aerial}")
    if polar:
        aerial = str(Path(aerial.replace("bingmap", "polarmap")).with_suffix(".png"))
    return Pair(int(stem), root / aerial, root / ground)


def _without_repeats(root: Path, train: list[Pair], val: list[Pair]) -> list[Pair]:
    paths = [path for pair in (*train, *val) for path in (pair.aerial, pair.ground)]
    hashes = HashedImages(root).hashes(paths)
    keys = [(hashes[pair.aerial], hashes[pair.ground]) for pair in (*train, *val)]
    repeated = repeated_pairs(keys[: len(train)], keys[len(train) :])
    return [pair for pair, again in zip(train, repeated, strict=True) if not again]


def _locations(root: Path) -> NDArray[np.float64] | None:
    """(id - 1, 4): lat, lon of the aerial, lat, lon of the ground; None without the list."""
    path = root / LOCATIONS
    if not path.is_file():
        return None
    return np.array(
        [[line.number_at(column) for column in range(4)] for line in read_lines(path, (4, 5), ",")]
    )


def _views(
    pairs: Sequence[Pair], locations: NDArray[np.float64] | None
) -> tuple[ImageSet, ImageSet]:
    """Ground and aerial images in the order of the pairs."""
    ids = np.array([pair.id for pair in pairs], np.int64)
    rows: NDArray[np.float64] | None = None  # (N, 4)
    if locations is not None:
        if not 1 <= ids.min() <= ids.max() <= len(locations):
            raise InputError(
                f"{LOCATIONS} has {len(locations)} lines, but the splits list the ids "
                f"{ids.min()} to {ids.max()}. Take the list that belongs to these splits, or "
                "remove it to load without positions"
            )
        rows = locations[ids - 1]
    return (
        ImageSet(
            "ground", tuple(p.ground for p in pairs), ids, None if rows is None else rows[:, 2:]
        ),
        ImageSet(
            "aerial", tuple(p.aerial for p in pairs), ids, None if rows is None else rows[:, :2]
        ),
    )


def _train_set(pairs: Sequence[Pair], locations: NDArray[np.float64] | None) -> TrainSet | None:
    if not pairs:
        return None
    ground, aerial = _views(pairs, locations)
    index = np.arange(len(pairs))
    return TrainSet(
        {"ground": ground, "aerial": aerial}, "ground", "aerial", np.stack([index, index], axis=1)
    )
