"""VIGOR: panoramas anywhere within aerial images that overlap by half; four cities.

    splits/<City>/satellite_list.txt       one file name a line
    splits/<City>/same_area_balanced_{train,test}.txt, pano_label_balanced.txt
        panorama, then four times: satellite, delta0, delta1 (pixels of the 640 x 640 image)

The first of a line's four satellites is the positive (the panorama lies in its central quarter);
the other three, semi-positives, cover the place too. Training pairs a panorama with its positive.
The gallery is the whole satellite list of the cities. A folder splits__corrected/ holds labels
with the ground resolution put right (SliceMatch); its lists are called <name>__corrected.txt.

Images lie in <City>/panorama and <City>/satellite, or in ground/<City> and satellite/<City>.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError

from .files import Disk, Line, read_lines
from .sets import DataSet, ImageSet, TestSet, TrainSet

Area = Literal["same", "cross"]
Role = Literal["train", "test"]

CITIES: dict[tuple[Area, Role], tuple[str, ...]] = {
    ("same", "train"): ("NewYork", "Seattle", "SanFrancisco", "Chicago"),
    ("same", "test"): ("NewYork", "Seattle", "SanFrancisco", "Chicago"),
    ("cross", "train"): ("NewYork", "Seattle"),
    ("cross", "test"): ("SanFrancisco", "Chicago"),
}
LABELS: dict[tuple[Area, Role], str] = {
    ("same", "train"): "same_area_balanced_train",
    ("same", "test"): "same_area_balanced_test",
    ("cross", "train"): "pano_label_balanced",
    ("cross", "test"): "pano_label_balanced",
}
LABEL_COLUMNS = 13
FIRST_SATELLITE, STEP = 1, 3  # columns of a label line


@dataclass(frozen=True)
class Covered:
    """A panorama and the satellites that cover it."""

    panorama: Path
    position: tuple[float, float]  # degrees
    satellites: tuple[int, ...]  # (4,) indices into the gallery, the positive first


@dataclass(frozen=True)
class Gallery:
    """All satellites of some cities."""

    images: ImageSet
    index: dict[tuple[str, str], int]  # city and file name -> position in `images`


def load(root: Path, *, area: Area = "same", corrected: bool = False) -> DataSet:
    """The pairs of one protocol; raises InputError when there are none.

    Args:
        root: folder that holds splits/.
        area: "same" trains and tests in all four cities, "cross" trains in two and tests in two.
        corrected: take the labels of splits__corrected/.
    """
    if area not in {"same", "cross"}:
        raise InputError(f"area is {area!r}; VIGOR has 'same' and 'cross'")
    missing: list[str] = []
    folders = _Folders(root, root / ("splits__corrected" if corrected else "splits"))
    suffix = "__corrected.txt" if corrected else ".txt"
    train_gallery, train = _role(folders, area, "train", suffix, missing)
    test_gallery, test = _role(folders, area, "test", suffix, missing)
    if not train and not test:
        raise InputError(
            f"{root}: no panorama of VIGOR is there with its four satellites. ROOT is the folder "
            f"that holds {folders.splits.name}/. " + " ".join(missing[:3])
        )
    tests: tuple[TestSet, ...] = ()
    if test:
        truth = np.array([place.satellites for place in test], np.int64)  # (Q, 4)
        tests = (TestSet(f"{area} area", _ground(test), test_gallery.images, "vigor", truth),)
    return DataSet("vigor", _train_set(train_gallery, train), tests, tuple(missing))


class _Folders:
    """Finds images in either convention, and lists."""

    def __init__(self, root: Path, splits: Path) -> None:
        self.splits = splits
        self._root, self._disk = root, Disk()

    def panorama(self, city: str, name: str) -> Path | None:
        """Path of a panorama that is there."""
        return self._disk.first(
            (self._root / city / "panorama" / name, self._root / "ground" / city / name)
        )

    def satellite(self, city: str, name: str) -> Path | None:
        """Path of a satellite image that is there; lists say .png where some copies hold .jpg."""
        other = name.removesuffix(".png") + ".jpg"
        folders = (self._root / city / "satellite", self._root / "satellite" / city)
        return self._disk.first(folder / file for file in (name, other) for folder in folders)

    def has_list(self, path: Path, missing: list[str]) -> bool:
        """Whether a list is there; told to `missing` where it is not."""
        if not path.is_file():
            missing.append(f"missing list: {path}")
            return False
        return True


def _role(
    folders: _Folders, area: Area, role: Role, suffix: str, missing: list[str]
) -> tuple[Gallery, list[Covered]]:
    """Gallery and panoramas of the training or the test cities."""
    cities = CITIES[area, role]
    gallery = _gallery(folders, cities, missing)
    covered = []
    for city in cities:
        path = folders.splits / city / (LABELS[area, role] + suffix)
        if folders.has_list(path, missing):
            places = (
                _covered(folders, gallery, city, line, missing)
                for line in read_lines(path, LABEL_COLUMNS, " ")
            )
            covered += [place for place in places if place is not None]
    return gallery, covered


def _gallery(folders: _Folders, cities: Sequence[str], missing: list[str]) -> Gallery:
    paths: list[Path] = []
    positions: list[tuple[float, float]] = []
    index: dict[tuple[str, str], int] = {}
    for city in cities:
        listed = folders.splits / city / "satellite_list.txt"
        if not folders.has_list(listed, missing):
            continue
        for line in read_lines(listed, 1, " "):
            name = line.columns[0]
            path = folders.satellite(city, name)
            if path is None:
                missing.append(f"{line.where}: missing image {name}")
                continue
            index[city, name] = len(paths)
            paths.append(path)
            _, lat, lon = Path(name).stem.rsplit("_", 2) if name.count("_") >= 2 else ("", "", "")
            positions.append(_position(line, lat, lon))
    labels = np.arange(len(paths))
    images = ImageSet("aerial", tuple(paths), labels, np.array(positions).reshape(-1, 2))
    return Gallery(images, index)


def _covered(
    folders: _Folders, gallery: Gallery, city: str, line: Line, missing: list[str]
) -> Covered | None:
    """A label line; None where one of its images is not there."""
    name = line.columns[0]
    satellites = []
    for column in range(FIRST_SATELLITE, LABEL_COLUMNS, STEP):
        for delta in (column + 1, column + 2):
            line.number_at(delta)  # a shifted line is found out here
        satellites.append(gallery.index.get((city, line.columns[column])))
        if satellites[-1] is None:
            missing.append(f"{line.where}: missing satellite {line.columns[column]}")
    panorama = folders.panorama(city, name)
    if panorama is None:
        missing.append(f"{line.where}: missing panorama {name}")
    known = tuple(index for index in satellites if index is not None)
    if panorama is None or len(known) < len(satellites):
        return None
    _, lat, lon, _ = name.rsplit(",", 3) if name.count(",") >= 3 else ("", "", "", "")
    return Covered(panorama, _position(line, lat, lon), known)


def _position(line: Line, lat: str, lon: str) -> tuple[float, float]:
    try:
        return float(lat), float(lon)
    except ValueError:
        raise InputError(f"{line.where}: no position in the name {line.columns[0]}") from None


def _ground(places: Sequence[Covered]) -> ImageSet:
    return ImageSet(
        "ground",
        tuple(place.panorama for place in places),
        np.array([place.satellites[0] for place in places], np.int64),
        np.array([place.position for place in places]),
    )


def _train_set(gallery: Gallery, places: Sequence[Covered]) -> TrainSet | None:
    if not places:
        return None
    ground = _ground(places)
    pairs: NDArray[np.int64] = np.stack([np.arange(len(ground)), ground.labels], axis=1)
    return TrainSet({"ground": ground, "aerial": gallery.images}, "ground", "aerial", pairs)
