"""From a plan of indices to batches of pixels, in worker processes.

A file that cannot be read is replaced by another place of the data set that the batch does not
hold yet, so that batches keep their size; its name travels with the batch to be counted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from skyfix.runtime.errors import BrokenImageError, InputError

from .images import Pixels, read_image
from .plan import Planner
from .sampling import Indices
from .sets import ImageSet

Batch = dict[str, torch.Tensor]
MAX_REDRAWS = 20  # places in a row that cannot be read: the data are not there


@dataclass(frozen=True)
class Broken:
    """A file that could not be read, and why."""

    path: Path
    error: BrokenImageError


class EpochReader(Dataset[tuple[Batch, list[Broken]]]):
    """Batch `i` of an epoch: each view's images (B, 3, H, W) as bytes, and its classes."""

    def __init__(self, planner: Planner, plan: Indices, first_step: int) -> None:
        self._planner, self._plan, self._first_step = planner, plan, first_step
        self._views = [planner.train_set.views[view] for view in planner.views]
        self._classes = planner.classes

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> tuple[Batch, list[Broken]]:
        step = self._first_step + index
        rng = np.random.default_rng([self._planner.seed, step, 1])
        rows, broken = self._plan[index].copy(), list[Broken]()
        columns = [list[Pixels]() for _ in self._views]
        for place in range(len(rows)):
            for column, pixels in zip(columns, self._place(rows, place, rng, broken), strict=True):
                column.append(pixels)
        batch: Batch = {"step": torch.tensor(step)}
        for view, images, column in zip(self._views, columns, rows.T, strict=True):
            batch[view.view] = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
            classes = np.searchsorted(self._classes, view.labels[column])
            batch[f"class:{view.view}"] = torch.from_numpy(classes)
        return batch, broken

    def _place(
        self, rows: Indices, place: int, rng: np.random.Generator, broken: list[Broken]
    ) -> list[Pixels]:
        """All views of one place of the batch, or of another one where a file is broken."""
        for _ in range(MAX_REDRAWS):
            seen = list[Pixels]()
            try:
                for images, row in zip(self._views, rows[place], strict=True):
                    path = images.paths[row]
                    seen.append(self._read(images, path))
            except BrokenImageError as error:
                broken.append(Broken(path, error))
                rows[place] = self._other(rows, rng)
            else:
                return seen
        raise InputError(f"{MAX_REDRAWS} images in a row cannot be read: {broken[-1].error}")

    def _read(self, images: ImageSet, path: Path) -> Pixels:
        config = self._planner.config
        return read_image(path, config.input_px[images.view], images.rows, config.resize)

    def _other(self, rows: Indices, rng: np.random.Generator) -> NDArray[np.int64]:
        """Image numbers of a place that the batch does not show."""
        if self._planner.config.sampling == "views":
            return np.array([rng.integers(len(view)) for view in self._views])
        labels, pairs = self._views[0].labels, self._planner.train_set.pairs
        free = np.flatnonzero(~np.isin(labels[pairs[:, 0]], labels[rows[:, 0]]))
        if not len(free):
            raise InputError("a file of this batch cannot be read, and there is no other place")
        other: Indices = pairs[rng.choice(free)]
        return other
