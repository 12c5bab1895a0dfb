"""CVACT: a street-view panorama of Canberra and the aerial image around it, one to one.

    ACT_data.mat                              panoIds, utm, trainSet, valSet (1-based numbers)
    ANU_data_small/streetview/<id>_grdView.jpg, .../satview_polish/<id>_satView_polish.jpg
    ANU_data_test/ or ANU_data_test_ori/      the same two folders; 92,802 test pairs

Validation images lie in ANU_data_small or in a test folder, depending on who unpacked them; each
is taken where it is found. Files are known to be missing: such ids are skipped and reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError

from .files import Disk, images_of
from .sets import DataSet, ImageSet, TestSet, TrainSet

INDEX = "ACT_data.mat"
TRAIN_FOLDERS = ("ANU_data_small",)
TEST_FOLDERS = ("ANU_data_test", "ANU_data_test_ori")
# sky and the car's roof are outside; published pre-processing, of panoramas of 832 rows
GROUND_ROWS = (208, 624)
GROUND_SUFFIX, AERIAL_SUFFIX = "_grdView", "_satView_polish"


@dataclass(frozen=True)
class Index:
    """What ACT_data.mat says."""

    ids: tuple[str, ...]  # (N,) of panoramas
    utm_m: NDArray[np.float64]  # (N, 2) east, north
    train: NDArray[np.int64]  # numbers among ids, from 0
    val: NDArray[np.int64]


@dataclass(frozen=True)
class Folders:
    """Where the images of a place lie below ANU_data_*, and what their names end in."""

    ground: str
    ground_end: str
    aerial: str
    aerial_end: str

    def pair(self, base: Path, pano_id: str) -> tuple[Path, Path]:
        """Ground and aerial image of an id."""
        return (
            base / self.ground / f"{pano_id}{self.ground_end}",
            base / self.aerial / f"{pano_id}{self.aerial_end}",
        )


def load(
    root: Path, *, polar: bool = False, processed: bool = False, crop: bool = False
) -> DataSet:
    """The pairs below a root that holds ACT_data.mat; raises InputError when there are none.

    Args:
        root: folder that holds ACT_data.mat and ANU_data_small/.
        polar: take the polar-transformed aerial images of polarmap/.
        processed: take the panoramas of streetview_processed/, which are cut already.
        crop: use rows 208 to 623 of each panorama (MFRGN's "pre-processing").
    """
    if processed and crop:
        raise InputError(
            "panoramas of streetview_processed/ are cut already: give crop or processed"
        )
    folders = Folders(
        "streetview_processed" if processed else "streetview",
        GROUND_SUFFIX + (".png" if processed else ".jpg"),
        "polarmap" if polar else "satview_polish",
        AERIAL_SUFFIX + (".png" if polar else ".jpg"),
    )
    index = read_index(root / INDEX)
    missing: list[str] = []
    places = _Places(root, folders, index, GROUND_ROWS if crop else None)
    train = places.of_numbers(index.train, TRAIN_FOLDERS, missing)
    val = places.of_numbers(index.val, TRAIN_FOLDERS + TEST_FOLDERS, missing)
    test = places.of_test_folder(missing)
    if train is None and val is None and test is None:
        raise InputError(
            f"{root}: no pair of CVACT is whole. ROOT is the folder that holds {INDEX} and "
            f"{TRAIN_FOLDERS[0]}/ with {folders.ground}/ and {folders.aerial}/. "
            + " ".join(missing[:3])
        )
    tests = tuple(
        TestSet(name, views[0], views[1], "pairs", np.arange(len(views[0]))[:, None])
        for name, views in (("val", val), ("test", test))
        if views is not None
    )
    return DataSet("cvact", None if train is None else _train_set(*train), tests, tuple(missing))


def read_index(path: Path) -> Index:
    """ACT_data.mat; raises InputError. Nothing in it can run code."""
    from scipy.io import loadmat, matlab  # noqa: PLC0415 - heavy, and only this data set needs it

    if not path.is_file():
        raise InputError(f"{path} is missing; it comes with CVACT (github.com/Liumouliu/OriCNN)")
    try:
        content = loadmat(path, variable_names=["panoIds", "utm", "trainSet", "valSet"])
        ids = tuple(str(name).strip() for name in content["panoIds"])
        utm_m = np.asarray(content["utm"], np.float64)
        train, val = (_numbers(content[name]) for name in ("trainSet", "valSet"))
    except (
        matlab.MatReadError,
        NotImplementedError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
    ) as error:
        raise InputError(f"{path} is not the index of CVACT: {error!r}. Copy it again") from error
    if utm_m.shape != (len(ids), 2):
        raise InputError(f"{path}: {len(ids)} ids but utm of shape {utm_m.shape}. Copy it again")
    for name, numbers in (("trainSet", train), ("valSet", val)):
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(ids):
            raise InputError(f"{path}: {name} has numbers beyond its {len(ids)} ids. Copy it again")
    return Index(ids, utm_m, train, val)


def _numbers(struct: NDArray[np.void]) -> NDArray[np.int64]:
    """The second field of a struct (trainInd, valInd), whose numbers count from 1."""
    return np.asarray(struct[0][0][1], np.int64).reshape(-1) - 1


class _Places:
    """Finds the images of ids."""

    def __init__(
        self, root: Path, folders: Folders, index: Index, rows: tuple[int, int] | None
    ) -> None:
        self._root, self._folders, self._index, self._rows = root, folders, index, rows
        self._disk = Disk()

    def of_numbers(
        self, numbers: NDArray[np.int64], bases: Sequence[str], missing: list[str]
    ) -> tuple[ImageSet, ImageSet] | None:
        """Ground and aerial images of these numbers, each id in the first folder that has both."""
        found, pairs = [], []
        for number in numbers.tolist():
            pano_id = self._index.ids[number]
            candidates = [self._folders.pair(self._root / base, pano_id) for base in bases]
            pair = next((two for two in candidates if all(map(self._disk.has, two))), None)
            if pair is None:
                lacking = next(path for path in candidates[0] if not self._disk.has(path))
                missing.append(f"{INDEX}: missing image {lacking}")
            else:
                found.append(number)
                pairs.append(pair)
        return self._views(pairs, np.array(found, np.int64))

    def of_test_folder(self, missing: list[str]) -> tuple[ImageSet, ImageSet] | None:
        """All ids that a test folder has both images of, by name (as Sample4Geo takes them)."""
        base = self._disk.first(self._root / name for name in TEST_FOLDERS)
        if base is None:
            missing.append(
                f"missing folder: {self._root / TEST_FOLDERS[0]} (the 92,802 test pairs)"
            )
            return None
        ends = self._folders.ground_end, self._folders.aerial_end
        folders = self._folders.ground, self._folders.aerial
        ground, aerial = (
            {path.name.removesuffix(end) for path in images_of(base / name)}
            for name, end in zip(folders, ends, strict=True)
        )
        numbers = {pano_id: number for number, pano_id in enumerate(self._index.ids)}
        ids = sorted(ground & aerial)
        # an id that the index lacks still is a place of its own
        labels = [numbers.get(pano_id, len(numbers) + at) for at, pano_id in enumerate(ids)]
        pairs = [self._folders.pair(base, pano_id) for pano_id in ids]
        return self._views(pairs, np.array(labels, np.int64))

    def _views(
        self, pairs: Sequence[tuple[Path, Path]], labels: NDArray[np.int64]
    ) -> tuple[ImageSet, ImageSet] | None:
        if not pairs:
            return None
        known = bool((labels < len(self._index.ids)).all())
        utm_m = self._index.utm_m[labels] if known else None
        ground, aerial = zip(*pairs, strict=True)
        return (
            ImageSet("ground", ground, labels, utm_m, "metres", self._rows),
            ImageSet("aerial", aerial, labels, utm_m, "metres"),
        )


def _train_set(ground: ImageSet, aerial: ImageSet) -> TrainSet:
    index = np.arange(len(ground))
    return TrainSet(
        {"ground": ground, "aerial": aerial}, "ground", "aerial", np.stack([index, index], axis=1)
    )
