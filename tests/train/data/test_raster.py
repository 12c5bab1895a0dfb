import cv2
import numpy as np
import pytest

from skyfix.runtime.encoder import normalised
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.maps.raster import Raster
from skyfix.runtime.sense.appearance import Appearance
from skyfix.train.config import ViewConfig
from skyfix.train.data.raster import PairSampler, draw_pair, scene_from_raster

EXACT = ViewConfig(
    input_px=64, gsd_m=2.0, heading_deg=0, scale=0, tilt_deg=0, offset_m=0,
    map_appearance=0, camera_appearance=0,
)  # fmt: skip
WIDE = ViewConfig(input_px=64, gsd_m=2.0)


def texture(seed: int, side: int = 400) -> Raster:
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal((side, side, 3)).astype(np.float32)
    image = sum(cv2.GaussianBlur(rough, (0, 0), sigma) * sigma for sigma in (1.5, 4, 10))
    image = (127 + 50 * image / np.std(image)).clip(1, 255).astype(np.uint8)
    return Raster(image, np.ones((side, side), bool), LocalFrame(0, 0), 0.0, 0.0, 1.0)


def sampler(view: ViewConfig) -> PairSampler:
    return PairSampler([texture(0), texture(1)], np.array([0.5, 0.5]), view)


def test_without_errors_both_views_show_the_same_ground() -> None:
    rng = np.random.default_rng(0)
    scene = scene_from_raster(texture(2), EXACT, rng)
    assert scene is not None
    pairs = [draw_pair(scene, EXACT, Appearance(), rng) for _ in range(12)]
    for pair in filter(None, pairs):
        seen, shown = (
            cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY) for view in (pair.camera, pair.map)
        )
        wide = cv2.copyMakeBorder(shown, 8, 8, 8, 8, cv2.BORDER_REFLECT)
        mask = pair.camera.valid.astype(np.uint8)
        ncc = cv2.matchTemplate(wide, seen, cv2.TM_CCOEFF_NORMED, mask=mask)
        row, column = divmod(int(ncc.argmax()), ncc.shape[1])
        assert ncc.max() > 0.85
        assert (row, column) == pytest.approx((8, 8), abs=1)


def test_a_batch_is_a_function_of_its_seed() -> None:
    first, again, other = (next(sampler(WIDE).batches(8, 2, seed)) for seed in (5, 5, 6))
    for part in range(4):
        assert np.array_equal(first[part], again[part])
    assert not np.array_equal(first[0], other[0])


def test_a_batch_has_the_stated_shapes_and_scenes() -> None:
    camera, tile, place, scene = next(sampler(WIDE).batches(8, 2, 0))
    assert camera.shape == tile.shape == (8, 3, 64, 64)
    assert camera.dtype == tile.dtype == np.float32
    assert place.shape == (8, 2)
    assert scene.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_raster_smaller_than_a_tile_at_its_finest_is_no_scene() -> None:
    assert scene_from_raster(texture(0, 40), WIDE, np.random.default_rng(0)) is None


def test_patches_are_normalised_by_their_own_pixels() -> None:
    rng = np.random.default_rng(1)
    scene = scene_from_raster(texture(3), WIDE, rng)
    assert scene is not None
    pair = next(filter(None, (draw_pair(scene, WIDE, Appearance(), rng) for _ in range(20))))
    tensor = normalised(pair.camera, None, None)
    seen = tensor[:, pair.camera.valid]
    assert np.abs(seen.mean(axis=1)).max() < 1e-3
    assert seen.std(axis=1) == pytest.approx(np.ones(3), abs=1e-3)
    assert np.all(tensor[:, ~pair.camera.valid] == 0)
