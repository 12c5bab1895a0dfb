from pathlib import Path

import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.config import ImageryRun, config_from_yaml

CONFIGS = Path(__file__).resolve().parents[2] / "train" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_reads_and_names_its_licences(path: Path) -> None:
    config = config_from_yaml(path)
    assert config.name == path.stem
    if isinstance(config, ImageryRun):
        assert config.data.licences.keys() == config.data.folders.keys()
        assert config.batch % config.scenes == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "missing required field"),
        ("kind: dataset\nname: x", "missing required field"),
        ("[1, 2]", "Expected `object`"),
        (": : :", "cannot be read|not found|mapping|Invalid"),
    ],
)
def test_a_broken_configuration_names_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        config_from_yaml(path)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    text = (CONFIGS / "nano.yaml").read_text()
    path = tmp_path / "typo.yaml"
    path.write_text(text + "learning_rate: 0.1\n")
    with pytest.raises(InputError, match="learning_rate"):
        config_from_yaml(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        config_from_yaml(tmp_path / "none.yaml")
