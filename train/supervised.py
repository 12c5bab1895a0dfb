"""Learning from a published data set: its pairs, or its classes.

    plan of an epoch -> files -> augmented views -> network -> losses

Between epochs the network is tested on the set's own test, and, where the configuration asks for
look-alikes, each place's neighbours are drawn anew from its descriptors.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader, Subset

from skyfix.runtime.errors import InputError

from .class_losses import ClassLoss
from .config import DatasetRun
from .data.augment import augmentation_from_name
from .data.dataset import load_dataset
from .data.images import BrokenImages
from .data.plan import Planner
from .data.reading import EpochReader
from .data.sets import DataSet
from .descriptors import Describer
from .distributed import gathered, world
from .loop import Batch, Lesson, Run
from .losses import PairLoss, same_place
from .mining import chosen_test, neighbours_by_position, neighbours_by_similarity, score
from .models.config import University1652Config
from .models.network import Encoded, Network
from .precision import autocast

log = logging.getLogger(__name__)


class DatasetLesson(Lesson):
    """Batches of a data set and the losses that its configuration names."""

    def __init__(self, config: DatasetRun, data: DataSet) -> None:
        super().__init__()
        if data.train is None:
            raise InputError(f"{data.name}: the training part is not there")
        self.config = config
        self.test = chosen_test(data.tests, config.data.test)
        self.planner = Planner(data.train, config.data, config.batch, config.seed)
        self.views = self.planner.views
        _check_fit(config, self.planner)
        self.epoch_steps = self.planner.epoch_steps
        self.steps = config.epochs * self.epoch_steps
        self.by_class = config.data.sampling == "views"
        self.loss = ClassLoss(config.loss) if self.by_class else PairLoss(config.loss)
        self.broken = BrokenImages()
        self._augmented = augmentation_from_name(config.data.augment, config.data.chsg)
        self._neighbours = neighbours_by_position(data.train, config.data.neighbours)

    @classmethod
    def from_disk(cls, config: DatasetRun, root: Path) -> "DatasetLesson":
        """Read the data set's lists; raises InputError where it has nothing to train on."""
        data = load_dataset(config.data.name, root, **config.data.options)
        for sentence in data.missing:
            log.warning("%s", sentence)
        return cls(config, data)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of the steps from `first_step` on, each rank's share of them."""
        rank, ranks = world()
        step = first_step
        while True:
            epoch, done = divmod(step, self.epoch_steps)
            plan = self.planner.epoch(epoch, self._neighbours)
            share = plan[:, rank::ranks]
            reader = EpochReader(self.planner, share, epoch * self.epoch_steps)
            rest = Subset(reader, range(done, self.epoch_steps))
            for batch, broken in DataLoader(rest, batch_size=None, num_workers=self.config.workers):
                self.broken.count(len(self.views) * share.shape[1])
                for fault in broken:
                    self.broken.record(fault.path, fault.error)
                yield batch
                step += 1

    def forward(self, network: Network, batch: Batch) -> tuple[torch.Tensor, float]:
        """Loss, and the share of queries (images) that are matched (classified) right."""
        images = self._augmented(
            {view: batch[view].float() / 255 for view in self.views}, self._generator(batch)
        )
        with autocast(self.config.precision, batch["step"].device):
            encoded = network(images)
        classes = {view: batch[f"class:{view}"] for view in self.views}
        if isinstance(self.loss, ClassLoss):
            outcome: tuple[torch.Tensor, float] = self.loss(encoded, classes)
            return outcome
        return self._pair_loss(encoded, classes[self.views[0]])

    def _pair_loss(
        self, encoded: dict[str, Encoded], places: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        query, reference = (encoded[view] for view in self.views)
        if self.config.data.chsg:  # a copy in another layout is another place
            places = torch.cat([2 * places, 2 * places + 1])
        outcome: tuple[torch.Tensor, float] = self.loss(
            query, reference, same_place(gathered(places))
        )
        return outcome

    def epoch_ended(self, run: Run) -> float | None:
        """Test every so many epochs, and find each place's look-alikes anew; R@1 in percent."""
        epoch = run.step // self.epoch_steps
        if epoch % self.config.evaluate_every and run.step < self.steps:
            return None
        describer = Describer(
            run.network, run.device, self.config.data.resize, self.config.data.flip_test,
            workers=self.config.workers,
        )  # fmt: skip
        with TemporaryDirectory() as folder, run.averaged_weights():
            if self.config.data.neighbours is not None:
                self._neighbours = neighbours_by_similarity(
                    self.planner.train_set, self.config.data.neighbours, describer, Path(folder)
                )
            return score(self.test, describer, Path(folder)) if self.test else None

    def state(self) -> Batch:
        """The neighbours that the next epoch is drawn by."""
        return {} if self._neighbours is None else {"neighbours": torch.tensor(self._neighbours)}

    def restore(self, state: Batch) -> None:
        """Take back what `state` gave."""
        if "neighbours" in state:
            self._neighbours = state["neighbours"].numpy()

    def _generator(self, batch: Batch) -> torch.Generator:
        """Augmentation follows the step and the rank, whatever was drawn before."""
        generator = torch.Generator(batch["step"].device)
        rank, ranks = world()
        seed = (self.config.seed * 1_000_003 + int(batch["step"])) * ranks + rank
        return generator.manual_seed(seed)


def _check_fit(config: DatasetRun, planner: Planner) -> None:
    """Raise InputError where the network cannot take what the plan gives."""
    ranks = world()[1]
    if config.batch % ranks:
        raise InputError(f"{ranks} processes cannot share a batch of {config.batch} evenly")
    places = len(planner.classes)
    if isinstance(config.model, University1652Config) and places > config.model.classes:
        raise InputError(
            f"the network has {config.model.classes} classes and the data set {places} places: "
            f"set model.classes to {places}"
        )
