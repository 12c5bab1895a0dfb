"""SUES-200: 200 places of Shanghai from a drone at four heights, and one satellite image each.

    as unpacked   drone_view_512/<id>/<height>/, satellite-view/<id>/
    as split      Training/<height>/{drone,satellite}/<id>/
                  Testing/<height>/{query,gallery}_{drone,satellite}/<id>/

120 places train, 80 are queries, and the galleries hold all 200. Each height is a test of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from skyfix.runtime.errors import InputError

from .files import images_by_class, images_of, merged
from .sets import DataSet, ImageSet, TestSet, TrainSet
from .university1652 import class_pairs

HEIGHTS_M = (150, 200, 250, 300)
PLACES = range(1, 201)
# the official split (script/indexs.yaml of SUES-200-Benchmark); the other 80 places are queries
TEST_PLACES = frozenset(
    {8, 12, 14, 17, 18, 19, 22, 23, 35, 38, 40, 41, 42, 46, 47, 48, 49, 50, 52, 53, 54, 59, 61, 62,
     63, 65, 68, 71, 72, 75, 78, 79, 83, 92, 93, 95, 98, 99, 107, 108, 109, 110, 111, 112, 114, 115,
     117, 121, 122, 124, 128, 130, 131, 133, 135, 136, 138, 140, 143, 144, 150, 153, 154, 161, 162,
     164, 165, 170, 172, 173, 175, 176, 177, 178, 181, 188, 189, 190, 194, 195}
)  # fmt: skip
DIRECTIONS = (("drone", "satellite"), ("satellite", "drone"))

# view, role ("train", "query" or "gallery"), height -> its images
Finder = Callable[[str, str, int], ImageSet | None]


def load(root: Path, *, heights: str = "150,200,250,300") -> DataSet:
    """Training images of all these heights, tests by height; raises InputError when none is there.

    Args:
        root: folder that holds drone_view_512/ and satellite-view/, or Training/ and Testing/.
        heights: some of 150, 200, 250 and 300 metres, with commas.
    """
    heights_m = _heights(heights)
    missing: list[str] = []
    unpacked = (root / "drone_view_512").is_dir()
    find = _in_unpacked(root, missing) if unpacked else _in_split(root, missing)
    train = _train_set(find, heights_m, missing)
    tests = tuple(_tests(find, heights_m))
    if train is None and not tests:
        raise InputError(
            f"{root}: no part of SUES-200 is there. ROOT is the folder that holds drone_view_512/ "
            "and satellite-view/, or Training/ and Testing/. " + " ".join(missing[:3])
        )
    return DataSet("sues200", train, tests, tuple(missing))


def _heights(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not set(words) <= {str(height) for height in HEIGHTS_M}:
        raise InputError(f"heights is {text!r}; SUES-200 has 150, 200, 250 and 300, with commas")
    return tuple(int(word) for word in words)


def _train_set(find: Finder, heights: Sequence[int], missing: list[str]) -> TrainSet | None:
    found = [find("drone", "train", height) for height in heights]
    drone = [images for images in found if images is not None]
    satellite = find("satellite", "train", heights[0])  # the same images at every height
    if not drone or satellite is None:
        return None
    query = merged(drone)
    views = {"drone": query, "satellite": satellite}
    return TrainSet(views, "drone", "satellite", class_pairs(query, satellite, missing))


def _tests(find: Finder, heights: Iterable[int]) -> Iterable[TestSet]:
    for height in heights:
        for query_view, gallery_view in DIRECTIONS:
            query = find(query_view, "query", height)
            gallery = find(gallery_view, "gallery", height)
            if query is not None and gallery is not None:
                name = f"{query_view}->{gallery_view} {height} m"
                yield TestSet(name, query, gallery, "classes")


def _in_split(root: Path, missing: list[str]) -> Finder:
    """Finds images in the folders that the official script makes."""

    def find(view: str, role: str, height: int) -> ImageSet | None:
        part = "Training" if role == "train" else "Testing"
        folder = root / part / str(height) / (view if role == "train" else f"{role}_{view}")
        images = images_by_class(view, folder, missing)
        if images is None:
            missing.append(f"missing folder: {folder}")
        return images

    return find


def _in_unpacked(root: Path, missing: list[str]) -> Finder:
    """Finds images in the folders as unpacked, and splits them as the official script does."""
    told: set[Path] = set()

    def find(view: str, role: str, height: int) -> ImageSet | None:
        paths: list[Path] = []
        labels: list[int] = []
        for place in PLACES:
            if (role == "train" and place in TEST_PLACES) or (
                role == "query" and place not in TEST_PLACES
            ):
                continue
            folder = (
                root / "drone_view_512" / f"{place:04d}" / str(height)
                if view == "drone"
                else root / "satellite-view" / f"{place:04d}"
            )
            images = images_of(folder)
            if not images and folder not in told:  # a gallery repeats the folders of the others
                told.add(folder)
                missing.append(f"class without images: {folder}")
            paths += images
            labels += [place] * len(images)
        return ImageSet(view, tuple(paths), np.array(labels, np.int64)) if paths else None

    return find
