"""Every benchmark runs on two cores, as the budgets are stated, whatever the machine has."""

import os

import cv2

CORES = 2


def keep_to_two_cores() -> None:
    """Bind this process and the ones it starts to the first two cores it may use."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    cv2.setNumThreads(CORES)
