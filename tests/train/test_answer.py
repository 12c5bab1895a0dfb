import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.train.answer import answer_order, check_answer_path, write_answer
from skyfix.train.data import sets  # TestSet by name would be collected as a test
from skyfix.train.data.sets import ImageSet
from skyfix.train.descriptors import Described
from skyfix.train.evaluate import DescribedTest

QUERIES, ITEMS = 4, 15


def challenge(broken_query: int | None = None, items: int = ITEMS) -> DescribedTest:
    rng = np.random.default_rng(5)

    def part(view: str, count: int, broken: int | None) -> tuple[ImageSet, Described]:
        rows = rng.standard_normal((count, 16), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        paths = tuple(Path(view) / f"{view}{number:02d}.jpg" for number in range(count))
        kept = np.array([number for number in range(count) if number != broken])
        lost = () if broken is None else (paths[broken],)
        return ImageSet(view, paths, np.full(count, -1)), Described(rows[kept], kept, lost)

    query, gallery = part("drone", QUERIES, broken_query), part("satellite", items, None)
    return DescribedTest(sets.TestSet("c", query[0], gallery[0], "classes"), query[1], gallery[1])


def sorted_order(described: DescribedTest) -> NDArray[np.int64]:
    whole = described.query.rows @ described.gallery.rows.T
    return np.argsort(-whole, axis=1)[:, :10]


def test_every_line_names_the_ten_most_similar_images_best_first(tmp_path: Path) -> None:
    described = challenge()
    answer = tmp_path / "answer.txt"
    archive = write_answer(answer, answer_order(described), described.test.gallery.paths)
    expected = [[f"satellite{item:02d}" for item in row] for row in sorted_order(described)]
    text = answer.read_bytes().decode()
    assert [line.split("\t") for line in text.splitlines()] == expected
    assert text.endswith("\n")
    assert archive == tmp_path / "answer.zip"
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == ["answer.txt"]
        assert packed.read("answer.txt").decode() == text
    assert len(list(tmp_path.iterdir())) == 2


def test_a_query_that_cannot_be_read_keeps_its_line() -> None:
    described = challenge(broken_query=1)
    order = answer_order(described)
    assert order.shape == (QUERIES, 10)
    assert order[1].tolist() == list(range(10))
    assert np.array_equal(order[[0, 2, 3]], sorted_order(described))


def test_a_gallery_of_fewer_than_ten_images_is_refused() -> None:
    with pytest.raises(InputError, match="names 10 gallery images"):
        answer_order(challenge(items=9))


def test_gallery_images_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [Path(f"{number}/image.jpg") for number in range(10)]
    with pytest.raises(InputError, match="share their names"):
        write_answer(tmp_path / "answer.txt", np.arange(10)[None], paths)


def test_a_folder_that_is_not_there_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        check_answer_path(tmp_path / "absent" / "answer.txt")


def test_a_zip_is_refused_as_the_name_of_the_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zip is written beside"):
        check_answer_path(tmp_path / "answer.zip")


def test_an_answer_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    paths = [Path(f"{number}.jpg") for number in range(10)]
    with pytest.raises(SkyfixError, match="cannot be written"):
        write_answer(tmp_path / "absent" / "answer.txt", np.arange(10)[None], paths)
