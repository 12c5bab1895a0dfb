"""The training loop: batches in, averaged weights out, resumable after a kill with the same curve.

What is learned from stands apart: a Lesson gives the batches and the loss of one
(self_supervised.py, supervised.py). A batch is a function of its step, and so is the learning
rate; a resumed run skips none and repeats none.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from skyfix.runtime.errors import SkyfixError

from .checkpoint import (
    RECORD_NAME,
    SCHEMA,
    CheckpointRecord,
    load_checkpoint,
    load_record,
    load_state,
    save_checkpoint,
)
from .config import RunConfig
from .curve import append_to_curve, cut_curve
from .distributed import world
from .models.build import build_network
from .models.network import Network
from .optimiser import clip, optimiser_from_config
from .schedule import rate_factor

COLLAPSE_STEPS = 400  # by then the loss has left chance, or the run will not learn
COLLAPSE_RATIO = 0.97  # of the last losses to the first
CURVE_EVERY = 20  # steps
FP16_SCALE = 2.0**10  # MFRGN's initial loss scale

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    loss: float
    recall: float  # share of the batch that is matched right


class Lesson(nn.Module):
    """What a run learns from; its parameters (a loss's temperature) are learned too."""

    steps: int  # of the whole run
    epoch_steps: int  # of an epoch; checkpoints are written between epochs
    views: tuple[str, ...]  # of a batch that hold images

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of the steps from `first_step` on."""

    @abstractmethod
    def forward(self, network: Network, batch: Batch) -> tuple[torch.Tensor, float]:
        """Loss, and the share of the batch that is matched right."""

    def epoch_ended(self, run: "Run") -> float | None:  # noqa: ARG002  for those that test
        """Called before the checkpoint that ends an epoch; a score, higher is better."""
        return None

    def state(self) -> Batch:
        """What batches depend on beside the step."""
        return {}

    def restore(self, state: Batch) -> None:
        """Take back what `state` gave."""


class Learner(nn.Module):
    """Network and lesson as one module: DistributedDataParallel wraps it whole."""

    def __init__(self, network: Network, lesson: Lesson) -> None:
        super().__init__()
        self.network, self.lesson = network, lesson

    def forward(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """Loss and recall of a batch."""
        outcome: tuple[torch.Tensor, float] = self.lesson(self.network, batch)
        return outcome


def train(
    config: RunConfig,
    lesson: Lesson,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], None],
    start: dict[str, torch.Tensor] | None = None,
) -> None:
    """Train to the last step, writing checkpoints and the curve into `folder`.

    `start` are the network's first weights where the run does not begin from scratch.
    """
    run = Run.resumed(config, lesson, folder, device, start)
    if run.step == lesson.steps:  # the folder holds a run that has ended
        return
    for batch in lesson.batches(run.step):
        progress = run.advance(batch)
        report(progress)
        if run.step % CURVE_EVERY == 0:
            run.log(progress)
        if run.step % lesson.epoch_steps == 0 or run.step == lesson.steps:
            run.save(lesson.epoch_ended(run))
        if run.step == lesson.steps:
            return


class Run:
    """Network, optimiser, averaged weights and step of one run."""

    def __init__(
        self, config: RunConfig, lesson: Lesson, folder: Path, device: torch.device
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.lesson, self.folder, self.device = config, lesson, folder, device
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        network = build_network(config.model, config.input_px)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch omits it from the stub
        self.network: Network = network
        self.learner = Learner(network, lesson.to(device))
        self.optimiser = optimiser_from_config(config.optimiser, self.learner)
        self.scaler = torch.amp.GradScaler(
            device.type, init_scale=FP16_SCALE, enabled=config.precision == "fp16"
        )
        self.averaged = self._first_average()
        self._losses: list[float] = []
        self._shared: nn.Module = self.learner
        if world()[1] > 1:
            self._shared = DistributedDataParallel(self.learner)

    @classmethod
    def resumed(
        cls,
        config: RunConfig,
        lesson: Lesson,
        folder: Path,
        device: torch.device,
        start: dict[str, torch.Tensor] | None = None,
    ) -> "Run":
        """A new run, or the one that `folder` holds; another configuration there is refused."""
        run = cls(config, lesson, folder, device)
        if (folder / RECORD_NAME).is_file():
            record = load_record(folder)
            if record.run != config:
                raise SkyfixError(f"{folder} holds a run of another configuration; name a new one")
            run._restore(record)
        elif start is not None:
            run.network.load_state_dict(start)
            run.averaged = run._first_average()
        return run

    def advance(self, batch: Batch) -> Progress:
        """One optimiser step."""
        started = time.perf_counter()
        torch.manual_seed(self.config.seed + self.step * world()[1] + world()[0])  # dropout
        factor = rate_factor(
            self.config.schedule, self.step, self.lesson.steps, self.lesson.epoch_steps
        )
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.network.train()
        loss, recall = self._shared(self._moved(batch))
        self._update(loss)
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - started
        self._guard(loss.item())
        return Progress(self.step, loss.item(), recall)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The network with the weights that are evaluated and exported; then as it was."""
        live = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.averaged)
        try:
            yield
        finally:
            self.network.load_state_dict(live)

    def save(self, score: float | None = None) -> None:
        """Write a checkpoint, and once more under best/ where the score is the highest so far."""
        if world()[0] != 0:
            return
        self._refuse_broken_weights()  # one step makes them of a finite loss
        record = CheckpointRecord(
            SCHEMA, self.config.model, self.config.input_px, self.config, "", self.step,
            self.seconds / 3600, _device_name(self.device), score,
        )  # fmt: skip
        state = {f"model.{key}": value for key, value in self.network.state_dict().items()}
        state |= {f"loss.{key}": value for key, value in self.lesson.state_dict().items()}
        state |= {f"lesson.{key}": value for key, value in self.lesson.state().items()}
        state |= {"scale": torch.tensor(self.scaler.get_scale()), "best": torch.tensor(self.best)}
        for index, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{name}": slot for name, slot in slots.items()}
        if score is not None and score > self.best:
            self.best = score
            state["best"] = torch.tensor(self.best)
            save_checkpoint(self.folder / "best", record, self.averaged)
        save_checkpoint(self.folder, record, self.averaged, state)

    def log(self, progress: Progress) -> None:
        """Append a line to the curve."""
        if world()[0] == 0:
            lr, hours = self.optimiser.param_groups[0]["lr"], self.seconds / 3600
            append_to_curve(self.folder, progress.step, progress.loss, progress.recall, lr, hours)

    def _moved(self, batch: Batch) -> Batch:
        moved = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        for view in self.lesson.views:
            moved[view] = moved[view].contiguous(memory_format=torch.channels_last)
        return moved

    def _update(self, loss: torch.Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimiser)
        clip(self.config.optimiser, list(self.network.parameters()))
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def _restore(self, record: CheckpointRecord) -> None:
        cut_curve(self.folder, record.step)
        state = load_state(self.folder)
        self.step, self.seconds = record.step, record.hours * 3600
        self.best = float(state["best"])
        if self.config.ema:
            weights = load_checkpoint(self.folder).weights
            self.averaged = {key: value.to(self.device) for key, value in weights.items()}
        self.network.load_state_dict(_under("model.", state))
        self.lesson.load_state_dict(_under("loss.", state))
        self.lesson.restore(_under("lesson.", state))
        if self.scaler.is_enabled():
            self.scaler.update(float(state["scale"]))
        slots: dict[int, Batch] = {}
        for key, value in _under("optimiser.", state).items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    def _first_average(self) -> Batch:
        """A copy of the weights; the weights themselves where no average is asked for."""
        weights = self.network.state_dict()
        return (
            {key: value.clone() for key, value in weights.items()} if self.config.ema else weights
        )

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights, with a start that forgets quickly."""
        if not self.config.ema:
            return
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.averaged[key].lerp_(value, 1 - decay)
            else:
                self.averaged[key].copy_(value)

    def _refuse_broken_weights(self) -> None:
        for key, value in self.network.state_dict().items():
            if not value.isfinite().all():
                raise self._diverged(f"{key} is no longer finite")

    def _diverged(self, what: str) -> SkyfixError:
        return SkyfixError(
            f"{what} at step {self.step}: lower lr and start again. The last checkpoint in "
            f"{self.folder} is from before."
        )

    def _guard(self, loss: float) -> None:
        """Stop a run that cannot end well, with advice."""
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        if self.step > COLLAPSE_STEPS:
            return
        self._losses.append(loss)
        if len(self._losses) == COLLAPSE_STEPS:  # never so where a run was resumed on the way
            head, tail = self._losses[:20], self._losses[-20:]
            if sum(tail) > COLLAPSE_RATIO * sum(head):
                raise SkyfixError(
                    f"the loss has not fallen in {COLLAPSE_STEPS} steps: the descriptors have "
                    "collapsed. Lower lr, lengthen warmup or enlarge the batch."
                )


def _under(prefix: str, tensors: Batch) -> Batch:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
