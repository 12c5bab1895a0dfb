from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.errors import InputError
from skyfix.train.data.layout_simulation import (
    Layouts,
    draw_layouts,
    draw_other_layouts,
    panoramas_in_layouts,
    squares_in_layouts,
    views_in_layouts,
)

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "training_pieces.npz"
TURNS = {"left": 1, "back": 2, "right": 3}


def layout(mirrored: bool, turns: int) -> Layouts:
    return Layouts(torch.tensor([mirrored]), torch.tensor([turns]))


def index_image(height: int, width: int) -> torch.Tensor:
    return torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)


def as_ints(images: torch.Tensor) -> list[list[int]]:
    return images.reshape(images.shape[-2:]).long().tolist()


@pytest.mark.real
@pytest.mark.parametrize("name", TURNS)
def test_turns_equal_the_published_ones(name: str) -> None:
    if not GOLDEN.is_file():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    turn = layout(False, TURNS[name])
    with np.load(GOLDEN) as golden:
        aerial = squares_in_layouts(index_image(256, 256), turn)
        assert as_ints(aerial) == golden[f"rotate_{name}_aerial"][0].tolist()
        panorama = panoramas_in_layouts(index_image(122, 671), turn)
        assert as_ints(panorama) == golden[f"rotate_{name}_ground"][0].tolist()
        assert as_ints(panorama) == golden[f"rotate_{name}_polar"][0].tolist()


@pytest.mark.real
def test_mirrors_equal_the_published_ones() -> None:
    if not GOLDEN.is_file():
        pytest.skip("the reference outputs in ../shared/golden beside the repository are not there")
    with np.load(GOLDEN) as golden:
        aerial = squares_in_layouts(index_image(256, 256), layout(True, 0))
        assert as_ints(aerial) == golden["flip_aerial"][0].tolist()
        panorama = panoramas_in_layouts(index_image(122, 671), layout(True, 0))
        assert as_ints(panorama) == golden["flip_ground"][0].tolist()


def test_columns_split_where_the_published_code_splits_them() -> None:
    columns = torch.arange(671.0).reshape(1, 1, 1, 671)
    first = [int(panoramas_in_layouts(columns, layout(False, t)).flatten()[0]) for t in (1, 2, 3)]
    assert first == [504, 335, 167]


@given(azimuth_deg=st.floats(2, 358), mirrored=st.booleans(), turns=st.integers(0, 3))
def test_a_landmark_is_seen_where_the_aerial_image_has_it(
    azimuth_deg: float, mirrored: bool, turns: int
) -> None:
    side, width = 201, 720
    azimuth = np.radians(azimuth_deg)  # clockwise from north
    aerial = torch.zeros(1, 3, side, side)
    aerial[..., round(100 - 90 * np.cos(azimuth)), round(100 + 90 * np.sin(azimuth))] = 1
    ground = torch.zeros(1, 3, 4, width)
    ground[..., int((azimuth_deg / 360 + 0.5) % 1 * width)] = 1  # the centre column looks north
    views = {"aerial": aerial, "ground": ground}
    out = views_in_layouts(views, layout(mirrored, turns), frozenset({"ground"}))
    row, column = divmod(int(out["aerial"][0, 0].argmax()), side)
    seen = (int(out["ground"][0, 0, 0].argmax()) + 0.5) / width - 0.5
    planted = np.degrees(np.arctan2(column - 100, 100 - row))
    expected = (-azimuth_deg if mirrored else azimuth_deg) + 90 * turns
    assert abs((seen * 360 - planted + 180) % 360 - 180) < 1.5
    assert abs((planted - expected + 180) % 360 - 180) < 1.0


def test_each_image_of_a_batch_has_its_own_layout() -> None:
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    layouts = Layouts(torch.arange(8) >= 4, torch.arange(8) % 4)
    together = squares_in_layouts(images, layouts)
    panoramas = panoramas_in_layouts(images, layouts)
    for row in range(8):
        alone = layout(row >= 4, row % 4)
        assert torch.equal(
            together[row : row + 1], squares_in_layouts(images[row : row + 1], alone)
        )
        assert torch.equal(
            panoramas[row : row + 1], panoramas_in_layouts(images[row : row + 1], alone)
        )


def test_other_layouts_are_the_seven_that_change_something() -> None:
    drawn = draw_other_layouts(2000, torch.Generator().manual_seed(0))
    counts = (drawn.mirrored * 4 + drawn.turns).bincount(minlength=8)
    assert counts[0] == 0
    assert counts[1:].min() > 2000 / 7 * 0.75


def test_layouts_are_drawn_alike_and_turns_only_where_asked() -> None:
    drawn = draw_layouts(2000, True, torch.Generator().manual_seed(1))
    assert 0.45 < drawn.mirrored.float().mean() < 0.55
    assert drawn.turns.bincount().min() > 430
    assert not draw_layouts(100, False, torch.Generator().manual_seed(1)).turns.any()


def test_an_oblong_aerial_image_is_mirrored_but_not_turned_by_a_quarter() -> None:
    image = index_image(4, 6)
    assert torch.equal(squares_in_layouts(image, layout(True, 2)), image.flip(-2))
    with pytest.raises(InputError, match="4 x 6 px cannot be turned"):
        squares_in_layouts(image, layout(False, 1))
