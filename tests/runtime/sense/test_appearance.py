import cv2
import numpy as np
import pytest

from skyfix.runtime.sense.appearance import Appearance, apply_appearance, draw_appearance

RNG_SEED = 5


def picture() -> np.ndarray:
    rough = np.random.default_rng(0).uniform(0, 255, (96, 128, 3)).astype(np.float32)
    return cv2.GaussianBlur(rough, (0, 0), 2).clip(0, 255).astype(np.uint8)


def seen(look: Appearance, image: np.ndarray | None = None) -> np.ndarray:
    source = picture() if image is None else image
    return apply_appearance(source, look, np.random.default_rng(RNG_SEED)).astype(float)


def test_no_strength_changes_nothing() -> None:
    look = draw_appearance(np.random.default_rng(1), 0.0)
    assert np.abs(seen(look) - picture()).max() <= 1


def test_draws_differ_and_stay_pictures() -> None:
    rng = np.random.default_rng(2)
    looks = [draw_appearance(rng, 1.0) for _ in range(20)]
    assert len(set(looks)) == 20
    for look in looks:
        image = seen(look)
        assert image.shape == (96, 128, 3)
        assert np.isfinite(image).all()


def test_haze_pulls_dark_ground_towards_the_airlight() -> None:
    black = np.zeros((32, 32, 3), np.uint8)
    assert seen(Appearance(haze=0.5), black).mean(axis=(0, 1)) == pytest.approx(
        (102, 107, 114), abs=1
    )


def test_gain_and_gamma_follow_their_curves() -> None:
    grey = np.full((16, 16, 3), 100, np.uint8)
    assert seen(Appearance(gain=1.5), grey).mean() == pytest.approx(150, abs=1)
    assert seen(Appearance(gamma=2.0), grey).mean() == pytest.approx(100**2 / 255, abs=1)


def test_saturation_zero_is_grey_and_keeps_the_mean() -> None:
    image = seen(Appearance(saturation=0.0))
    assert np.ptp(image, axis=2).max() <= 1
    assert image.mean() == pytest.approx(picture().mean(), abs=1)


def test_dry_season_reddens_vegetation_and_leaves_concrete() -> None:
    grass, concrete = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 140, np.uint8)
    grass[:] = (60, 110, 40)
    dried = seen(Appearance(season=-1.0), grass).mean(axis=(0, 1))
    assert dried[0] > dried[1] > dried[2]
    assert np.abs(seen(Appearance(season=-1.0), concrete) - 140).max() <= 1


def test_blur_and_motion_remove_detail_along_their_axis() -> None:
    along = seen(Appearance(motion_px=8.0, motion_deg=0.0))
    before, after = (
        [float(np.abs(np.diff(image.astype(float), axis=axis)).mean()) for axis in (0, 1)]
        for image in (picture(), along)
    )
    assert after[1] < 0.6 * before[1]  # along the motion
    assert after[0] > 1.4 * after[1]  # across it
    blurred = seen(Appearance(blur_px=3.0))
    assert blurred.std() < 0.7 * picture().std()


def test_noise_has_the_stated_deviation() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert seen(Appearance(noise=8.0), grey).std() == pytest.approx(8.0, rel=0.1)


def test_shadows_only_darken_and_vignette_spares_the_centre() -> None:
    grey = np.full((65, 65, 3), 200, np.uint8)
    assert seen(Appearance(shadow=0.6), grey).max() <= 200
    assert seen(Appearance(shadow=0.6), grey).min() < 150
    dimmed = seen(Appearance(vignette=0.5), grey)
    assert dimmed[32, 32, 0] == pytest.approx(200, abs=1)
    assert dimmed[0, 0, 0] == pytest.approx(100, abs=2)


def test_new_objects_change_some_of_the_ground_only() -> None:
    changed = np.abs(seen(Appearance(changed=6)) - picture()).max(axis=2) > 8
    assert 0.001 < changed.mean() < 0.6
