import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.fuse.overlay import (
    FACTOR,
    agreement_and_rival,
    best_shift_px,
    correlation,
    local_contrast,
)


def ground(seed: int, rows: int = 160, columns: int = 240) -> NDArray[np.uint8]:
    rough = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 3.0)
    return np.asarray(np.clip(127 + 40 * smooth / smooth.std(), 1, 255), np.uint8)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (40, -20), (-60, 36), (8, 50)])
def test_a_planted_shift_is_the_best_one(right: int, down: int) -> None:
    picture = ground(0, 320, 480)
    first = picture[80:240, 120:360]
    second = picture[80 - down : 240 - down, 120 - right : 360 - right]
    field = correlation(first, second)
    assert best_shift_px(field) == pytest.approx((right, down), abs=FACTOR)
    assert field.max() > 0.8


def test_what_is_not_seen_takes_no_part() -> None:
    first = ground(1)
    second = first.copy()
    second[:, :150] = 0
    agreement, rival = agreement_and_rival(correlation(first, second))
    assert agreement > 0.95
    assert rival < 0.4


def test_other_ground_agrees_nowhere() -> None:
    agreement, _ = agreement_and_rival(correlation(ground(2), ground(3)))
    assert agreement < 0.25


def test_ground_that_repeats_has_a_rival() -> None:
    tiled = np.tile(ground(4, 40, 40), (4, 6))
    agreement, rival = agreement_and_rival(correlation(tiled, tiled))
    assert rival > 0.9 * agreement


def test_nothing_seen_is_no_agreement() -> None:
    assert agreement_and_rival(correlation(ground(5), np.zeros((160, 240), np.uint8)))[0] == 0


def test_local_contrast_takes_out_light_and_keeps_flat_ground_flat() -> None:
    picture = ground(6)
    light = np.linspace(0.5, 1.0, 240)[None, :]
    bright, lit = local_contrast(picture), local_contrast((picture * light + 20).astype(np.uint8))
    assert np.corrcoef(bright.ravel(), lit.ravel())[0, 1] > 0.98
    assert np.ptp(local_contrast(np.full((50, 60), 90, np.uint8))) == 0


def test_no_structure_is_made_where_the_seen_part_ends() -> None:
    picture = np.full((80, 100), 200, np.uint8)
    picture[:, :30] = 0
    contrast = local_contrast(picture, picture > 0)
    assert (contrast[:, :30] == 0).all()
    assert set(np.unique(contrast)) == {0, 128}
