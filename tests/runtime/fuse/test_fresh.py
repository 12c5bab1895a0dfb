import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.runtime.fuse.fresh import REMEMBERED_FRAMES, FreshGround

metres = st.floats(-200, 200)


def test_the_first_frame_is_all_new() -> None:
    assert FreshGround().take_in() == math.inf


def test_a_straight_flight_sees_as_much_new_ground_as_it_flies() -> None:
    ground = FreshGround()
    ground.take_in()
    for _ in range(3):
        ground.move(30.0, 40.0, 0.0)
        assert ground.take_in() == pytest.approx(50.0)


def test_a_camera_that_swings_back_sees_what_it_saw() -> None:
    ground = FreshGround()
    ground.take_in()
    ground.move(60.0, 0.0, 0.0)
    assert ground.take_in() == pytest.approx(60.0)
    ground.move(-55.0, 0.0, 0.0)  # 5 m beside the first
    assert ground.take_in() == pytest.approx(5.0)


def test_a_way_that_nobody_measured_counts_by_its_length() -> None:
    ground = FreshGround()
    ground.take_in()
    ground.move(10.0, 0.0, 0.0)
    ground.move(0.0, 0.0, 25.0)
    assert ground.take_in() == pytest.approx(35.0)
    ground.move(0.0, 0.0, 7.0)  # since the last, whatever was flown before it
    assert ground.take_in() == pytest.approx(7.0)


@given(steps=st.lists(st.tuples(metres, metres), min_size=1, max_size=20))
def test_it_is_the_distance_to_the_nearest_of_the_last_frames(
    steps: list[tuple[float, float]],
) -> None:
    ground, east, north = FreshGround(), 0.0, 0.0
    shown = [(0.0, 0.0)]
    ground.take_in()
    for step in steps:
        east, north = east + step[0], north + step[1]
        ground.move(*step, 0.0)
        expected = min(math.hypot(east - e, north - n) for e, n in shown)
        assert ground.take_in() == pytest.approx(expected, abs=1e-6)
        shown.append((east, north))


def test_only_the_last_frames_are_remembered() -> None:
    ground = FreshGround()
    ground.take_in()
    for _ in range(REMEMBERED_FRAMES):
        ground.move(1.0, 0.0, 0.0)
        ground.take_in()
    ground.move(-float(REMEMBERED_FRAMES), 0.0, 0.0)  # to the first, the one that is forgotten
    assert ground.take_in() == pytest.approx(1.0)
