from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

from skyfix.runtime.errors import InputError
from skyfix.train.config import DatasetConfig
from skyfix.train.data.dataset import LOADERS, load_dataset


def test_every_name_that_a_configuration_allows_has_a_loader() -> None:
    assert set(get_args(get_type_hints(DatasetConfig)["name"])) == set(LOADERS)


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_each_miniature_loads_whole_by_its_name(
    tmp_path: Path, miniature: ModuleType, name: str
) -> None:
    miniature.MAKERS[name](tmp_path)
    data = load_dataset(name, tmp_path)
    assert data.name == name
    assert data.train is not None
    assert data.tests
    for images in (
        *data.train.views.values(),
        *(side for test in data.tests for side in (test.query, test.gallery)),
    ):
        assert len(images) == len(images.labels) > 0
        assert images.positions is None or images.positions.shape == (len(images), 2)
        assert all(path.is_file() for path in images.paths)
    queries, references = (data.train.views[v] for v in (data.train.query, data.train.reference))
    columns = data.train.pairs.T
    assert (queries.labels[columns[0]] == references.labels[columns[1]]).all()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'cvus'; there are cvusa, cvact, .*, denseuav"):
        load_dataset("cvus", tmp_path)


def test_an_unknown_option_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no option polr; its options: drop_duplicates, polar"):
        load_dataset("cvusa", tmp_path, polr=True)


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        load_dataset("cvusa", tmp_path / "absent")
