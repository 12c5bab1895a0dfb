"""What is drawn stands where it was said, in its colour, and the file holds it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skyfix.runtime.canvas import DARK, WHITE, Canvas, Color, round_length_m, write_picture
from skyfix.runtime.errors import InputError

RED: Color = (200, 30, 10)
GREEN: Color = (10, 160, 40)
PAPER: Color = (250, 250, 247)


def drawn(canvas: Canvas) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the finished picture that are not paper."""
    rows, columns = np.nonzero((canvas.finished() != PAPER).any(axis=2))
    return rows, columns


def test_a_blank_canvas_is_one_colour_in_its_finished_size() -> None:
    picture = Canvas.blank(30, 20, RED).finished()
    assert picture.shape == (20, 30, 3)
    assert (picture == RED).all()


def test_a_box_fills_its_rectangle_and_nothing_beside_it() -> None:
    canvas = Canvas.blank(40, 30, PAPER)
    canvas.box(10, 5, 20, 15, RED)
    rows, columns = drawn(canvas)
    assert (rows.min(), columns.min()) == (5, 10)
    assert rows.max() <= 15
    assert columns.max() <= 20
    assert (canvas.finished()[5:15, 10:20] == RED).all()


@pytest.mark.parametrize("anchor", [0.0, 0.5, 1.0])
def test_text_begins_at_x_is_centred_on_it_or_ends_there(anchor: float) -> None:
    canvas = Canvas.blank(400, 60, PAPER)
    canvas.text("HEHEHE", 200, 40, 14, RED, anchor)
    rows, columns = drawn(canvas)
    edge = columns.min() + anchor * (columns.max() - columns.min())
    assert edge == pytest.approx(200, abs=2.5)  # letters have a little space around them
    assert rows.max() == pytest.approx(40, abs=1.5)
    assert rows.max() - rows.min() == pytest.approx(14, abs=2)


def test_a_dot_has_a_dark_rim_and_dots_have_none() -> None:
    canvas = Canvas.blank(60, 30, PAPER)
    canvas.dot(np.array([15.0, 15.0]), 5, WHITE)
    canvas.dots(np.array([[40.0, 15.0], [52.0, 15.0]]), 5, WHITE)
    picture = canvas.finished()
    assert (picture[15, 15] == WHITE).all()
    assert (picture[15, 40] == WHITE).all()
    assert (picture[15, 52] == WHITE).all()
    near = np.abs(picture.astype(int) - DARK).max(axis=2)  # to the colour of the rim
    assert near[:, :30].min() < 90
    assert near[:, 30:].min() > 150


def test_what_is_drawn_faint_covers_by_its_share_where_it_overlaps_too() -> None:
    canvas = Canvas.blank(20, 20, (0, 0, 0))
    with canvas.faint(0.5):
        canvas.box(2, 2, 12, 12, (200, 200, 200))
        canvas.box(8, 8, 18, 18, (200, 200, 200))
    assert canvas.finished()[10, 10].tolist() == pytest.approx([100] * 3, abs=1)


def test_the_file_holds_the_picture_in_its_colours(tmp_path: Path) -> None:
    image = Canvas.blank(6, 4, RED).finished()
    image[1, 2] = GREEN
    write_picture(tmp_path / "picture.png", image)
    decoded = cv2.imread(str(tmp_path / "picture.png"))
    assert decoded is not None
    assert (decoded[..., ::-1] == image).all()
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_picture(tmp_path / "none" / "picture.png", Canvas.blank(4, 4, RED).finished())


@pytest.mark.parametrize(("limit_m", "length_m"), [(9.9, 5), (10, 10), (49, 20), (0.3, 0.2)])
def test_a_scale_bar_has_a_round_length(limit_m: float, length_m: float) -> None:
    assert round_length_m(limit_m) == pytest.approx(length_m)


@given(st.floats(1e-3, 1e6))
@example(999999.9999999999)  # its logarithm is 6
def test_a_scale_bar_is_the_longest_within_its_limit(limit_m: float) -> None:
    steps = [base * 10.0**power for power in range(-4, 8) for base in (1, 2, 5)]
    length_m = round_length_m(limit_m)
    index = int(np.argmin(np.abs(np.array(steps) / length_m - 1)))
    assert steps[index] == pytest.approx(length_m)
    assert length_m <= limit_m < steps[index + 1] * (1 + 1e-12)
