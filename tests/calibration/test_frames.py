from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.calibration.frames import (
    Candidate,
    chosen_frames,
    flight_candidates,
    k_centre,
    picture_candidates,
)
from skyfix.runtime.engines.base import ModelCard
from skyfix.runtime.errors import BrokenImageError, InputError
from skyfix.runtime.replay import Recording, recording_from_files
from skyfix.runtime.types import Patch

Batch = NDArray[np.float32]
CAMERA = """image_width: 96
image_height: 64
camera_matrix: [80, 0, 47.5, 0, 80, 31.5, 0, 0, 1]
distortion_coefficients: [0, 0, 0, 0, 0]
"""


def as_it_is(batch: Batch) -> Batch:
    return batch.reshape(len(batch), -1)


def flight(tmp_path: Path, rows: list[str], camera: str = CAMERA) -> Recording:
    frames = tmp_path / "frames"
    frames.mkdir()
    rng = np.random.default_rng(7)
    for index in range(len(rows)):
        image = cv2.resize(rng.integers(0, 255, (16, 24, 3), np.uint8), (96, 64))
        cv2.imwrite(str(frames / f"{index}.png"), image)
    header = "frame,time_s,yaw_deg,pitch_deg,roll_deg,height_agl_m\n"
    (tmp_path / "flight.csv").write_text(header + "\n".join(rows), encoding="utf-8")
    (tmp_path / "camera.yaml").write_text(camera, encoding="utf-8")
    return recording_from_files(str(frames), str(tmp_path / "flight.csv"), tmp_path / "camera.yaml")


def test_k_centre_takes_one_of_every_cluster_before_two_of_any() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(6, 8, dtype=np.float32)
    sizes = (200, 40, 10, 5, 2, 1)
    cluster = np.repeat(np.arange(6), sizes)
    rows = centers[cluster] + rng.normal(scale=0.01, size=(len(cluster), 8)).astype(np.float32)
    chosen = k_centre(rows, 6)
    assert sorted(cluster[chosen]) == [0, 1, 2, 3, 4, 5]


def test_k_centre_covers_at_least_as_well_as_the_first_n() -> None:
    rows = np.random.default_rng(1).normal(size=(120, 5)).astype(np.float32).cumsum(axis=0)

    def radius(index: list[int]) -> float:
        away = np.linalg.norm(rows[:, None] - rows[index][None], axis=2).min(axis=1)
        return float(away.max())

    assert radius(k_centre(rows, 16)) < radius(list(range(16))) / 3


def test_k_centre_never_takes_a_row_twice_even_among_equals() -> None:
    assert sorted(k_centre(np.ones((5, 3), np.float32), 9)) == [0, 1, 2, 3, 4]


def test_pictures_become_centred_squares_and_lie_in_folders_below_too(
    pictures: Path, card: ModelCard
) -> None:
    below = pictures / "below"
    below.mkdir()
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = (10, 20, 200)  # BGR; the centred square
    cv2.imwrite(str(below / "red.png"), image)
    found = {Path(c.name).name: c.patch for c in picture_candidates(pictures, card)}
    assert len(found) == 21
    assert (found["red.png"].image == (200, 20, 10)).all()
    assert found["red.png"].image.shape == (32, 32, 3)


def test_a_flight_gives_the_patches_of_the_aircraft_and_leaves_tilted_frames_out(
    tmp_path: Path, card: ModelCard
) -> None:
    rows = [f"{i}.png,{i},0,{-20 if i == 3 else -90},0,40" for i in range(6)]
    found = flight_candidates(flight(tmp_path, rows), card)
    assert [candidate.name for candidate in found] == [f"{i}.png" for i in (0, 1, 2, 4, 5)]
    assert found[0].patch.image.shape == (32, 32, 3)


def test_an_undecodable_frame_of_a_flight_is_named(tmp_path: Path, card: ModelCard) -> None:
    recording = flight(tmp_path, [f"{i}.png,{i},0,-90,0,40" for i in range(3)])
    (tmp_path / "frames" / "1.png").write_bytes(b"no picture")
    with pytest.raises(BrokenImageError, match=r"frame 1\.png .* cannot be decoded"):
        flight_candidates(recording, card)


def test_frames_of_another_size_than_the_cameras_are_refused(
    tmp_path: Path, card: ModelCard
) -> None:
    recording = flight(
        tmp_path, ["0.png,0,0,-90,0,40"], CAMERA.replace("_width: 96", "_width: 100")
    )
    with pytest.raises(InputError, match="96x64 px, the camera file says 100x64"):
        flight_candidates(recording, card)


def test_a_picture_smaller_than_the_model_is_refused(pictures: Path, card: ModelCard) -> None:
    cv2.imwrite(str(pictures / "tiny.png"), np.zeros((31, 90, 3), np.uint8))
    with pytest.raises(InputError, match="31 px on its shorter side, the model takes 32x32"):
        picture_candidates(pictures, card)


def test_an_undecodable_picture_is_named(pictures: Path, card: ModelCard) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BrokenImageError, match=r"broken\.jpg cannot be decoded"):
        picture_candidates(pictures, card)


@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_of_one_colour_is_named(pictures: Path, card: ModelCard, level: int) -> None:
    cv2.imwrite(str(pictures / "flat.png"), np.full((64, 64, 3), level, np.uint8))
    with pytest.raises(InputError, match=r"flat\.png is one single colour"):
        chosen_frames(picture_candidates(pictures, card), card, as_it_is, 16)


def test_a_patch_without_a_valid_pixel_is_named(pictures: Path, card: ModelCard) -> None:
    blind = Patch(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), bool), 1.0, (0.0, 0.0))
    candidates = [*picture_candidates(pictures, card), Candidate("blind", blind)]
    with pytest.raises(InputError, match="blind has no valid pixel"):
        chosen_frames(candidates, card, as_it_is, 16)


def test_fewer_than_sixteen_frames_are_refused(pictures: Path, card: ModelCard) -> None:
    for path in sorted(pictures.iterdir())[:5]:
        path.unlink()
    with pytest.raises(InputError, match=r"15 usable frames .* 16 are the least"):
        chosen_frames(picture_candidates(pictures, card), card, as_it_is, 16)


def test_asking_for_fewer_than_sixteen_is_refused(pictures: Path, card: ModelCard) -> None:
    with pytest.raises(InputError, match=r"--count 15 .* 16 are the least"):
        chosen_frames(picture_candidates(pictures, card), card, as_it_is, 15)


def test_a_model_that_gives_nan_on_a_frame_is_told_with_the_frames_name(
    pictures: Path, card: ModelCard
) -> None:
    def broken(batch: Batch) -> Batch:
        found = as_it_is(batch)
        found[2, 5] = np.nan
        return found

    with pytest.raises(InputError, match=r"no number \(NaN\) on .*02\.png"):
        chosen_frames(picture_candidates(pictures, card), card, broken, 16)


def test_the_hash_follows_the_pixels(pictures: Path, card: ModelCard) -> None:
    candidates = picture_candidates(pictures, card)
    first = chosen_frames(candidates, card, as_it_is, 20)
    again = chosen_frames(candidates, card, as_it_is, 20)
    candidates[3].patch.image[0, 0, 0] ^= 1
    other = chosen_frames(candidates, card, as_it_is, 20)
    assert first.sha256 == again.sha256 != other.sha256
    assert (first.batch.shape, first.candidates) == ((20, 3, 32, 32), 20)
