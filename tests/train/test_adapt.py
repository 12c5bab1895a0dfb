"""A small network on a drawn map; the clock is the test's own, so that a second is a step."""

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from skyfix.runtime.cli import main
from skyfix.runtime.encoder import SHIPPED_MODELS
from skyfix.runtime.errors import InputError, ModelError
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train import adapt as adapting
from skyfix.train import held_out
from skyfix.train.adapt import Adaptation, AreaLesson, Progress, adapt, adapted_run
from skyfix.train.adapt_start import start_from
from skyfix.train.checkpoint import SCHEMA, CheckpointRecord, save_checkpoint
from skyfix.train.config import ImageryConfig, ImageryRun, LossConfig, OptimiserConfig, ViewConfig
from skyfix.train.data.raster import PairSampler
from skyfix.train.models.build import build_network
from skyfix.train.models.config import GeoDTRPlusDroneConfig, MFRGNDroneConfig
from skyfix.train.models.network import Network

RUN = ImageryRun(
    name="tiny",
    licence="Apache-2.0",
    model=GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=16),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=ImageryConfig(folders={"a": 1.0}, licences={"a": "CC0"}),
    loss=LossConfig(info_nce=1.0),
    optimiser=OptimiserConfig(clip_norm=1.0),
    batch=16,
    precision="fp32",
    workers=0,
)
TOWN = adapted_run(RUN, "tiny-town", "town.tif", "CC-BY-4.0", workers=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def town() -> Raster:
    return town_and_country(4, 700.0, 600.0, 2.0, LocalFrame(47.0, 8.0))


def fresh() -> Network:
    torch.manual_seed(0)
    return build_network(RUN.model, RUN.input_px)


def copied(network: Network) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def ticking(step_s: float) -> Callable[[], float]:
    return map(float, itertools.count(0.0, step_s)).__next__


def with_lr(lr: float) -> ImageryRun:
    return msgspec.structs.replace(TOWN, optimiser=OptimiserConfig(lr=lr))


@pytest.fixture(autouse=True)
def short_exam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MAX_TILES", 60)
    monkeypatch.setattr(held_out, "VIEWS", 40)


def adapted(
    network: Network, town: Raster, run: ImageryRun, minutes: float, step_s: float = 1.0
) -> tuple[Adaptation, list[Progress]]:
    seen: list[Progress] = []
    found = adapt(network, run, town, minutes, CPU, ticking(step_s), seen.append)
    return found, seen


@pytest.mark.slow
def test_a_network_that_learns_the_map_finds_more_of_its_held_out_part(
    town: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "VIEWS", 200)
    network = fresh()
    first = copied(network)
    found, seen = adapted(network, town, with_lr(1e-3), 4.0)
    assert found.better
    assert found.after > found.before + 0.1
    assert found.steps == seen[-1].steps
    assert not all(torch.equal(first[key], value) for key, value in found.learned.items())
    for key, value in network.state_dict().items():
        assert torch.equal(value, found.learned[key]), key


def test_a_network_that_learning_breaks_is_given_back_as_it_came(town: Raster) -> None:
    """The fault: a learning rate that destroys the weights."""
    network = fresh()
    first = copied(network)
    found, _ = adapted(network, town, with_lr(30.0), 0.25)
    assert not found.better
    for key, value in network.state_dict().items():
        assert torch.equal(value, first[key]), key
    assert not all(torch.equal(first[key], value) for key, value in found.learned.items())


def test_a_gain_that_may_be_chance_is_no_gain(
    town: Raster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "SURE", 1000.0)  # of deviations
    network = fresh()
    first = copied(network)
    found, _ = adapted(network, town, with_lr(1e-3), 0.25)
    assert not found.better
    assert all(torch.equal(first[key], value) for key, value in network.state_dict().items())


def test_the_minutes_bound_learning_and_scoring(town: Raster) -> None:
    found, _ = adapted(fresh(), town, with_lr(1e-4), 0.1, step_s=0.25)
    assert 3.0 < found.seconds < 7.5  # a round ends with its step


def test_too_few_minutes_are_refused_with_a_number_that_suffices(town: Raster) -> None:
    with pytest.raises(InputError, match=r"scoring alone takes .* Give --minutes 1 or more"):
        adapted(fresh(), town, TOWN, 0.01)


def test_batch_norms_keep_the_statistics_that_they_came_with(town: Raster) -> None:
    model = MFRGNDroneConfig("convnext_atto", layer_scale=0.1, pooled_cells=(1, 2))
    view = ViewConfig(input_px=64, gsd_m=2.0)
    run = msgspec.structs.replace(TOWN, model=model, view=view, batch=2)
    sampler = PairSampler([town], np.ones(1), view, known_scale=True)
    lesson = AreaLesson(run, sampler)
    network = build_network(model, run.input_px).train()
    first = copied(network)
    loss, _ = lesson(network, next(lesson.batches(0)))
    loss.backward()
    for key in (key for key in first if "running" in key or "num_batches" in key):
        assert torch.equal(network.state_dict()[key], first[key]), key
    weight = network.get_parameter("proj_gl.0.1.weight")
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_pairs_of_a_known_map_are_of_its_scale(town: Raster) -> None:
    """Places stay inside the map's own metres; at a drawn scale they would not."""
    sampler = PairSampler([town], np.ones(1), RUN.view, known_scale=True)
    for seed in range(5):
        _, _, places, _ = next(sampler.batches(16, 1, seed))
        assert np.abs(places).max() < 360.0
    spread = [np.abs(next(sampler.batches(16, 1, seed))[2]).max() for seed in range(5)]
    assert max(spread) > 200.0


def test_the_adapted_run_names_the_map_and_keeps_what_came_before() -> None:
    assert TOWN.name == "tiny-town"
    assert TOWN.data.licences == {"a": "CC0", "town.tif": "CC-BY-4.0"}
    assert TOWN.model == RUN.model
    assert (TOWN.view.input_px, TOWN.view.gsd_m) == (32, 4.0)


def test_a_shipped_model_is_a_start_by_its_name() -> None:
    start = start_from("nano")
    assert start.run.name == "nano"
    assert start.origin.startswith("nano ")
    assert start.steps > 1000


def test_a_checkpoint_folder_is_a_start(tmp_path: Path) -> None:
    network = fresh()
    record = CheckpointRecord(SCHEMA, RUN.model, RUN.input_px, RUN, step=70, hours=0.5)
    save_checkpoint(tmp_path / "run", record, network.state_dict())
    start = start_from(str(tmp_path / "run"))
    assert (start.run, start.steps, start.hours, start.origin) == (RUN, 70, 0.5, "run")
    for key, value in network.state_dict().items():
        assert torch.equal(start.network.state_dict()[key], value), key


def test_weights_that_no_run_on_maps_made_are_no_start(tmp_path: Path) -> None:
    record = CheckpointRecord(SCHEMA, RUN.model, RUN.input_px, source="published.pth")
    save_checkpoint(tmp_path / "run", record, fresh().state_dict())
    with pytest.raises(InputError, match="of no run on map imagery"):
        start_from(str(tmp_path / "run"))


def test_a_model_without_its_configuration_is_no_start(tmp_path: Path) -> None:
    for file in (SHIPPED_MODELS / "nano").glob("*.[oj]*n*"):
        (tmp_path / file.name).symlink_to(file)
    with pytest.raises(InputError, match=r"0 training configurations.*checkpoint folder"):
        start_from(str(tmp_path))


def test_a_name_of_nothing_is_no_start() -> None:
    with pytest.raises(ModelError, match="no model 'nonesuch'"):
        start_from("nonesuch")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--adapt", "town.tif", "-o", "m"], "--adapt needs a model to begin with"),
        (["--adapt", "town.tif", "--from", "nano"], "--adapt needs a model to begin with"),
        (["run.yaml", "--adapt", "town.tif", "--from", "nano"], "takes its configuration from"),
        (["--minutes", "3"], "name a configuration, or a map with --adapt"),
        (["run.yaml", "--minutes", "3"], "--minutes, --licence and --accuracy go with --adapt"),
        (["--adapt", "nowhere.tif", "--from", "nano", "-o", "m"], "nowhere.tif does not exist"),
    ],
)
def test_a_call_that_cannot_be_meant_says_why(
    arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert fault in capsys.readouterr().err
