"""Learning from maps alone: endless pairs of two views of one ground area."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, IterableDataset

from .config import ImageryRun
from .data.layouts import contrasted_layouts
from .data.raster import PairSampler
from .distributed import gathered, world
from .loop import Batch, Lesson
from .losses import PairLoss, same_ground
from .models.network import Encoded, Network
from .precision import autocast

PREFETCHED_BATCHES = 4  # a worker


class PairStream(IterableDataset[Batch]):
    """The sampler's batches as tensors; a worker of W makes every W-th of them."""

    def __init__(self, sampler: PairSampler, config: ImageryRun, first_step: int) -> None:
        self._sampler, self._config, self._first_step = sampler, config, first_step

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        rank, ranks = world()
        pairs = self._config.batch // ranks
        step = self._first_step + lane
        while True:  # a batch's seed is its step's, so resuming needs no generator state
            seed = (self._config.seed * 1_000_003 + step) * ranks + rank
            parts = next(self._sampler.batches(pairs, self._config.scenes, seed))
            yield {
                name: torch.from_numpy(part)
                for name, part in zip(("camera", "map", "place", "scene"), parts, strict=True)
            }
            step += lanes


class ImageryLesson(Lesson):
    """Pairs of camera and map patches, and the loss between them."""

    views = ("camera", "map")

    def __init__(self, config: ImageryRun, sampler: PairSampler) -> None:
        super().__init__()
        self.config, self._sampler = config, sampler
        self.steps, self.epoch_steps = config.steps, config.checkpoint_every
        self.loss = PairLoss(config.loss)
        # scenes of other processes are other scenes; a CHSG copy has twice the numbers
        self._scenes_before = 2 * config.scenes * world()[0]

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of the steps from `first_step` on."""
        stream = PairStream(self._sampler, self.config, first_step)
        workers = self.config.workers
        ahead = PREFETCHED_BATCHES if workers else None
        yield from DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=ahead)

    def forward(self, network: Network, batch: Batch) -> tuple[torch.Tensor, float]:
        """Loss, and the share of camera patches whose own map patch is the most similar."""
        camera, tile, place, scene = (batch[key] for key in ("camera", "map", "place", "scene"))
        if self.config.chsg:
            camera, tile, place, scene = contrasted_layouts(
                camera, tile, place, scene, self.config.view.heading_deg
            )
        both = torch.cat([camera, tile])  # one branch serves both views
        with autocast(self.config.precision, both.device):
            encoded = network.encode("camera", both)
        query, reference = halves(encoded)
        scene = scene + self._scenes_before
        ignore = same_ground(gathered(place), gathered(scene), self.config.loss.ignore_within_m)
        outcome: tuple[torch.Tensor, float] = self.loss(query, reference, ignore)
        return outcome


def halves(encoded: Encoded) -> tuple[Encoded, Encoded]:
    """The first and the second half of the rows of what losses look at."""
    first, second = encoded.descriptor.chunk(2)
    if encoded.counterfactual is None:
        return Encoded(first), Encoded(second)
    apart = encoded.counterfactual.chunk(2)
    return Encoded(first, counterfactual=apart[0]), Encoded(second, counterfactual=apart[1])
