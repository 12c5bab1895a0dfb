"""University-1652: buildings from a drone, a satellite, the street and the web.

    train/{drone,satellite,street,google}/<id>/
    test/{query,gallery}_{drone,satellite,street}/<id>/, test/4K_drone/<id>/
    test/query_drone_160k/, test/gallery_satellite_160k/, query_drone_name.txt
    test/workshop_query_street/, test/workshop_gallery_satellite/, query_street_name.txt

Labels are the folders' numbers. Twelve buildings have an empty google folder, which is no fault.
The last two tests are challenges: their names are masked, the answers are not public, and the
queries stand in the order of the list of names.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyfix.runtime.errors import InputError

from .files import PLACE_UNKNOWN, Disk, images_by_class, images_of, is_image, read_lines
from .sets import DataSet, ImageSet, TestSet, TrainSet

TRAIN_VIEWS = ("drone", "satellite", "street")
TEST_VIEWS = ("drone", "satellite", "street")


@dataclass(frozen=True)
class Challenge:
    """A test with masked names."""

    name: str
    query_view: str
    queries: tuple[str, ...]  # folder names that are in use
    galleries: tuple[str, ...]
    order: str  # list of the queries' file names


CHALLENGES = (
    Challenge(
        "drone->satellite 160k",
        "drone",
        ("query_drone_160k",),
        ("gallery_satellite_160k",),
        "query_drone_name.txt",
    ),
    Challenge(
        "street->satellite masked",
        "street",
        ("workshop_query_street", "query_street"),
        ("workshop_gallery_satellite", "gallery_satellite"),
        "query_street_name.txt",
    ),
)


def load(root: Path) -> DataSet:
    """Everything below a root that holds train/ or test/; raises InputError if it is nothing."""
    missing: list[str] = []
    train = _train_set(root / "train", missing)
    tests = _tests(root / "test", missing)
    for challenge in CHALLENGES:
        for base in (root / "test", root):
            test = _challenge(base, challenge, missing)
            if test is not None:
                tests.append(test)
                break
    if train is None and not tests:
        raise InputError(
            f"{root}: no part of University-1652 is there. ROOT is the folder that holds train/ "
            "and test/. " + " ".join(missing[:3])
        )
    return DataSet("university1652", train, tuple(tests), tuple(missing))


def _train_set(folder: Path, missing: list[str]) -> TrainSet | None:
    found = {view: images_by_class(view, folder / view, missing) for view in TRAIN_VIEWS}
    found["google"] = images_by_class("google", folder / "google")
    missing.extend(f"missing folder: {folder / view}" for view in TRAIN_VIEWS if not found[view])
    views = {view: images for view, images in found.items() if images is not None}
    if not {"drone", "satellite"} <= views.keys():
        return None
    pairs = class_pairs(views["drone"], views["satellite"], missing)
    return TrainSet(views, "drone", "satellite", pairs) if len(pairs) else None


def class_pairs(
    query: ImageSet, reference: ImageSet, missing: list[str]
) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """(N, 2) every query with the first reference of its class."""
    labels, first = np.unique(reference.labels, return_index=True)
    missing.extend(
        f"class without {reference.view} image: {label}"
        for label in np.setdiff1d(query.labels, labels)
    )
    queries = np.flatnonzero(np.isin(query.labels, labels))
    return np.stack([queries, first[np.searchsorted(labels, query.labels[queries])]], axis=1)


def _tests(folder: Path, missing: list[str]) -> list[TestSet]:
    """Every direction between two views whose query and gallery folders are there."""
    sets: dict[str, ImageSet] = {}
    for view in TEST_VIEWS:
        for role in ("query", "gallery"):
            images = images_by_class(view, folder / f"{role}_{view}", missing)
            if images is not None:
                sets[f"{role}_{view}"] = images
            elif not images_of(folder / f"{role}_{view}"):  # flat ones belong to a challenge
                missing.append(f"missing folder: {folder / f'{role}_{view}'}")
    tests = [
        TestSet(
            f"{query}->{gallery}", sets[f"query_{query}"], sets[f"gallery_{gallery}"], "classes"
        )
        for query in TEST_VIEWS
        for gallery in TEST_VIEWS
        if query != gallery and f"query_{query}" in sets and f"gallery_{gallery}" in sets
    ]
    sharp = images_by_class("drone", folder / "4K_drone")
    if sharp is not None and "gallery_satellite" in sets:
        tests.append(TestSet("drone->satellite 4K", sharp, sets["gallery_satellite"], "classes"))
    return tests


def _challenge(base: Path, challenge: Challenge, missing: list[str]) -> TestSet | None:
    """A masked test, its queries in the order of their list; None where it is not there."""
    queries = [base / name for name in challenge.queries if images_of(base / name)]
    galleries = [base / name for name in challenge.galleries if (base / name).is_dir()]
    if not queries or not galleries:
        return None
    folder = queries[0]
    order = next(
        (
            place / challenge.order
            for place in (base, folder, base.parent)
            if (place / challenge.order).is_file()
        ),
        None,
    )
    if order is None:
        missing.append(f"missing list: {base / challenge.order} (the order of {folder.name})")
        return None
    disk, listed = Disk(), []
    for line in read_lines(order, 1, " "):
        path = folder / Path(line.columns[0]).name
        if disk.has(path):
            listed.append(path)
        else:
            # an answer has a line for every query, so a gap is told, but never closed silently
            missing.append(f"{line.where}: missing image {path}")
    gallery = tuple(sorted(path for path in galleries[0].rglob("*") if is_image(path.name)))
    if not listed or not gallery:
        return None
    return TestSet(
        challenge.name,
        _masked(challenge.query_view, tuple(listed)),
        _masked("satellite", gallery),
        "classes",
    )


def _masked(view: str, paths: tuple[Path, ...]) -> ImageSet:
    return ImageSet(view, paths, np.full(len(paths), PLACE_UNKNOWN, np.int64))
