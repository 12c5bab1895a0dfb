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
from skyfix.train.checkpoint import load_checkpoint
from skyfix.train.config import DataConfig, LossConfig, ModelConfig, TrainConfig, ViewConfig
from skyfix.train.data.raster import PairSampler
from skyfix.train.loop import COLLAPSE_STEPS, Progress, Run, schedule, train
from skyfix.train.models import Encoded

CONFIG = TrainConfig(
    name="tiny",
    licence="Apache-2.0",
    model=ModelConfig("geodtr_plus_drone", layer_scale=0.1, layouts=2, projection=16, dropout=0.1),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=DataConfig(folders={}, licences={}),
    loss=LossConfig(info_nce=1.0, counterfactual=0.1),
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


def losses_of(config: TrainConfig, sampler: PairSampler, folder: Path) -> list[float]:
    seen: list[Progress] = []
    train(config, sampler, folder, CPU, seen.append)
    return [progress.loss for progress in seen]


def curve_steps(folder: Path) -> list[int]:
    with (folder / "curve.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_with_the_same_curve(sampler: PairSampler, tmp_path: Path) -> None:
    whole = losses_of(CONFIG, sampler, tmp_path / "whole")
    seen: list[float] = []

    def die_at_five(progress: Progress) -> None:
        seen.append(progress.loss)
        if progress.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(CONFIG, sampler, tmp_path / "killed", CPU, die_at_five)
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
        train(CONFIG, sampler, tmp_path, CPU, die_at_six)
    assert curve_steps(tmp_path) == [1, 2, 3, 4, 5]
    losses_of(CONFIG, sampler, tmp_path)
    assert curve_steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_training_lowers_the_loss_on_a_batch_it_sees_again(sampler: PairSampler) -> None:
    run = Run(msgspec.structs.replace(CONFIG, warmup=0.0, steps=100), Path("unused"), CPU)
    batch = tuple(torch.from_numpy(part) for part in next(sampler.batches(8, 2, 0)))
    losses = [run.advance(batch).loss for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_exported_weights_are_an_average_of_the_trained_ones(sampler: PairSampler) -> None:
    run = Run(CONFIG, Path("unused"), CPU)
    batch = tuple(torch.from_numpy(part) for part in next(sampler.batches(8, 2, 0)))
    key = "backbone.stem.0.weight"
    first = run.averaged[key].clone()
    run.advance(batch)
    after = run.model.state_dict()[key]
    assert torch.allclose(run.averaged[key], first + 0.9 * (after - first), atol=1e-6)


def test_chsg_doubles_the_batch(sampler: PairSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(msgspec.structs.replace(CONFIG, chsg=True), Path("unused"), CPU)
    counted: list[int] = []
    forward = run.model.forward

    def counting(images: torch.Tensor) -> Encoded:
        counted.append(len(images))
        return forward(images)

    monkeypatch.setattr(run.model, "forward", counting)
    run.advance(tuple(torch.from_numpy(part) for part in next(sampler.batches(4, 2, 0))))
    assert counted == [16]  # 4 pairs, 2 layouts, 2 views


def test_the_layouts_of_a_step_do_not_depend_on_what_was_drawn_before(
    sampler: PairSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(msgspec.structs.replace(CONFIG, chsg=True), Path("unused"), CPU)
    seen: list[torch.Tensor] = []
    forward = run.model.forward

    def watching(images: torch.Tensor) -> Encoded:
        seen.append(images.clone())
        return forward(images)

    monkeypatch.setattr(run.model, "forward", watching)
    batch = tuple(torch.from_numpy(part) for part in next(sampler.batches(4, 2, 0)))
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
        losses_of(msgspec.structs.replace(CONFIG, lr=0.5), sampler, tmp_path)


def test_a_loss_that_is_no_number_stops_with_advice(sampler: PairSampler) -> None:
    run = Run(CONFIG, Path("unused"), CPU)
    batch = next(sampler.batches(8, 2, 0))
    camera, *rest = (torch.from_numpy(part) for part in batch)
    broken = (torch.full_like(camera, float("nan")), *rest)
    with pytest.raises(SkyfixError, match="lower lr"):
        run.advance(broken)


def test_a_run_that_does_not_learn_is_stopped() -> None:
    run = Run(CONFIG, Path("unused"), CPU)
    for _ in range(COLLAPSE_STEPS - 1):
        run._guard(4.16)
    with pytest.raises(SkyfixError, match="collapsed"):
        run._guard(4.16)
    healthy = Run(CONFIG, Path("unused"), CPU)
    for step in range(COLLAPSE_STEPS):
        healthy._guard(4.16 * math.exp(-step / 200))


@pytest.mark.parametrize("step", [COLLAPSE_STEPS // 2, COLLAPSE_STEPS, 5 * COLLAPSE_STEPS])
def test_a_resumed_run_is_not_judged_by_its_later_losses(tmp_path: Path, step: int) -> None:
    killed = Run(CONFIG, tmp_path, CPU)
    killed.step = step
    killed.save()
    run = Run.resumed(CONFIG, tmp_path, CPU)
    for _ in range(2 * COLLAPSE_STEPS):
        run.step += 1
        run._guard(1.2)  # learnt long ago, and flat


def test_the_schedule_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    config = msgspec.structs.replace(CONFIG, steps=1000, warmup=0.1)
    assert schedule(0, config) == pytest.approx(0.01)
    assert schedule(49, config) == pytest.approx(0.5)
    assert schedule(100, config) == pytest.approx(1.0)
    assert schedule(550, config) == pytest.approx(0.5)
    assert schedule(1000, config) == pytest.approx(0.0, abs=1e-9)


def test_the_curve_has_a_line_every_twenty_steps(tmp_path: Path) -> None:
    run = Run(CONFIG, tmp_path, CPU)
    for step in (20, 40):
        run.log(Progress(step, 1.5 / step, 0.25))
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40"]
    assert float(rows[0]["loss"]) == pytest.approx(0.075)


def test_vectors_do_not_decay() -> None:
    run = Run(CONFIG, Path("unused"), CPU)
    decayed, free = run.optimiser.param_groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim <= 1 for parameter in free["params"])
    assert free["weight_decay"] == 0
    assert any(parameter is run.loss.logit_scale for parameter in free["params"])
