from pathlib import Path

import msgspec
import pytest

from skyfix.runtime.cli import main
from skyfix.train.checkpoint import load_record
from skyfix.train.config import DataConfig, LossConfig, ModelConfig, TrainConfig, ViewConfig

CONFIG = TrainConfig(
    name="tiny",
    licence="Apache-2.0",
    model=ModelConfig("geodtr_plus_drone", layer_scale=0.1, layouts=2, projection=16),
    view=ViewConfig(input_px=32, gsd_m=4.0),
    data=DataConfig(folders={}, licences={}, procedural=1.0, procedural_maps=1),
    loss=LossConfig(info_nce=1.0),
    batch=4,
    scenes=1,
    steps=2,
    workers=0,
)


@pytest.fixture(autouse=True)
def small_maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("skyfix.train.data.sources.PROCEDURAL_SIDE_M", 400.0)
    monkeypatch.chdir(tmp_path)


def written(config: TrainConfig) -> str:
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
    data = DataConfig(folders={"dubai": 1.0}, licences={"dubai": "CC0-1.0"})
    with pytest.raises(SystemExit) as stop:
        main(["train", written(msgspec.structs.replace(CONFIG, data=data)), "--device", "cpu"])
    assert stop.value.code == 2
    assert "folder dubai; set --data" in capsys.readouterr().err
