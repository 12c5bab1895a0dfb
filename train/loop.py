"""The training loop: pairs in, averaged weights out, resumable after a kill with the same curve.

Steps are counted, not epochs: the pairs are drawn anew for ever. Batches are a function of (seed,
worker, number), the schedule of the step; a resumed run skips none and repeats none.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

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
from .config import TrainConfig
from .curve import append_to_curve, cut_curve
from .data.layouts import contrasted_layouts
from .data.raster import Batch, PairSampler
from .losses import PairLoss
from .models import build_model

COLLAPSE_STEPS = 400  # by then the loss has left chance, or the run will not learn
CURVE_EVERY = 20  # steps
PREFETCHED_BATCHES = 4  # a worker


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    step: int
    loss: float
    recall: float  # share of the batch whose own map patch is the most similar


class PairStream(IterableDataset[tuple[torch.Tensor, ...]]):
    """The sampler's batches as tensors, one independent stream a worker."""

    def __init__(self, sampler: PairSampler, config: TrainConfig, first_step: int) -> None:
        self._sampler, self._config, self._first_step = sampler, config, first_step

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        pairs = self._config.batch // (2 if self._config.chsg else 1)
        step = self._first_step + lane
        while True:  # a batch's seed is its step's, so resuming needs no generator state
            seed = self._config.seed * 1_000_003 + step
            batch: Batch = next(self._sampler.batches(pairs, self._config.scenes, seed))
            yield tuple(torch.from_numpy(part) for part in batch)
            step += lanes


def train(
    config: TrainConfig,
    sampler: PairSampler,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], None],
) -> None:
    """Train to the configured step, writing checkpoints and the curve into `folder`."""
    torch.manual_seed(config.seed)
    run = Run.resumed(config, folder, device)
    stream = PairStream(sampler, config, run.step)
    ahead = PREFETCHED_BATCHES if config.workers else None
    loader = DataLoader(stream, batch_size=None, num_workers=config.workers, prefetch_factor=ahead)
    for batch in loader:
        if run.step >= config.steps:
            break
        progress = run.advance(batch)
        report(progress)
        if run.step % CURVE_EVERY == 0:
            run.log(progress)
        if run.step % config.checkpoint_every == 0 or run.step == config.steps:
            run.save()


class Run:
    """Network, loss, optimiser, averaged weights and step of one run."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.step, self.seconds = 0, 0.0
        self.model = build_model(config.model, config.view.input_px).to(device)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch omits it from the stub
        self.loss = PairLoss(config.loss).to(device)
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(nn.ModuleList([self.model, self.loss]), config.weight_decay),
            lr=config.lr,
        )
        self.averaged = {key: value.clone() for key, value in self.model.state_dict().items()}
        self._losses: list[float] = []

    @classmethod
    def resumed(cls, config: TrainConfig, folder: Path, device: torch.device) -> "Run":
        """A new run, or the one that `folder` holds; another configuration there is refused."""
        run = cls(config, folder, device)
        if (folder / RECORD_NAME).is_file():
            record = load_record(folder)
            if record.config != config:
                raise SkyfixError(f"{folder} holds a run of another configuration; name a new one")
            run._restore(record)
        return run

    def advance(self, batch: tuple[torch.Tensor, ...]) -> Progress:
        """One optimiser step."""
        started = time.perf_counter()
        torch.manual_seed(self.config.seed + self.step)  # layouts and dropout follow the step
        camera, tile, place, scene = (part.to(self.device) for part in batch)
        if self.config.chsg:
            camera, tile, place, scene = contrasted_layouts(
                camera, tile, place, scene, self.config.view.heading_deg
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * schedule(self.step, self.config)
        self.model.train()
        both = torch.cat([camera, tile]).to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            encoded = self.model(both)
        loss, recall = self.loss(encoded, place, scene)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - started
        self._guard(loss.item())
        return Progress(self.step, loss.item(), recall)

    def save(self) -> None:
        """Write a checkpoint."""
        record = CheckpointRecord(
            SCHEMA, self.config, self.step, self.seconds / 3600, _device_name(self.device)
        )
        state = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        state |= {f"loss.{key}": value for key, value in self.loss.state_dict().items()}
        for index, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{name}": slot for name, slot in slots.items()}
        save_checkpoint(self.folder, record, self.averaged, state)

    def log(self, progress: Progress) -> None:
        """Append a line to the curve."""
        lr, hours = self.optimiser.param_groups[0]["lr"], self.seconds / 3600
        append_to_curve(self.folder, progress.step, progress.loss, progress.recall, lr, hours)

    def _restore(self, record: CheckpointRecord) -> None:
        cut_curve(self.folder, record.step)
        state = load_state(self.folder)
        self.step, self.seconds = record.step, record.hours * 3600
        self.averaged = {
            key: value.to(self.device)
            for key, value in load_checkpoint(self.folder).weights.items()
        }
        self.model.load_state_dict(_under("model.", state))
        self.loss.load_state_dict(_under("loss.", state))
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _under("optimiser.", state).items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights, with a start that forgets quickly."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.averaged[key].lerp_(value, 1 - decay)
            else:
                self.averaged[key].copy_(value)

    def _guard(self, loss: float) -> None:
        """Stop a run that cannot end well, with advice."""
        if not math.isfinite(loss):
            raise SkyfixError(f"the loss is {loss} at step {self.step}: lower lr and start again")
        if self.step > COLLAPSE_STEPS:
            return
        self._losses.append(loss)
        if len(self._losses) == COLLAPSE_STEPS:  # never so where a run was resumed on the way
            head, tail = self._losses[:20], self._losses[-20:]
            if sum(tail) > 0.97 * sum(head):
                raise SkyfixError(
                    f"the loss has not fallen in {COLLAPSE_STEPS} steps: the descriptors have "
                    "collapsed. Lower lr, lengthen warmup or enlarge the batch."
                )


def schedule(step: int, config: TrainConfig) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine to zero."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay, vectors and scalars (norms, biases, temperature) do not."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    free = [p for p in module.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
