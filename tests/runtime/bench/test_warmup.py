"""The warm-up on a run whose times the test states."""

import itertools

from skyfix.runtime.bench.stages import Sample
from skyfix.runtime.bench.warmup import LIMIT_LAPS, LIMIT_S, is_steady, warm_up

LAP = 4


def sample(milliseconds: float) -> Sample:
    return Sample(0.0, {}, {}, {}, milliseconds, "tracking")


def test_three_laps_within_five_percent_are_steady() -> None:
    assert is_steady([90.0, 10.0, 10.4, 10.1])
    assert not is_steady([10.0, 10.0, 10.6])
    assert not is_steady([10.0, 10.0])
    assert not is_steady([])


def test_it_ends_with_the_lap_that_agrees_with_the_two_before() -> None:
    laps = [50.0, 30.0, 20.0, 20.5, 20.2]
    found = warm_up(lambda number: sample(laps[number // LAP]), LAP, lambda: 0.0)
    assert found.steady
    assert (found.frames, found.lap_medians_ms) == (5 * LAP, laps)


def test_frames_go_on_from_lap_to_lap() -> None:
    seen: list[int] = []

    def noted(number: int) -> Sample:
        seen.append(number)
        return sample(1.0)

    warm_up(noted, LAP, lambda: 0.0)
    assert seen == list(range(3 * LAP))


def test_times_that_never_settle_end_at_the_limit_and_are_not_called_steady() -> None:
    growing = warm_up(lambda number: sample(1.2 ** (number // LAP)), LAP, lambda: 0.0)
    assert not growing.steady
    assert growing.frames == LIMIT_LAPS * LAP


def test_a_slow_machine_is_not_warmed_up_for_ever() -> None:
    clock = itertools.count(0.0, LIMIT_S / 3)
    found = warm_up(lambda number: sample(2.0 ** (number // LAP)), LAP, lambda: next(clock))
    assert not found.steady
    assert found.frames == 2 * LAP
