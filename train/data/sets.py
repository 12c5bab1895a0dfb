"""What a data set on disk becomes: lists of images a view, and how they belong together.

A loader (one file a data set) reads folders and lists, never pixels, and gives a DataSet. Sampling,
training and evaluation know these types only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Protocol = Literal["pairs", "vigor", "classes", "positions"]


@dataclass(frozen=True)
class ImageSet:
    """Images of one view, in a fixed order."""

    view: str  # "ground", "aerial"; "drone", "satellite", "street", "google"
    paths: tuple[Path, ...]  # (N,)
    labels: NDArray[np.int64]  # (N,) the same place has the same number; -1 = place unknown
    # (N, 2) WGS84 degrees, or metres of a projection (CVACT's UTM); see `metric`
    positions: NDArray[np.float64] | None = None
    metric: Literal["degrees", "metres"] = "degrees"
    rows: tuple[int, int] | None = None  # only these rows of each image are used (CVACT's crop)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class TrainSet:
    """What a run learns from."""

    views: dict[str, ImageSet]
    query: str  # the views that a pair joins
    reference: str
    pairs: NDArray[np.int64]  # (N, 2) index among the query's, index among the reference's images


@dataclass(frozen=True)
class TestSet:
    """One retrieval task with its truth."""

    name: str  # "val", "drone->satellite", "same area"
    query: ImageSet
    gallery: ImageSet
    # pairs      one right item a query: truth (Q, 1)
    # vigor      truth (Q, 4): the positive, then three semi-positives
    # classes    every gallery item of the query's label is right
    # positions  as classes; besides, distances between positions are scored (DenseUAV)
    protocol: Protocol
    truth: NDArray[np.int64] | None = None  # (Q, P) indices into the gallery


@dataclass(frozen=True)
class DataSet:
    """A data set as found on disk."""

    name: str
    train: TrainSet | None  # None where only the test part is there
    tests: tuple[TestSet, ...]
    missing: tuple[str, ...] = ()  # what the lists name and the disk lacks, a sentence each
