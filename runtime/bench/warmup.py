"""Run before the clock until the times stand still: caches, clocks, heat, kernels, the belief.

Steady: the medians of the last three laps lie within 5 % of each other. A lap is a whole round of
the frames, so the laps have the same work in them.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from .record import WarmUp
from .stages import Sample

LAPS, SPREAD = 3, 0.05
LIMIT_S, LIMIT_LAPS = 60.0, 20
CRITERION = (
    f"medians of the last {LAPS} laps within {SPREAD:.0%} of each other, "
    f"at most {LIMIT_LAPS} laps or {LIMIT_S:.0f} s"
)

Run = Callable[[int], Sample]  # the frame of a number


def is_steady(medians_ms: Sequence[float]) -> bool:
    """Whether the last laps agree."""
    last = medians_ms[-LAPS:]
    return len(last) == LAPS and max(last) <= min(last) * (1 + SPREAD)


def warm_up(run: Run, lap_frames: int, clock: Callable[[], float] = time.perf_counter) -> WarmUp:
    """Fly laps until steady, or to the limit."""
    medians_ms: list[float] = []
    begin_s = clock()
    while (
        not is_steady(medians_ms) and len(medians_ms) < LIMIT_LAPS and clock() - begin_s < LIMIT_S
    ):
        first = len(medians_ms) * lap_frames
        lap = [run(number).end_to_end_ms for number in range(first, first + lap_frames)]
        medians_ms.append(float(np.median(lap)))
    return WarmUp(
        frames=len(medians_ms) * lap_frames,
        seconds=clock() - begin_s,
        steady=is_steady(medians_ms),
        criterion=CRITERION,
        lap_medians_ms=medians_ms,
    )
