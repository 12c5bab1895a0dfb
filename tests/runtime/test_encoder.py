from pathlib import Path

import msgspec
import numpy as np
import pytest

from skyfix.runtime.encoder import MIN_STD, Model, load_model, model_folder, normalised
from skyfix.runtime.engines.base import CARD_NAME
from skyfix.runtime.errors import ModelError
from skyfix.runtime.types import Patch


def patch(seed: int, size: int = 32) -> Patch:
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    valid = np.ones((size, size), bool)
    valid[:5] = False
    image[:5] = 0
    return Patch(image, valid, 1.0, (0.0, 0.0))


def test_descriptors_have_unit_length_and_do_not_depend_on_the_batch(tiny_model: Model) -> None:
    patches = [patch(seed) for seed in range(5)]
    together = tiny_model.query.describe(patches)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    for row, single in zip(together, patches, strict=True):
        assert np.allclose(tiny_model.query.describe([single])[0], row, atol=1e-6)


def test_stated_mean_and_deviation_are_those_of_rgb() -> None:
    view = patch(1)
    tensor = normalised(view, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    row, column = 20, 11
    for channel, (mean, std) in enumerate(((0.5, 0.2), (0.4, 0.25), (0.3, 0.3))):
        expected = (view.image[row, column, channel] / 255 - mean) / std
        assert tensor[channel, row, column] == pytest.approx(expected, abs=1e-4)
    assert np.all(tensor[:, :5] == 0)


def test_exposure_and_colour_cast_cancel_without_them() -> None:
    view = patch(2)
    cast = (view.image * np.array([0.5, 0.8, 0.6])).astype(np.uint8)
    other = Patch(cast, view.valid, 1.0, (0.0, 0.0))
    difference = normalised(view, None, None) - normalised(other, None, None)
    assert np.abs(difference).max() < 0.05  # rounding of the darker picture


def test_a_flat_patch_is_not_stretched_to_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (32, 32, 3))
    image = np.asarray(100 + noise, np.uint8)
    tensor = normalised(Patch(image, np.ones((32, 32), bool), 1.0, (0.0, 0.0)), None, None)
    assert np.abs(tensor).max() <= 1 / (MIN_STD * 255)


def test_an_unknown_model_is_an_error_that_says_where_to_look() -> None:
    with pytest.raises(ModelError, match="skyfix models"):
        model_folder("no_such_model")


def test_a_graph_that_is_no_graph_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "both.onnx").write_bytes(b"this is no graph")
    (broken / CARD_NAME).write_bytes((tiny_model_folder / CARD_NAME).read_bytes())
    with pytest.raises(ModelError, match="graphs have id"):
        load_model(broken)


def test_a_card_without_a_branch_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "both.onnx").write_bytes((tiny_model_folder / "both.onnx").read_bytes())
    card = msgspec.json.decode((tiny_model_folder / CARD_NAME).read_bytes())
    card["graphs"] = {"query": "both.onnx"}
    (half / CARD_NAME).write_bytes(msgspec.json.encode(card))
    with pytest.raises(ModelError, match="'query' and 'map'"):
        load_model(half)
