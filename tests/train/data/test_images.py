import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from skyfix.runtime.errors import BrokenImageError, InputError
from skyfix.train.data.images import MIN_READ, BrokenImages, Pixels, decoded, read_image, resized


def stripes(height: int = 40, width: int = 60) -> Pixels:
    """Every row has a colour of its own."""
    rows = np.arange(height, dtype=np.uint8)[:, None]
    return np.stack([np.tile(rows * step, (1, width)) for step in (1, 2, 3)], axis=-1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(stripes()).save(path)
    return path


def test_pixels_come_as_rgb_whatever_the_file_is(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "rgb.tif")
    Image.fromarray(red).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(red).quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(red).save(tmp_path / "photo.jpg", quality=100)
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_image(path, (8, 8)), red, atol=2)


def test_grey_images_have_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(stripes()[..., 0]).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png", (40, 60))
    assert (image == stripes()[..., :1]).all()


def test_rows_are_cut_before_the_image_is_resized(picture: Path) -> None:
    image = read_image(picture, (10, 60), rows=(20, 30))
    np.testing.assert_array_equal(image, stripes()[20:30])


def test_an_image_with_too_few_rows_to_cut_is_named(picture: Path) -> None:
    with pytest.raises(BrokenImageError, match=r"picture.png has 40 rows .* 208..623"):
        read_image(picture, (10, 10), rows=(208, 624))


def test_area_is_the_mean_of_the_pixels_that_are_merged(picture: Path) -> None:
    image = read_image(picture, (20, 30), resize="area")
    blocks = stripes().reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(image, blocks, atol=0.5)


@pytest.mark.parametrize(("resize", "support"), [("bilinear", 1.0), ("bicubic", 2.0)])
def test_pillows_filters_are_stretched_with_the_reduction(
    resize: str, support: float, picture: Path
) -> None:
    def weight(distance: float) -> float:
        x = abs(distance)
        if resize == "bilinear":
            return max(0.0, 1 - x)
        if x < 1:
            return (1.5 * x - 2.5) * x * x + 1  # Pillow's cubic has a = -0.5
        return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0

    image = read_image(picture, (10, 60), resize=resize)  # type: ignore[arg-type]  # parametrised
    column = stripes()[:, 0, 0].astype(float)
    for row in range(10):
        centre, scale = (row + 0.5) * 4, 4.0
        weights = np.array([weight((y + 0.5 - centre) / scale) for y in range(40)])
        assert (np.abs(np.arange(40) + 0.5 - centre)[weights != 0] < support * scale).all()
        expected = (weights * column).sum() / weights.sum()
        assert abs(image[row, 0, 0] - expected) <= 1


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(stripes()).save(tmp_path / "turned.png", exif=exif)
    assert decoded(tmp_path / "turned.png").size == (60, 40)


@pytest.mark.parametrize("fault", ["cut", "empty", "text", "absent", "folder"])
def test_a_broken_file_is_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "broken.jpg"
    _, whole = cv2.imencode(
        ".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    )
    if fault == "folder":
        path.mkdir()
    elif fault != "absent":
        content = {"cut": whole.tobytes()[:-200], "empty": b"", "text": b"<html>not found</html>"}
        path.write_bytes(content[fault])
    with pytest.raises(BrokenImageError, match=r"broken\.jpg"):
        read_image(path, (8, 8))


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BrokenImageError("a.jpg cannot be read")))
    assert isinstance(error, InputError)
    assert str(error) == "a.jpg cannot be read"


def test_a_size_is_height_then_width() -> None:
    image = Image.fromarray(stripes())
    assert resized(image, (7, 9), "area").shape == (7, 9, 3)
    assert resized(image, (7, 9), "bicubic").shape == (7, 9, 3)


def test_one_broken_image_in_a_hundred_is_skipped_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = BrokenImages()
    broken.count(198)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            broken.record(Path("bad.jpg"), BrokenImageError("bad.jpg cannot be read"))
    assert (broken.read, broken.failed, broken.paths) == (200, 2, [Path("bad.jpg")])
    assert caplog.text.count("bad.jpg") == 1


def test_more_than_one_broken_image_in_a_hundred_stops() -> None:
    broken = BrokenImages()
    broken.count(198)
    broken.record(Path("bad.jpg"), BrokenImageError("bad"))
    broken.record(Path("bad.jpg"), BrokenImageError("bad"))
    with pytest.raises(InputError, match=r"3 of 201 images .* bad.jpg"):
        broken.record(Path("worse.jpg"), BrokenImageError("worse"))


def test_the_share_means_nothing_before_a_hundred_reads() -> None:
    broken = BrokenImages()
    for index in range(MIN_READ - 1):
        broken.record(Path(f"{index}.jpg"), BrokenImageError("bad"))
    with pytest.raises(InputError, match="100 of 100"):
        broken.record(Path("last.jpg"), BrokenImageError("bad"))


@pytest.mark.real
def test_real_samples_of_the_formats_are_read(shared_data: Path) -> None:
    folder = shared_data / "ground_pairs"
    assert decoded(folder / "oricnn_pano_img.png").size == (1664, 832)
    sample = folder / "oricnn_pano_img.png"
    cut = read_image(sample, (122, 671), rows=(208, 624), resize="bilinear")
    with Image.open(sample) as image:
        expected = image.convert("RGB").crop((0, 208, 1664, 624)).resize((671, 122), 2)
    np.testing.assert_array_equal(cut, np.asarray(expected))
    for path in sorted((folder / "data" / "imgs").glob("*.jpg")):
        side = (750, 750) if path.name.startswith("aerial") else (224, 1232)
        ours = read_image(path, side)
        theirs = cv2.imread(str(path))
        assert theirs is not None
        np.testing.assert_allclose(ours, theirs[..., ::-1], atol=2)
