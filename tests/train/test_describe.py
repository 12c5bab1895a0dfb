import json
from pathlib import Path

import pytest

from skyfix.runtime.cli import main
from skyfix.runtime.errors import InputError
from skyfix.train.describe import figures_of, network_named, print_network
from skyfix.train.models.config import (
    GeoDTRPlusConfig,
    InputSizes,
    MFRGNConfig,
    MFRGNDroneConfig,
    NetworkConfig,
    Sample4GeoConfig,
    University1652Config,
)

CVUSA: InputSizes = {"ground": (122, 671), "aerial": (256, 256)}
POLAR: InputSizes = {"ground": (122, 671), "aerial": (122, 671)}
VIGOR: InputSizes = {"ground": (320, 640), "aerial": (320, 320)}
MFRGN_CVUSA: InputSizes = {"ground": (128, 512), "aerial": (256, 256)}


def square(side: int) -> InputSizes:
    return {"drone": (side, side), "satellite": (side, side)}


@pytest.mark.parametrize(
    ("config", "input_px", "millions", "giga_macs"),
    [
        (GeoDTRPlusConfig(), CVUSA, 30.05, (6.30, 5.44)),
        (GeoDTRPlusConfig(), POLAR, 30.19, (6.30, 6.30)),
        (GeoDTRPlusConfig(), VIGOR, 35.5, (17.7, 8.6)),
        (MFRGNConfig(), MFRGN_CVUSA, 97.9, (20.9, 20.9)),
        (MFRGNDroneConfig(), square(384), 93.4, (46.6, 46.6)),
        (MFRGNDroneConfig("convnext_tiny"), square(256), 32.3, (6.6, 6.6)),
        (Sample4GeoConfig(), square(384), 87.57, (45.1, 45.1)),
        (Sample4GeoConfig(), square(256), 87.57, (20.1, 20.1)),
        (Sample4GeoConfig(), square(224), 87.57, (15.4, 15.4)),
    ],
    ids=lambda value: value.__class__.__name__ if hasattr(value, "backbone") else str(value),
)
def test_figures_are_the_known_ones(
    config: NetworkConfig,
    input_px: InputSizes,
    millions: float,
    giga_macs: tuple[float, float],
) -> None:
    figures = figures_of(config, input_px)
    assert figures.parameters / 1e6 == pytest.approx(millions, abs=0.05)
    counted = [branch.macs / 1e9 for branch in figures.branches]
    # pyramid pooling is a matrix product here, 0.1 GMAC at most
    assert counted == pytest.approx(giga_macs, rel=0.005, abs=0.13)


def test_branches_that_share_nothing_add_up_and_shared_ones_do_not() -> None:
    apart = figures_of(GeoDTRPlusConfig(), CVUSA)
    assert sum(branch.parameters for branch in apart.branches) == apart.parameters
    shared = figures_of(Sample4GeoConfig("convnext_atto"), square(64))
    assert {branch.parameters for branch in shared.branches} == {shared.parameters}


def test_what_only_training_uses_belongs_to_no_branch() -> None:
    sizes = dict.fromkeys(("satellite", "street"), (64, 64))
    figures = figures_of(University1652Config(share=False, classes=1000), sizes)
    assert figures.parameters - figures.branches[0].parameters > 512 * 1000


def test_a_name_a_yaml_and_a_stranger_are_told_apart() -> None:
    assert network_named("geodtr_plus") == (GeoDTRPlusConfig(), CVUSA)
    yaml = Path(__file__).resolve().parents[2] / "train/configs/cvusa_mfrgn.yaml"
    assert network_named(str(yaml)) == (MFRGNConfig(), MFRGN_CVUSA)
    with pytest.raises(InputError, match=r"'vit' is no network.*sample4geo"):
        network_named("vit")


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_network("geodtr_plus_drone", json_output=False)
    assert "256x256" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["models", "geodtr_plus_drone", "--json"])
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["network"]["architecture"] == "geodtr_plus_drone"
