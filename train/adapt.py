"""Fine-tuning on the map of one flight area: pairs of the map itself, for so many minutes.

    map -> block held out, rest to learn from
    score -> (learn for a third of the time -> score) x 3 -> the best, if it is better

Time is what bounds it, so the learning rate follows the clock: a short warm-up, then half a cosine
over the minutes that are left for learning. Batch norms keep their statistics: those of one map
are no better, and a norm that an export has folded away (from_graph.py) has none.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.runtime.maps.raster import Raster

from .config import ImageryRun
from .data.raster import PairSampler
from .held_out import Exam, draw_block, draw_exam, gain_in_deviations, without
from .loop import Batch
from .models.network import Network
from .optimiser import clip, optimiser_from_config
from .self_supervised import ImageryLesson

LEARNING_RATE = 1e-3  # with 3e-4, 45 steps on naip gained as much on one year, less on another
CAMERA_APPEARANCE = 1.4  # nano's own is 1.0; past 1.43 JPEG qualities would be negative
ROUNDS = 3
WARMUP = 0.05  # of the time for learning
SURE = 1.64  # deviations of the paired gain: 95 %, one-sided

Clock = Callable[[], float]  # seconds, monotonic


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    share: float  # of the time, 0..1
    steps: int
    loss: float
    score: float  # R@1 of the held-out block, the last one measured


@dataclass(frozen=True)
class Adaptation:
    """What came out of the best round."""

    learned: dict[str, torch.Tensor]
    better: bool  # surely; else the network keeps its first weights
    before: float  # R@1 on the held-out block
    after: float  # of the learned weights
    deviations: float  # how sure the gain is
    steps: int
    seconds: float


def adapted_run(run: ImageryRun, name: str, imagery: str, licence: str, workers: int) -> ImageryRun:
    """The configuration of the adaptation of a run's model to a map."""
    licences = {**run.data.licences, imagery: licence}
    return msgspec.structs.replace(
        run,
        name=name,
        view=msgspec.structs.replace(run.view, camera_appearance=CAMERA_APPEARANCE),
        data=msgspec.structs.replace(run.data, licences=licences),
        optimiser=msgspec.structs.replace(run.optimiser, lr=LEARNING_RATE),
        scenes=1,  # all pairs of a batch compete: they are of one map
        ema=0.0,
        workers=workers,
    )


class AreaLesson(ImageryLesson):
    """Pairs of one map."""

    def forward(self, network: Network, batch: Batch) -> tuple[torch.Tensor, float]:
        """Loss and recall of a batch, with batch norms as they are."""
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return super().forward(network, batch)


def adapt(
    network: Network,
    run: ImageryRun,
    ground: Raster,
    minutes: float,
    device: torch.device,
    clock: Clock,
    report: Callable[[Progress], None] = lambda _progress: None,
) -> Adaptation:
    """Fine-tune a network on a map.

    Args:
        network: with its first weights; it is left with the learned ones if they are better.
        run: its configuration, as adapted_run gives it.
        ground: the map, at its true scale.
        minutes: of wall clock, scoring included.
        device: to learn on.
        clock: tells the seconds.
        report: called at every step.

    Raises RasterError for too small a map, InputError for too little time.
    """
    rng = np.random.default_rng(run.seed)
    block = draw_block(ground, run.view, rng)
    exam = draw_exam(ground, ground, block, run.view, rng)
    sampler = PairSampler([without(ground, block)], np.ones(1), run.view, known_scale=True)
    learner = _Learner(network, AreaLesson(run, sampler), device)
    return _Course(learner, exam, minutes, clock, report).taken()


class _Learner:
    """Network, lesson and optimiser; the clock is somebody else's."""

    def __init__(self, network: Network, lesson: AreaLesson, device: torch.device) -> None:
        torch.manual_seed(lesson.config.seed)
        moved = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch omits it from the stub
        self.network: Network = moved
        self.lesson, self.device = lesson.to(device), device
        both = torch.nn.ModuleDict({"network": self.network, "lesson": lesson})
        self.optimiser = optimiser_from_config(lesson.config.optimiser, both)
        self.steps = 0

    def step(self, batch: Batch, factor: float) -> float:
        """One step at this factor of the learning rate; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.network.train()
        moved = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        for view in self.lesson.views:
            moved[view] = moved[view].contiguous(memory_format=torch.channels_last)
        loss, _ = self.lesson(self.network, moved)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip(self.lesson.config.optimiser, list(self.network.parameters()))
        self.optimiser.step()
        self.steps += 1
        value = float(loss.item())
        if not math.isfinite(value):
            raise SkyfixError(
                f"the loss is {value} at step {self.steps}: the weights to start from are broken"
            )
        return value

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy, on the CPU."""
        return {
            key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()
        }


class _Course:
    """The rounds of learning and scoring, within the time."""

    def __init__(
        self,
        learner: _Learner,
        exam: Exam,
        minutes: float,
        clock: Clock,
        report: Callable[[Progress], None],
    ) -> None:
        self._learner, self._exam, self._clock, self._report = learner, exam, clock, report
        self._started = clock()
        self._limit_s = 60 * minutes
        self._score = 0.0

    def taken(self) -> Adaptation:
        """Learn and score to the end of the time.

        A bad round ends nothing: while the learning rate is high, scores dip.
        """
        first, first_weights = self._found(), self._learner.weights()
        scoring_s = self._elapsed_s()
        learning_s = self._limit_s - (1 + ROUNDS) * scoring_s
        if learning_s <= 0:
            raise InputError(
                f"{self._limit_s / 60:g} minutes are too few: scoring alone takes "
                f"{(1 + ROUNDS) * scoring_s / 60:.1f} here. Give --minutes "
                f"{math.ceil((3 + ROUNDS) * scoring_s / 60)} or more"
            )
        batches = self._learner.lesson.batches(0)
        rounds = []
        for number in range(ROUNDS):
            self._learn(batches, number / ROUNDS, learning_s)
            rounds.append((self._found(), self._learner.weights()))
        best, learned = max(rounds, key=lambda outcome: int(outcome[0].sum()))
        deviations = gain_in_deviations(first, best)
        better = deviations >= SURE
        self._learner.network.load_state_dict(learned if better else first_weights)
        return Adaptation(
            learned, better, float(first.mean()), float(best.mean()), deviations,
            self._learner.steps, self._elapsed_s(),
        )  # fmt: skip

    def _learn(self, batches: Iterator[Batch], done: float, learning_s: float) -> None:
        """One round; `done` is the share of the learning that came before it."""
        started, share = self._clock(), done
        while share < done + 1 / ROUNDS:
            loss = self._learner.step(next(batches), _rate_factor(share))
            share = done + (self._clock() - started) / learning_s
            spent = min(1.0, self._elapsed_s() / self._limit_s)
            self._report(Progress(spent, self._learner.steps, loss, self._score))

    def _found(self) -> NDArray[np.bool_]:
        found = self._exam.found(self._learner.network, self._learner.device)
        self._score = float(found.mean())
        return found

    def _elapsed_s(self) -> float:
        return self._clock() - self._started


def _rate_factor(share: float) -> float:
    """Factor of the learning rate after this share of the learning."""
    if share < WARMUP:
        return (share + WARMUP / 10) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - WARMUP) / (1 - WARMUP))))
