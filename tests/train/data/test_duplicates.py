from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skyfix.train.data.duplicates import HashedImages, pixel_hash, repeated_pairs, surplus

COLOURS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=12)


def write(path: Path, seed: int, size: tuple[int, int] = (4, 6)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_equal_pixels_in_other_files_have_the_same_hash(tmp_path: Path) -> None:
    assert pixel_hash(write(tmp_path / "a.png", 1)) == pixel_hash(write(tmp_path / "a.tif", 1))
    assert pixel_hash(tmp_path / "a.png") != pixel_hash(write(tmp_path / "b.png", 2))


def test_equal_bytes_in_another_shape_are_another_image(tmp_path: Path) -> None:
    for name, size in (("flat.png", (2, 8)), ("tall.png", (8, 2))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / name)
    assert pixel_hash(tmp_path / "flat.png") != pixel_hash(tmp_path / "tall.png")


@given(COLOURS, COLOURS)
def test_what_is_left_of_training_has_no_repeats_and_loses_nothing(
    train: list[tuple[str, str]], test: list[tuple[str, str]]
) -> None:
    repeated = repeated_pairs(train, test)
    kept = [pair for pair, again in zip(train, repeated, strict=True) if not again]
    assert len(kept) == len(set(kept))
    assert set(kept) == set(train) - set(test)


def test_broken_images_equal_no_other() -> None:
    assert repeated_pairs([(None, "a"), (None, "a")], [(None, "a")]) == [False, False]
    assert surplus(["a", None, None, "a", "a", "b"]) == 2


def test_known_hashes_are_not_computed_again_until_the_file_changes(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.png", name) for name in range(3)]
    reads: list[int] = []
    first = HashedImages(tmp_path).hashes(paths, lambda: reads.append(1))
    assert HashedImages(tmp_path).unread(paths) == []
    write(paths[1], 77, (9, 9))
    hashed = HashedImages(tmp_path)
    assert hashed.unread(paths) == [paths[1]]
    second = hashed.hashes(paths, lambda: reads.append(1))
    assert len(reads) == 3 + 1
    assert first[paths[0]] == second[paths[0]]
    assert first[paths[1]] != second[paths[1]]


def test_a_broken_image_is_told_and_read_again_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    hashed = HashedImages(tmp_path)
    assert hashed.hashes([path]) == {path: None}
    assert "broken.jpg" in str(hashed.broken[0])
    assert "broken.jpg" in caplog.text
    assert HashedImages(tmp_path).unread([path]) == [path]


def test_a_folder_that_cannot_be_written_costs_only_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "read-only")

    path = write(tmp_path / "a.png", 1)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert HashedImages(tmp_path).hashes([path])[path] == pixel_hash(path)
    assert "not kept" in caplog.text
    assert not (tmp_path / "pixel_hashes.csv").exists()
