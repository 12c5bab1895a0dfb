"""Places are colours on a circle, and the network sees nothing else: who looks alike is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from skyfix.runtime.errors import InputError
from skyfix.train.config import NeighbourConfig
from skyfix.train.data import sets  # TestSet by name would be collected as a test
from skyfix.train.data.normalise import normalised
from skyfix.train.data.sampling import Indices
from skyfix.train.descriptors import Describer
from skyfix.train.mining import (
    chosen_test,
    neighbours_by_position,
    neighbours_by_similarity,
    score,
)
from skyfix.train.models.network import Encoded, Network

PLACES = 8
CONFIG = NeighbourConfig(range=4, select=2)
GREY = 128


class Hue(Network):
    """A descriptor is the direction of the mean colour from grey."""

    def encode(self, view: str, images: torch.Tensor) -> Encoded:  # noqa: ARG002  all views alike
        grey = normalised(torch.full_like(images, GREY / 255))
        return Encoded(functional.normalize((images - grey).mean(dim=(2, 3))[:, :2], dim=1))


DESCRIBER = Describer(
    Hue({"ground": (8, 8), "aerial": (8, 8)}), torch.device("cpu"), "bilinear", workers=0
)


def picture(folder: Path, name: str, place: int) -> Path:
    """Red and green go round the circle of places, blue stays."""
    angle = 2 * math.pi * place / PLACES
    colour = [GREY + round(60 * value) for value in (math.cos(angle), math.sin(angle), 0)]
    path = folder / f"{name}{place}.png"
    Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(path)
    return path


def images(folder: Path, view: str, labels: list[int]) -> sets.ImageSet:
    paths = [picture(folder, f"{view}{index}_", label) for index, label in enumerate(labels)]
    return sets.ImageSet(view, tuple(paths), np.array(labels))


def train_set(folder: Path, queries: list[int], references: list[int]) -> sets.TrainSet:
    """Each query with the reference of its place."""
    views = {
        "ground": images(folder, "ground", queries),
        "aerial": images(folder, "aerial", references),
    }
    pairs = [(index, references.index(label)) for index, label in enumerate(queries)]
    return sets.TrainSet(views, "ground", "aerial", np.array(pairs))


def shown(places: sets.TrainSet, neighbours: Indices) -> list[set[int]]:
    """Labels of each pair's neighbours."""
    return [set(places.views["aerial"].labels[row].tolist()) for row in neighbours]


def beside(label: int) -> set[int]:
    """The four places whose colours are next to this one's."""
    return {(label + step) % PLACES for step in (-2, -1, 1, 2)}


def test_neighbours_by_similarity_are_the_references_of_the_nearest_colours(
    tmp_path: Path,
) -> None:
    order = [3, 0, 6, 1, 7, 4, 2, 5]
    places = train_set(tmp_path, list(range(PLACES)), order)
    neighbours = neighbours_by_similarity(places, CONFIG, DESCRIBER, tmp_path)
    assert neighbours.shape == (PLACES, 4)
    assert shown(places, neighbours) == [beside(label) for label in range(PLACES)]
    nearest = [set(row[:2]) for row in places.views["aerial"].labels[neighbours].tolist()]
    assert nearest == [{(label + 1) % PLACES, (label - 1) % PLACES} for label in range(PLACES)]


def test_each_query_of_a_reference_has_neighbours_of_its_own(tmp_path: Path) -> None:
    queries = [5, 5, 2, 0, 2]
    places = train_set(tmp_path, queries, list(range(PLACES)))
    neighbours = neighbours_by_similarity(places, CONFIG, DESCRIBER, tmp_path)
    assert shown(places, neighbours) == [beside(label) for label in queries]


@pytest.mark.parametrize("view", ["ground", "aerial"])
def test_a_broken_image_does_not_shift_the_neighbours_of_others(tmp_path: Path, view: str) -> None:
    places = train_set(tmp_path, list(range(PLACES)), list(range(PLACES)))
    places.views[view].paths[2].write_bytes(b"broken")
    found = shown(places, neighbours_by_similarity(places, CONFIG, DESCRIBER, tmp_path))
    assert len(found) == PLACES
    for label in (5, 6):  # far from the broken one, which is nobody's neighbour here
        assert found[label] == beside(label)
    assert view == "ground" or all(2 not in labels for labels in found)


def test_neighbours_by_position_are_those_of_a_pairs_own_reference(tmp_path: Path) -> None:
    places = train_set(tmp_path, [6, 1], list(range(PLACES)))
    along = np.stack([np.zeros(PLACES), 10.0 * np.arange(PLACES)], axis=1)  # on a road
    aerial = replace(places.views["aerial"], positions=along, metric="metres")
    placed = replace(places, views=places.views | {"aerial": aerial})
    neighbours = neighbours_by_position(placed, CONFIG)
    assert neighbours is not None
    assert shown(placed, neighbours) == [{4, 5, 7, 3}, {0, 2, 3, 4}]
    assert neighbours_by_position(placed, None) is None
    assert neighbours_by_position(placed, NeighbourConfig(by_position=False)) is None


def test_without_positions_nothing_is_near(tmp_path: Path) -> None:
    assert neighbours_by_position(train_set(tmp_path, [0, 1], [0, 1]), CONFIG) is None


def task(folder: Path, name: str, queries: list[int], known: bool = True) -> sets.TestSet:
    """Queries of these places; the gallery has all."""
    query, gallery = images(folder, "ground", queries), images(folder, "aerial", [*range(PLACES)])
    return sets.TestSet(
        name, query, gallery, "pairs", np.array(queries)[:, None] if known else None
    )


def test_the_score_is_the_share_of_queries_that_are_matched_right(tmp_path: Path) -> None:
    right = task(tmp_path, "val", [4, 2, 7, 1])
    assert score(right, DESCRIBER, tmp_path) == 100.0
    assert right.truth is not None
    wrong = replace(right, truth=np.where(right.truth == 7, 3, right.truth))
    assert score(wrong, DESCRIBER, tmp_path) == 75.0


def test_the_first_test_with_answers_is_chosen_where_none_is_named(tmp_path: Path) -> None:
    secret, val, other = (
        task(tmp_path, name, [0], known=name != "secret") for name in ("secret", "val", "other")
    )
    assert chosen_test((secret, val, other), None) is val
    assert chosen_test((secret, val, other), "other") is other
    assert chosen_test((), None) is None
    for name in ("secret", "unknown"):
        with pytest.raises(InputError, match=f"no test '{name}' with answers; it has secret, val"):
            chosen_test((secret, val, other), name)
