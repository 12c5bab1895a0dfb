"""DenseUAV: a drone's views straight down over 14 campuses, and satellite crops of two dates.

    train/{drone,satellite}/<id>/H80.JPG, H90.JPG, H100.JPG; satellite H80.tif and H80_old.tif ...
    test/{query,gallery}_{drone,satellite}/<id>/
    Dense_GPS_{ALL,train,test}.txt          path E<lon> N<lat> height, a line an image

Places are about 20 m apart, so a wrong answer may be a near one: tests score distances too, and
every image has the position of its place. A drone image is paired with both dates of its height.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError

from .files import Line, images_by_class, read_lines
from .sets import DataSet, ImageSet, Protocol, TestSet, TrainSet

POSITION_LISTS = (("Dense_GPS_ALL.txt",), ("Dense_GPS_train.txt", "Dense_GPS_test.txt"))
DIRECTIONS = (("drone", "satellite"), ("satellite", "drone"))
OLD = "_old"  # ends the names of the earlier satellite images

Positions = dict[int, tuple[float, float]]  # place -> degrees


def load(root: Path) -> DataSet:
    """Everything below a root that holds train/ or test/; raises InputError if it is nothing."""
    missing: list[str] = []
    positions = _positions(root, missing)
    train = _train_set(root / "train", positions, missing)
    tests = tuple(_tests(root / "test", positions, missing))
    if train is None and not tests:
        raise InputError(
            f"{root}: no part of DenseUAV is there. ROOT is the folder that holds train/, test/ "
            "and Dense_GPS_ALL.txt. " + " ".join(missing[:3])
        )
    return DataSet("denseuav", train, tests, tuple(missing))


def _positions(root: Path, missing: list[str]) -> Positions | None:
    """Position of every place; None where no list is there."""
    found = [root / name for names in POSITION_LISTS for name in names if (root / name).is_file()]
    if not found:
        missing.append(
            f"missing list: {root / POSITION_LISTS[0][0]}: distances cannot be scored without it"
        )
        return None
    if found[0].name == POSITION_LISTS[0][0]:
        found = found[:1]
    return {
        _place_of(line): (_degrees(line, 2, "N"), _degrees(line, 1, "E"))
        for path in found
        for line in read_lines(path, (3, 4), " ")
    }


def _place_of(line: Line) -> int:
    folder = PurePosixPath(line.columns[0].replace("\\", "/")).parent.name
    if not folder.isdecimal():
        raise InputError(f"{line.where}: no place in the path {line.columns[0]}")
    return int(folder)


def _degrees(line: Line, column: int, letter: str) -> float:
    text = line.columns[column]
    if not text.startswith(letter):
        raise InputError(f"{line.where}: column {column + 1} is {text!r}, not {letter}<degrees>")
    try:
        return float(text[1:])
    except ValueError:
        raise InputError(f"{line.where}: column {column + 1} is no number: {text!r}") from None


def _images(
    view: str, folder: Path, positions: Positions | None, missing: list[str]
) -> ImageSet | None:
    images = images_by_class(view, folder, missing)
    if images is None:
        missing.append(f"missing folder: {folder}")
        return None
    if positions is None:
        return images
    places = np.unique(images.labels).tolist()
    unlisted = [place for place in places if place not in positions]
    if unlisted:
        raise InputError(
            f"{folder}: the lists of positions lack {len(unlisted)} of {len(places)} places, the "
            f"first is {unlisted[0]:06d}. Complete the lists, or remove them to load without "
            "positions"
        )
    lat_lon: NDArray[np.float64] = np.array([positions[place] for place in images.labels.tolist()])
    return replace(images, positions=lat_lon)


def _train_set(folder: Path, positions: Positions | None, missing: list[str]) -> TrainSet | None:
    drone = _images("drone", folder / "drone", positions, missing)
    satellite = _images("satellite", folder / "satellite", positions, missing)
    if drone is None or satellite is None:
        return None
    of_height: dict[tuple[int, str], list[int]] = {}
    for index, (path, place) in enumerate(zip(satellite.paths, satellite.labels, strict=True)):
        of_height.setdefault((int(place), path.stem.removesuffix(OLD)), []).append(index)
    pairs = []
    for index, (path, place) in enumerate(zip(drone.paths, drone.labels, strict=True)):
        partners = of_height.get((int(place), path.stem), [])
        pairs += [(index, partner) for partner in partners]
        if not partners:
            missing.append(f"drone image without satellite image of its height: {path}")
    views = {"drone": drone, "satellite": satellite}
    return TrainSet(views, "drone", "satellite", np.array(pairs, np.int64)) if pairs else None


def _tests(folder: Path, positions: Positions | None, missing: list[str]) -> list[TestSet]:
    sets = {
        (role, view): _images(view, folder / f"{role}_{view}", positions, missing)
        for role in ("query", "gallery")
        for view in ("drone", "satellite")
    }
    tests = []
    for query_view, gallery_view in DIRECTIONS:
        query, gallery = sets["query", query_view], sets["gallery", gallery_view]
        if query is not None and gallery is not None:
            protocol: Protocol = "classes" if positions is None else "positions"
            tests.append(TestSet(f"{query_view}->{gallery_view}", query, gallery, protocol))
    return tests
