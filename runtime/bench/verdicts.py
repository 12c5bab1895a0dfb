"""What must be known before the numbers of a run are believed.

Drift is called thermal where the hottest sensor rose by 2 C or the CPU's clock fell by 2 %; where
neither can be read, or neither moved, that is said.
"""

from .machine import are_locked
from .record import Record
from .samples import DRIFT, drift_of, present

BUSY = 1.5  # tasks a core, from which on they are not all ours
WARMER_C = 2.0  # over the run, from which on a drift is called thermal
CLOCK_LOSS = 0.02  # likewise, of the clock


def verdicts_of(record: Record) -> list[str]:
    """What must be known before the numbers are believed."""
    found = []
    if len(record.end_to_end_ms) < record.workload.frames:
        found.append(
            f"interrupted after {len(record.end_to_end_ms)} of {record.workload.frames} frames"
        )
    if not record.warm_up.steady:
        found.append(
            f"not steady after {record.warm_up.frames} frames of warm-up "
            f"({record.warm_up.criterion}): something else runs here, or it still heats up"
        )
    load, cores = record.before.load, record.machine.cores
    if load is not None and load > BUSY * cores:
        found.append(f"{load:.1f} tasks wanted {cores} cores: other programs run here")
    return [*found, *_drift_words(record), *_clock_words(record)]


def _drift_words(record: Record) -> list[str]:
    drift = drift_of(record.started_s, record.end_to_end_ms)
    if drift is None or not drift.is_flagged:
        return []
    rise_c, clock = _rise_c(record), drift_of(record.trace.times_s, record.trace.cpu_mhz)
    cause = "no temperature or clock can be read here to name the cause"
    if rise_c is not None or clock is not None:
        cause = "neither heat nor clocks explain it: look for other programs"
    if drift.share > 0 and rise_c is not None and rise_c >= WARMER_C:
        cause = f"THERMAL: it became {rise_c:.1f} C warmer"
    if drift.share > 0 and clock is not None and clock.share < -CLOCK_LOSS:
        cause = f"THERMAL or power limit: the CPU's clock went by {clock.share:+.1%}"
    limits = f"flagged beyond {DRIFT:.0%} at p < 0.01"
    return [f"latency drifted by {drift.share:+.1%} over the run ({limits}); {cause}"]


def _rise_c(record: Record) -> float | None:
    """How much warmer the hottest sensor is in the last third than in the first."""
    heat = [value for value in record.trace.hottest_c if value is not None]
    third = len(heat) // 3
    if not third:
        return None
    return float(present(heat[-third:]).mean() - present(heat[:third]).mean())


def _clock_words(record: Record) -> list[str]:
    found = []
    if record.before.power_mode != record.after.power_mode:
        found.append("the power mode changed during the run")
    limits = {"CPU": record.before.cpu_limits_mhz, "GPU": record.before.gpu_limits_mhz}
    free = [name for name, limit in limits.items() if are_locked(limit) is False]
    if record.machine.board and free:
        found.append(f"clocks of {' and '.join(free)} are not locked: sudo jetson_clocks")
    return found
