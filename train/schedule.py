"""Learning rate over a run, as a factor of the configured one.

    cosine   linear warm-up, then half a cosine to zero, a value a step
    drop     linear warm-up, constant, then a tenth

GeoDTR+'s code sets one value an epoch, and epoch 1 of its warm-up has 0: `per_epoch` does so.
"""

import math

from .config import ScheduleConfig

DROP_FACTOR = 0.1  # University-1652's StepLR


def rate_factor(schedule: ScheduleConfig, step: int, steps: int, epoch_steps: int) -> float:
    """Factor of the learning rate for step `step` of `steps`, counted from 0."""
    if schedule.per_epoch:
        return _of_epoch(schedule, step // epoch_steps, steps / epoch_steps)
    warm = round(schedule.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if schedule.name == "drop":
        return DROP_FACTOR if step >= schedule.drop_at * steps else 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _of_epoch(schedule: ScheduleConfig, epoch: int, epochs: float) -> float:
    warm = schedule.warmup * epochs
    if epoch < warm:
        return epoch / warm
    return 0.5 * (1 + math.cos(math.pi * (epoch - warm) / max(1.0, epochs - warm)))
