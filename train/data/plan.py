"""Which images make the batches of an epoch.

A plan is (batches, B, V) indices: for each place of a batch, which image of each view is read. Of
pairs the views are the query's and the reference's; views that are drawn on their own
(University-1652's baseline) share no place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skyfix.runtime.errors import InputError

from ..config import DatasetConfig
from .sampling import (
    Indices,
    independent_batches,
    neighbour_batches,
    one_pair_a_reference,
    shuffled_batches,
    unique_batches,
)
from .sets import TrainSet

PAIRS_A_REFERENCE = 2  # GeoDTR+'s code on VIGOR


@dataclass(frozen=True)
class Planner:
    """Draws the plan of every epoch; the same seed, epoch and neighbours give the same plan."""

    train_set: TrainSet
    config: DatasetConfig
    batch: int
    seed: int

    def __post_init__(self) -> None:
        for view in self.views:
            if view not in self.train_set.views or view not in self.config.input_px:
                raise InputError(
                    f"a batch shows {view}, but the data set has {', '.join(self.train_set.views)} "
                    f"and data.input_px sizes {', '.join(self.config.input_px)}"
                )

    @property
    def views(self) -> tuple[str, ...]:
        """The plan's columns."""
        if self.config.sampling == "views":
            return tuple(self.config.input_px)
        return self.train_set.query, self.train_set.reference

    @property
    def classes(self) -> Indices:
        """Labels of all places (C,), ascending; a class number is an index of these."""
        return np.unique(np.concatenate([self.train_set.views[v].labels for v in self.views]))

    @property
    def epoch_steps(self) -> int:
        """Batches of an epoch: every pair once, an incomplete batch left out."""
        if self.config.sampling == "views":
            items = min(len(self.train_set.views[view]) for view in self.views)
        elif self.config.sampling == "references":
            items = PAIRS_A_REFERENCE * len(np.unique(self.train_set.pairs[:, 1]))
        else:
            items = len(self.train_set.pairs)
        if items < self.batch:
            raise InputError(
                f"a batch of {self.batch} needs as many places, this data set has {items}; "
                "--batch takes fewer"
            )
        return items // self.batch

    def epoch(self, number: int, neighbours: Indices | None) -> Indices:
        """The plan (epoch_steps, B, V) of an epoch.

        Args:
            number: of the epoch, from 0.
            neighbours: (N, K) references for each pair, nearest first; None draws without them.
        """
        rng = np.random.default_rng([self.seed, number])
        if self.config.sampling == "views":
            counts = {view: len(self.train_set.views[view]) for view in self.views}
            drawn = independent_batches(counts, self.batch, rng)
            return np.stack([[rows[view] for rows in drawn] for view in self.views], axis=-1)
        rows = self._topped_up(lambda: self._pair_batches(neighbours, rng))
        plan: Indices = self.train_set.pairs[rows]
        return plan

    def _pair_batches(self, neighbours: Indices | None, rng: np.random.Generator) -> list[Indices]:
        pairs = self.train_set.pairs
        if neighbours is not None and self.config.neighbours is not None:
            select = self.config.neighbours.select
            return neighbour_batches(pairs, neighbours, self.batch, select, rng)
        if self.config.sampling == "unique":
            return unique_batches(self._places(), self.batch, rng)
        if self.config.sampling == "references":
            order = one_pair_a_reference(pairs, PAIRS_A_REFERENCE, rng)
            full = order[: len(order) // self.batch * self.batch]
            return list(full.reshape(-1, self.batch))
        return shuffled_batches(len(pairs), self.batch, rng, drop_last=True)

    def _topped_up(self, draw: Callable[[], list[Indices]]) -> Indices:
        """Batches until the epoch is full: those that avoid repeats leave some pairs over."""
        batches: list[Indices] = []
        while len(batches) < self.epoch_steps:
            more = draw()
            if not more:
                raise InputError(
                    f"no batch of {self.batch} different places can be made; --batch takes fewer"
                )
            batches += more
        return np.stack(batches[: self.epoch_steps])

    def _places(self) -> Indices:
        """The place that each pair shows, (N,)."""
        return self.train_set.views[self.train_set.query].labels[self.train_set.pairs[:, 0]]
