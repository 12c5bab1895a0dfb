import csv
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from skyfix.runtime.cli import main
from skyfix.train.checkpoint import load_record
from skyfix.train.config import (
    DatasetConfig,
    DatasetRun,
    ImageryConfig,
    ImageryRun,
    LossConfig,
    OptimiserConfig,
    ScheduleConfig,
    ViewConfig,
)
from skyfix.train.models.config import GeoDTRPlusDroneConfig, Sample4GeoConfig

CONFIG = ImageryRun(
    name="tiny",
    licence="Apache-2.0",
    model=GeoDTRPlusDroneConfig("convnext_atto", layer_scale=0.1, layouts=2, projection=16),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=ImageryConfig(folders={}, licences={}, procedural=1.0, procedural_maps=1),
    loss=LossConfig(info_nce=1.0),
    batch=4,
    scenes=1,
    steps=2,
    workers=0,
)

PAIRS = DatasetRun(
    name="pairs",
    licence="none",
    model=Sample4GeoConfig("convnext_atto", layer_scale=0.1),
    data=DatasetConfig("cvusa", {"ground": (32, 64), "aerial": (32, 32)}, augment="sample4geo"),
    loss=LossConfig(info_nce=1.0),
    optimiser=OptimiserConfig(lr=8e-4),
    schedule=ScheduleConfig(warmup=0.5),
    precision="fp32",
    batch=4,
    epochs=2,
    workers=0,
)


@pytest.fixture(autouse=True)
def small_maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("skyfix.train.data.sources.PROCEDURAL_SIDE_M", 400.0)
    monkeypatch.chdir(tmp_path)


def written(config: ImageryRun | DatasetRun) -> str:
    Path("config.yaml").write_bytes(msgspec.yaml.encode(config))
    return "config.yaml"


def test_a_configuration_of_drawn_maps_alone_trains_into_runs_and_its_name() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", written(CONFIG), "--device", "cpu"])
    assert not stop.value.code
    assert load_record(Path("runs/tiny")).step == 2


def test_a_configuration_that_names_folders_asks_for_their_root(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ImageryConfig(folders={"dubai": 1.0}, licences={"dubai": "CC0-1.0"})
    with pytest.raises(SystemExit) as stop:
        main(["train", written(msgspec.structs.replace(CONFIG, data=data)), "--device", "cpu"])
    assert stop.value.code == 2
    assert "folder dubai; set --data" in capsys.readouterr().err


def trained(*arguments: str) -> DatasetRun:
    """The configuration that a call of `skyfix train` ran with."""
    with pytest.raises(SystemExit) as stop:
        main(["train", written(PAIRS), "--data", "cvusa", "--device", "cpu", *arguments])
    assert not stop.value.code
    run = load_record(Path("runs/pairs")).run
    assert isinstance(run, DatasetRun)
    return run


def rates() -> list[float]:
    with Path("runs/pairs/curve.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def test_a_published_data_set_trains_from_a_yaml_to_a_scored_checkpoint(
    miniature: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make_cvusa(Path("cvusa"), train=8, test=4)
    assert trained() == PAIRS
    last = load_record(Path("runs/pairs"))
    assert last.step == 4
    assert last.score is not None
    best = load_record(Path("runs/pairs/best")).score
    assert best is not None
    assert best >= last.score
    assert "runs/pairs: 4 steps. Next: skyfix export runs/pairs" in capsys.readouterr().out


def test_another_batch_scales_the_learning_rate(miniature: ModuleType) -> None:
    miniature.make_cvusa(Path("cvusa"), train=8, test=2)
    run = trained("--batch", "2")
    assert run.batch == 2
    assert run.optimiser.lr == pytest.approx(4e-4)
    assert load_record(Path("runs/pairs")).step == 8


def test_faithful_training_wastes_the_first_epoch(
    miniature: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.train.loop.CURVE_EVERY", 1)
    miniature.make_cvusa(Path("cvusa"), train=8, test=2)
    assert trained("--faithful").schedule.per_epoch
    assert rates() == [0, 0, 8e-4, 8e-4]


def test_training_wastes_no_epoch_otherwise(
    miniature: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfix.train.loop.CURVE_EVERY", 1)
    miniature.make_cvusa(Path("cvusa"), train=8, test=2)
    trained()
    assert rates() == pytest.approx([4e-4, 8e-4, 8e-4, 4e-4])  # warm-up, then a cosine


def test_a_data_set_without_its_root_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", written(PAIRS), "--device", "cpu"])
    assert stop.value.code == 2
    assert "set --data to the root of cvusa" in capsys.readouterr().err
