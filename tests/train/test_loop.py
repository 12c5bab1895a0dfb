import csv
import math
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from skyfix.runtime.errors import SkyfixError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.train.checkpoint import load_checkpoint, load_record
from skyfix.train.config import (
    ImageryConfig,
    ImageryRun,
    LossConfig,
    OptimiserConfig,
    ScheduleConfig,
    ViewConfig,
)
from skyfix.train.data.raster import PairSampler
from skyfix.train.loop import COLLAPSE_STEPS, Batch, Progress, Run, train
from skyfix.train.models.config import GeoDTRPlusDroneConfig
from skyfix.train.models.network import Encoded
from skyfix.train.self_supervised import ImageryLesson, PairStream

CONFIG = ImageryRun(
    name="tiny",
    licence="Apache-2.0",
    model=GeoDTRPlusDroneConfig(
        "convnext_atto", layer_scale=0.1, layouts=2, projection=16, dropout=0.1
    ),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=ImageryConfig(folders={}, licences={}),
    loss=LossConfig(info_nce=1.0, counterfactual=0.1),
    optimiser=OptimiserConfig(clip_norm=1.0),
    ema=0.998,
    batch=8,
    scenes=2,
    steps=6,
    workers=0,
    checkpoint_every=3,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sampler() -> PairSampler:
    rng = np.random.default_rng(0)
    rasters = []
    for _ in range(2):
        rough = rng.standard_normal((200, 200, 3)).astype(np.float32)
        image = 127 + 120 * cv2.GaussianBlur(rough, (0, 0), 3)
        valid = np.ones((200, 200), bool)
        picture = np.asarray(image.clip(1, 255), np.uint8)
        rasters.append(Raster(picture, valid, LocalFrame(0, 0), 0.0, 0.0, 1.0))
    return PairSampler(rasters, np.array([0.5, 0.5]), CONFIG.view)


def losses_of(config: ImageryRun, sampler: PairSampler, folder: Path) -> list[float]:
    seen: list[Progress] = []
    train(config, ImageryLesson(config, sampler), folder, CPU, seen.append)
    return [progress.loss for progress in seen]


def fresh(config: ImageryRun, sampler: PairSampler) -> Run:
    return Run(config, ImageryLesson(config, sampler), Path("unused"), CPU)


def first_batch(config: ImageryRun, sampler: PairSampler) -> Batch:
    return next(iter(PairStream(sampler, config, 0)))


def curve_steps(folder: Path) -> list[int]:
    with (folder / "curve.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


class KilledError(Exception):
    pass


class ScoredLesson(ImageryLesson):
    """Epochs score what they are told to score, and the lesson remembers how many there were."""

    def __init__(self, sampler: PairSampler, scores: list[float | None]) -> None:
        super().__init__(CONFIG, sampler)
        self._scores, self.ended = scores, 0

    def epoch_ended(self, run: Run) -> float | None:
        assert run.step % self.epoch_steps == 0
        self.ended += 1
        return self._scores.pop(0)

    def state(self) -> Batch:
        return {"ended": torch.tensor(self.ended)}

    def restore(self, state: Batch) -> None:
        self.ended = int(state["ended"])


def test_a_killed_run_goes_on_with_the_same_curve(sampler: PairSampler, tmp_path: Path) -> None:
    whole = losses_of(CONFIG, sampler, tmp_path / "whole")
    seen: list[float] = []

    def die_at_five(progress: Progress) -> None:
        seen.append(progress.loss)
        if progress.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(CONFIG, ImageryLesson(CONFIG, sampler), tmp_path / "killed", CPU, die_at_five)
    rest = losses_of(CONFIG, sampler, tmp_path / "killed")
    assert seen == pytest.approx(whole[:5], rel=1e-5)
    assert rest == pytest.approx(whole[3:], rel=1e-4)  # from the checkpoint of step 3
    ends = [load_checkpoint(tmp_path / name).weights for name in ("whole", "killed")]
    for name, value in ends[0].items():
        assert torch.allclose(value, ends[1][name], atol=1e-4), name


def test_a_resumed_run_writes_no_line_of_its_curve_twice(
    sampler: PairSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.train.loop.CURVE_EVERY", 1)

    def die_at_six(progress: Progress) -> None:
        if progress.step == 6:  # the checkpoint is of step 3, the curve's last line of step 5
            raise KilledError

    with pytest.raises(KilledError):
        train(CONFIG, ImageryLesson(CONFIG, sampler), tmp_path, CPU, die_at_six)
    assert curve_steps(tmp_path) == [1, 2, 3, 4, 5]
    losses_of(CONFIG, sampler, tmp_path)
    assert curve_steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_training_lowers_the_loss_on_a_batch_it_sees_again(sampler: PairSampler) -> None:
    config = msgspec.structs.replace(CONFIG, schedule=ScheduleConfig(warmup=0.0), steps=100)
    run, batch = fresh(config, sampler), first_batch(config, sampler)
    losses = [run.advance(batch).loss for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_exported_weights_are_an_average_of_the_trained_ones(sampler: PairSampler) -> None:
    run, batch = fresh(CONFIG, sampler), first_batch(CONFIG, sampler)
    key = "backbone.stem.0.weight"
    first = run.averaged[key].clone()
    run.advance(batch)
    after = run.network.state_dict()[key]
    assert torch.allclose(run.averaged[key], first + 0.9 * (after - first), atol=1e-6)


def test_chsg_doubles_the_batch(sampler: PairSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.structs.replace(CONFIG, chsg=True)  # 8 pairs, 2 layouts, 2 views
    run, seen = fresh(config, sampler), []
    encode = run.network.encode

    def counting(view: str, images: torch.Tensor) -> Encoded:
        seen.append(len(images))
        return encode(view, images)

    monkeypatch.setattr(run.network, "encode", counting)
    run.advance(first_batch(config, sampler))
    assert seen == [32]


def test_the_layouts_of_a_step_do_not_depend_on_what_was_drawn_before(
    sampler: PairSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = msgspec.structs.replace(CONFIG, chsg=True)
    run, batch = fresh(config, sampler), first_batch(config, sampler)
    seen: list[torch.Tensor] = []
    encode = run.network.encode

    def watching(view: str, images: torch.Tensor) -> Encoded:
        seen.append(images.clone())
        return encode(view, images)

    monkeypatch.setattr(run.network, "encode", watching)
    for drawn_before in range(6):
        torch.manual_seed(drawn_before)
        run.step = 0
        run.advance(batch)
    assert all(torch.equal(images, seen[0]) for images in seen)


def test_another_configuration_in_the_folder_is_refused(
    sampler: PairSampler, tmp_path: Path
) -> None:
    losses_of(CONFIG, sampler, tmp_path)
    with pytest.raises(SkyfixError, match="another configuration"):
        losses_of(msgspec.structs.replace(CONFIG, seed=5), sampler, tmp_path)


def test_a_loss_that_is_no_number_stops_with_advice(sampler: PairSampler) -> None:
    run, batch = fresh(CONFIG, sampler), first_batch(CONFIG, sampler)
    batch["camera"].fill_(math.nan)
    with pytest.raises(SkyfixError, match="lower lr"):
        run.advance(batch)


def test_a_run_that_does_not_learn_is_stopped(sampler: PairSampler) -> None:
    run = fresh(CONFIG, sampler)
    for _ in range(COLLAPSE_STEPS - 1):
        run._guard(4.16)
    with pytest.raises(SkyfixError, match="collapsed"):
        run._guard(4.16)
    healthy = fresh(CONFIG, sampler)
    for step in range(COLLAPSE_STEPS):
        healthy._guard(4.16 * math.exp(-step / 200))


@pytest.mark.parametrize("step", [COLLAPSE_STEPS // 2, COLLAPSE_STEPS, 5 * COLLAPSE_STEPS])
def test_a_resumed_run_is_not_judged_by_its_later_losses(
    sampler: PairSampler, tmp_path: Path, step: int
) -> None:
    lesson = ImageryLesson(CONFIG, sampler)
    killed = Run(CONFIG, lesson, tmp_path, CPU)
    killed.step = step
    killed.save()
    run = Run.resumed(CONFIG, lesson, tmp_path, CPU)
    for _ in range(2 * COLLAPSE_STEPS):
        run.step += 1
        run._guard(1.2)  # learnt long ago, and flat


def test_the_checkpoint_of_the_best_score_is_kept_apart(
    sampler: PairSampler, tmp_path: Path
) -> None:
    lesson = ScoredLesson(sampler, [75.0, 50.0])
    train(CONFIG, lesson, tmp_path, CPU, lambda _: None)
    last, best = load_checkpoint(tmp_path), load_checkpoint(tmp_path / "best")
    assert (last.record.step, last.record.score) == (6, 50.0)
    assert (best.record.step, best.record.score) == (3, 75.0)
    key = "backbone.stem.0.weight"
    assert not torch.equal(last.weights[key], best.weights[key])


def test_epochs_without_a_score_are_never_the_best(sampler: PairSampler, tmp_path: Path) -> None:
    train(CONFIG, ScoredLesson(sampler, [None, None]), tmp_path, CPU, lambda _: None)
    assert load_record(tmp_path).score is None
    assert not (tmp_path / "best").exists()


def test_a_resumed_run_remembers_the_best_score_and_its_lesson(
    sampler: PairSampler, tmp_path: Path
) -> None:
    def die_at_five(progress: Progress) -> None:
        if progress.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(CONFIG, ScoredLesson(sampler, [75.0]), tmp_path, CPU, die_at_five)
    lesson = ScoredLesson(sampler, [50.0])
    train(CONFIG, lesson, tmp_path, CPU, lambda _: None)
    assert load_record(tmp_path).score == 50.0
    assert load_record(tmp_path / "best").step == 3
    assert lesson.ended == 2


def test_a_run_that_has_ended_is_left_as_it_is(sampler: PairSampler, tmp_path: Path) -> None:
    losses_of(CONFIG, sampler, tmp_path)
    record = load_record(tmp_path)
    assert losses_of(CONFIG, sampler, tmp_path) == []
    assert load_record(tmp_path) == record


def test_a_run_begins_with_the_weights_that_it_is_given(
    sampler: PairSampler, tmp_path: Path
) -> None:
    start = {key: value + 1 for key, value in fresh(CONFIG, sampler).network.state_dict().items()}
    run = Run.resumed(CONFIG, ImageryLesson(CONFIG, sampler), tmp_path, CPU, start)
    for weights in (run.network.state_dict(), run.averaged):
        assert all(torch.equal(weights[key], value) for key, value in start.items())
    run.save()
    again = Run.resumed(
        CONFIG, ImageryLesson(CONFIG, sampler), tmp_path, CPU,
        {key: value + 1 for key, value in start.items()},
    )  # fmt: skip
    key = "backbone.stem.0.weight"
    assert torch.equal(again.network.state_dict()[key], start[key])  # the run goes on instead


def test_averaged_weights_stand_in_for_a_while(sampler: PairSampler) -> None:
    run = fresh(CONFIG, sampler)
    run.advance(first_batch(CONFIG, sampler))
    key = "backbone.stem.0.weight"
    live = run.network.state_dict()[key].clone()
    with run.averaged_weights():
        assert torch.equal(run.network.state_dict()[key], run.averaged[key])
    assert torch.equal(run.network.state_dict()[key], live)
    assert not torch.equal(run.averaged[key], live)


@pytest.mark.parametrize("spoiled", ["batch", "weights"])
def test_a_run_that_diverges_keeps_the_last_good_checkpoint(
    sampler: PairSampler, tmp_path: Path, spoiled: str
) -> None:
    """A gradient that overflows spoils the weights behind a loss that is still finite."""
    lesson = ImageryLesson(CONFIG, sampler)
    run = Run(CONFIG, lesson, tmp_path, CPU)
    batch = first_batch(CONFIG, sampler)
    run.advance(batch)
    run.save()
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if spoiled == "weights":
        run.network.state_dict()["backbone.stem.0.weight"].fill_(math.inf)
        with pytest.raises(SkyfixError, match=r"stem\.0\.weight is no longer finite at step 1"):
            run.save(99.0)
    else:
        batch["camera"].fill_(math.nan)
        with pytest.raises(SkyfixError, match="the loss is nan at step 2: lower lr"):
            run.advance(batch)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good
    assert Run.resumed(CONFIG, lesson, tmp_path, CPU).step == 1


def test_the_curve_has_a_line_every_twenty_steps(sampler: PairSampler, tmp_path: Path) -> None:
    run = Run(CONFIG, ImageryLesson(CONFIG, sampler), tmp_path, CPU)
    for step in (20, 40):
        run.log(Progress(step, 1.5 / step, 0.25))
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40"]
    assert float(rows[0]["loss"]) == pytest.approx(0.075)
